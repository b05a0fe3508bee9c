/*
 * kv_stream.h - the products of one query vector with keys and values as they stream by.
 *
 * In: runs of a page in any dtype of the cache; a query vector, or the weights of a page. Out: scores,
 * or sums of weighted values. One query vector has little to multiply: keys and values are read where
 * they stand, without a panel. Each lane is the same chain of sums as in panel_product.h, so that
 * results are equal to the bit.
 */
#ifndef PHI3_KV_STREAM_H
#define PHI3_KV_STREAM_H

#include "kv_panels.h"
#include "panel_product.h"

/*
 * A run, and the run that will be read next (or NULL). That is fetched into L2: with the runs of keys
 * and of values that are being read, it is 48 KB of float16, more than L1 has on many CPUs. Zen 4 reads
 * 29 GB/s of 31 that way, 20 by way of L1; an Emerald Rapids 28 and 24.
 */
typedef struct stream {
    const char *run, *next;
    size_t head_dim, row_bytes;
} stream;

/* ---- Keys ------------------------------------------------------------------------------------ */

/* The scores of n_blocks blocks of positions from j on; n_blocks is known to the compiler. */
INLINE void score_blocks(phi3_dtype dtype, bool pairs, size_t n_blocks, const stream *s, size_t j,
                         const float *query, float *scores)
{
    enum { BLOCK_VECTORS = PHI3_KEY_LANES / LANES };
    floats sum[PHI3_PAGE_POSITIONS / LANES] = {{0}};
    size_t size = phi3_kv_element_bytes(dtype), step = pairs ? 2 : 1;
    size_t step_bytes = n_blocks * step * PHI3_KEY_LANES * size;
    const char *run = s->run + j * s->row_bytes;
    const char *next = s->next ? s->next + j * s->row_bytes : NULL;
    for (size_t i = 0; i < s->head_dim; i += step) {
        if (next) /* the same amount, in the order of its bytes */
            prefetch(next + i / step * step_bytes, step_bytes, false);
        floats number = splat(query[i / step]);
#pragma GCC unroll 16
        for (size_t v = 0; v < n_blocks * BLOCK_VECTORS; v++) {
            const char *block = run + v / BLOCK_VECTORS * PHI3_KEY_LANES * s->row_bytes;
            floats keys =
                load_keys(dtype, pairs, block + v % BLOCK_VECTORS * LANES * size, i, s->head_dim);
            sum[v] = multiply_add_step(pairs, number, keys, sum[v]);
        }
    }
#pragma GCC unroll 16
    for (size_t v = 0; v < n_blocks * BLOCK_VECTORS; v++)
        store(scores + j + v * LANES, sum[v]);
}

/* scores[j] = query . key j, of the first `count` positions, rounded up to whole blocks. A block is
 * one chain of sums for each vector, and so waits for each of them; four hardly do.
 *     query [head_dim, or head_dim / 2 pairs] */
INLINE void stream_keys(phi3_dtype dtype, bool pairs, const stream *s, size_t count,
                        const float *query, float *scores)
{
    size_t j = 0;
    for (; j + 3 * PHI3_KEY_LANES < count; j += 4 * PHI3_KEY_LANES)
        score_blocks(dtype, pairs, 4, s, j, query, scores);
    for (; j < count; j += PHI3_KEY_LANES)
        score_blocks(dtype, pairs, 1, s, j, query, scores);
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
            prefetch(s->next + j * s->row_bytes, step * s->row_bytes, false);
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
