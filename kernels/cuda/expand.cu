/*
 * expand.cu - rows of weights as floats again: panels for cuBLAS, and embeddings.
 *
 * In: planes in device memory. Out: float32 or bfloat16 rows, the numbers that the CPU makes of the
 * same blocks. One thread block per row.
 */
#include "matrix.h"
#include "pieces.h"

enum { THREADS = 128 };

/* ---- Where to ------------------------------------------------------------------------------------ */

/* Four columns, at a multiple of as many. */
static __device__ __forceinline__ void store_four(float *to, float4 x)
{
    *reinterpret_cast<float4 *>(to) = x;
}

static __device__ __forceinline__ unsigned two_bfloat16(float low, float high)
{
    return (unsigned)phi3_float_to_bfloat16(low) | (unsigned)phi3_float_to_bfloat16(high) << 16;
}

static __device__ __forceinline__ void store_four(uint16_t *to, float4 x) /* bfloat16 */
{
    uint2 words = {two_bfloat16(x.x, x.y), two_bfloat16(x.z, x.w)};
    *reinterpret_cast<uint2 *>(to) = words;
}

static __device__ __forceinline__ void store_one(float *to, float x)
{
    *to = x;
}

static __device__ __forceinline__ void store_one(uint16_t *to, float x) /* bfloat16 */
{
    *to = phi3_float_to_bfloat16(x);
}

/* ---- Which rows ---------------------------------------------------------------------------------- */

typedef struct row_choice {
    const int32_t *ids; /* device: rows of the whole table; NULL: rows that follow each other */
    int first;          /* of these, or, with ids, the part's first row in the table */
    int n_rows;         /* of the part */
} row_choice;

/* The part's row for blockIdx.x; false: it is another part's. */
static __device__ __forceinline__ bool choose_row(const row_choice &choice, size_t *row)
{
    int index = choice.ids ? choice.ids[blockIdx.x] - choice.first : choice.first + (int)blockIdx.x;
    *row = (size_t)index;
    return index >= 0 && index < choice.n_rows;
}

/* ---- Kernels ------------------------------------------------------------------------------------- */

/* out[blockIdx.x][:] = a row of quantised weights. A thread expands one piece at a time. */
template <typename Format, typename Out>
static __global__ void __launch_bounds__(THREADS)
    expand_pieces(phi3_planes planes, row_choice choice, Out *out)
{
    size_t row;
    if (!choose_row(choice, &row))
        return;
    int n_pieces = planes.n_blocks * Format::PIECES;
    out += (size_t)blockIdx.x * planes.n_blocks * phi3_block_of<Format>::COLUMNS;
    for (int i = threadIdx.x; i < n_pieces; i += THREADS) {
        int block = i / Format::PIECES, piece = i % Format::PIECES;
        typename Format::stored w = Format::load(planes, row * planes.n_blocks + block, piece);
        PHI3_UNROLL
        for (int g = 0; g < Format::GROUPS; g++) {
            Out *to = out + block * phi3_block_of<Format>::COLUMNS + Format::column(piece, g);
            PHI3_UNROLL
            for (int word = 0; word < 4; word++)
                store_four(to + 4 * word, phi3_expand_word<Format>(w, piece, g, word));
        }
    }
}

/* The same for the float types. */
template <typename Out>
static __global__ void __launch_bounds__(THREADS)
    expand_floats(const uint8_t *plane, phi3_dtype dtype, row_choice choice, int n_columns,
                  Out *out)
{
    size_t row;
    if (!choose_row(choice, &row))
        return;
    size_t at = row * n_columns;
    for (int i = threadIdx.x; i < n_columns; i += THREADS) {
        const uint16_t *halves = reinterpret_cast<const uint16_t *>(plane) + at + i;
        float x = dtype == PHI3_F32   ? reinterpret_cast<const float *>(plane)[at + i]
                  : dtype == PHI3_F16 ? phi3_half_to_float(*halves)
                                      : phi3_bfloat16_to_float(*halves);
        store_one(out + (size_t)blockIdx.x * n_columns + i, x);
    }
}

template <typename Out>
static void expand(const phi3_device_part *part, const row_choice &choice, size_t count,
                   size_t n_columns, Out *out)
{
    dim3 grid((unsigned)count), block(THREADS);
    phi3_planes planes = part->planes;
    int columns = (int)n_columns;
    phi3_dtype dtype = part->dtype;
    switch (dtype) {
#define EXPAND(name, format)                                                                      \
    case name:                                                                                    \
        PHI3_LAUNCH((expand_pieces<format, Out>), grid, block, PHI3_STREAM, planes, choice, out); \
        break;
        PHI3_FOR_EACH_FORMAT(EXPAND)
#undef EXPAND
    default:
        PHI3_LAUNCH(expand_floats<Out>, grid, block, PHI3_STREAM, planes.plane[0], dtype, choice,
                    columns, out);
    }
}

/* ---- Panels and embeddings ------------------------------------------------------------------------ */

void phi3_cuda_expand(const phi3_device_part *part, size_t first, size_t count, size_t n_columns,
                      phi3_dtype to, void *out)
{
    row_choice choice = {NULL, (int)first, (int)part->n_rows};
    if (to == PHI3_F32)
        expand(part, choice, count, n_columns, static_cast<float *>(out));
    else
        expand(part, choice, count, n_columns, static_cast<uint16_t *>(out));
}

/* Each part takes the rows that are its own. */
phi3_status phi3_cuda_embed(const phi3_exec *exec, const phi3_matrix *table, const int32_t *ids,
                            size_t n_rows, float *out)
{
    (void)exec;
    row_choice choice = {ids, 0, 0};
    for (size_t p = 0; p < table->n_parts && n_rows > 0; p++) {
        choice.n_rows = (int)table->parts[p].n_rows;
        expand(&table->parts[p], choice, n_rows, table->n_columns, out);
        choice.first += choice.n_rows;
    }
    return phi3_cuda_launched();
}
