/* float16.h - CUDA's floats of 16 bits, by the conversions of the core. */
#ifndef PHI3_CUDA_EMULATOR_FLOAT16_H
#define PHI3_CUDA_EMULATOR_FLOAT16_H

#include <cstdint>

extern "C" {
#include "kernels/float16.h"
}

struct __half_raw {
    uint16_t x;
};
struct __half : __half_raw {
    explicit __half(__half_raw raw) : __half_raw(raw)
    {
    }
};
struct __nv_bfloat16_raw {
    uint16_t x;
};

inline float __half2float(__half half)
{
    return phi3_f16_to_f32(half.x);
}

inline __half_raw __float2half_rn(float x)
{
    return {phi3_f16_from_f32(x)};
}

inline __nv_bfloat16_raw __float2bfloat16_rn(float x)
{
    return {phi3_bf16_from_f32(x)};
}

#endif
