/*
 * kv_stream.h - the products of one query vector with keys and values as they stream by.
 *
 * In: runs of a page in any dtype of the cache; a query vector, or the weights of a page. Out: scores,
 * or sums of weighted values. One query vector has little to multiply: what counts is that loads,
 * turns and products keep each other's latency hidden. Keys are multiplied a slice behind their
 * packing (kv_panels.h), values without a panel. Each lane is the same chain of sums as in
 * panel_product.h, so that results are equal to the bit.
 */
#ifndef PHI3_KV_STREAM_H
#define PHI3_KV_STREAM_H

#include "kv_panels.h"
#include "panel_product.h"

/* A run, and the run that will be read next (or NULL). */
typedef struct stream {
    const char *run, *next;
    size_t head_dim, row_bytes;
} stream;

/* Asks for `size` bytes at `from`, which are wanted a run later: into the nearest cache, from where a
 * single query vector takes them as fast as memory delivers. */
INLINE void prefetch_run(const char *from, size_t size)
{
    for (size_t i = 0; i < size; i += 64)
        __builtin_prefetch(from + i, 0, 3);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

enum {
    SQUARES = PHI3_PAGE_POSITIONS / LANES, /* of LANES positions and steps, in a slice of keys */
    SQUARE_STEPS = LANES / SQUARES,        /* of a slice that are multiplied while one is packed */
    SLICE_FLOATS = LANES * PHI3_PAGE_POSITIONS
};

/* Adds steps [k, end) of a slice to the scores of all positions. */
INLINE void add_steps(bool pairs, const float *query, const float *slice, size_t k, size_t end,
                      floats sum[SQUARES])
{
    for (; k < end; k++) {
        floats number = splat(query[k]);
#pragma GCC unroll 8
        for (size_t v = 0; v < SQUARES; v++) {
            floats keys = load(slice + k * PHI3_PAGE_POSITIONS + v * LANES);
            sum[v] = multiply_add_step(pairs, number, keys, sum[v]);
        }
    }
}

/* scores[j] = query . key j, of all positions of a page.
 *     query [head_dim, or head_dim / 2 pairs]
 *     slices [2][LANES][PHI3_PAGE_POSITIONS]: the one that is packed, the one that is multiplied */
INLINE void stream_keys(phi3_dtype dtype, bool pairs, const stream *s, const float *query,
                        float *slices, float *scores)
{
    size_t step = pairs ? 2 : 1, columns = LANES * step, n_steps = (s->head_dim + step - 1) / step;
    size_t square = LANES * columns * phi3_kv_element_bytes(dtype); /* of a square */
    floats sum[SQUARES] = {{0}};
    float *slice = slices, *before = slices + SLICE_FLOATS;
    size_t i = 0;
    for (; i < s->head_dim; i += columns) {
        bool whole = i + columns <= s->head_dim;
        for (size_t b = 0; b < SQUARES; b++) {
            const char *rows = s->run + b * LANES * s->row_bytes;
            if (s->next && whole) /* the same amount, in the order of its bytes */
                prefetch_run(s->next + (i / columns * SQUARES + b) * square, square);
            if (i)
                add_steps(pairs, query + i / step - LANES, before, b * SQUARE_STEPS,
                          (b + 1) * SQUARE_STEPS, sum);
            if (whole)
                pack_key_square(dtype, pairs, true, rows, i, s->head_dim, slice + b * LANES);
            else
                pack_key_square(dtype, pairs, false, rows, i, s->head_dim, slice + b * LANES);
        }
        float *packed = slice;
        slice = before;
        before = packed;
    }
    add_steps(pairs, query + i / step - LANES, before, 0, n_steps - (i / step - LANES), sum);
#pragma GCC unroll 8
    for (size_t v = 0; v < SQUARES; v++)
        store(scores + v * LANES, sum[v]);
}

/* ---- Values ---------------------------------------------------------------------------------- */

enum { MOST_VECTORS = 8 };

/* Adds the weighted values of position j, or of it and the next, to n_vectors of sums from
 * dimension i on. */
INLINE void add_values(phi3_dtype dtype, bool pairs, bool whole, bool last, size_t n_vectors,
                       const stream *s, size_t j, size_t i, float weight, floats *sum)
{
    size_t size = phi3_kv_element_bytes(dtype);
    const char *row = s->run + j * s->row_bytes;
#pragma GCC unroll 8
    for (size_t v = 0; v < n_vectors; v++, i += LANES) {
        size_t left = whole ? LANES : i < s->head_dim ? s->head_dim - i : 0;
        floats value = load_elements(dtype, row + i * size, left);
        if (pairs) {
            floats second = {0};
            if (!last)
                second = load_elements(dtype, row + s->row_bytes + i * size, left);
            value = zip_pairs(value, second);
        }
        sum[v] = multiply_add_step(pairs, splat(weight), value, sum[v]);
    }
}

/* n_vectors of sums from dimension i on; n_vectors is known to the compiler. */
INLINE void sum_values(phi3_dtype dtype, bool pairs, bool whole, size_t n_vectors, const stream *s,
                       size_t i, size_t count, const float *weights, float *out)
{
    floats sum[MOST_VECTORS];
    size_t step = pairs ? 2 : 1, j = 0;
#pragma GCC unroll 8
    for (size_t v = 0; v < n_vectors; v++)
        sum[v] = load(out + i + v * LANES);
    for (; j + step <= count; j += step) {
        if (s->next && i == 0)
            prefetch_run(s->next + j * s->row_bytes, step * s->row_bytes);
        add_values(dtype, pairs, whole, false, n_vectors, s, j, i, weights[j / step], sum);
    }
    if (j < count)
        add_values(dtype, pairs, whole, true, n_vectors, s, j, i, weights[j / step], sum);
#pragma GCC unroll 8
    for (size_t v = 0; v < n_vectors; v++)
        store(out + i + v * LANES, sum[v]);
}

/* out += weights[j] * value j, of the first `count` positions.
 *     weights [count, or count / 2 pairs], out [width], width: head_dim in whole vectors */
INLINE void stream_values(phi3_dtype dtype, bool pairs, const stream *s, size_t count, size_t width,
                          const float *weights, float *out)
{
    size_t i = 0, end = s->head_dim;
    for (; i + 8 * LANES <= end; i += 8 * LANES)
        sum_values(dtype, pairs, true, 8, s, i, count, weights, out);
    for (; i + 6 * LANES <= end; i += 6 * LANES)
        sum_values(dtype, pairs, true, 6, s, i, count, weights, out);
    for (; i + 4 * LANES <= end; i += 4 * LANES)
        sum_values(dtype, pairs, true, 4, s, i, count, weights, out);
    for (; i < width; i += LANES)
        sum_values(dtype, pairs, false, 1, s, i, count, weights, out);
}

#endif
