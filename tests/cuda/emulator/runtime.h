/*
 * runtime.h - the parts of CUDA's runtime, of its 16-bit floats and of cuBLAS that kernels/cuda uses,
 * on the CPU. Device memory is host memory of the exact size, so that ASan guards its ends.
 */
#ifndef PHI3_CUDA_RUNTIME_H
#define PHI3_CUDA_RUNTIME_H

#include <cstdlib>

extern "C" {
#include "kernels/float16.h"
}

/* ---- Runtime --------------------------------------------------------------------------------------- */

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorLaunchFailure = 719
};

typedef void *cudaStream_t;
#define cudaStreamPerThread (static_cast<cudaStream_t>(nullptr))

typedef enum { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 } cudaMemcpyKind;

inline cudaError_t cudaMalloc(void **memory, size_t size)
{
    if (posix_memalign(memory, 256, size > 0 ? size : 1) != 0)
        return cudaErrorMemoryAllocation;
    memset(*memory, 0xff, size); /* NaN: what a kernel reads it must have written */
    return cudaSuccess;
}

inline cudaError_t cudaFree(void *memory)
{
    free(memory);
    return cudaSuccess;
}

inline cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind)
{
    memcpy(to, from, size);
    return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                                   cudaStream_t)
{
    return cudaMemcpy(to, from, size, kind);
}

enum { cudaHostAllocDefault = 0, cudaEventDisableTiming = 2 };

inline cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned)
{
    return cudaMalloc(memory, size);
}

inline cudaError_t cudaFreeHost(void *memory)
{
    return cudaFree(memory);
}

typedef void *cudaEvent_t;

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    static char only;
    *event = &only;
    return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t)
{
    return cudaSuccess;
}

inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t)
{
    return cudaSuccess;
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}

inline cudaError_t cudaGetLastError()
{
    return *emulator::take_failure() == '\0' ? cudaSuccess : cudaErrorLaunchFailure;
}

inline cudaError_t cudaPeekAtLastError()
{
    return emulator::has_failed() ? cudaErrorLaunchFailure : cudaSuccess;
}

inline const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : "an error";
}

inline cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

struct cudaDeviceProp {
    char name[256];
    int major, minor;
    size_t totalGlobalMem;
};

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    *properties = {"the emulator", 8, 0, (size_t)1 << 30};
    return cudaSuccess;
}

inline cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = *total = (size_t)1 << 30;
    return cudaSuccess;
}

/* ---- Floats of 16 bits ------------------------------------------------------------------------------ */

struct __half_raw {
    uint16_t x;
};
struct __half : __half_raw {
    explicit __half(__half_raw raw) : __half_raw(raw)
    {
    }
};
struct __nv_bfloat16_raw {
    uint16_t x;
};

inline float __half2float(__half half)
{
    return phi3_f16_to_f32(half.x);
}

inline __half_raw __float2half_rn(float x)
{
    return {phi3_f16_from_f32(x)};
}

inline __nv_bfloat16_raw __float2bfloat16_rn(float x)
{
    return {phi3_bf16_from_f32(x)};
}

/* ---- cuBLAS: the reference product ------------------------------------------------------------------- */

typedef int *cublasHandle_t;
typedef enum { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_SUPPORTED } cublasStatus_t;
typedef enum { CUBLAS_OP_N, CUBLAS_OP_T } cublasOperation_t;
typedef enum { CUDA_R_32F, CUDA_R_16BF } cudaDataType;
typedef enum { CUBLAS_COMPUTE_32F } cublasComputeType_t;
typedef enum { CUBLAS_GEMM_DEFAULT } cublasGemmAlgo_t;

inline cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    static int only;
    *handle = &only;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasDestroy(cublasHandle_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

/* c = a^T b, columns first: c [n][m] with ldc, a [m][k] with lda, b [n][k] with ldb. */
inline cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b,
                                   int m, int n, int k, const void *, const void *a,
                                   cudaDataType type_a, int lda, const void *b, cudaDataType type_b,
                                   int ldb, const void *, void *c, cudaDataType, int ldc,
                                   cublasComputeType_t, cublasGemmAlgo_t)
{
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    auto element = [](const void *from, cudaDataType type, size_t at) {
        return type == CUDA_R_32F ? static_cast<const float *>(from)[at]
                                  : phi3_bf16_to_f32(static_cast<const uint16_t *>(from)[at]);
    };
    for (size_t j = 0; j < (size_t)n; j++)
        for (size_t i = 0; i < (size_t)m; i++) {
            double sum = 0;
            for (size_t l = 0; l < (size_t)k; l++)
                sum += (double)element(a, type_a, i * (size_t)lda + l) *
                       element(b, type_b, j * (size_t)ldb + l);
            static_cast<float *>(c)[j * (size_t)ldc + i] = (float)sum;
        }
    return CUBLAS_STATUS_SUCCESS;
}

#endif
