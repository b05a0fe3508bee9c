/*
 * backend.cu - the tables of the CUDA backend, one for each device, and the devices' memory.
 *
 * The backend is a shared object of its own, which kernels/registry.c opens when somebody asks for
 * it: everything else works where there is no driver.
 */
#include <stdio.h>

#include <utility>

#include "cuda.h"

static bool memory(size_t *available, size_t *total)
{
    if (cudaMemGetInfo(available, total) == cudaSuccess)
        return true;
    (void)cudaGetLastError();
    return false;
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

/* ---- Tables --------------------------------------------------------------------------------------------- */

/* A function of the table on a device of its own. */
template <int device, auto function> struct on;
template <int device, typename R, typename... A, R (*function)(A...)> struct on<device, function> {
    static R call(A... arguments)
    {
        (void)cudaSetDevice(device); /* without it, the function fails, too */
        return function(arguments...);
    }
};

template <int device> static bool available(char *detail, size_t size)
{
    return phi3_cuda_available(device, detail, size);
}

/* Ops need no device to be set: they follow the begin of their batch, in its thread. */
template <int device> static phi3_backend make_table()
{
    static char name[16];
    snprintf(name, sizeof name, "cuda:%d", device);
    phi3_backend b = {};
    b.name = name;
    b.available = available<device>;
    b.allocate = on<device, allocate>::call;
    b.release = on<device, release>::call;
    b.upload = on<device, upload>::call;
    b.download = on<device, download>::call;
    b.memory = on<device, memory>::call;
    b.key_lanes = 1;
    b.packed_layout = "in place";
    b.matrix_packed_size = packed_size;
    b.matrix_pack = pack;
    b.matrix_bytes = phi3_cuda_matrix_bytes;
    b.matrix_create = on<device, phi3_cuda_matrix_create>::call;
    b.matrix_free = on<device, phi3_cuda_matrix_free>::call;
    b.matrix_scratch = phi3_cuda_matrix_scratch;
    b.attention_scratch = phi3_cuda_attention_scratch;
    b.top_k_scratch = phi3_cuda_top_k_scratch;
    b.begin = on<device, phi3_cuda_begin>::call;
    b.end = on<device, phi3_cuda_end>::call;
    b.exec_free = on<device, phi3_cuda_exec_free>::call;
    b.failure = failure;
    b.measure_peaks = on<device, phi3_cuda_measure_peaks>::call;
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

template <int... devices>
static const phi3_backend *table_of(int device, std::integer_sequence<int, devices...>)
{
    static const phi3_backend tables[] = {make_table<devices>()...};
    return &tables[device];
}

/* What registry.c looks up. The first device's table is there without a device, too: to say why. */
extern "C" __attribute__((visibility("default"))) const phi3_backend *phi3_cuda_backend(int device)
{
    int n_devices = 0;
    if (cudaGetDeviceCount(&n_devices) != cudaSuccess)
        (void)cudaGetLastError();
    if (device < 0 || device >= PHI3_MAX_CUDA_DEVICES || (device > 0 && device >= n_devices))
        return NULL;
    return table_of(device, std::make_integer_sequence<int, PHI3_MAX_CUDA_DEVICES>());
}
