/*
 * exact_products.cu - quantised weights by up to 8 rows of x, in float32: the exact mode.
 *
 * Weights are expanded to the numbers that the CPU makes of them, and multiplied by x as it is. A
 * warp computes one output for every row of x.
 */
#include "pieces.h"
#include "products.h"
#include "sums.h"

enum { THREADS = 128, N_WARPS = THREADS / PHI3_WARP };

template <typename Format, int N_X>
static __global__ void __launch_bounds__(THREADS, 2) multiply_expanded(phi3_product p)
{
    int first = blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP;
    if (first >= p.n_out)
        return;
    int n_pieces = p.planes.n_blocks * Format::PIECES;
    float sums[N_X][1] = {};
    for (int i = threadIdx.x % PHI3_WARP; i < n_pieces; i += PHI3_WARP) {
        int piece = i % Format::PIECES;
        int column = i / Format::PIECES * phi3_block_of<Format>::COLUMNS;
        typename Format::stored w =
            Format::load(p.planes, (size_t)first * p.planes.n_blocks + i / Format::PIECES, piece);
        PHI3_UNROLL
        for (int g = 0; g < Format::GROUPS; g++) {
            PHI3_UNROLL
            for (int word = 0; word < 4; word++) {
                float4 v = phi3_expand_word<Format>(w, piece, g, word);
                PHI3_UNROLL
                for (int n = 0; n < N_X; n++) {
                    int at = (n < p.n_rows ? n : p.n_rows - 1) * p.n_columns + column +
                             Format::column(piece, g) + 4 * word;
                    float4 x = __ldg(reinterpret_cast<const float4 *>(p.x + at));
                    sums[n][0] = phi3_add_products(v, x, sums[n][0]);
                }
            }
        }
    }
    phi3_write_sums<N_X, 1>(p, first, sums);
}

template <typename Format, int N_X> static void launch(const phi3_product &p)
{
    PHI3_LAUNCH((multiply_expanded<Format, N_X>), dim3((unsigned)(p.n_out + N_WARPS - 1) / N_WARPS),
                dim3(THREADS), PHI3_STREAM, p);
}

template <typename Format> static void launch_for_rows(const phi3_product &p)
{
    if (p.n_rows == 1)
        launch<Format, 1>(p);
    else if (p.n_rows == 2)
        launch<Format, 2>(p);
    else if (p.n_rows <= 4)
        launch<Format, 4>(p);
    else
        launch<Format, 8>(p);
}

void phi3_cuda_multiply_exact(phi3_dtype dtype, const phi3_product &product)
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
