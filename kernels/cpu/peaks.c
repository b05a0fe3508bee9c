/*
 * peaks.c - what the machine's memory and cores can do at best: the bounds that speeds are held
 * against.
 *
 * Each number is the best of many short rounds; a round is spread over the threads as the products
 * of a model are.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/process.h"
#include "isa.h"
#include "kernels.h"
#include "onednn_rate.h"
#include "parallel.h"

enum {
    READ_BYTES = 512 << 20, /* far more than caches hold */
    READ_CHUNK = 1 << 20,
    CHUNKS_PER_THREAD = 8,
    LOOP_ROUNDS = 20000 /* of a loop in registers: some 0.1 ms */
};

static const double SECONDS = 0.2; /* for each number */

/* What one round does. */
typedef struct work {
    phi3_loop_body *body;
    size_t n_chunks;
    const char *memory;              /* [READ_BYTES] */
    const phi3_onednn_rate *product; /* or */
    double (*loop)(size_t rounds);   /* or */
    _Atomic uint32_t sink;           /* what was read comes to something */
    _Atomic uint64_t operations;     /* or bytes, done so far */
} work;

static void read_chunk(void *context, size_t index, int thread)
{
    (void)thread;
    work *w = context;
    w->sink += phi3_cpu_kernels_current()->peak_read(w->memory + index * READ_CHUNK, READ_CHUNK);
    w->operations += READ_CHUNK;
}

static void multiply_chunk(void *context, size_t index, int thread)
{
    (void)index;
    work *w = context;
    w->operations += (uint64_t)phi3_onednn_rate_run(w->product, thread);
}

static void loop_chunk(void *context, size_t index, int thread)
{
    (void)index, (void)thread;
    work *w = context;
    w->operations += (uint64_t)w->loop(LOOP_ROUNDS);
}

/* The best rate of all rounds, in 10^9 operations a second. */
static phi3_status measure(const phi3_run_options *options, int n_threads, work *w, double *rate,
                           phi3_error *error)
{
    double begin = phi3_clock_seconds(), end = begin;
    *rate = 0;
    while (end - begin < SECONDS) {
        if (options->interrupt && options->interrupt(options->interrupt_data))
            return phi3_fail(error, PHI3_ERROR_INTERRUPTED, "interrupted");
        double start = phi3_clock_seconds();
        w->operations = 0;
        phi3_parallel(n_threads, w->n_chunks, w->body, w);
        end = phi3_clock_seconds();
        double reached = (double)w->operations * 1e-9 / (end - start);
        *rate = reached > *rate ? reached : *rate;
    }
    return PHI3_OK;
}

/* Pages are there only once they are written. */
static void write_chunk(void *context, size_t index, int thread)
{
    (void)thread;
    char *memory = context;
    for (size_t i = 0; i < READ_CHUNK; i++)
        memory[index * READ_CHUNK + i] = (char)i;
}

/* In large pages where the system has them, so that looking up addresses does not count. */
static phi3_status measure_read(const phi3_run_options *options, int n_threads, double *rate,
                                phi3_error *error)
{
    char *memory =
        mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return phi3_fail_memory(error, "measuring the read bandwidth");
    madvise(memory, READ_BYTES, MADV_HUGEPAGE);
    phi3_parallel(n_threads, READ_BYTES / READ_CHUNK, write_chunk, memory);
    work w = {.body = read_chunk, .n_chunks = READ_BYTES / READ_CHUNK, .memory = memory};
    phi3_status status = measure(options, n_threads, &w, rate, error);
    munmap(memory, READ_BYTES);
    return status;
}

static phi3_status measure_product(const phi3_run_options *options, int n_threads,
                                   phi3_onednn_type type, double *rate, phi3_error *error)
{
    *rate = 0;
    phi3_onednn_rate *product;
    PHI3_TRY(phi3_onednn_rate_create(type, n_threads, &product, error));
    if (!product)
        return PHI3_OK;
    work w = {.body = multiply_chunk,
              .n_chunks = CHUNKS_PER_THREAD * (size_t)n_threads,
              .product = product};
    phi3_status status = measure(options, n_threads, &w, rate, error);
    phi3_onednn_rate_free(product);
    return status;
}

static phi3_status measure_loop(const phi3_run_options *options, int n_threads,
                                double (*loop)(size_t rounds), double *rate, phi3_error *error)
{
    *rate = 0;
    if (loop(1) == 0)
        return PHI3_OK;
    work w = {.body = loop_chunk, .n_chunks = CHUNKS_PER_THREAD * (size_t)n_threads, .loop = loop};
    return measure(options, n_threads, &w, rate, error);
}

phi3_status phi3_measure_peaks(const phi3_run_options *options, phi3_peaks *peaks,
                               phi3_error *error)
{
    const phi3_run_options defaults = {0};
    const phi3_run_options *o = options ? options : &defaults;
    int n_threads = o->n_threads > 0 ? o->n_threads : phi3_default_threads();
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    *peaks = (phi3_peaks){.n_threads = n_threads};
    if (phi3_isa_current() == PHI3_ISA_NONE) {
        char detail[256];
        phi3_isa_explain(detail, sizeof detail);
        return phi3_fail(error, PHI3_ERROR_DEVICE, "%s", detail);
    }
    PHI3_TRY(phi3_process_begin_work(error));
    PHI3_TRY(measure_read(o, n_threads, &peaks->read, error));
    PHI3_TRY(measure_product(o, n_threads, PHI3_ONEDNN_F32, &peaks->product_f32, error));
    PHI3_TRY(measure_product(o, n_threads, PHI3_ONEDNN_BF16, &peaks->product_bf16, error));
    PHI3_TRY(measure_product(o, n_threads, PHI3_ONEDNN_INT8, &peaks->product_int8, error));
    PHI3_TRY(measure_loop(o, n_threads, kernels->peak_float32, &peaks->units_f32, error));
    PHI3_TRY(measure_loop(o, n_threads, kernels->peak_bfloat16, &peaks->units_bf16, error));
    return measure_loop(o, n_threads, kernels->peak_int8, &peaks->units_int8, error);
}
