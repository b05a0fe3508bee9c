/*
 * bench_kernels.c - how fast the CPU backend's products are, by format. Run by hand:
 *
 *     bench_kernels [threads] [rows of the prefill]
 *
 * Prints the machine's read bandwidth, the bandwidth that one row of activations reaches on weights
 * that come from memory, and the rate of a prefill.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/backend.h"
#include "phi3.h"

enum { N_OUT = 8192, N_COLUMNS = 3072, COPIES = 8 /* so that no cache holds them all */ };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GB/s of a plain sum over a large array. */
static double read_bandwidth(int n_threads)
{
    size_t count = (size_t)64 << 20;
    uint64_t *data = malloc(count * sizeof *data), sum = 0;
    if (!data)
        return 0;
    memset(data, 1, count * sizeof *data);
    double best = 0;
    for (int round = 0; round < 4; round++) {
        double start = now();
#pragma omp parallel for num_threads(n_threads) reduction(+ : sum)
        for (size_t i = 0; i < count; i++)
            sum += data[i];
        double rate = (double)(count * sizeof *data) / (now() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    volatile uint64_t sink = sum;
    (void)sink;
    free(data);
    return best;
}

/* Seconds of one product with n_rows rows, the best of some rounds over all copies. */
static double time_product(phi3_matrix **matrices, size_t n_rows, int n_threads, float *x, float *y)
{
    const phi3_backend *cpu = &phi3_backend_cpu;
    size_t size = cpu->matrix_scratch(matrices[0], n_rows, n_threads);
    phi3_exec exec = {n_threads, cpu->allocate(size), size};
    double best = 1e9, total = 0;
    for (int round = 0; round < 50 && (round < 3 || total < 1); round++) {
        double start = now();
        for (int m = 0; m < COPIES; m++)
            cpu->linear(&exec, matrices[m], x, n_rows, y);
        double seconds = now() - start;
        total += seconds;
        best = seconds / COPIES < best ? seconds / COPIES : best;
    }
    cpu->release(exec.scratch);
    return best;
}

static void bench_format(phi3_dtype dtype, int n_threads, size_t n_rows, double bandwidth)
{
    size_t bytes = N_OUT * phi3_dtype_row_bytes(dtype, N_COLUMNS);
    float *x = malloc(n_rows * N_COLUMNS * sizeof *x), *y = malloc(n_rows * N_OUT * sizeof *y);
    uint8_t *weights[COPIES];
    phi3_matrix *matrices[COPIES];
    for (size_t i = 0; i < n_rows * N_COLUMNS; i++)
        x[i] = (float)(i % 17) - 8;
    for (int m = 0; m < COPIES; m++) {
        weights[m] = malloc(bytes);
        memset(weights[m], 0x21, bytes); /* as a float16 it is an ordinary scale */
        phi3_tensor part = {dtype, N_OUT, N_COLUMNS, weights[m]};
        phi3_backend_cpu.matrix_create(&part, 1, PHI3_COMPUTE_MIXED, NULL, &matrices[m], NULL);
    }
    double decode = time_product(matrices, 1, n_threads, x, y);
    double few = time_product(matrices, 8, n_threads, x, y);
    double prefill = time_product(matrices, n_rows, n_threads, x, y);
    double rate = (double)bytes / decode * 1e-9;
    double flops = 2.0 * N_OUT * N_COLUMNS * 1e-9;
    printf("%-9s %7.2f ms %6.1f GB/s (%3.0f %%) | 8 rows %7.1f GFLOP/s | %zu rows %7.1f GFLOP/s\n",
           phi3_dtype_traits(dtype)->name, decode * 1e3, rate, 100 * rate / bandwidth,
           8 * flops / few, n_rows, (double)n_rows * flops / prefill);
    for (int m = 0; m < COPIES; m++) {
        phi3_backend_cpu.matrix_free(matrices[m]);
        free(weights[m]);
    }
    free(x);
    free(y);
}

int main(int argc, char **argv)
{
    int n_threads = argc > 1 ? atoi(argv[1]) : phi3_default_threads();
    size_t n_rows = argc > 2 ? (size_t)atol(argv[2]) : 512;
    double bandwidth = read_bandwidth(n_threads);
    printf("%s, %d threads, reads %.1f GB/s; matrices of %d x %d\n", phi3_cpu_isa(), n_threads,
           bandwidth, N_OUT, N_COLUMNS);
    for (uint32_t dtype = 0; dtype < PHI3_DTYPE_LIMIT; dtype++)
        if (phi3_dtype_traits(dtype) &&
            (argc < 4 || !strcmp(argv[3], phi3_dtype_traits(dtype)->name)))
            bench_format((phi3_dtype)dtype, n_threads, n_rows, bandwidth);
    return 0;
}
