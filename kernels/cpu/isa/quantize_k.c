/*
 * quantize_k.c - float32 to the "K" blocks of 256 elements, whose sub-blocks have scales of their own.
 *
 * In: 256 finite numbers. Out: the block whose numbers are close to them in the sense of least
 * squares; large elements weigh more (see weigh). The way, for all five formats:
 *   1. each sub-block is fitted on its own: a range of steps is tried, each gives codes, the codes
 *      give the best scale (and minimum), and the step of the least error wins;
 *   2. the scales are rounded to their few bits, the codes chosen again;
 *   3. the float16 scales of the block are fitted to all its codes, the codes chosen again, as long as
 *      that makes the error smaller.
 *
 * All sums run over 8 lanes in a fixed order, so that a file is the same whatever machine writes it.
 */
#include <math.h>
#include <string.h>

#include "kernels/float16.h"
#include "quantize.h"

enum { LANES = 8, MAX_SUB_BLOCKS = 16, MAX_REFINEMENTS = 3 };

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

/* ---- Vectors -------------------------------------------------------------------------------- */

INLINE floats load(const float *from)
{
    floats v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE floats select(ints mask, floats yes, floats no)
{
    return (floats)((mask & (ints)yes) | (~mask & (ints)no));
}

INLINE floats smaller(floats v, float limit)
{
    return select(v < limit, v, (floats){0} + limit);
}

INLINE floats larger(floats v, float limit)
{
    return select(v > limit, v, (floats){0} + limit);
}

/* To nearest, ties to even; for numbers below 2^22. */
INLINE floats round_floats(floats v)
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

INLINE float sum(floats v)
{
    float s[LANES];
    memcpy(s, &v, sizeof s);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            s[i] += s[i + width];
    return s[0];
}

static float largest_size(const float *x, int count)
{
    float max = 0;
    for (int i = 0; i < count; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    return max;
}

/* ---- What is being quantised ---------------------------------------------------------------- */

typedef struct shape {
    int sub_size;            /* elements that share a scale: 16 or 32 */
    int lowest, highest;     /* of a code; lowest 0: the format has minimums */
    int min_scale;           /* of a sub-block's scale */
    int max_scale;           /* of a sub-block's scale, and of its minimum */
    float first_step, width; /* steps that are tried: how far the largest code overshoots, */
    int n_steps;             /* from where, how far apart, and how many */
} shape;

/* A block on its way. x = d scale u - dmin min */
typedef struct fit {
    float x[PHI3_SUPER_BLOCK] __attribute__((aligned(64))); /* scaled by a power of two */
    float weight[PHI3_SUPER_BLOCK] __attribute__((aligned(64)));
    float code[PHI3_SUPER_BLOCK] __attribute__((aligned(64))); /* u, a whole number */
    float scale[MAX_SUB_BLOCKS], min[MAX_SUB_BLOCKS];          /* whole numbers, in the end */
    float d, dmin; /* as float16 holds them, before x was scaled by 1 / unit */
    float unit;
} fit;

/* An error in a large element does more harm: what it is multiplied with is as large as any other. */
static void weigh(const float *x, int count, float *weight)
{
    floats squares = {0};
    for (int i = 0; i < count; i += LANES)
        squares += load(x + i) * load(x + i);
    float deviation = sqrtf(sum(squares) / (float)count);
    for (int i = 0; i < count; i++)
        weight[i] = deviation + fabsf(x[i]);
}

/* Scales x by a power of two, so that no square of it overflows or vanishes. False: all is zero. */
static bool fit_begin(fit *f, const shape *s, const float *x)
{
    float max = largest_size(x, PHI3_SUPER_BLOCK);
    if (max == 0)
        return false;
    int exponent;
    frexpf(max, &exponent);
    f->unit = ldexpf(1, exponent < -100 ? -100 : exponent - 1);
    for (int i = 0; i < PHI3_SUPER_BLOCK; i++)
        f->x[i] = x[i] / f->unit;
    for (int i = 0; i < PHI3_SUPER_BLOCK; i += s->sub_size)
        weigh(f->x + i, s->sub_size, f->weight + i);
    return true;
}

/* What float16 makes of a scale that belongs to f->x; at least its smallest number, so that the
 * small numbers of the file are kept where sub-block scales can hold them. */
static float round_scale(const fit *f, float value)
{
    float rounded = phi3_f16_to_f32(phi3_f16_from_f32(value * f->unit));
    if (isinf(rounded))
        return value; /* which store_f16 will refuse */
    if (rounded == 0 && value != 0)
        rounded = value < 0 ? -0x1p-24f : 0x1p-24f;
    return rounded / f->unit;
}

/* ---- Step 1: one sub-block ------------------------------------------------------------------ */

/* The sums that decide about codes u: over w, the weights. */
typedef struct sums {
    float u, uu, ux;
} sums;

INLINE sums sum_codes(const float *x, const float *weight, int count, float origin, float step,
                      const shape *s)
{
    floats u_sum = {0}, uu_sum = {0}, ux_sum = {0};
    for (int i = 0; i < count; i += LANES) {
        floats v = load(x + i), w = load(weight + i);
        floats u = round_floats((v - origin) * step);
        u = larger(smaller(u, (float)s->highest), (float)s->lowest);
        u_sum += w * u;
        uu_sum += w * u * u;
        ux_sum += w * u * v;
    }
    return (sums){sum(u_sum), sum(uu_sum), sum(ux_sum)};
}

/* x = scale u: the largest element gets the code that lies farthest from 0. */
INLINE void fit_scale(const float *x, const float *weight, const shape *s, float *scale)
{
    float largest = 0, best = 0;
    for (int i = 0; i < s->sub_size; i++)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    *scale = 0;
    if (largest == 0)
        return;
    for (int i = 0; i < s->n_steps; i++) {
        float reach = (float)s->lowest - s->first_step - (float)i * s->width;
        sums t = sum_codes(x, weight, s->sub_size, 0, reach / largest, s);
        if (t.uu > 0 && t.ux * t.ux > best * t.uu) { /* the error falls by ux^2 / uu */
            best = t.ux * t.ux / t.uu;
            *scale = t.ux / t.uu;
        }
    }
}

/* x = scale u - min, min >= 0. */
INLINE void fit_scale_and_min(const float *x, const float *weight, const shape *s, float *scale,
                              float *min)
{
    float lowest = 0, highest = x[0], best = INFINITY;
    floats w_sum = {0}, x_sum = {0};
    for (int i = 0; i < s->sub_size; i++) {
        lowest = x[i] < lowest ? x[i] : lowest;
        highest = x[i] > highest ? x[i] : highest;
    }
    for (int i = 0; i < s->sub_size; i += LANES) {
        w_sum += load(weight + i);
        x_sum += load(weight + i) * load(x + i);
    }
    *scale = 0;
    *min = -lowest;
    if (highest <= lowest)
        return;
    float w = sum(w_sum), wx = sum(x_sum);
    for (int i = 0; i < s->n_steps; i++) {
        float reach = (float)s->highest + s->first_step + (float)i * s->width;
        sums t = sum_codes(x, weight, s->sub_size, lowest, reach / (highest - lowest), s);
        float determinant = w * t.uu - t.u * t.u;
        if (determinant <= 0)
            continue;
        float a = (w * t.ux - wx * t.u) / determinant, b = (t.u * t.ux - t.uu * wx) / determinant;
        if (b < 0) {
            b = 0;
            a = t.ux / t.uu;
        }
        float error = a * a * t.uu - 2 * a * t.ux + b * (b * w - 2 * a * t.u + 2 * wx);
        if (a > 0 && error < best) {
            best = error;
            *scale = a;
            *min = b;
        }
    }
}

/* ---- Step 2: whole numbers ------------------------------------------------------------------- */

INLINE float whole(float value, float lowest, float highest)
{
    float rounded = (value + 0x1.8p23f) - 0x1.8p23f;
    return rounded < lowest ? lowest : rounded > highest ? highest : rounded;
}

/* The codes that are closest with the scales as they are. Returns the weighted square error. */
INLINE float choose_codes(fit *f, const shape *s)
{
    floats error = {0};
    for (int b = 0; b < PHI3_SUPER_BLOCK / s->sub_size; b++) {
        float scale = f->d * f->scale[b], min = f->dmin * f->min[b];
        float step = scale == 0 ? 0 : 1 / scale;
        for (int i = b * s->sub_size; i < (b + 1) * s->sub_size; i += LANES) {
            floats v = load(f->x + i);
            floats u = round_floats((v + min) * step);
            u = larger(smaller(u, (float)s->highest), (float)s->lowest);
            memcpy(f->code + i, &u, sizeof u);
            floats off = u * scale - min - v;
            error += load(f->weight + i) * off * off;
        }
    }
    return sum(error);
}

/* The scales of the block and the whole numbers of its sub-blocks, from their fits. */
INLINE void round_scales(fit *f, const shape *s)
{
    int n_sub_blocks = PHI3_SUPER_BLOCK / s->sub_size;
    float largest = 0, largest_min = 0;
    for (int b = 0; b < n_sub_blocks; b++) {
        largest = fabsf(f->scale[b]) > fabsf(largest) ? f->scale[b] : largest;
        largest_min = f->min[b] > largest_min ? f->min[b] : largest_min;
    }
    /* A signed scale reaches one farther below zero. */
    f->d = round_scale(f, largest / (float)(s->min_scale < 0 ? s->min_scale : s->max_scale));
    f->dmin = round_scale(f, largest_min / (float)s->max_scale);
    for (int b = 0; b < n_sub_blocks; b++) {
        float scale = f->d == 0 ? 0 : f->scale[b] / f->d;
        float min = f->dmin == 0 ? 0 : f->min[b] / f->dmin;
        f->scale[b] = whole(scale, (float)s->min_scale, (float)s->max_scale);
        f->min[b] = whole(min, 0, (float)s->max_scale);
    }
}

/* ---- Step 3: the block's own scales ---------------------------------------------------------- */

/* d and dmin by least squares over all 256 elements: x = d p - dmin q, p = scale u, q = min. */
INLINE bool solve(const fit *f, const shape *s, float *d, float *dmin)
{
    float pp = 0, pq = 0, qq = 0, px = 0, qx = 0;
    for (int b = 0; b < PHI3_SUPER_BLOCK / s->sub_size; b++) {
        floats w_sum = {0}, u_sum = {0}, uu_sum = {0}, ux_sum = {0}, x_sum = {0};
        for (int i = b * s->sub_size; i < (b + 1) * s->sub_size; i += LANES) {
            floats w = load(f->weight + i), u = load(f->code + i), v = load(f->x + i);
            w_sum += w;
            u_sum += w * u;
            uu_sum += w * u * u;
            ux_sum += w * u * v;
            x_sum += w * v;
        }
        float scale = f->scale[b], min = f->min[b];
        pp += scale * scale * sum(uu_sum);
        px += scale * sum(ux_sum);
        pq += scale * min * sum(u_sum);
        qq += min * min * sum(w_sum);
        qx += min * sum(x_sum);
    }
    float determinant = pp * qq - pq * pq;
    if (qq == 0 || determinant <= 0) {
        *d = pp > 0 ? px / pp : 0;
        *dmin = 0;
        return pp > 0 && qq == 0;
    }
    *d = (px * qq - pq * qx) / determinant;
    *dmin = (pq * px - pp * qx) / determinant;
    return *dmin >= 0;
}

INLINE void refine(fit *f, const shape *s, float error)
{
    for (int i = 0; i < MAX_REFINEMENTS; i++) {
        fit next = *f;
        if (!solve(f, s, &next.d, &next.dmin))
            return;
        next.d = round_scale(f, next.d);
        next.dmin = round_scale(f, next.dmin);
        float next_error = choose_codes(&next, s);
        if (!(next_error < error))
            return;
        *f = next;
        error = next_error;
    }
}

/* ---- All steps -------------------------------------------------------------------------------- */

INLINE void fit_block(fit *f, const shape *s, const float *x)
{
    memset(f, 0, sizeof *f);
    if (!fit_begin(f, s, x))
        return;
    for (int b = 0; b < PHI3_SUPER_BLOCK / s->sub_size; b++) {
        int first = b * s->sub_size;
        if (s->lowest == 0)
            fit_scale_and_min(f->x + first, f->weight + first, s, &f->scale[b], &f->min[b]);
        else
            fit_scale(f->x + first, f->weight + first, s, &f->scale[b]);
    }
    round_scales(f, s);
    refine(f, s, choose_codes(f, s));
}

/* ---- Packing ---------------------------------------------------------------------------------- */

static bool store_f16(uint8_t to[2], float value)
{
    uint16_t half = phi3_f16_from_f32(value);
    to[0] = (uint8_t)half;
    to[1] = (uint8_t)(half >> 8);
    return (half & 0x7c00) != 0x7c00;
}

/* The reverse of phi3_unpack_scales. */
static void pack_scales(const fit *f, uint8_t packed[12])
{
    for (int j = 0; j < 4; j++) {
        int scale = (int)f->scale[j], high_scale = (int)f->scale[j + 4];
        int min = (int)f->min[j], high_min = (int)f->min[j + 4];
        packed[j] = (uint8_t)(scale | high_scale >> 4 << 6);
        packed[j + 4] = (uint8_t)(min | high_min >> 4 << 6);
        packed[j + 8] = (uint8_t)((high_scale & 15) | (high_min & 15) << 4);
    }
}

/* Elements of q2_k, q3_k and q6_k share bytes in fours: 32 k + j of each run of 128, k = 0..3. */
INLINE int code_of(const fit *f, int run, int quarter, int j, int offset)
{
    return (int)f->code[128 * run + 32 * quarter + j] + offset;
}

static void pack_pairs(const fit *f, int offset, int shift, uint8_t codes[64])
{
    for (int i = 0; i < 64; i++) {
        codes[i] = 0;
        for (int quarter = 0; quarter < 4; quarter++) {
            int code = code_of(f, i / 32, quarter, i % 32, offset) >> shift;
            codes[i] |= (uint8_t)((code & 3) << (2 * quarter));
        }
    }
}

/* Low halves of four bits: q4_k and q5_k, by runs of 64. */
static void pack_halves(const fit *f, uint8_t codes[128])
{
    for (int i = 0; i < 128; i++) {
        const float *code = f->code + i / 32 * 64 + i % 32;
        codes[i] = (uint8_t)(((int)code[0] & 15) | ((int)code[32] & 15) << 4);
    }
}

/* Bit k of high[j] belongs to element 32 k + j. */
static void pack_bits(const fit *f, int offset, int bit, uint8_t high[32])
{
    for (int j = 0; j < 32; j++) {
        high[j] = 0;
        for (int k = 0; k < 8; k++)
            high[j] |= (uint8_t)((((int)f->code[32 * k + j] + offset) >> bit & 1) << k);
    }
}

bool ISA_NAME(phi3_quantize_q2_k)(const float *x, phi3_block_q2_k *block)
{
    static const shape q2_k = {16, 0, 3, 0, 15, -0.5f, 0.1f, 16};
    fit f;
    fit_block(&f, &q2_k, x);
    for (int b = 0; b < 16; b++)
        block->scales[b] = (uint8_t)((int)f.scale[b] | (int)f.min[b] << 4);
    pack_pairs(&f, 0, 0, block->codes);
    return store_f16(block->d, f.d * f.unit) & store_f16(block->dmin, f.dmin * f.unit);
}

bool ISA_NAME(phi3_quantize_q3_k)(const float *x, phi3_block_q3_k *block)
{
    static const shape q3_k = {16, -4, 3, -32, 31, -0.9f, 0.1f, 19};
    fit f;
    fit_block(&f, &q3_k, x);
    memset(block->scales, 0, sizeof block->scales);
    for (int b = 0; b < 16; b++) {
        int scale = (int)f.scale[b] + 32;
        block->scales[b % 8] |= (uint8_t)((scale & 15) << (b / 8 * 4));
        block->scales[8 + b % 4] |= (uint8_t)((scale >> 4) << (b / 4 * 2));
    }
    pack_pairs(&f, 4, 0, block->codes);
    pack_bits(&f, 4, 2, block->high);
    return store_f16(block->d, f.d * f.unit);
}

bool ISA_NAME(phi3_quantize_q4_k)(const float *x, phi3_block_q4_k *block)
{
    static const shape q4_k = {32, 0, 15, 0, 63, -1, 0.1f, 21};
    fit f;
    fit_block(&f, &q4_k, x);
    pack_scales(&f, block->scales);
    pack_halves(&f, block->codes);
    return store_f16(block->d, f.d * f.unit) & store_f16(block->dmin, f.dmin * f.unit);
}

bool ISA_NAME(phi3_quantize_q5_k)(const float *x, phi3_block_q5_k *block)
{
    static const shape q5_k = {32, 0, 31, 0, 63, -0.5f, 0.1f, 16};
    fit f;
    fit_block(&f, &q5_k, x);
    pack_scales(&f, block->scales);
    pack_halves(&f, block->codes);
    pack_bits(&f, 0, 4, block->high);
    return store_f16(block->d, f.d * f.unit) & store_f16(block->dmin, f.dmin * f.unit);
}

bool ISA_NAME(phi3_quantize_q6_k)(const float *x, phi3_block_q6_k *block)
{
    static const shape q6_k = {16, -32, 31, -128, 127, -0.9f, 0.1f, 19};
    fit f;
    fit_block(&f, &q6_k, x);
    for (int b = 0; b < 16; b++)
        block->scales[b] = (int8_t)f.scale[b];
    for (int i = 0; i < 128; i++) {
        int run = i / 64, quarter = i % 64 / 32;
        int low = code_of(&f, run, quarter, i % 32, 32);
        int high = code_of(&f, run, quarter + 2, i % 32, 32);
        block->codes[i] = (uint8_t)((low & 15) | (high & 15) << 4);
    }
    pack_pairs(&f, 32, 4, block->high);
    return store_f16(block->d, f.d * f.unit);
}
