/*
 * platform.h - CUDA itself, or the emulator that stands in for it in the tests.
 *
 * Kernels are written for both: launches and shared memory go through the macros below.
 */
#ifndef PHI3_CUDA_PLATFORM_H
#define PHI3_CUDA_PLATFORM_H

#if defined(PHI3_CUDA_EMULATED)

#include "emulator.h"
#include "runtime.h"

#define PHI3_LAUNCH(kernel, grid, block, stream, ...) \
    ((void)(stream), emulator::launch(grid, block, 0, [=] { kernel(__VA_ARGS__); }))

#define PHI3_UNROLL

/* An array that the threads of a block share. */
#define PHI3_SHARED(type, name, count) \
    type *const name = static_cast<type *>(emulator::shared((count) * sizeof(type)))

#else

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define PHI3_LAUNCH(kernel, grid, block, stream, ...) \
    kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)

#define PHI3_UNROLL _Pragma("unroll")

#define PHI3_SHARED(type, name, count) __shared__ __align__(16) type name[count]

#endif

#endif
