/* cuda.h - the ops of the CUDA backend, as declared in kernels/backend.h, and what they share. */
#ifndef PHI3_CUDA_H
#define PHI3_CUDA_H

extern "C" {
#include "core/base/error.h"
#include "kernels/backend.h"
}
#include "platform.h"

/* Every host thread works in a stream of its own: an exec belongs to one thread at a time, so its
 * ops run in order, and those of other threads beside them. */
#define PHI3_STREAM cudaStreamPerThread

/* A failure stays with the runtime, whose words `failure` takes; want of memory is forgotten: what
 * comes next may succeed. */
static inline phi3_status phi3_cuda_status(cudaError_t error)
{
    if (error != cudaErrorMemoryAllocation)
        return error == cudaSuccess ? PHI3_OK : PHI3_ERROR_DEVICE;
    (void)cudaGetLastError();
    return PHI3_ERROR_OUT_OF_MEMORY;
}

/* Whether everything launched so far was accepted. */
static inline phi3_status phi3_cuda_launched(void)
{
    return phi3_cuda_status(cudaPeekAtLastError());
}

/* exec.cu */
phi3_status phi3_cuda_begin(phi3_exec *exec, phi3_batch *batch, bool *replayed);
phi3_status phi3_cuda_end(phi3_exec *exec, phi3_status status);
void phi3_cuda_exec_free(phi3_exec *exec);

/* available.cu */
bool phi3_cuda_available(int device, char *detail, size_t size);

/* peaks.cu */
phi3_status phi3_cuda_measure_peaks(phi3_peaks *peaks);

/* matrix.cu */
size_t phi3_cuda_matrix_bytes(const phi3_tensor *parts, size_t n_parts, phi3_compute compute);
phi3_status phi3_cuda_matrix_create(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                    const void *packed, phi3_matrix **matrix, phi3_error *error);
void phi3_cuda_matrix_free(phi3_matrix *matrix);

/* expand.cu */
phi3_status phi3_cuda_embed(const phi3_exec *exec, const phi3_matrix *table, const int32_t *ids,
                            size_t n_rows, float *out);

/* linear.cu */
size_t phi3_cuda_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads);
phi3_status phi3_cuda_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                             size_t n_rows, float *y);

/* rows.cu */
phi3_status phi3_cuda_add_rms_norm(const phi3_exec *exec, float *x, const float *delta,
                                   const float *weight, float epsilon, size_t n_rows,
                                   size_t n_columns, float *out);
phi3_status phi3_cuda_swiglu(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                             size_t n_columns, float *out);
phi3_status phi3_cuda_gather_rows(const phi3_exec *exec, const float *x, const size_t *rows,
                                  size_t n_rows, size_t n_columns, float *out);

/* top_k.cu */
size_t phi3_cuda_top_k_scratch(size_t n_rows, size_t n_columns, size_t k);
phi3_status phi3_cuda_top_k(const phi3_exec *exec, const float *logits, size_t n_rows,
                            size_t n_columns, size_t k, float *values, int32_t *ids);

/* attention.cu */
size_t phi3_cuda_attention_scratch(const phi3_attention *attention, size_t n_rows, int n_threads);
phi3_status phi3_cuda_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                  const float *cosine, const float *sine, float *qkv);
phi3_status phi3_cuda_attention(const phi3_exec *exec, const phi3_attention *attention,
                                const float *qkv, float *out);

#endif
