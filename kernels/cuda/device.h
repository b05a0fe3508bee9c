/* device.h - small things that several kernels use: numbers of 16 bits, sums over threads. */
#ifndef PHI3_CUDA_DEVICE_H
#define PHI3_CUDA_DEVICE_H

#include "platform.h"

enum { PHI3_WARP = 32 };

static __device__ __forceinline__ float phi3_half_to_float(uint16_t bits)
{
    __half_raw raw;
    raw.x = bits;
    return __half2float(__half(raw));
}

static __device__ __forceinline__ uint16_t phi3_float_to_half(float x)
{
    return __half_raw(__float2half_rn(x)).x;
}

static __device__ __forceinline__ float phi3_bfloat16_to_float(uint16_t bits)
{
    return __int_as_float((int)((unsigned)bits << 16));
}

static __device__ __forceinline__ uint16_t phi3_float_to_bfloat16(float x)
{
    return __nv_bfloat16_raw(__float2bfloat16_rn(x)).x;
}

/* The sum over a warp, in every lane. */
static __device__ __forceinline__ float phi3_warp_sum(float x)
{
    for (int bits = PHI3_WARP / 2; bits > 0; bits /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, bits);
    return x;
}

static constexpr unsigned PHI3_ALL_LANES = 0xffffffffu;

/* 2^x to 22 bits; with PHI3_LOG2_E, exp. */
static __device__ __forceinline__ float phi3_exp2(float x)
{
#if defined(PHI3_CUDA_EMULATED)
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#define PHI3_LOG2_E 1.44269504f

static __device__ __forceinline__ bool phi3_is_finite(float x)
{
    return (__float_as_int(x) & 0x7f800000) != 0x7f800000;
}

/* The larger of |a| and |b|, told by their bits: a NaN counts as more than infinity. */
static __device__ __forceinline__ float phi3_larger_magnitude(float a, float b)
{
    int bits_a = __float_as_int(a) & 0x7fffffff, bits_b = __float_as_int(b) & 0x7fffffff;
    return __int_as_float(bits_a > bits_b ? bits_a : bits_b);
}

/* The largest |x| of a warp, in every lane. */
static __device__ __forceinline__ float phi3_warp_largest(float x)
{
    for (int bits = PHI3_WARP / 2; bits > 0; bits /= 2)
        x = phi3_larger_magnitude(x, __shfl_xor_sync(0xffffffffu, x, bits));
    return phi3_larger_magnitude(x, x);
}

static __device__ __forceinline__ float phi3_warp_max(float x)
{
    for (int bits = PHI3_WARP / 2; bits > 0; bits /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, bits));
    return x;
}

#endif
