/*
 * bench_kernels.c - how fast the CPU backend's products are, by format. Run by hand:
 *
 *     bench_kernels [threads] [rows of the prefill] [format]
 *
 * First measures what the machine can do. Then, for each format, on weights that no cache holds: the
 * bytes that one row of activations reads a second, what 8 rows cost beside one, and the rate of a
 * prefill, beside the peak of the units that compute it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/backend.h"
#include "phi3.h"

enum { N_OUT = 8192, N_COLUMNS = 3072, COPIES = 16 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one product with n_rows rows, the best of some rounds over all copies. */
static double time_product(phi3_matrix **matrices, size_t n_rows, int n_threads, float *x, float *y)
{
    const phi3_backend *cpu = &phi3_backend_cpu;
    size_t size = cpu->matrix_scratch(matrices[0], n_rows, n_threads);
    phi3_exec exec = {.n_threads = n_threads, .scratch = cpu->allocate(size), .scratch_size = size};
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

/* Operations a second of the units that multiply a format, and what they are called. */
static double peak_for(phi3_dtype dtype, const phi3_peaks *peaks, const char **unit)
{
    if (phi3_dtype_traits(dtype)->block_size > 1) {
        *unit = "int8";
        return peaks->units_int8;
    }
    bool is_bfloat16 = dtype != PHI3_F32 && peaks->units_bf16 > 0;
    *unit = is_bfloat16 ? "bfloat16" : "float32";
    return is_bfloat16 ? peaks->units_bf16 : peaks->units_f32;
}

static void print_rates(phi3_dtype dtype, const phi3_peaks *peaks, size_t bytes, size_t n_rows,
                        const double seconds[3])
{
    const char *unit;
    double peak = peak_for(dtype, peaks, &unit), read = (double)bytes / seconds[0] * 1e-9;
    double rate = 2e-9 * (double)n_rows * N_OUT * N_COLUMNS / seconds[2];
    printf("%-9s 1 row %5.2f ms, %5.1f GB/s (%3.0f %%) | 8 rows cost %4.2f | %zu rows %6.0f GOP/s "
           "(%2.0f %% of %s)\n",
           phi3_dtype_traits(dtype)->name, seconds[0] * 1e3, read, 100 * read / peaks->read,
           seconds[1] / seconds[0], n_rows, rate, 100 * rate / peak, unit);
}

static void bench_format(phi3_dtype dtype, size_t n_rows, const phi3_peaks *peaks)
{
    const phi3_backend *cpu = &phi3_backend_cpu;
    size_t bytes = N_OUT * phi3_dtype_row_bytes(dtype, N_COLUMNS);
    float *x = cpu->allocate(n_rows * N_COLUMNS * sizeof *x);
    float *y = cpu->allocate(n_rows * N_OUT * sizeof *y);
    uint8_t *weights = malloc(bytes * COPIES);
    phi3_matrix *matrices[COPIES];
    for (size_t i = 0; i < n_rows * N_COLUMNS; i++)
        x[i] = (float)(i % 17) - 8;
    memset(weights, 0x21, bytes * COPIES); /* as a float16 it is an ordinary scale */
    phi3_tensor part = {dtype, N_OUT, N_COLUMNS, weights};
    for (size_t m = 0; m < COPIES; m++) {
        part.data = weights + m * bytes;
        cpu->matrix_create(&part, 1, PHI3_COMPUTE_MIXED, NULL, &matrices[m], NULL);
    }
    const size_t rows[3] = {1, 8, n_rows};
    double seconds[3];
    for (int i = 0; i < 3; i++)
        seconds[i] = time_product(matrices, rows[i], peaks->n_threads, x, y);
    size_t packed = cpu->matrix_packed_size(&part, 1, PHI3_COMPUTE_MIXED);
    print_rates(dtype, peaks, packed ? packed : bytes, n_rows, seconds);
    for (int m = 0; m < COPIES; m++)
        cpu->matrix_free(matrices[m]);
    free(weights);
    cpu->release(x);
    cpu->release(y);
}

int main(int argc, char **argv)
{
    const phi3_run_options options = {.n_threads = argc > 1 ? atoi(argv[1]) : 0};
    size_t n_rows = argc > 2 ? (size_t)atol(argv[2]) : 512;
    phi3_peaks peaks;
    phi3_error error;
    if (phi3_measure_peaks(&options, &peaks, &error) != PHI3_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("%s, %d threads: reads %.1f GB/s, %.0f GOP/s of int8; matrices of %d x %d\n",
           phi3_cpu_isa(), peaks.n_threads, peaks.read, peaks.units_int8, N_OUT, N_COLUMNS);
    for (uint32_t dtype = 0; dtype < PHI3_DTYPE_LIMIT; dtype++)
        if (phi3_dtype_traits(dtype) &&
            (argc < 4 || !strcmp(argv[3], phi3_dtype_traits(dtype)->name)))
            bench_format((phi3_dtype)dtype, n_rows, &peaks);
    return 0;
}
