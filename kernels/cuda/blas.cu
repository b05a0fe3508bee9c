/*
 * blas.cu - cuBLAS and its handles.
 *
 * A handle may serve one thread at a time and is dear to make: idle ones wait in a short list.
 */
#include "blas.h"

#include <pthread.h>

enum { MAX_IDLE = 8 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cublasHandle_t idle[MAX_IDLE];
static int n_idle;

static cublasHandle_t take_handle(void)
{
    pthread_mutex_lock(&lock);
    cublasHandle_t handle = n_idle > 0 ? idle[--n_idle] : NULL;
    pthread_mutex_unlock(&lock);
    if (handle == NULL && cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS)
        return NULL;
    return handle;
}

static void give_back(cublasHandle_t handle)
{
    pthread_mutex_lock(&lock);
    bool keep = n_idle < MAX_IDLE;
    if (keep)
        idle[n_idle++] = handle;
    pthread_mutex_unlock(&lock);
    if (!keep)
        cublasDestroy(handle);
}

/* cuBLAS counts columns first: to it, our rows are columns, and y^T = w x^T. */
phi3_status phi3_cuda_gemm(phi3_dtype dtype, const void *w, size_t n_out, const void *x,
                           size_t n_rows, size_t n_columns, float *y, size_t y_stride)
{
    cublasHandle_t handle = take_handle();
    if (handle == NULL)
        return PHI3_ERROR_DEVICE;
    cudaDataType type = dtype == PHI3_F32 ? CUDA_R_32F : CUDA_R_16BF;
    const float one = 1, zero = 0;
    cublasStatus_t status = cublasSetStream(handle, PHI3_STREAM);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, (int)n_out, (int)n_rows, (int)n_columns,
                         &one, w, type, (int)n_columns, x, type, (int)n_columns, &zero, y,
                         CUDA_R_32F, (int)y_stride, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    give_back(handle);
    return status == CUBLAS_STATUS_SUCCESS ? PHI3_OK : PHI3_ERROR_DEVICE;
}
