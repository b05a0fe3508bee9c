/* linear_onednn.c - activations turned into panels, and products of tiles of weights with those. */
#include "linear_onednn.h"

#include <threads.h>

#include "core/base/error.h"
#include "isa.h"
#include "parallel.h"

enum {
    MAX_BLOCK = 512,
    SCRATCHPAD = 4 << 10, /* what oneDNN may want; it wants 1152 bytes at most */
    CACHE_LINE = 64
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- Whether --------------------------------------------------------------------------------- */

static once_flag asked = ONCE_FLAG_INIT;
static bool is_there;

static phi3_status create(size_t block_rows, size_t n_columns, phi3_onednn_product **product)
{
    const phi3_onednn_shape shape = {.type = PHI3_ONEDNN_BF16,
                                     .m = PHI3_ONEDNN_TILE,
                                     .n = block_rows,
                                     .k = n_columns,
                                     .panels = true};
    PHI3_TRY(phi3_onednn_product_create(&shape, product, NULL));
    if (*product && phi3_onednn_product_bytes(*product, PHI3_ONEDNN_SCRATCHPAD) <= SCRATCHPAD)
        return PHI3_OK;
    phi3_onednn_product_free(*product);
    *product = NULL;
    return PHI3_ERROR_DEVICE;
}

static void ask(void)
{
    phi3_onednn_product *product = NULL;
    is_there = phi3_isa_current() >= PHI3_ISA_AVX512_BF16 &&
               create(MAX_BLOCK, MAX_BLOCK, &product) == PHI3_OK;
    phi3_onednn_product_free(product);
}

bool phi3_onednn_takes(const phi3_tensor *weights)
{
    if (weights->dtype != PHI3_BF16 || weights->n_rows < PHI3_ONEDNN_TILE ||
        weights->n_columns % CACHE_LINE != 0)
        return false;
    call_once(&asked, ask);
    return is_there;
}

/* ---- Activations ----------------------------------------------------------------------------- */

size_t phi3_onednn_x_bytes(size_t n_rows, size_t n_columns)
{
    size_t padding = PHI3_ONEDNN_PANEL * (n_rows / MAX_BLOCK + 1);
    return (n_rows + padding) * n_columns * sizeof(uint16_t);
}

size_t phi3_onednn_scratch_bytes(size_t n_rows)
{
    size_t rows = n_rows < MAX_BLOCK ? round_up(n_rows, PHI3_ONEDNN_TURN) : MAX_BLOCK;
    return SCRATCHPAD + rows * PHI3_ONEDNN_TILE * sizeof(float);
}

/* The panels of the block that row r is in. */
static uint16_t *panels_at(const phi3_onednn_x *x, size_t r)
{
    size_t columns = round_up(x->block_rows, PHI3_ONEDNN_PANEL);
    return x->converted + r / x->block_rows * columns * x->n_columns;
}

static void turn_rows(void *context, size_t index, int thread)
{
    (void)thread;
    const phi3_onednn_x *x = context;
    size_t r = index * PHI3_ONEDNN_TURN, place = r % x->block_rows;
    size_t panel = place / PHI3_ONEDNN_PANEL, column = place % PHI3_ONEDNN_PANEL;
    uint16_t *to = panels_at(x, r) + panel * PHI3_ONEDNN_PANEL * x->n_columns + 2 * column;
    size_t left = x->n_rows - r;
    phi3_cpu_kernels_current()->turn_rows(x->rows + r * x->n_columns,
                                          left < PHI3_ONEDNN_TURN ? left : PHI3_ONEDNN_TURN,
                                          x->n_columns, to);
}

phi3_status phi3_onednn_x_prepare(phi3_onednn_x *x, int n_threads)
{
    size_t n_blocks = (x->n_rows + MAX_BLOCK - 1) / MAX_BLOCK;
    x->block_rows = round_up((x->n_rows + n_blocks - 1) / n_blocks, PHI3_ONEDNN_TURN);
    PHI3_TRY(create(x->block_rows, x->n_columns, &x->product));
    phi3_parallel(n_threads, round_up(x->n_rows, PHI3_ONEDNN_TURN) / PHI3_ONEDNN_TURN, turn_rows,
                  x);
    return PHI3_OK;
}

void phi3_onednn_x_finish(phi3_onednn_x *x)
{
    phi3_onednn_product_free(x->product);
}

/* ---- Products -------------------------------------------------------------------------------- */

/* All rows of x with the tile of w at `first`; the last n_out of its rows go to y. */
static bool multiply_tile(const phi3_onednn_x *x, const phi3_tensor *w, size_t first, size_t n_out,
                          void *scratch, float *y, size_t y_stride)
{
    const uint16_t *tile = (const uint16_t *)w->data + first * w->n_columns;
    float *sums = (float *)(void *)((char *)scratch + SCRATCHPAD);
    size_t rows = x->block_rows;
    for (size_t r = 0; r < x->n_rows; r += rows) {
        /* oneDNN takes no pointers to const; it only writes to the last two. */
        void *const operands[] = {(void *)tile, panels_at(x, r), sums, scratch};
        if (!phi3_onednn_product_run(x->product, operands))
            return false;
        size_t left = x->n_rows - r;
        phi3_cpu_kernels_current()->turn_sums(
            sums + (PHI3_ONEDNN_TILE - n_out) * rows, rows, left < rows ? left : rows, n_out,
            phi3_goes_past_caches(x->n_rows, y_stride), y + r * y_stride, y_stride);
    }
    return true;
}

bool phi3_onednn_multiply(const phi3_onednn_x *x, const phi3_tensor *w, size_t first, size_t count,
                          void *scratch, float *y, size_t y_stride)
{
    const size_t last = w->n_rows - PHI3_ONEDNN_TILE;
    for (size_t o = 0; o < count; o += PHI3_ONEDNN_TILE) {
        size_t left = count - o, n_out = left < PHI3_ONEDNN_TILE ? left : PHI3_ONEDNN_TILE;
        size_t at = first + o < last ? first + o : last; /* the last tile overlaps its neighbour */
        if (!multiply_tile(x, w, at, n_out, scratch, y + o, y_stride))
            return false;
    }
    return true;
}
