/*
 * attention.c - the reference backend's rotation, cache append and attention.
 *
 * In: qkv [n_rows][(n_heads + 2 n_kv_heads) * head_dim] and the page tables of the spans.
 * Out: keys and values in the pages; out [n_rows][n_heads * head_dim].
 */
#include <math.h>

#include "kernels/float16.h"
#include "reference.h"

/* Where a position stands in the cache: its run of keys (value 0) or values (1) of one head, and its
 * place there. */
typedef struct cache_row {
    const phi3_kv_layout *kv;
    char *run;
    size_t index;
} cache_row;

static cache_row find_row(const phi3_attention *attention, const phi3_kv_span *span, size_t value,
                          size_t head, size_t position)
{
    const phi3_kv_layout *kv = &attention->kv;
    void *page = span->pages[position / PHI3_PAGE_POSITIONS];
    return (cache_row){kv, phi3_kv_head(kv, page, attention->layer, value, head),
                       position % PHI3_PAGE_POSITIONS};
}

static float load_element(const cache_row *row, size_t i)
{
    size_t at = row->index * row->kv->head_dim + i;
    switch (row->kv->dtype) {
    case PHI3_F16:
        return phi3_f16_to_f32(((const uint16_t *)(void *)row->run)[at]);
    case PHI3_BF16:
        return phi3_bf16_to_f32(((const uint16_t *)(void *)row->run)[at]);
    case PHI3_I8:
        return ((const int8_t *)row->run)[at] * phi3_kv_scales(row->kv, row->run)[row->index];
    default:
        return ((const float *)(void *)row->run)[at];
    }
}

/* Sets the scale of a row of I8, and returns its inverse. */
static float set_scale(const cache_row *row, const float *values)
{
    float largest = 0;
    for (size_t i = 0; i < row->kv->head_dim; i++)
        if (!(fabsf(values[i]) <= largest) && !isnan(largest))
            largest = fabsf(values[i]);
    float scale = largest / 127;
    phi3_kv_scales(row->kv, row->run)[row->index] = scale;
    return isfinite(1 / scale) ? 1 / scale : 0;
}

static void store_row(const cache_row *row, const float *values)
{
    size_t head_dim = row->kv->head_dim, at = row->index * head_dim;
    float inverse = row->kv->dtype == PHI3_I8 ? set_scale(row, values) : 0;
    for (size_t i = 0; i < head_dim; i++, at++) {
        switch (row->kv->dtype) {
        case PHI3_F16:
            ((uint16_t *)(void *)row->run)[at] = phi3_f16_from_f32(values[i]);
            break;
        case PHI3_BF16:
            ((uint16_t *)(void *)row->run)[at] = phi3_bf16_from_f32(values[i]);
            break;
        case PHI3_I8:
            ((int8_t *)row->run)[at] = inverse ? (int8_t)lrintf(values[i] * inverse) : 0;
            break;
        default:
            ((float *)(void *)row->run)[at] = values[i];
        }
    }
}

/* Turns dimensions i and i + rotary_dim/2 of one head by the row's angles. */
static void rotate(float *head, const float *cosine, const float *sine, size_t rotary_dim)
{
    size_t half = rotary_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float first = head[i], second = head[i + half];
        head[i] = first * cosine[i] - second * sine[i];
        head[i + half] = second * cosine[i] + first * sine[i];
    }
}

phi3_status phi3_reference_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                       const float *cosine, const float *sine, float *qkv)
{
    (void)exec;
    const phi3_kv_layout *kv = &attention->kv;
    size_t n_heads = attention->n_heads, n_kv_heads = kv->n_kv_heads, head_dim = kv->head_dim;
    size_t rotary_dim = attention->rotary_dim;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        for (size_t r = 0; r < span->n_rows; r++) {
            size_t row = span->first_row + r, position = span->n_past + r;
            float *heads = qkv + row * (n_heads + 2 * n_kv_heads) * head_dim;
            for (size_t h = 0; h < n_heads + n_kv_heads; h++)
                rotate(heads + h * head_dim, cosine + row * (rotary_dim / 2),
                       sine + row * (rotary_dim / 2), rotary_dim);
            for (size_t h = 0; h < n_kv_heads; h++) {
                const float *key = heads + (n_heads + h) * head_dim;
                const float *value = key + n_kv_heads * head_dim;
                cache_row keys = find_row(attention, span, 0, h, position);
                cache_row values = find_row(attention, span, 1, h, position);
                store_row(&keys, key);
                store_row(&values, value);
            }
        }
    }
    return PHI3_OK;
}

size_t phi3_reference_attention_scratch(const phi3_attention *attention, size_t n_rows,
                                        int n_threads)
{
    (void)n_rows, (void)n_threads;
    return attention->kv.head_dim * sizeof(double);
}

/* q . k / sqrt(head_dim) */
static double score(const float *query, cache_row key)
{
    size_t head_dim = key.kv->head_dim;
    double sum = 0;
    for (size_t i = 0; i < head_dim; i++)
        sum += (double)query[i] * load_element(&key, i);
    return sum / sqrt((double)head_dim);
}

/* One query head of the row at `position`: out [head_dim], sum [head_dim] is scratch. */
static void attend(const phi3_attention *attention, const phi3_kv_span *span, size_t kv_head,
                   size_t position, const float *query, double *sum, float *out)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t window = attention->sliding_window;
    size_t first = window && position >= window ? position - window + 1 : 0;

    double highest = -INFINITY;
    for (size_t j = first; j <= position; j++)
        highest = fmax(highest, score(query, find_row(attention, span, 0, kv_head, j)));

    double total = 0;
    for (size_t i = 0; i < kv->head_dim; i++)
        sum[i] = 0;
    for (size_t j = first; j <= position; j++) {
        double s = score(query, find_row(attention, span, 0, kv_head, j));
        double weight = exp(s - highest);
        cache_row value = find_row(attention, span, 1, kv_head, j);
        for (size_t i = 0; i < kv->head_dim; i++)
            sum[i] += weight * load_element(&value, i);
        total += weight;
    }
    for (size_t i = 0; i < kv->head_dim; i++)
        out[i] = (float)(sum[i] / total);
}

phi3_status phi3_reference_attention(const phi3_exec *exec, const phi3_attention *attention,
                                     const float *qkv, float *out)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t n_heads = attention->n_heads, head_dim = kv->head_dim;
    size_t group = n_heads / kv->n_kv_heads;
    for (size_t s = 0; s < attention->n_spans; s++) {
        const phi3_kv_span *span = &attention->spans[s];
        for (size_t r = 0; r < span->n_rows; r++) {
            size_t row = span->first_row + r;
            const float *queries = qkv + row * (n_heads + 2 * kv->n_kv_heads) * head_dim;
            for (size_t h = 0; h < n_heads; h++)
                attend(attention, span, h / group, span->n_past + r, queries + h * head_dim,
                       exec->scratch, out + (row * n_heads + h) * head_dim);
        }
    }
    return PHI3_OK;
}
