/*
 * blas.cu - cuBLAS and its handles.
 *
 * A handle belongs to one device and may serve one thread at a time, and is dear to make: idle ones
 * wait in a short list. Each has a workspace of its own, so that a product allocates nothing. Who
 * takes a handle waits on the device for its last product, which may be another stream's: no two
 * products share a workspace, and sums are the same every time.
 */
#include "blas.h"

#include <pthread.h>

enum { MAX_IDLE = 16 };

typedef struct blas_handle {
    cublasHandle_t cublas;
    void *workspace;
    size_t workspace_bytes;
    cudaEvent_t used; /* by its last product */
    int device;
} blas_handle;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static blas_handle idle[MAX_IDLE];
static int n_idle;

static void destroy(const blas_handle *handle)
{
    if (handle->cublas != NULL)
        cublasDestroy(handle->cublas);
    if (handle->used != NULL)
        cudaEventDestroy(handle->used);
    if (handle->workspace != NULL)
        cudaFree(handle->workspace);
}

static bool take_idle(int device, blas_handle *handle)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (int i = n_idle - 1; i >= 0 && !found; i--) {
        if (idle[i].device != device)
            continue;
        *handle = idle[i];
        idle[i] = idle[--n_idle];
        found = true;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* What cuBLAS's manual recommends: 32 MiB on Hopper and later, 4 MiB before. */
static size_t workspace_for(int device)
{
    cudaDeviceProp properties;
    bool is_new =
        cudaGetDeviceProperties(&properties, device) == cudaSuccess && properties.major > 8;
    return (size_t)(is_new ? 32 : 4) << 20;
}

static bool take_handle(blas_handle *handle)
{
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess)
        return false;
    if (take_idle(device, handle))
        return true;
    *handle = {NULL, NULL, workspace_for(device), NULL, device};
    if (cublasCreate(&handle->cublas) == CUBLAS_STATUS_SUCCESS &&
        cudaMalloc(&handle->workspace, handle->workspace_bytes) == cudaSuccess &&
        cudaEventCreateWithFlags(&handle->used, cudaEventDisableTiming) == cudaSuccess)
        return true;
    destroy(handle);
    return false;
}

static void give_back(const blas_handle *handle)
{
    pthread_mutex_lock(&lock);
    bool keep = n_idle < MAX_IDLE;
    if (keep)
        idle[n_idle++] = *handle;
    pthread_mutex_unlock(&lock);
    if (!keep)
        destroy(handle);
}

/* cuBLAS counts columns first: to it, our rows are columns, and y^T = w x^T. */
phi3_status phi3_cuda_gemm(phi3_operand operand, const void *w, size_t n_out, const void *x,
                           size_t n_rows, size_t n_columns, float *y, size_t y_stride)
{
    blas_handle handle;
    if (!take_handle(&handle))
        return PHI3_ERROR_DEVICE;
    cudaDataType type = operand == PHI3_OPERAND_BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasComputeType_t compute =
        operand == PHI3_OPERAND_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const float one = 1, zero = 0;
    cudaError_t ordered = cudaStreamWaitEvent(PHI3_STREAM, handle.used, 0);
    /* Setting the stream takes the workspace away. */
    cublasStatus_t status = cublasSetStream(handle.cublas, PHI3_STREAM);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasSetWorkspace(handle.cublas, handle.workspace, handle.workspace_bytes);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            cublasGemmEx(handle.cublas, CUBLAS_OP_T, CUBLAS_OP_N, (int)n_out, (int)n_rows,
                         (int)n_columns, &one, w, type, (int)n_columns, x, type, (int)n_columns,
                         &zero, y, CUDA_R_32F, (int)y_stride, compute, CUBLAS_GEMM_DEFAULT);
    if (ordered == cudaSuccess)
        ordered = cudaEventRecord(handle.used, PHI3_STREAM);
    give_back(&handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return PHI3_ERROR_DEVICE;
    return phi3_cuda_status(ordered);
}
