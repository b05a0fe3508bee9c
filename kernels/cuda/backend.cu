/*
 * backend.cu - the table of the CUDA backend, and its memory.
 *
 * The backend is a shared object of its own, which kernels/registry.c opens when somebody asks for
 * it: everything else works where there is no driver.
 */
#include <stdio.h>

#include "cuda.h"

static bool available(char *detail, size_t size)
{
    int n_devices = 0;
    cudaError_t failed = cudaGetDeviceCount(&n_devices);
    if (failed == cudaSuccess && n_devices == 0)
        failed = cudaErrorNoDevice;
    if (failed != cudaSuccess) {
        (void)cudaGetLastError();
        snprintf(detail, size, "CUDA does not run here: %s", cudaGetErrorString(failed));
        return false;
    }
    cudaDeviceProp properties;
    failed = cudaGetDeviceProperties(&properties, 0);
    if (failed != cudaSuccess) {
        snprintf(detail, size, "CUDA device 0: %s", cudaGetErrorString(failed));
        return false;
    }
    if (properties.major < 8) {
        snprintf(detail, size, "%s has compute capability %d.%d; 8.0 is needed", properties.name,
                 properties.major, properties.minor);
        return false;
    }
    snprintf(detail, size, "%s, compute capability %d.%d, %zu MiB", properties.name,
             properties.major, properties.minor, properties.totalGlobalMem >> 20);
    return true;
}

static void *allocate(size_t size)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, size > 0 ? size : 1) == cudaSuccess)
        return memory;
    (void)cudaGetLastError();
    return NULL;
}

/* What still runs may use it: cudaFree waits for the device. */
static void release(void *memory)
{
    cudaFree(memory);
}

/* In the order of the stream, and finished when it returns. */
static phi3_status copy(void *to, const void *from, size_t size, cudaMemcpyKind kind)
{
    if (size == 0)
        return PHI3_OK;
    cudaError_t failed = cudaMemcpyAsync(to, from, size, kind, PHI3_STREAM);
    if (failed == cudaSuccess)
        failed = cudaStreamSynchronize(PHI3_STREAM);
    return phi3_cuda_status(failed);
}

static phi3_status upload(void *to, const void *from_host, size_t size)
{
    return copy(to, from_host, size, cudaMemcpyHostToDevice);
}

static phi3_status download(void *to_host, const void *from, size_t size)
{
    return copy(to_host, from, size, cudaMemcpyDeviceToHost);
}

static const char *failure(void)
{
    cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

/* Weights go to the device as they are stored: there is nothing to pack on the host. */
static size_t packed_size(const phi3_tensor *parts, size_t n_parts, phi3_compute compute)
{
    (void)parts, (void)n_parts, (void)compute;
    return 0;
}

static bool pack(const phi3_tensor *parts, size_t n_parts, phi3_compute compute, int n_threads,
                 void *packed)
{
    (void)parts, (void)n_parts, (void)compute, (void)n_threads, (void)packed;
    return true;
}

static phi3_backend make_table(void)
{
    phi3_backend b = {};
    b.name = "cuda";
    b.available = available;
    b.allocate = allocate;
    b.release = release;
    b.upload = upload;
    b.download = download;
    b.packed_layout = "in place";
    b.matrix_packed_size = packed_size;
    b.matrix_pack = pack;
    b.matrix_create = phi3_cuda_matrix_create;
    b.matrix_free = phi3_cuda_matrix_free;
    b.matrix_scratch = phi3_cuda_matrix_scratch;
    b.attention_scratch = phi3_cuda_attention_scratch;
    b.top_k_scratch = phi3_cuda_top_k_scratch;
    b.begin = phi3_cuda_begin;
    b.end = phi3_cuda_end;
    b.exec_free = phi3_cuda_exec_free;
    b.failure = failure;
    b.embed = phi3_cuda_embed;
    b.linear = phi3_cuda_linear;
    b.add_rms_norm = phi3_cuda_add_rms_norm;
    b.rope_append = phi3_cuda_rope_append;
    b.attention = phi3_cuda_attention;
    b.swiglu = phi3_cuda_swiglu;
    b.gather_rows = phi3_cuda_gather_rows;
    b.top_k = phi3_cuda_top_k;
    return b;
}

/* What registry.c looks up. */
extern "C" __attribute__((visibility("default"))) const phi3_backend *phi3_cuda_backend(void)
{
    static const phi3_backend table = make_table();
    return &table;
}
