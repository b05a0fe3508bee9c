/*
 * rows.cu - ops that work row by row: norm, gated activation, gather. One block per row.
 *
 * In and out: float32 in device memory, shapes as in kernels/backend.h.
 */
#include "cuda.h"
#include "device.h"

enum { THREADS = 256, N_WARPS = THREADS / PHI3_WARP };

/* ---- Norm ------------------------------------------------------------------------------------------ */

/* x += delta; out = weight * x / sqrt(mean(x^2) + epsilon), for the row blockIdx.x. */
static __global__ void __launch_bounds__(THREADS)
    add_rms_norm(float *x, const float *delta, const float *weight, float epsilon, int n_columns,
                 float *out)
{
    PHI3_SHARED(float, partial, N_WARPS);
    size_t at = (size_t)blockIdx.x * n_columns;
    float sum = 0;
    for (int i = threadIdx.x; i < n_columns; i += THREADS) {
        float value = x[at + i];
        if (delta) {
            value += delta[at + i];
            x[at + i] = value;
        }
        sum += value * value;
    }
    sum = phi3_warp_sum(sum);
    if (threadIdx.x % PHI3_WARP == 0)
        partial[threadIdx.x / PHI3_WARP] = sum;
    __syncthreads();
    float total = 0;
    for (int w = 0; w < N_WARPS; w++)
        total += partial[w];
    float scale = rsqrtf(total / (float)n_columns + epsilon);
    for (int i = threadIdx.x; i < n_columns; i += THREADS)
        out[at + i] = weight[i] * (x[at + i] * scale);
}

phi3_status phi3_cuda_add_rms_norm(const phi3_exec *exec, float *x, const float *delta,
                                   const float *weight, float epsilon, size_t n_rows,
                                   size_t n_columns, float *out)
{
    (void)exec;
    if (n_rows > 0)
        PHI3_LAUNCH(add_rms_norm, dim3((unsigned)n_rows), dim3(THREADS), PHI3_STREAM, x, delta,
                    weight, epsilon, (int)n_columns, out);
    return phi3_cuda_launched();
}

/* ---- Gated activation ------------------------------------------------------------------------------ */

/* out = silu(gate) * up, for the row blockIdx.x. */
static __global__ void __launch_bounds__(THREADS)
    swiglu(const float *gate_up, int n_columns, float *out)
{
    const float *gate = gate_up + (size_t)blockIdx.x * 2 * n_columns;
    const float *up = gate + n_columns;
    float *to = out + (size_t)blockIdx.x * n_columns;
    for (int i = blockIdx.y * THREADS + threadIdx.x; i < n_columns; i += gridDim.y * THREADS)
        to[i] = gate[i] / (1 + __expf(-gate[i])) * up[i];
}

phi3_status phi3_cuda_swiglu(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                             size_t n_columns, float *out)
{
    (void)exec;
    unsigned pieces = (unsigned)((n_columns + 4 * THREADS - 1) / (4 * THREADS));
    if (n_rows > 0)
        PHI3_LAUNCH(swiglu, dim3((unsigned)n_rows, pieces), dim3(THREADS), PHI3_STREAM, gate_up,
                    (int)n_columns, out);
    return phi3_cuda_launched();
}

/* ---- Gather ---------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS)
    gather_rows(const float *x, const size_t *rows, int n_columns, float *out)
{
    const float *from = x + rows[blockIdx.x] * n_columns;
    for (int i = threadIdx.x; i < n_columns; i += THREADS)
        out[(size_t)blockIdx.x * n_columns + i] = from[i];
}

phi3_status phi3_cuda_gather_rows(const phi3_exec *exec, const float *x, const size_t *rows,
                                  size_t n_rows, size_t n_columns, float *out)
{
    (void)exec;
    if (n_rows > 0)
        PHI3_LAUNCH(gather_rows, dim3((unsigned)n_rows), dim3(THREADS), PHI3_STREAM, x, rows,
                    (int)n_columns, out);
    return phi3_cuda_launched();
}
