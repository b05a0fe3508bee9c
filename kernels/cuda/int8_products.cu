/*
 * int8_products.cu - quantised weights by up to 16 rows of x in 8 bits: what decoding does.
 *
 * The work is bound by the bytes of the weights, which are read once for all rows of x. A warp
 * computes ROWS outputs for every row of x: its lanes take the pieces (pieces.h) of the weight rows
 * in turn and add up their sums at the end. The loads of several turns are issued before the first of
 * them is used, so that enough bytes are under way to keep the memory busy.
 *
 * The sum of a row of x is made in the same order, however many rows stand beside it.
 */
#include "pieces.h"
#include "products.h"
#include "sums.h"

enum { THREADS = 128, N_WARPS = THREADS / PHI3_WARP, ROWS = 2 };

/* ---- One piece ---------------------------------------------------------------------------------- */

/* Adds the groups of a piece that share a scale, from group g on, by 8-bit columns of x. Fused
 * operations are named, so that every kernel rounds alike. */
template <typename Format>
static __device__ __forceinline__ float
add_dot(const typename Format::stored &w, int piece, int g, float scale, float min,
        const int x[Format::SHARE][4], float x_scale, int x_sum, float sum)
{
    int dot = 0;
    PHI3_UNROLL
    for (int h = 0; h < Format::SHARE; h++) {
        PHI3_UNROLL
        for (int word = 0; word < 4; word++)
            dot = __dp4a(Format::codes(w, piece, g + h, word), x[h][word], dot);
    }
    if (Format::HAS_MIN)
        return fmaf(x_scale, fmaf(scale, (float)dot, -min * (float)x_sum), sum);
    return fmaf(x_scale * scale, (float)(dot - Format::ZERO * x_sum), sum);
}

/* Adds the products of a piece of each of ROWS weight rows with all rows of x. `column` is the first
 * of the piece's block. */
template <typename Format, int N_X>
static __device__ __forceinline__ void add_piece(const phi3_product &p,
                                                 const typename Format::stored w[ROWS], int piece,
                                                 int column, float sums[N_X][ROWS])
{
    float scale[ROWS][Format::GROUPS], min[ROWS][Format::GROUPS];
    PHI3_UNROLL
    for (int r = 0; r < ROWS; r++)
        Format::scales(w[r], piece, scale[r], min[r]);
    PHI3_UNROLL
    for (int n = 0; n < N_X; n++) {
        int row = n < p.n_rows ? n : p.n_rows - 1;
        PHI3_UNROLL
        for (int g = 0; g < Format::GROUPS; g += Format::SHARE) {
            int x[Format::SHARE][4], x_sum = 0;
            float x_scale = 0;
            PHI3_UNROLL
            for (int h = 0; h < Format::SHARE; h++) {
                int at = row * p.n_columns + column + Format::column(piece, g + h);
                int4 codes = __ldg(reinterpret_cast<const int4 *>(p.x8.codes + at));
                int2 group = __ldg(reinterpret_cast<const int2 *>(p.x8.groups + at / PHI3_GROUP));
                x[h][0] = codes.x, x[h][1] = codes.y, x[h][2] = codes.z, x[h][3] = codes.w;
                x_scale = __int_as_float(group.x), x_sum += group.y;
            }
            PHI3_UNROLL
            for (int r = 0; r < ROWS; r++)
                sums[n][r] =
                    add_dot<Format>(w[r], piece, g, scale[r][g], Format::HAS_MIN ? min[r][g] : 0, x,
                                    x_scale, x_sum, sums[n][r]);
        }
    }
}

/* ---- 8-bit products ------------------------------------------------------------------------------ */

/* Turns whose loads are issued together, and blocks that a multiprocessor shall hold: what together
 * fills the registers and spills none. */
template <typename Format, int N_X> struct tuning {
    enum {
        BYTES = sizeof(typename Format::stored),
        FEW = N_X == 16 && BYTES >= 48,
        TURNS = FEW                       ? 1
                : N_X <= 2 && BYTES <= 20 ? 4
                                          : 2,
        BLOCKS = N_X == 1  ? 5
                 : N_X < 8 ? 4
                           : 3
    };
};

template <typename Format, int N_X>
static __global__ void __launch_bounds__(THREADS, (tuning<Format, N_X>::BLOCKS))
    multiply_pieces(phi3_product p)
{
    constexpr int TURNS = tuning<Format, N_X>::TURNS, STEP = TURNS * PHI3_WARP;
    int first = (blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP) * ROWS;
    if (first >= p.n_out)
        return;
    int n_pieces = p.planes.n_blocks * Format::PIECES;
    size_t block[ROWS]; /* the first of each row */
    for (int r = 0; r < ROWS; r++)
        block[r] = (size_t)(first + r < p.n_out ? first + r : first) * p.planes.n_blocks;

    float sums[N_X][ROWS] = {};
    for (int i = threadIdx.x % PHI3_WARP; i < n_pieces; i += STEP) {
        typename Format::stored w[TURNS][ROWS] = {};
        PHI3_UNROLL
        for (int t = 0; t < TURNS; t++) {
            int at = i + t * PHI3_WARP;
            PHI3_UNROLL
            for (int r = 0; r < ROWS; r++)
                if (at < n_pieces)
                    w[t][r] =
                        Format::load(p.planes, block[r] + at / Format::PIECES, at % Format::PIECES);
        }
        PHI3_UNROLL
        for (int t = 0; t < TURNS; t++) {
            int at = i + t * PHI3_WARP;
            if (at < n_pieces)
                add_piece<Format, N_X>(p, w[t], at % Format::PIECES,
                                       at / Format::PIECES * phi3_block_of<Format>::COLUMNS, sums);
        }
    }
    phi3_write_sums<N_X, ROWS>(p, first, sums);
}

/* ---- The launch ------------------------------------------------------------------------------------ */

template <typename Format, int N_X> static void launch(const phi3_product &p)
{
    unsigned rows = N_WARPS * ROWS;
    PHI3_LAUNCH((multiply_pieces<Format, N_X>), dim3((p.n_out + rows - 1) / rows), dim3(THREADS),
                PHI3_STREAM, p);
}

/* The narrowest kernel that holds all rows of x. */
template <typename Format> static void launch_for_rows(const phi3_product &p)
{
    if (p.n_rows == 1)
        launch<Format, 1>(p);
    else if (p.n_rows == 2)
        launch<Format, 2>(p);
    else if (p.n_rows <= 4)
        launch<Format, 4>(p);
    else if (p.n_rows <= 8)
        launch<Format, 8>(p);
    else
        launch<Format, 16>(p);
}

void phi3_cuda_multiply_int8(phi3_dtype dtype, const phi3_product &product)
{
    switch (dtype) {
#define MULTIPLY(name, format)            \
    case name:                            \
        launch_for_rows<format>(product); \
        break;
        PHI3_FOR_EACH_FORMAT(MULTIPLY)
#undef MULTIPLY
    default:
        break; /* the others are floats */
    }
}
