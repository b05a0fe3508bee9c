/*
 * attention.h - how attention is shared out over the device, and its two kernels.
 *
 * Rows of short spans (decoding, and everything that must be exact) go to attend_rows.cu: a block has
 * the query heads of one row that share a key head. Long spans go to attend_tiles.cu: a block has 64
 * rows of one query head, multiplied by tensor cores.
 */
#ifndef PHI3_CUDA_ATTENTION_H
#define PHI3_CUDA_ATTENTION_H

#include "cache.h"
#include "plan.h"

/* Positions that are added up on their own before they are merged: a multiple of a page. */
enum { PHI3_STRETCH = 256 };

/* Stretches that a row needs when its sequence has up to `longest` positions. */
static inline int phi3_n_stretches(const phi3_heads &h, int longest)
{
    int seen = h.window > 0 && h.window < longest ? h.window : longest;
    int whole = (seen + PHI3_STRETCH - 1) / PHI3_STRETCH;
    return seen < longest ? whole + 1 : whole; /* a window may begin inside of one */
}

/* softmax(q k) v of the plan's `few` rows: see attend_rows.cu. `partials` is scratch, of
 * phi3_attend_rows_scratch bytes. */
size_t phi3_attend_rows_scratch(const phi3_heads &h, size_t n_rows, int longest);
void phi3_attend_rows(const phi3_heads &h, phi3_dtype dtype, const phi3_plan &plan, float *partials,
                      const float *qkv, float *out);

/* The same of the plan's tiles. */
void phi3_attend_tiles(const phi3_heads &h, phi3_dtype dtype, const phi3_plan &plan,
                       const float *qkv, float *out);

#endif
