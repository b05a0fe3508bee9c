/*
 * softmax.h - online softmaxes of groups of lanes that share rows of the cache (cache_rows.h).
 *
 * Each keeps the highest score so far, the sum of exp2(score - highest), and the values weighted by
 * it. In: rows of keys and values in registers. Out: sums, which are scaled down to a common highest
 * score when they are merged.
 */
#ifndef PHI3_CUDA_SOFTMAX_H
#define PHI3_CUDA_SOFTMAX_H

#include "cache_rows.h"

#include <math.h>

/* What brings sums from one highest score to a higher one. */
static __device__ __forceinline__ float factor(float from, float to)
{
    return from == -INFINITY ? 0 : phi3_exp2(from - to);
}

/* The softmaxes of a group of lanes, one for each query: a lane's share of the sums. */
template <typename Rows, int QUERIES> struct softmax {
    float highest[QUERIES], total[QUERIES], sum[QUERIES][Rows::PER_LANE];
};

/* One number of a result on its way. */
struct element {
    float highest, total, sum;
};

/* Adds another part of the same result to it. */
static __device__ __forceinline__ void join(element *into, float highest, float total, float sum)
{
    float to = fmaxf(into->highest, highest);
    float mine = factor(into->highest, to), its = factor(highest, to);
    into->highest = to;
    into->total = fmaf(into->total, mine, total * its);
    into->sum = fmaf(into->sum, mine, sum * its);
}

template <typename Rows, int QUERIES>
static __device__ __forceinline__ void clear(softmax<Rows, QUERIES> *s)
{
    PHI3_UNROLL
    for (int q = 0; q < QUERIES; q++) {
        s->highest[q] = -INFINITY, s->total[q] = 0;
        PHI3_UNROLL
        for (int i = 0; i < Rows::PER_LANE; i++)
            s->sum[q][i] = 0;
    }
}

/* The scores of DEPTH rows of keys, -infinity for those that do not count. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void
score_rows(const typename Rows::raw *keys, const float *scales, const bool *counts,
           const float (*query)[Rows::PER_LANE], float (*scores)[Rows::DEPTH])
{
    PHI3_UNROLL
    for (int r = 0; r < Rows::DEPTH; r++) {
        float x[Rows::PER_LANE];
        Rows::expand(keys[r], x);
        PHI3_UNROLL
        for (int q = 0; q < QUERIES; q++) {
            float dot = 0;
            PHI3_UNROLL
            for (int i = 0; i < Rows::PER_LANE; i++)
                dot = fmaf(query[q][i], x[i], dot);
            PHI3_UNROLL
            for (int bits = Rows::LANES / 2; bits > 0; bits /= 2)
                dot += __shfl_xor_sync(PHI3_ALL_LANES, dot, bits);
            scores[q][r] = counts[r] ? dot * scales[r] : -INFINITY;
        }
    }
}

/* Adds DEPTH rows to the group's softmaxes. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void
add_rows(const typename Rows::raw *values, const float *scales, const float (*scores)[Rows::DEPTH],
         softmax<Rows, QUERIES> *s)
{
    float weights[QUERIES][Rows::DEPTH];
    PHI3_UNROLL
    for (int q = 0; q < QUERIES; q++) {
        float highest = s->highest[q];
        PHI3_UNROLL
        for (int r = 0; r < Rows::DEPTH; r++)
            highest = fmaxf(highest, scores[q][r]);
        float down = factor(s->highest[q], highest);
        s->highest[q] = highest;
        s->total[q] *= down;
        PHI3_UNROLL
        for (int r = 0; r < Rows::DEPTH; r++) {
            weights[q][r] = factor(scores[q][r], highest);
            s->total[q] += weights[q][r];
        }
        PHI3_UNROLL
        for (int i = 0; i < Rows::PER_LANE; i++)
            s->sum[q][i] *= down;
    }
    PHI3_UNROLL
    for (int r = 0; r < Rows::DEPTH; r++) {
        float x[Rows::PER_LANE];
        Rows::expand(values[r], x);
        PHI3_UNROLL
        for (int q = 0; q < QUERIES; q++) {
            float weight = weights[q][r] * scales[r];
            PHI3_UNROLL
            for (int i = 0; i < Rows::PER_LANE; i++)
                s->sum[q][i] = fmaf(weight, x[i], s->sum[q][i]);
        }
    }
}

/* A warp's step: the positions [first, first + DEPTH * N_GROUPS), all in one page. */
/* The groups of a warp: all of them get the sum. */
template <typename Rows, int QUERIES>
static __device__ __forceinline__ void merge_groups(softmax<Rows, QUERIES> *s)
{
    PHI3_UNROLL
    for (int q = 0; q < QUERIES; q++) {
        float highest = s->highest[q];
        PHI3_UNROLL
        for (int bits = Rows::LANES; bits < PHI3_WARP; bits *= 2)
            highest = fmaxf(highest, __shfl_xor_sync(PHI3_ALL_LANES, highest, bits));
        float down = factor(s->highest[q], highest);
        s->highest[q] = highest;
        s->total[q] *= down;
        PHI3_UNROLL
        for (int i = 0; i < Rows::PER_LANE; i++)
            s->sum[q][i] *= down;
        PHI3_UNROLL
        for (int bits = Rows::LANES; bits < PHI3_WARP; bits *= 2) {
            s->total[q] += __shfl_xor_sync(PHI3_ALL_LANES, s->total[q], bits);
            PHI3_UNROLL
            for (int i = 0; i < Rows::PER_LANE; i++)
                s->sum[q][i] += __shfl_xor_sync(PHI3_ALL_LANES, s->sum[q][i], bits);
        }
    }
}

#endif
