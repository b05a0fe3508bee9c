/* linear_onednn.c - blocks of activations, tiles of weights, and a product of both after another. */
#include "linear_onednn.h"

#include <string.h>
#include <threads.h>

#include "core/base/error.h"
#include "isa.h"
#include "parallel.h"

enum {
    MAX_BLOCK = 512,
    ROUNDING = 8,           /* of a block: oneDNN keeps code of 75 KB for each size */
    SCRATCHPAD = 384 << 10, /* what oneDNN may want; it wants 263 KB at most */
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
                                     .m = block_rows,
                                     .n = PHI3_ONEDNN_TILE,
                                     .k = n_columns,
                                     .transposed = true};
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
    size_t padding = ROUNDING * (n_rows / MAX_BLOCK + 1);
    return round_up((n_rows + padding) * n_columns * sizeof(uint16_t), CACHE_LINE);
}

size_t phi3_onednn_scratch_bytes(size_t n_rows)
{
    size_t rows = n_rows < MAX_BLOCK ? round_up(n_rows, ROUNDING) : MAX_BLOCK;
    return SCRATCHPAD + rows * PHI3_ONEDNN_TILE * sizeof(float);
}

static size_t count_blocks(const phi3_onednn_x *x)
{
    return (x->n_rows + MAX_BLOCK - 1) / MAX_BLOCK;
}

static void convert_row(void *context, size_t row, int thread)
{
    (void)thread;
    const phi3_onednn_x *x = context;
    uint16_t *to = x->converted + row * x->n_columns;
    if (row < x->n_rows)
        phi3_cpu_kernels_current()->to_bfloat16(x->rows + row * x->n_columns, x->n_columns, to);
    else
        memset(to, 0, x->n_columns * sizeof *to);
}

phi3_status phi3_onednn_x_prepare(phi3_onednn_x *x, int n_threads)
{
    size_t n_blocks = count_blocks(x);
    x->block_rows = round_up((x->n_rows + n_blocks - 1) / n_blocks, ROUNDING);
    PHI3_TRY(create(x->block_rows, x->n_columns, &x->product));
    phi3_parallel(n_threads, n_blocks * x->block_rows, convert_row, x);
    return PHI3_OK;
}

void phi3_onednn_x_finish(phi3_onednn_x *x)
{
    phi3_onednn_product_free(x->product);
}

/* ---- Products -------------------------------------------------------------------------------- */

/* All rows of x with the tile of w at `first`; the last n_out of its columns go to y. */
static bool multiply_tile(const phi3_onednn_x *x, const phi3_tensor *w, size_t first, size_t n_out,
                          void *scratch, float *y, size_t y_stride)
{
    const uint16_t *tile = (const uint16_t *)w->data + first * w->n_columns;
    float *sums = (float *)(void *)((char *)scratch + SCRATCHPAD);
    size_t rows = x->block_rows;
    for (size_t r = 0; r < x->n_rows; r += rows) {
        /* oneDNN takes no pointers to const; it only writes to the last two. */
        void *const operands[] = {x->converted + r * x->n_columns, (void *)tile, sums, scratch};
        if (!phi3_onednn_product_run(x->product, operands))
            return false;
        size_t left = x->n_rows - r;
        phi3_cpu_kernels_current()->spread_sums(
            sums + PHI3_ONEDNN_TILE - n_out, PHI3_ONEDNN_TILE, left < rows ? left : rows, n_out,
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
