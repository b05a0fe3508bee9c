/*
 * attention.c - rotation and cache append of one row; attention of one unit of query vectors.
 *
 * A unit is what reads the same keys: the query heads of one kv head in some consecutive rows of a
 * span. It walks the pages once, with a running maximum and sum for each query vector, so that the
 * scores of one page are all it ever holds.
 */
#include <math.h>

#include "kernels.h"
#include "simd.h"

#define float_product ISA_NAME(phi3_float_product)

/* ---- Rotation and append --------------------------------------------------------------------- */

/* Turns dimensions i and i + half of one head. */
static void rotate(float *restrict first, float *restrict second, const float *cosine,
                   const float *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = first[i], b = second[i];
        first[i] = a * cosine[i] - b * sine[i];
        second[i] = b * cosine[i] + a * sine[i];
    }
}

static void store_row(phi3_dtype dtype, char *row, const float *values, size_t count)
{
    if (dtype == PHI3_F32) {
        memcpy(row, values, count * sizeof *values);
        return;
    }
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store_float16(row + 2 * i, load(values + i));
    for (; i < count; i++) {
        uint16_t half = phi3_f16_from_f32(values[i]);
        memcpy(row + 2 * i, &half, sizeof half);
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
    size_t offset =
        position % PHI3_PAGE_POSITIONS * kv->head_dim * phi3_kv_element_bytes(kv->dtype);
    for (size_t h = 0; h < kv->n_kv_heads; h++) {
        const float *key = heads + (attention->n_heads + h) * kv->head_dim;
        const float *value = key + kv->n_kv_heads * kv->head_dim;
        store_row(kv->dtype, phi3_kv_head(kv, page, attention->layer, 0, h) + offset, key,
                  kv->head_dim);
        store_row(kv->dtype, phi3_kv_head(kv, page, attention->layer, 1, h) + offset, value,
                  kv->head_dim);
    }
}

/* ---- Attention ------------------------------------------------------------------------------- */

/* What a unit works with, all in the thread's scratch. Vectors are padded with zeros to whole
 * registers: `width` floats. */
typedef struct state {
    size_t width;
    size_t n_queries;
    float *queries; /* [n_queries][width], times 1 / sqrt(head_dim) */
    float *values;  /* [PHI3_PAGE_POSITIONS][width] of the page */
    float *scores;  /* [n_queries][PHI3_PAGE_POSITIONS] */
    float *sums;    /* [n_queries][width] of weighted values */
    float *highest; /* [n_queries] score so far */
    float *totals;  /* [n_queries] sum of weights so far */
} state;

static size_t padded(size_t count)
{
    return (count + LANES - 1) / LANES * LANES;
}

size_t ISA_NAME(phi3_attention_scratch)(size_t head_dim, size_t n_queries)
{
    size_t width = padded(head_dim);
    return 2 * n_queries * width + PHI3_PAGE_POSITIONS * (width + n_queries) +
           2 * padded(n_queries);
}

static state lay_out(float *scratch, size_t head_dim, size_t n_queries)
{
    state s = {.width = padded(head_dim), .n_queries = n_queries, .queries = scratch};
    s.values = s.queries + n_queries * s.width;
    s.scores = s.values + PHI3_PAGE_POSITIONS * s.width;
    s.sums = s.scores + n_queries * PHI3_PAGE_POSITIONS;
    s.highest = s.sums + n_queries * s.width;
    s.totals = s.highest + padded(n_queries);
    return s;
}

/* Query vector q of a unit belongs to row q / group and query head q % group of the kv head. */
static void load_queries(const phi3_attention *attention, const phi3_attention_unit *unit,
                         const float *qkv, state *s)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t group = attention->n_heads / kv->n_kv_heads;
    size_t row_floats = (attention->n_heads + 2 * kv->n_kv_heads) * kv->head_dim;
    float scale = 1 / sqrtf((float)kv->head_dim);
    for (size_t q = 0; q < s->n_queries; q++) {
        size_t row = unit->span->first_row + unit->first + q / group;
        size_t head = unit->kv_head * group + q % group;
        const float *from = qkv + row * row_floats + head * kv->head_dim;
        float *to = s->queries + q * s->width;
        for (size_t i = 0; i < s->width; i++)
            to[i] = i < kv->head_dim ? from[i] * scale : 0;
        memset(s->sums + q * s->width, 0, s->width * sizeof(float));
        s->highest[q] = -INFINITY;
        s->totals[q] = 0;
    }
}

/* The stored values [count][head_dim] of a page to padded float32. */
static void load_values(const phi3_kv_layout *kv, const char *from, size_t count, const state *s)
{
    size_t head_dim = kv->head_dim, row_bytes = head_dim * phi3_kv_element_bytes(kv->dtype);
    for (size_t j = 0; j < count; j++, from += row_bytes) {
        float *to = s->values + j * s->width;
        size_t i = 0;
        for (; i + LANES <= head_dim; i += LANES)
            store(to + i, kv->dtype == PHI3_F32 ? load(from + 4 * i) : load_float16(from + 2 * i));
        for (; i < head_dim; i++)
            to[i] =
                kv->dtype == PHI3_F32 ? phi3_load_f32(from + 4 * i) : phi3_load_f16(from + 2 * i);
        for (; i < s->width; i++)
            to[i] = 0;
    }
}

/* Turns scores [first, end) of one query into weights relative to the highest score so far, and
 * brings the earlier sums to the same measure. Weights outside are zero. */
static void weigh(state *s, size_t q, size_t first, size_t end)
{
    float *scores = s->scores + q * PHI3_PAGE_POSITIONS;
    float highest = s->highest[q];
    for (size_t j = 0; j < PHI3_PAGE_POSITIONS; j++) {
        if (j < first || j >= end)
            scores[j] = -INFINITY;
        else if (!(scores[j] <= highest))
            highest = scores[j];
    }
    if (first >= end) {
        memset(scores, 0, PHI3_PAGE_POSITIONS * sizeof *scores);
        return;
    }
    floats total = {0};
    for (size_t j = 0; j < PHI3_PAGE_POSITIONS; j += LANES) {
        floats weights = exponential(load(scores + j) - highest);
        store(scores + j, weights);
    }
    memset(scores, 0, first * sizeof *scores);
    memset(scores + end, 0, (PHI3_PAGE_POSITIONS - end) * sizeof *scores);
    for (size_t j = 0; j < PHI3_PAGE_POSITIONS; j += LANES)
        total += load(scores + j);

    float shrink = s->totals[q] > 0 ? expf(s->highest[q] - highest) : 0;
    s->totals[q] = s->totals[q] * shrink + sum_lanes(total);
    s->highest[q] = highest;
    if (shrink != 1)
        for (size_t i = 0; i < s->width; i += LANES)
            store(s->sums + q * s->width + i, load(s->sums + q * s->width + i) * shrink);
}

enum { Q_TILE = 4, WIDTH_TILE = VECTOR_BYTES == 64 ? 4 : 2 };

/* sums[q][i..] += weights[q] . values[.][i..] for n_q queries and n_i registers. */
INLINE void add_values_tile(const state *s, size_t q, size_t n_q, size_t i, size_t n_i,
                            size_t count)
{
    floats sum[Q_TILE][WIDTH_TILE];
    for (size_t a = 0; a < n_q; a++)
        for (size_t b = 0; b < n_i; b++)
            sum[a][b] = load(s->sums + (q + a) * s->width + i + b * LANES);
    for (size_t j = 0; j < count; j++) {
        floats values[WIDTH_TILE];
        for (size_t b = 0; b < n_i; b++)
            values[b] = load(s->values + j * s->width + i + b * LANES);
        for (size_t a = 0; a < n_q; a++) {
            floats weight = splat(s->scores[(q + a) * PHI3_PAGE_POSITIONS + j]);
            for (size_t b = 0; b < n_i; b++)
                sum[a][b] = multiply_add(weight, values[b], sum[a][b]);
        }
    }
    for (size_t a = 0; a < n_q; a++)
        for (size_t b = 0; b < n_i; b++)
            store(s->sums + (q + a) * s->width + i + b * LANES, sum[a][b]);
}

INLINE void add_values_strip(const state *s, size_t q, size_t n_q, size_t count)
{
    size_t i = 0;
    for (; i + WIDTH_TILE * LANES <= s->width; i += WIDTH_TILE * LANES)
        add_values_tile(s, q, n_q, i, WIDTH_TILE, count);
    for (; i < s->width; i += LANES)
        add_values_tile(s, q, n_q, i, 1, count);
}

static void add_values(const state *s, size_t count)
{
    size_t q = 0;
    for (; q + Q_TILE <= s->n_queries; q += Q_TILE)
        add_values_strip(s, q, Q_TILE, count);
    for (; q < s->n_queries; q++)
        add_values_strip(s, q, 1, count);
}

/* The first position that a row at `position` sees. */
static size_t first_seen(const phi3_attention *attention, size_t position)
{
    size_t window = attention->sliding_window;
    return window && position >= window ? position - window + 1 : 0;
}

/* Clips position p to the page that starts at `start`: an index in [0, PHI3_PAGE_POSITIONS]. */
static size_t in_page(size_t p, size_t start)
{
    size_t index = p > start ? p - start : 0;
    return index < PHI3_PAGE_POSITIONS ? index : PHI3_PAGE_POSITIONS;
}

static void attend_page(const phi3_attention *attention, const phi3_attention_unit *unit,
                        size_t page, size_t end, state *s)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t group = attention->n_heads / kv->n_kv_heads;
    size_t start = page * PHI3_PAGE_POSITIONS, count = in_page(end, start);
    void *memory = unit->span->pages[page];

    const char *stored_keys = phi3_kv_head(kv, memory, attention->layer, 0, unit->kv_head);
    const char *stored_values = phi3_kv_head(kv, memory, attention->layer, 1, unit->kv_head);
    phi3_float_rows keys = {stored_keys, kv->dtype, kv->head_dim, count};
    phi3_float_rows queries = {s->queries, PHI3_F32, s->width, s->n_queries};
    float_product(&keys, &queries, kv->head_dim, false, s->scores, PHI3_PAGE_POSITIONS);
    for (size_t q = 0; q < s->n_queries; q++) {
        size_t position = unit->span->n_past + unit->first + q / group;
        weigh(s, q, in_page(first_seen(attention, position), start), in_page(position + 1, start));
    }
    load_values(kv, stored_values, count, s);
    add_values(s, count);
}

void ISA_NAME(phi3_attention)(const phi3_attention *attention, const phi3_attention_unit *unit,
                              const float *qkv, float *scratch, float *out)
{
    size_t head_dim = attention->kv.head_dim;
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    state s = lay_out(scratch, head_dim, unit->n_rows * group);
    load_queries(attention, unit, qkv, &s);

    size_t position = unit->span->n_past + unit->first; /* of the first row */
    size_t end = position + unit->n_rows;
    for (size_t page = first_seen(attention, position) / PHI3_PAGE_POSITIONS;
         page * PHI3_PAGE_POSITIONS < end; page++)
        attend_page(attention, unit, page, end, &s);

    for (size_t q = 0; q < s.n_queries; q++) {
        size_t row = unit->span->first_row + unit->first + q / group;
        size_t head = unit->kv_head * group + q % group;
        float *to = out + (row * attention->n_heads + head) * head_dim;
        for (size_t i = 0; i < head_dim; i++)
            to[i] = s.sums[q * s.width + i] / s.totals[q];
    }
}
