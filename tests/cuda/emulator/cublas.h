/*
 * cublas.h - the part of cuBLAS that kernels/cuda uses: the product as a loop, in its stream.
 *
 * A handle belongs to the device that was current when it was made.
 */
#ifndef PHI3_CUDA_EMULATOR_CUBLAS_H
#define PHI3_CUDA_EMULATOR_CUBLAS_H

#include "float16.h"
#include "runtime.h"

typedef struct cublasContext {
    int device;
    cudaStream_t stream;
} * cublasHandle_t;

typedef enum {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;
typedef enum { CUBLAS_OP_N, CUBLAS_OP_T } cublasOperation_t;
typedef enum { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 } cudaDataType;
typedef enum { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 } cublasComputeType_t;
typedef enum { CUBLAS_GEMM_DEFAULT = -1 } cublasGemmAlgo_t;

inline cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = new cublasContext{0, nullptr};
    cudaGetDevice(&(*handle)->device);
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

namespace emulator
{

inline float element(const void *from, cudaDataType type, size_t at)
{
    if (type == CUDA_R_32F)
        return static_cast<const float *>(from)[at];
    uint16_t half = static_cast<const uint16_t *>(from)[at];
    return type == CUDA_R_16F ? phi3_f16_to_f32(half) : phi3_bf16_to_f32(half);
}

} // namespace emulator

/* c = a^T b, columns first: c [n][m] with ldc, a [m][k] with lda, b [n][k] with ldb. */
inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a,
                                   cublasOperation_t op_b, int m, int n, int k, const void *alpha,
                                   const void *a, cudaDataType type_a, int lda, const void *b,
                                   cudaDataType type_b, int ldb, const void *beta, void *c,
                                   cudaDataType type_c, int ldc, cublasComputeType_t,
                                   cublasGemmAlgo_t)
{
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || type_c != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    int device;
    if (*static_cast<const float *>(alpha) != 1 || *static_cast<const float *>(beta) != 0 ||
        cudaGetDevice(&device) != cudaSuccess || device != handle->device)
        return CUBLAS_STATUS_INVALID_VALUE;
    emulator::enqueue(handle->stream, {a, b, c}, [=] {
        for (size_t j = 0; j < (size_t)n; j++)
            for (size_t i = 0; i < (size_t)m; i++) {
                double sum = 0;
                for (size_t l = 0; l < (size_t)k; l++)
                    sum += (double)emulator::element(a, type_a, i * (size_t)lda + l) *
                           emulator::element(b, type_b, j * (size_t)ldb + l);
                static_cast<float *>(c)[j * (size_t)ldc + i] = (float)sum;
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}

#endif
