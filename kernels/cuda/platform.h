/*
 * platform.h - CUDA itself, or the emulator that stands in for it in the tests.
 *
 * Kernels are written for both: launches and shared memory go through the macros below.
 */
#ifndef PHI3_CUDA_PLATFORM_H
#define PHI3_CUDA_PLATFORM_H

#if defined(PHI3_CUDA_EMULATED)

#include "cublas.h"
#include "float16.h"
#include "runtime.h"

#define PHI3_LAUNCH(kernel, grid, block, stream, ...) \
    emulator::enqueue_kernel(stream, grid, block, 0, kernel, __VA_ARGS__)

#define PHI3_UNROLL

/* An array that the threads of a block share. */
#define PHI3_SHARED(type, name, count) \
    type *const name = static_cast<type *>(emulator::shared((count) * sizeof(type)))

/* 16 bytes that no launch writes, read once: they need no place in the L1 cache. */
inline int4 phi3_load_past_l1(const void *from)
{
    return *static_cast<const int4 *>(from);
}

#else

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define PHI3_LAUNCH(kernel, grid, block, stream, ...) \
    kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)

#define PHI3_UNROLL _Pragma("unroll")

#define PHI3_SHARED(type, name, count) __shared__ __align__(16) type name[count]

static __device__ __forceinline__ int4 phi3_load_past_l1(const void *from)
{
    int4 b;
    asm("ld.global.nc.L1::no_allocate.L2::128B.v4.s32 {%0, %1, %2, %3}, [%4];"
        : "=r"(b.x), "=r"(b.y), "=r"(b.z), "=r"(b.w)
        : "l"(from));
    return b;
}

#endif

#endif
