/*
 * float_products.cu - weights of float32, float16 and bfloat16 by up to 8 rows of x, in float32.
 *
 * As in int8_products.cu: a warp has ROWS weight rows, of which its lanes read 16 bytes at a time, once
 * for all rows of x. Widths that are no multiple of 16 bytes, which no model has, take a kernel that
 * goes column by column.
 */
#include "pieces.h"
#include "products.h"
#include "sums.h"

enum { THREADS = 128, N_WARPS = THREADS / PHI3_WARP };

/* ---- Elements ------------------------------------------------------------------------------------ */

/* Each: how many stand in 16 bytes, four of them from loaded words, and a single one. */
struct float32_weights {
    enum { COLUMNS = 4 };
    static __device__ __forceinline__ float4 four(const phi3_16_bytes &b, int)
    {
        return {__int_as_float(b.words[0]), __int_as_float(b.words[1]), __int_as_float(b.words[2]),
                __int_as_float(b.words[3])};
    }
    static __device__ __forceinline__ float one(const uint8_t *plane, size_t at)
    {
        return reinterpret_cast<const float *>(plane)[at];
    }
};

struct float16_weights {
    enum { COLUMNS = 8 };
    static __device__ __forceinline__ float4 four(const phi3_16_bytes &b, int i)
    {
        unsigned low = (unsigned)b.words[2 * i], high = (unsigned)b.words[2 * i + 1];
        return {phi3_low_half(low), phi3_high_half(low), phi3_low_half(high), phi3_high_half(high)};
    }
    static __device__ __forceinline__ float one(const uint8_t *plane, size_t at)
    {
        return phi3_half_to_float(reinterpret_cast<const uint16_t *>(plane)[at]);
    }
};

struct bfloat16_weights {
    enum { COLUMNS = 8 };
    static __device__ __forceinline__ float4 four(const phi3_16_bytes &b, int i)
    {
        unsigned low = (unsigned)b.words[2 * i], high = (unsigned)b.words[2 * i + 1];
        return {__int_as_float((int)(low << 16)), __int_as_float((int)(low & 0xffff0000u)),
                __int_as_float((int)(high << 16)), __int_as_float((int)(high & 0xffff0000u))};
    }
    static __device__ __forceinline__ float one(const uint8_t *plane, size_t at)
    {
        return phi3_bfloat16_to_float(reinterpret_cast<const uint16_t *>(plane)[at]);
    }
};

/* ---- Whole pieces of 16 bytes ---------------------------------------------------------------------- */

template <typename Weights, int N_X, int ROWS>
static __global__ void __launch_bounds__(THREADS, N_X == 1  ? 5
                                                  : N_X < 8 ? 4
                                                            : 3) multiply_floats(phi3_product p)
{
    constexpr int TURNS = N_X > 2 ? 1 : 4, STEP = TURNS * PHI3_WARP;
    int first = (blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP) * ROWS;
    if (first >= p.n_out)
        return;
    int n_pieces = p.n_columns / Weights::COLUMNS;
    const uint8_t *row[ROWS];
    for (int r = 0; r < ROWS; r++)
        row[r] =
            p.planes.plane[0] + (size_t)(first + r < p.n_out ? first + r : first) * n_pieces * 16;

    float sums[N_X][ROWS] = {};
    for (int i = threadIdx.x % PHI3_WARP; i < n_pieces; i += STEP) {
        phi3_16_bytes w[TURNS][ROWS] = {};
        PHI3_UNROLL
        for (int t = 0; t < TURNS; t++) {
            PHI3_UNROLL
            for (int r = 0; r < ROWS; r++)
                if (i + t * PHI3_WARP < n_pieces)
                    w[t][r] = phi3_load_once(row[r] + (size_t)(i + t * PHI3_WARP) * 16);
        }
        PHI3_UNROLL
        for (int t = 0; t < TURNS; t++) {
            int column = (i + t * PHI3_WARP) * Weights::COLUMNS;
            if (column >= p.n_columns)
                break;
            PHI3_UNROLL
            for (int n = 0; n < N_X; n++) {
                int at = (n < p.n_rows ? n : p.n_rows - 1) * p.n_columns + column;
                PHI3_UNROLL
                for (int k = 0; k < Weights::COLUMNS / 4; k++) {
                    float4 x = __ldg(reinterpret_cast<const float4 *>(p.x + at) + k);
                    PHI3_UNROLL
                    for (int r = 0; r < ROWS; r++)
                        sums[n][r] = phi3_add_products(Weights::four(w[t][r], k), x, sums[n][r]);
                }
            }
        }
    }
    phi3_write_sums<N_X, ROWS>(p, first, sums);
}

/* ---- Any width ------------------------------------------------------------------------------------- */

/* A warp computes one output for one row of x. */
template <typename Weights>
static __global__ void __launch_bounds__(THREADS) multiply_columns(phi3_product p)
{
    int out = blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP;
    if (out >= p.n_out)
        return;
    size_t row = (size_t)out * p.n_columns;
    const float *x = p.x + (size_t)blockIdx.y * p.n_columns;
    float sum = 0;
    for (int i = threadIdx.x % PHI3_WARP; i < p.n_columns; i += PHI3_WARP)
        sum = fmaf(Weights::one(p.planes.plane[0], row + i), x[i], sum);
    sum = phi3_warp_sum(sum);
    if (threadIdx.x % PHI3_WARP == 0)
        p.y[blockIdx.y * p.y_stride + out] = sum;
}

/* ---- The launch ------------------------------------------------------------------------------------ */

template <typename Weights, int N_X> static void launch(const phi3_product &p)
{
    constexpr int ROWS = N_X > 2 ? 4 : 2; /* the more x, the more its loads cost */
    unsigned rows = N_WARPS * ROWS;
    PHI3_LAUNCH((multiply_floats<Weights, N_X, ROWS>), dim3((p.n_out + rows - 1) / rows),
                dim3(THREADS), PHI3_STREAM, p);
}

template <typename Weights> static void launch_for_rows(const phi3_product &p)
{
    if (p.n_columns % Weights::COLUMNS != 0 || reinterpret_cast<uintptr_t>(p.x) % 16 != 0)
        PHI3_LAUNCH(multiply_columns<Weights>,
                    dim3((p.n_out + N_WARPS - 1) / N_WARPS, (unsigned)p.n_rows), dim3(THREADS),
                    PHI3_STREAM, p);
    else if (p.n_rows == 1)
        launch<Weights, 1>(p);
    else if (p.n_rows == 2)
        launch<Weights, 2>(p);
    else if (p.n_rows <= 4)
        launch<Weights, 4>(p);
    else
        launch<Weights, 8>(p);
}

void phi3_cuda_multiply_floats(phi3_dtype dtype, const phi3_product &product)
{
    switch (dtype) {
    case PHI3_F32:
        launch_for_rows<float32_weights>(product);
        break;
    case PHI3_F16:
        launch_for_rows<float16_weights>(product);
        break;
    case PHI3_BF16:
        launch_for_rows<bfloat16_weights>(product);
        break;
    default:
        break; /* the others are blocks */
    }
}
