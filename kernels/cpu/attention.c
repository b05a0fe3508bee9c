/*
 * attention.c - the CPU backend's rotation, cache append and attention, over threads.
 *
 * The work is cut into units of one kv head and a block of rows of one span (see isa/attention.c).
 */
#include "cpu.h"
#include "kernels.h"
#include "parallel.h"

/* Query vectors that share one walk through the pages. */
enum { UNIT_QUERIES = 32 };

static size_t unit_rows(const phi3_attention *attention)
{
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    return group < UNIT_QUERIES ? UNIT_QUERIES / group : 1;
}

/* Floats, in whole cache lines. */
static size_t thread_floats(const phi3_attention *attention)
{
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    size_t count = phi3_cpu_kernels_current()->attention_scratch(attention->kv.head_dim,
                                                                 unit_rows(attention) * group);
    return (count + 15) / 16 * 16;
}

size_t phi3_cpu_attention_scratch(const phi3_attention *attention, size_t n_rows, int n_threads)
{
    (void)n_rows;
    return (size_t)n_threads * thread_floats(attention) * sizeof(float);
}

/* Splits all spans into blocks of up to `block` rows; returns how many there are, and the one with
 * number `index`, if there is, in *unit. */
static size_t find_block(const phi3_attention *attention, size_t block, size_t index,
                         phi3_attention_unit *unit)
{
    size_t count = 0;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        size_t blocks = (span->n_rows + block - 1) / block;
        if (index >= count && index < count + blocks) {
            unit->span = span;
            unit->first = (index - count) * block;
            size_t left = span->n_rows - unit->first;
            unit->n_rows = left < block ? left : block;
        }
        count += blocks;
    }
    return count;
}

static size_t count_blocks(const phi3_attention *attention, size_t block)
{
    phi3_attention_unit none;
    return find_block(attention, block, SIZE_MAX, &none);
}

typedef struct rotation {
    const phi3_attention *attention;
    const float *cosine, *sine; /* [n_rows][rotary_dim / 2] */
    float *qkv;                 /* [n_rows][(n_heads + 2 n_kv_heads) * head_dim] */
} rotation;

static void append_row(void *context, size_t index, int thread)
{
    (void)thread;
    const rotation *r = context;
    const phi3_attention *attention = r->attention;
    size_t n_heads = attention->n_heads + 2 * attention->kv.n_kv_heads;
    size_t half = attention->rotary_dim / 2;
    phi3_attention_unit unit = {.span = attention->spans};
    find_block(attention, 1, index, &unit);
    size_t row = unit.span->first_row + unit.first;
    phi3_cpu_kernels_current()->rope_append(attention, unit.span, unit.span->n_past + unit.first,
                                            r->cosine + row * half, r->sine + row * half,
                                            r->qkv + row * n_heads * attention->kv.head_dim);
}

phi3_status phi3_cpu_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                 const float *cosine, const float *sine, float *qkv)
{
    rotation r = {attention, cosine, sine, qkv};
    size_t n_rows = count_blocks(attention, 1);
    phi3_parallel(n_rows > 4 ? exec->n_threads : 1, n_rows, append_row, &r);
    return PHI3_OK;
}

typedef struct attention_job {
    const phi3_attention *attention;
    const float *qkv; /* [n_rows][(n_heads + 2 n_kv_heads) * head_dim] */
    float *scratch;   /* [n_threads][thread_floats] */
    size_t thread_floats;
    size_t n_units;
    float *out; /* [n_rows][n_heads * head_dim] */
} attention_job;

/* The last blocks of a span have most to read: they go first. */
static void attend_unit(void *context, size_t index, int thread)
{
    const attention_job *j = context;
    size_t number = j->n_units - 1 - index, n_kv_heads = j->attention->kv.n_kv_heads;
    phi3_attention_unit unit = {.kv_head = number % n_kv_heads};
    find_block(j->attention, unit_rows(j->attention), number / n_kv_heads, &unit);
    phi3_cpu_kernels_current()->attention(j->attention, &unit, j->qkv,
                                          j->scratch + (size_t)thread * j->thread_floats, j->out);
}

phi3_status phi3_cpu_attention(const phi3_exec *exec, const phi3_attention *attention,
                               const float *qkv, float *out)
{
    size_t n_units = count_blocks(attention, unit_rows(attention)) * attention->kv.n_kv_heads;
    attention_job j = {attention, qkv, exec->scratch, thread_floats(attention), n_units, out};
    phi3_parallel(exec->n_threads, n_units, attend_unit, &j);
    return PHI3_OK;
}
