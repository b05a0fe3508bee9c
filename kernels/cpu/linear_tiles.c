/* linear_tiles.c - panels to tiles, some at a time, and their products with all rows. */
#include "linear_tiles.h"

#include "isa.h"
#include "packed.h"
#include "parallel.h"

enum {
    COLUMNS = 32, /* of a step, and of a block of any format */
    BLOCK_ROWS = 32,
    STEP = COLUMNS * BLOCK_ROWS, /* numbers of a block of rows, or of a panel */
    PANELS = PHI3_TILES_WEIGHT_ROWS / PHI3_PANEL_ROWS,
    MOST_STEPS = 96, /* of PANELS panels at a time: 768 KB of a second-level cache of 2 MB */
    MOST_ROWS = 512  /* whose sums wait for the next columns */
};

static size_t smaller_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

bool phi3_tiles_take(const phi3_tensor *weights)
{
    return phi3_isa_current() >= PHI3_ISA_AVX512_AMX && weights->n_columns % COLUMNS == 0 &&
           weights->n_columns > 0;
}

/* ---- Activations ----------------------------------------------------------------------------- */

size_t phi3_tiles_x_bytes(size_t n_rows, size_t n_columns)
{
    return round_up(n_rows, BLOCK_ROWS) * n_columns * sizeof(uint16_t);
}

static void convert_row(void *context, size_t row, int thread)
{
    (void)thread;
    const phi3_tiles_x *x = context;
    phi3_cpu_kernels_current()->tile_row(
        row < x->n_rows ? x->rows + row * x->n_columns : NULL, x->n_columns, row % BLOCK_ROWS,
        x->converted + row / BLOCK_ROWS * BLOCK_ROWS * x->n_columns);
}

void phi3_tiles_x_convert(const phi3_tiles_x *x, int n_threads)
{
    phi3_parallel(n_threads, round_up(x->n_rows, BLOCK_ROWS), convert_row, (void *)x);
}

/* ---- Products -------------------------------------------------------------------------------- */

/* Steps whose weights are expanded at a time: parts of equal size. */
static size_t steps_at_a_time(size_t n_columns)
{
    size_t n_steps = n_columns / COLUMNS, n_parts = (n_steps + MOST_STEPS - 1) / MOST_STEPS;
    return (n_steps + n_parts - 1) / n_parts;
}

static size_t weights_bytes(size_t n_columns)
{
    return PANELS * steps_at_a_time(n_columns) * STEP * sizeof(uint16_t);
}

size_t phi3_tiles_scratch_bytes(size_t n_rows, size_t n_columns)
{
    size_t rows = round_up(smaller_of(n_rows, MOST_ROWS), BLOCK_ROWS);
    return weights_bytes(n_columns) + rows * PHI3_TILES_WEIGHT_ROWS * sizeof(float);
}

/* Steps first to first + n_steps of the panel that begins at row o. */
static void expand(const phi3_tensor *w, const uint8_t *panels, size_t o, size_t first,
                   size_t n_steps, uint16_t *out)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    if (panels) {
        const uint8_t *panel =
            panels + o / PHI3_PANEL_ROWS * phi3_panel_bytes(w->dtype, w->n_columns);
        kernels->tile_panel(w->dtype, panel, first, n_steps, out);
        return;
    }
    const uint16_t *data = w->data;
    phi3_float_rows rows = {data + o * w->n_columns + first * COLUMNS, PHI3_BF16, w->n_columns,
                            smaller_of(w->n_rows - o, PHI3_PANEL_ROWS)};
    kernels->tile_bfloat16(&rows, n_steps * COLUMNS, out);
}

/* n_out rows of w from o on, with n_rows rows of x from r on, to sums [n_rows][WEIGHT_ROWS]. */
static void multiply_some(const phi3_tiles_x *x, size_t r, size_t n_rows, const phi3_tensor *w,
                          const uint8_t *panels, size_t o, size_t n_out, uint16_t *weights,
                          float *sums)
{
    size_t n_steps = x->n_columns / COLUMNS, at_a_time = steps_at_a_time(x->n_columns);
    size_t n_panels = (n_out + PHI3_PANEL_ROWS - 1) / PHI3_PANEL_ROWS;
    for (size_t k = 0; k < n_steps; k += at_a_time) {
        size_t count = smaller_of(n_steps - k, at_a_time);
        for (size_t p = 0; p < n_panels; p++)
            expand(w, panels, o + p * PHI3_PANEL_ROWS, k, count, weights + p * count * STEP);
        phi3_cpu_kernels_current()->tile_product(
            weights, n_panels, x->converted + r * x->n_columns + k * STEP,
            BLOCK_ROWS * x->n_columns, n_rows, count, k > 0, sums, PHI3_TILES_WEIGHT_ROWS);
    }
}

void phi3_tiles_multiply(const phi3_tiles_x *x, const phi3_tensor *w, const uint8_t *panels,
                         void *scratch, float *y, size_t y_stride)
{
    uint16_t *weights = scratch;
    float *sums = (float *)(void *)((char *)scratch + weights_bytes(x->n_columns));
    bool past_caches = phi3_goes_past_caches(x->n_rows, y_stride);
    for (size_t o = 0; o < w->n_rows; o += PHI3_TILES_WEIGHT_ROWS) {
        size_t n_out = smaller_of(w->n_rows - o, PHI3_TILES_WEIGHT_ROWS);
        for (size_t r = 0; r < x->n_rows; r += MOST_ROWS) {
            size_t n_rows = smaller_of(x->n_rows - r, MOST_ROWS);
            multiply_some(x, r, n_rows, w, panels, o, n_out, weights, sums);
            phi3_cpu_kernels_current()->spread_sums(sums, PHI3_TILES_WEIGHT_ROWS, n_rows, n_out,
                                                    past_caches, y + r * y_stride + o, y_stride);
        }
    }
}
