/*
 * quantize_iq4.c - float32 to the IQ4 formats, whose 16 steps are finer around zero.
 *
 * In: finite numbers. Out: the block whose numbers are close to them in the sense of least squares,
 * each element weighing as much as its square: those that are large count. A range of steps is tried;
 * each gives codes, the codes give the best scale, and the step of the least error wins.
 */
#include <math.h>
#include <string.h>

#include "kernels/float16.h"
#include "quantize.h"

enum { N_STEPS = 15, N_SUB_BLOCKS = PHI3_SUPER_BLOCK / PHI3_BLOCK };

/* The code whose value is closest. */
static int closest(float value)
{
    int code = 0;
    for (int i = 1; i < 16; i++) /* passes the middle between two values */
        code += 2 * value > (float)(phi3_iq4_values[i - 1] + phi3_iq4_values[i]);
    return code;
}

/* x = scale values[u], for one sub-block. */
static float fit_scale(const float x[PHI3_BLOCK])
{
    float largest = 0, best = 0, scale = 0;
    for (int j = 0; j < PHI3_BLOCK; j++)
        largest = fabsf(x[j]) > fabsf(largest) ? x[j] : largest;
    for (int i = 0; largest != 0 && i < N_STEPS; i++) {
        float reach = (float)phi3_iq4_values[0] - 7 + (float)i, vv = 0, vx = 0;
        for (int j = 0; j < PHI3_BLOCK; j++) {
            float part = x[j] / largest, weight = part * part;
            float value = (float)phi3_iq4_values[closest(part * reach)];
            vv += weight * value * value;
            vx += weight * value * part;
        }
        if (vv > 0 && vx * vx > best * vv) {
            best = vx * vx / vv;
            scale = vx / vv * largest;
        }
    }
    return scale;
}

static void choose_codes(const float x[PHI3_BLOCK], float scale, uint8_t packed[16])
{
    float step = scale == 0 || !isfinite(1 / scale) ? 0 : 1 / scale;
    for (int j = 0; j < 16; j++)
        packed[j] = (uint8_t)(closest(x[j] * step) | closest(x[j + 16] * step) << 4);
}

/* Returns what is stored; the smallest float16 rather than none, so that small numbers stay. */
static float store_scale(uint8_t to[2], float value)
{
    uint16_t half = phi3_f16_from_f32(value);
    if (value != 0 && (half & 0x7fff) == 0)
        half |= 1;
    to[0] = (uint8_t)half;
    to[1] = (uint8_t)(half >> 8);
    return phi3_f16_to_f32(half);
}

bool ISA_NAME(phi3_quantize_iq4_nl)(const float *x, phi3_block_iq4_nl *block)
{
    float scale = store_scale(block->d, fit_scale(x));
    choose_codes(x, scale, block->codes);
    return isfinite(scale);
}

bool ISA_NAME(phi3_quantize_iq4_xs)(const float *x, phi3_block_iq4_xs *block)
{
    float scale[N_SUB_BLOCKS], largest = 0;
    for (int b = 0; b < N_SUB_BLOCKS; b++) {
        scale[b] = fit_scale(x + PHI3_BLOCK * b);
        largest = fabsf(scale[b]) > fabsf(largest) ? scale[b] : largest;
    }
    float d = store_scale(block->d, largest / -32); /* sub-block scales are -32 to 31 */
    unsigned high_scales = 0;
    memset(block->scales_low, 0, sizeof block->scales_low);
    for (int b = 0; b < N_SUB_BLOCKS; b++) {
        float rounded = d == 0 || !isfinite(d) ? 0 : rintf(scale[b] / d);
        int whole = rounded < -32 ? -32 : rounded > 31 ? 31 : (int)rounded;
        choose_codes(x + PHI3_BLOCK * b, d * (float)whole, block->codes + 16 * b);
        block->scales_low[b / 2] |= (uint8_t)(((whole + 32) & 15) << (b % 2 * 4));
        high_scales |= (unsigned)(whole + 32) >> 4 << (2 * b);
    }
    block->scales_high[0] = (uint8_t)high_scales;
    block->scales_high[1] = (uint8_t)(high_scales >> 8);
    return isfinite(d);
}
