/*
 * page_softmax.h - the scores of a query vector with a page become weights.
 *
 * In: scores of a page, and what the query vector has seen before. Out: weights in their place, as
 * float32 or as pairs of bfloat16, relative to the highest score so far, to whose measure the sums so
 * far are brought.
 *
 * Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
 */
#ifndef PHI3_PAGE_SOFTMAX_H
#define PHI3_PAGE_SOFTMAX_H

#include <math.h>

#include "kernels/backend.h"
#include "simd_narrow.h"

enum { PAGE_VECTORS = PHI3_PAGE_POSITIONS / LANES };

/* Positions of a page, as indices in [0, PHI3_PAGE_POSITIONS]. */
typedef struct range {
    size_t first, end;
} range;

/* Scales that go with the positions of a page; NULL: all are 1. */
typedef struct page_scales {
    const float *keys, *values; /* [PHI3_PAGE_POSITIONS] */
} page_scales;

/* One query vector. */
typedef struct softmax_row {
    float *scores; /* [PHI3_PAGE_POSITIONS] */
    float *values; /* [width] the sum of weighted values so far */
    float *total, *highest;
    size_t width;
    bool pairs; /* weights become pairs */
} softmax_row;

/* All bits of the lanes whose positions, from `start` on, are in the range; v in those lanes. */
INLINE floats keep_range(range r, int start, floats v, floats other)
{
    ints index;
    for (int i = 0; i < LANES; i++)
        index[i] = start + i;
    ints lanes = (index >= (int)r.first) & (index < (int)r.end);
    return (floats)((lanes & (ints)v) | (~lanes & (ints)other));
}

/* Brings the sums to the measure of a new highest score. */
static void raise_highest(const softmax_row *row, float highest)
{
    if (*row->total > 0) {
        float shrink = expf(*row->highest - highest);
        *row->total *= shrink;
        for (size_t i = 0; i < row->width; i += LANES)
            store(row->values + i, load(row->values + i) * shrink);
    }
    *row->highest = highest;
}

/* n_vectors of scores; `cut`: some position is out of range. */
INLINE void weigh_vectors(const softmax_row *row, int n_vectors, bool cut, range r,
                          page_scales scales)
{
    floats v[PAGE_VECTORS], most = splat(-INFINITY), total = {0};
    for (int i = 0; i < n_vectors; i++) {
        v[i] = load(row->scores + i * LANES);
        if (scales.keys)
            v[i] *= load(scales.keys + i * LANES);
        if (cut)
            v[i] = keep_range(r, i * LANES, v[i], splat(-INFINITY));
        most = larger(v[i], most);
    }
    float highest = largest_lane(most);
    if (!(highest <= *row->highest))
        raise_highest(row, highest);
    highest = *row->highest;
    for (int i = 0; i < n_vectors; i++) {
        v[i] = exponential(v[i] - highest);
        if (cut)
            v[i] = keep_range(r, i * LANES, v[i], (floats){0});
        total += v[i];
        if (scales.values)
            v[i] *= load(scales.values + i * LANES);
        if (scales.values && cut)
            v[i] = keep_range(r, i * LANES, v[i], (floats){0});
    }
    *row->total += sum_lanes(total);
    if (row->pairs)
        for (int i = 0; i + 1 < n_vectors; i += 2)
            store(row->scores + i / 2 * LANES, round_pairs(v[i], v[i + 1]));
    else
        for (int i = 0; i < n_vectors; i++)
            store(row->scores + i * LANES, v[i]);
}

/* The first n_columns scores, whole vectors, to weights: zero out of range. */
static void weigh_page(const softmax_row *row, size_t n_columns, range r, page_scales scales)
{
    if (r.first == 0 && r.end == PHI3_PAGE_POSITIONS)
        weigh_vectors(row, PAGE_VECTORS, false, r, scales);
    else
        weigh_vectors(row, (int)(n_columns / LANES), true, r, scales);
}

#endif
