/*
 * peaks.cu - what the device can do at best: reading its memory, and products by cuBLAS.
 *
 * Out: rates in 10^9 bytes or operations a second, each the best of some rounds.
 */
#include "blas.h"
#include "cuda.h"
extern "C" {
#include "core/base/clock.h"
}

#if defined(PHI3_CUDA_EMULATED)
static const size_t READ_BYTES = 1 << 18, PRODUCT_SIZE = 16;
#else
static const size_t READ_BYTES = (size_t)1 << 30; /* far more than its caches hold */
static const size_t PRODUCT_SIZE = 4096;
#endif

enum { THREADS = 256, BLOCKS = 1024, ROUNDS = 10 };

/* ---- Reading --------------------------------------------------------------------------------------- */

/* Reads everything, 16 bytes at a time, and writes a number that depends on it. */
static __global__ void __launch_bounds__(THREADS)
    read_memory(const uint4 *from, size_t count, unsigned *sink)
{
    unsigned sum = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (size_t)BLOCKS * THREADS) {
        uint4 v = from[i];
        sum += v.x ^ v.y ^ v.z ^ v.w;
    }
    sink[(size_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

static phi3_status read_once(void *memory)
{
    unsigned *sink = static_cast<unsigned *>(memory);
    const uint4 *from = reinterpret_cast<const uint4 *>(sink + BLOCKS * THREADS);
    PHI3_LAUNCH(read_memory, dim3(BLOCKS), dim3(THREADS), PHI3_STREAM, from,
                READ_BYTES / sizeof(uint4), sink);
    return phi3_cuda_launched();
}

/* ---- Products -------------------------------------------------------------------------------------- */

static phi3_status multiply(void *memory, phi3_operand operand)
{
    size_t count = PRODUCT_SIZE * PRODUCT_SIZE;
    float *w = static_cast<float *>(memory), *x = w + count, *y = x + count;
    return phi3_cuda_gemm(operand, w, PRODUCT_SIZE, x, PRODUCT_SIZE, PRODUCT_SIZE, y, PRODUCT_SIZE);
}

static phi3_status multiply_bfloat16(void *memory)
{
    return multiply(memory, PHI3_OPERAND_BFLOAT16);
}

static phi3_status multiply_float32(void *memory)
{
    return multiply(memory, PHI3_OPERAND_FLOAT32);
}

/* ---- Rates ----------------------------------------------------------------------------------------- */

/* The best rate of what does `amount` of something in `size` bytes of memory; the first round, which
 * wakes the device, does not count. */
static phi3_status measure(phi3_status (*run)(void *memory), size_t size, double amount,
                           double *rate)
{
    void *memory = NULL;
    cudaError_t failed = cudaMalloc(&memory, size);
    if (failed == cudaSuccess)
        failed = cudaMemsetAsync(memory, 0x3c, size, PHI3_STREAM);
    phi3_status status = phi3_cuda_status(failed);
    *rate = 0;
    for (int round = 0; round <= ROUNDS && status == PHI3_OK; round++) {
        status = phi3_cuda_status(cudaStreamSynchronize(PHI3_STREAM));
        double start = phi3_clock_seconds();
        if (status == PHI3_OK)
            status = run(memory);
        if (status == PHI3_OK)
            status = phi3_cuda_status(cudaStreamSynchronize(PHI3_STREAM));
        double reached = 1e-9 * amount / (phi3_clock_seconds() - start);
        if (round > 0 && reached > *rate)
            *rate = reached;
    }
    cudaFree(memory);
    return status;
}

phi3_status phi3_cuda_measure_peaks(phi3_peaks *peaks)
{
    const double size = (double)PRODUCT_SIZE;
    const size_t product_bytes = 3 * PRODUCT_SIZE * PRODUCT_SIZE * sizeof(float);
    *peaks = {};
    PHI3_TRY(measure(read_once, READ_BYTES + BLOCKS * THREADS * sizeof(unsigned),
                     (double)READ_BYTES, &peaks->read));
    PHI3_TRY(
        measure(multiply_bfloat16, product_bytes, 2 * size * size * size, &peaks->product_bf16));
    return measure(multiply_float32, product_bytes, 2 * size * size * size, &peaks->product_f32);
}
