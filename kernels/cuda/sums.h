/* sums.h - many sums over the lanes of a warp at once, and their way to memory. */
#ifndef PHI3_CUDA_SUMS_H
#define PHI3_CUDA_SUMS_H

#include "device.h"
#include "products.h"

/* a . b + sum, column by column. */
static __device__ __forceinline__ float phi3_add_products(float4 a, float4 b, float sum)
{
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

/*
 * Adds COUNT values, a power of two up to 32, over the warp. In each step a lane keeps half of its
 * values and gives the other half away: COUNT - 1 exchanges for most of the way, not 5 COUNT. Lane l
 * is left with the sum of value l / (32 / COUNT), in values[0]. The order of a sum is that of
 * phi3_warp_sum, whatever COUNT is.
 */
template <int COUNT, int BIT = PHI3_WARP / 2>
static __device__ __forceinline__ void phi3_warp_sums(float *values)
{
    if constexpr (COUNT == 1) {
        values[0] += __shfl_xor_sync(0xffffffffu, values[0], BIT);
    } else {
        bool upper = (threadIdx.x & BIT) != 0;
        PHI3_UNROLL
        for (int i = 0; i < COUNT / 2; i++) {
            float mine = upper ? values[i + COUNT / 2] : values[i];
            float given = upper ? values[i] : values[i + COUNT / 2];
            values[i] = mine + __shfl_xor_sync(0xffffffffu, given, BIT);
        }
    }
    if constexpr (BIT > 1)
        phi3_warp_sums<(COUNT > 1 ? COUNT / 2 : 1), BIT / 2>(values);
}

/* Writes the outputs of weight rows first..first + ROWS - 1 for every row of x. */
template <int N_X, int ROWS>
static __device__ __forceinline__ void phi3_write_sums(const phi3_product &p, int first,
                                                       float sums[N_X][ROWS])
{
    constexpr int COUNT = N_X * ROWS, SPREAD = PHI3_WARP / COUNT;
    float values[COUNT];
    PHI3_UNROLL
    for (int i = 0; i < COUNT; i++)
        values[i] = sums[i / ROWS][i % ROWS];
    phi3_warp_sums<COUNT>(values);
    int lane = threadIdx.x % PHI3_WARP, n = lane / SPREAD / ROWS,
        row = first + lane / SPREAD % ROWS;
    if (lane % SPREAD == 0 && n < p.n_rows && row < p.n_out)
        p.y[n * p.y_stride + row] = values[0];
}

#endif
