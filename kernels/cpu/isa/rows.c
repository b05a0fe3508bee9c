/* rows.c - kernels that work along one row: norm with residual, gated activation. */
#include <math.h>

#include "kernels.h"
#include "simd.h"

void ISA_NAME(phi3_add_rms_norm)(float *x, const float *delta, const float *weight, float epsilon,
                                 size_t n_columns, float *out)
{
    floats squares = {0};
    for (size_t i = 0; i < n_columns; i += LANES) {
        size_t left = n_columns - i;
        floats v = load_up_to(x + i, left);
        if (delta) {
            v += load_up_to(delta + i, left);
            store_up_to(x + i, v, left);
        }
        squares = multiply_add(v, v, squares);
    }
    float scale = 1 / sqrtf(sum_lanes(squares) / (float)n_columns + epsilon);
    for (size_t i = 0; i < n_columns; i += LANES) {
        size_t left = n_columns - i;
        floats normal = load_up_to(x + i, left) * scale;
        store_up_to(out + i, load_up_to(weight + i, left) * normal, left);
    }
}

void ISA_NAME(phi3_swiglu)(const float *gate, const float *up, size_t count, float *out)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i;
        floats g = load_up_to(gate + i, left);
        floats silu = g / (1.f + exponential(-g));
        store_up_to(out + i, silu * load_up_to(up + i, left), left);
    }
}
