/*
 * rope_append.c - rotates one batch row and puts its keys and values into the cache.
 *
 * In: a row of qkv and its angles. Out: turned queries and keys; the row's place in the page.
 */
#include <math.h>

#include "kernels.h"
#include "simd.h"

/* Turns dimensions i and i + half of one head. */
static void rotate(float *restrict first, float *restrict second, const float *restrict cosine,
                   const float *restrict sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = first[i], b = second[i];
        first[i] = a * cosine[i] - b * sine[i];
        second[i] = b * cosine[i] + a * sine[i];
    }
}

static void store_float16_row(uint16_t *to, const float *values, size_t count)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store_float16(to + i, load(values + i));
    for (; i < count; i++)
        to[i] = phi3_f16_from_f32(values[i]);
}

static void store_bfloat16_row(uint16_t *to, const float *values, size_t count)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store_bfloat16(to + i, load(values + i));
    for (; i < count; i++)
        to[i] = phi3_bf16_from_f32(values[i]);
}

/* Codes in [-127, 127] and their scale. A row with an infinity or a NaN gets such a scale: as bits,
 * they are larger than all numbers. */
static void store_int8_row(int8_t *to, float *scale, const float *values, size_t count)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t magnitude = phi3_float_bits(values[i]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    *scale = phi3_float_from_bits(largest) / 127;
    float inverse = 1 / *scale;
    if (!isfinite(inverse))
        inverse = 0;
    for (size_t i = 0; i < count; i++) {
        /* to the nearest integer, ties to even: the sum has no bits left for a fraction */
        float code = values[i] * inverse + 0x1.8p23f;
        to[i] = (int8_t)(phi3_float_bits(code) - 0x4b400000);
    }
}

/* Position `index` of a run. */
static void store_row(const phi3_kv_layout *kv, char *run, size_t index, const float *values)
{
    char *to = run + index * kv->head_dim * phi3_kv_element_bytes(kv->dtype);
    switch (kv->dtype) {
    case PHI3_F16:
        store_float16_row((uint16_t *)(void *)to, values, kv->head_dim);
        break;
    case PHI3_BF16:
        store_bfloat16_row((uint16_t *)(void *)to, values, kv->head_dim);
        break;
    case PHI3_I8:
        store_int8_row((int8_t *)to, phi3_kv_scales(kv, run) + index, values, kv->head_dim);
        break;
    default:
        memcpy(to, values, kv->head_dim * sizeof *values);
    }
}

void ISA_NAME(phi3_rope_append)(const phi3_attention *attention, const phi3_kv_span *span,
                                size_t position, const float *cosine, const float *sine,
                                float *heads)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t n_turned = attention->n_heads + kv->n_kv_heads, half = attention->rotary_dim / 2;
    for (size_t h = 0; h < n_turned; h++) {
        float *head = heads + h * kv->head_dim;
        rotate(head, head + half, cosine, sine, half);
    }
    void *page = span->pages[position / PHI3_PAGE_POSITIONS];
    size_t index = position % PHI3_PAGE_POSITIONS;
    for (size_t h = 0; h < kv->n_kv_heads; h++) {
        const float *key = heads + (attention->n_heads + h) * kv->head_dim;
        const float *value = key + kv->n_kv_heads * kv->head_dim;
        store_row(kv, phi3_kv_head(kv, page, attention->layer, 0, h), index, key);
        store_row(kv, phi3_kv_head(kv, page, attention->layer, 1, h), index, value);
    }
}
