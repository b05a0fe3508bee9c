/*
 * attention.c - the CPU backend's rotation, cache append and attention, over threads.
 *
 * The work is cut into units of one kv head and a block of rows of one span (see isa/attention.c).
 */
#include <omp.h>

#include "cpu.h"
#include "kernels.h"

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

phi3_status phi3_cpu_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                 const float *cosine, const float *sine, float *qkv)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    const phi3_kv_layout *kv = &attention->kv;
    size_t row_floats = (attention->n_heads + 2 * kv->n_kv_heads) * kv->head_dim;
    size_t half = attention->rotary_dim / 2;
    phi3_attention_unit unit = {.span = NULL};
    size_t n_rows = find_block(attention, 1, SIZE_MAX, &unit);
#pragma omp parallel for num_threads(exec->n_threads) firstprivate(unit) if (n_rows > 4)
    for (size_t i = 0; i < n_rows; i++) {
        find_block(attention, 1, i, &unit);
        size_t row = unit.span->first_row + unit.first;
        kernels->rope_append(attention, unit.span, unit.span->n_past + unit.first,
                             cosine + row * half, sine + row * half, qkv + row * row_floats);
    }
    return PHI3_OK;
}

phi3_status phi3_cpu_attention(const phi3_exec *exec, const phi3_attention *attention,
                               const float *qkv, float *out)
{
    const phi3_cpu_kernels *kernels = phi3_cpu_kernels_current();
    size_t n_kv_heads = attention->kv.n_kv_heads, block = unit_rows(attention);
    size_t own_floats = thread_floats(attention);
    phi3_attention_unit unit = {.span = NULL};
    size_t n_units = find_block(attention, block, SIZE_MAX, &unit) * n_kv_heads;
    /* The last blocks of a span have most to read: they go first. */
#pragma omp parallel for num_threads(exec->n_threads) firstprivate(unit) schedule(dynamic)
    for (size_t i = n_units; i > 0; i--) {
        float *scratch = (float *)exec->scratch + (size_t)omp_get_thread_num() * own_floats;
        find_block(attention, block, (i - 1) / n_kv_heads, &unit);
        unit.kv_head = (i - 1) % n_kv_heads;
        kernels->attention(attention, &unit, qkv, scratch, out);
    }
    return PHI3_OK;
}
