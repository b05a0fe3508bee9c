/*
 * rope_append.c - rotates one batch row and puts its keys and values into the cache.
 *
 * In: a row of qkv and its angles. Out: turned queries and keys; the row's place in the page.
 */
#include <math.h>

#include "kernels.h"
#include "simd_narrow.h"

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

/* Vectors of 16-bit floats of `dtype`, `stride` elements apart. */
INLINE void store_16bit_row(phi3_dtype dtype, uint16_t *to, size_t stride, const float *values,
                            size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t n = count - i < LANES ? count - i : LANES;
        uint16_t few[LANES];
        if (dtype == PHI3_F16)
            store_float16(few, load_up_to(values + i, n));
        else
            store_bfloat16(few, load_up_to(values + i, n));
        for (size_t j = 0; j < n; j++)
            to[(i + j) * stride] = few[j];
    }
}

/* Codes in [-127, 127] and their scale. A row with an infinity or a NaN gets such a scale: as bits,
 * they are larger than all numbers. */
INLINE void store_int8_row(int8_t *to, size_t stride, float *scale, const float *values,
                           size_t count)
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
        to[i * stride] = (int8_t)(phi3_float_bits(code) - 0x4b400000);
    }
}

INLINE void store_float32_row(float *to, size_t stride, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i * stride] = values[i];
}

/* Position `index` of a run in which `lanes` positions stand side by side, known to the compiler. */
INLINE void store_row(const phi3_kv_layout *kv, char *run, size_t lanes, size_t index,
                      const float *values)
{
    void *to = run + phi3_kv_place(kv, lanes, index, 0) * phi3_kv_element_bytes(kv->dtype);
    switch (kv->dtype) {
    case PHI3_F16:
        store_16bit_row(PHI3_F16, to, lanes, values, kv->head_dim);
        break;
    case PHI3_BF16:
        store_16bit_row(PHI3_BF16, to, lanes, values, kv->head_dim);
        break;
    case PHI3_I8:
        store_int8_row(to, lanes, phi3_kv_scales(kv, run) + index, values, kv->head_dim);
        break;
    default:
        store_float32_row(to, lanes, values, kv->head_dim);
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
        store_row(kv, phi3_kv_head(kv, page, attention->layer, 0, h), PHI3_KEY_LANES, index, key);
        store_row(kv, phi3_kv_head(kv, page, attention->layer, 1, h), 1, index, value);
    }
}
