/*
 * bench_attention.c - how fast the CPU backend's attention is, by depth and dtype of the cache. Run by
 * hand:
 *
 *     bench_attention [threads] [heads] [kv heads] [head dim]
 *
 * The shape is Phi-3.5-mini's when none is given. Prints for each depth the bandwidth that one new row
 * of one sequence reaches on its keys and values, and the rate of the products in a prefill that ends
 * there, with the parts of the machine's own peaks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/backend.h"
#include "phi3.h"

enum { N_LAYERS = 4, PREFILL_ROWS = 256, MOST_PAGES = 8192 / PHI3_PAGE_POSITIONS };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one layer's attention of n_rows rows that end at `depth`, the best of some rounds. */
static double time_attention(phi3_attention *attention, void **pages, size_t depth, size_t n_rows,
                             int n_threads, const float *qkv, float *out)
{
    const phi3_backend *cpu = &phi3_backend_cpu;
    phi3_kv_span span = {pages, depth - n_rows, 0, n_rows};
    attention->spans = &span;
    attention->n_spans = 1;
    size_t size = cpu->attention_scratch(attention, n_rows, n_threads);
    phi3_exec exec = {.n_threads = n_threads, .scratch = cpu->allocate(size), .scratch_size = size};
    double best = 1e9, total = 0;
    for (int round = 0; round < 50 && (round < 3 || total < 0.3); round++) {
        double start = now();
        for (attention->layer = 0; attention->layer < N_LAYERS; attention->layer++)
            cpu->attention(&exec, attention, qkv, out);
        double seconds = (now() - start) / N_LAYERS;
        total += seconds;
        best = seconds < best ? seconds : best;
    }
    cpu->release(exec.scratch);
    return best;
}

/* Writes rows through the op itself, so that pages hold what a model would have put there. */
static void fill_pages(phi3_attention *attention, void **pages, size_t depth, float *qkv)
{
    size_t n_floats = (attention->n_heads + 2 * attention->kv.n_kv_heads) * attention->kv.head_dim;
    phi3_exec exec = {.n_threads = 1};
    for (size_t p = 0; p < depth; p++) {
        phi3_kv_span span = {pages, p, 0, 1};
        attention->spans = &span;
        attention->n_spans = 1;
        for (size_t i = 0; i < n_floats; i++)
            qkv[i] = (float)((i * 7 + p * 13) % 17) / 8 - 1;
        for (attention->layer = 0; attention->layer < N_LAYERS; attention->layer++)
            phi3_backend_cpu.rope_append(&exec, attention, NULL, NULL, qkv);
    }
}

static void bench_depth(phi3_attention *attention, void **pages, size_t depth, int n_threads,
                        const phi3_peaks *peaks, float *qkv, float *out)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t rows = depth < PREFILL_ROWS ? depth : PREFILL_ROWS;
    double decode = time_attention(attention, pages, depth, 1, n_threads, qkv, out);
    double prefill = time_attention(attention, pages, depth, rows, n_threads, qkv, out);
    double bytes = 2.0 * (double)(kv->n_kv_heads * phi3_kv_run_bytes(kv)) * (double)depth /
                   PHI3_PAGE_POSITIONS;
    double pairs = (double)rows * (double)(depth - rows) + (double)rows * (double)(rows + 1) / 2;
    double flops = 4.0 * (double)(attention->n_heads * kv->head_dim) * pairs;
    double bandwidth = bytes / decode * 1e-9, rate = flops / prefill * 1e-9;
    bool mixed = attention->compute == PHI3_COMPUTE_MIXED && peaks->units_bf16 > 0;
    double most = mixed ? peaks->units_bf16 : peaks->units_f32;
    printf("  %6zu  %8.1f us  %6.1f GB/s  %3.0f %%  %8.2f ms  %6.0f GFLOP/s  %3.0f %%\n", depth,
           decode * 1e6, bandwidth, 100 * bandwidth / peaks->read, prefill * 1e3, rate,
           100 * rate / most);
}

static void bench_cache(phi3_attention attention, int n_threads, const phi3_peaks *peaks)
{
    const size_t depths[] = {64, 256, 1024, 4096, 8192};
    const phi3_kv_layout *kv = &attention.kv;
    size_t n_floats = (attention.n_heads + 2 * kv->n_kv_heads) * kv->head_dim;
    float *qkv = calloc(PREFILL_ROWS * n_floats, sizeof *qkv);
    float *out = malloc(PREFILL_ROWS * attention.n_heads * kv->head_dim * sizeof *out);
    void *pages[MOST_PAGES];
    for (size_t p = 0; p < MOST_PAGES; p++)
        pages[p] = phi3_backend_cpu.allocate(phi3_kv_page_bytes(kv));
    const char *name = kv->dtype == PHI3_I8 ? "int8" : phi3_dtype_traits(kv->dtype)->name;
    printf("%s cache, %s\n", name,
           attention.compute == PHI3_COMPUTE_MIXED ? "mixed" : "float32 products");
    fill_pages(&attention, pages, (size_t)MOST_PAGES * PHI3_PAGE_POSITIONS, qkv);
    for (size_t i = 0; i < PREFILL_ROWS * n_floats; i++)
        qkv[i] = (float)(i % 13) / 8 - 0.7f;
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++)
        bench_depth(&attention, pages, depths[d], n_threads, peaks, qkv, out);
    for (size_t p = 0; p < MOST_PAGES; p++)
        phi3_backend_cpu.release(pages[p]);
    free(qkv);
    free(out);
}

int main(int argc, char **argv)
{
    size_t shape[] = {32, 32, 96};
    int n_threads = argc > 1 ? atoi(argv[1]) : phi3_default_threads();
    for (int i = 0; i < 3 && i + 2 < argc; i++)
        shape[i] = strtoul(argv[i + 2], NULL, 10);
    phi3_run_options options = {.n_threads = n_threads};
    phi3_peaks peaks;
    phi3_error error;
    if (phi3_measure_peaks(&options, &peaks, &error) != PHI3_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("%s, %d threads, %zu heads, %zu kv heads of %zu\n", phi3_cpu_isa(), n_threads, shape[0],
           shape[1], shape[2]);
    printf("peaks: %.1f GB/s, %.0f GFLOP/s in float32, %.0f in bfloat16\n", peaks.read,
           peaks.units_f32, peaks.units_bf16);
    printf("   depth       one row                       %d rows\n", PREFILL_ROWS);
    const struct {
        phi3_dtype dtype;
        phi3_compute compute;
    } caches[] = {{PHI3_F32, PHI3_COMPUTE_FLOAT32},
                  {PHI3_F16, PHI3_COMPUTE_FLOAT32},
                  {PHI3_F16, PHI3_COMPUTE_MIXED},
                  {PHI3_BF16, PHI3_COMPUTE_MIXED},
                  {PHI3_I8, PHI3_COMPUTE_MIXED}};
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        phi3_attention attention = {.kv = {caches[i].dtype, N_LAYERS, shape[1], shape[2]},
                                    .n_heads = shape[0],
                                    .compute = caches[i].compute};
        bench_cache(attention, n_threads, &peaks);
    }
    return 0;
}
