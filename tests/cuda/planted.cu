/*
 * planted.cu - kernels with the faults that static_checks.py is there to find, named like ours. Each
 * has one fault; nothing runs them.
 */
#include <cuda_runtime.h>

/* Weights byte by byte. */
template <int N_X>
__global__ void __launch_bounds__(128) multiply_pieces(const signed char *w, const int *x, int *y)
{
    int sum = 0;
    for (int i = threadIdx.x; i < 1024; i += 128)
        sum += w[i] * x[i];
    y[threadIdx.x] = sum;
}
template __global__ void multiply_pieces<1>(const signed char *, const int *, int *);

/* More sums than registers. */
__global__ void __launch_bounds__(1024, 2) swiglu(const float *x, float *y)
{
    float sums[96] = {};
    for (int i = 0; i < 1000; i++) {
#pragma unroll
        for (int k = 0; k < 96; k++)
            sums[k] = sums[k] * x[i] + x[i + k];
    }
#pragma unroll
    for (int k = 0; k < 96; k++)
        y[k * 1024 + threadIdx.x] = sums[k];
}

/* An array whose indices are known only when it runs. */
__global__ void __launch_bounds__(128) rope_append(const int *order, int *y)
{
    int taken[32];
    for (int i = 0; i < 32; i++)
        taken[order[i] & 31] = i;
    y[threadIdx.x] = taken[order[threadIdx.x] & 31];
}

/* Attention without the tensor cores. */
template <int DIM>
__global__ void __launch_bounds__(128) attend_tiles(const float *q, const float *k, float *scores)
{
    float score = 0;
    for (int i = 0; i < DIM; i++)
        score += q[threadIdx.x * DIM + i] * k[blockIdx.x * DIM + i];
    scores[blockIdx.x * 128 + threadIdx.x] = score;
}
template __global__ void attend_tiles<96>(const float *, const float *, float *);

/* A warning of the compiler. */
__global__ void gather_rows(float *y)
{
    int never_used;
    y[threadIdx.x] = 0;
}
