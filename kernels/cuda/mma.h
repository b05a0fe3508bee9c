/*
 * mma.h - tensor cores and the copies that feed them: one instruction of sm_80 each, as a function.
 *
 * Matrices of a product lie in the registers of a warp. With g = lane / 4 and t = lane % 4, a pair
 * being two 16-bit numbers in one register, the lower index in the lower half:
 *     A [16 rows][16]:  a[0] (g, 2t..), a[1] (g + 8, 2t..), a[2] (g, 2t + 8..), a[3] (g + 8, 2t + 8..)
 *     B [16][8 columns]: b[0] (2t.., g), b[1] (2t + 8.., g)
 *     C [16][8] float32: c[0] (g, 2t), c[1] (g, 2t + 1), c[2] (g + 8, 2t), c[3] (g + 8, 2t + 1)
 */
#ifndef PHI3_CUDA_MMA_H
#define PHI3_CUDA_MMA_H

#include "platform.h"

#if defined(PHI3_CUDA_EMULATED)

#include "tensor.h"

#else

/* How 16-bit numbers are packed and multiplied: c += A B. */
struct phi3_f16_product {
    static __device__ __forceinline__ unsigned pack(float low, float high)
    {
        unsigned pair;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    static __device__ __forceinline__ void add(float *c, const unsigned *a, const unsigned *b)
    {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
            "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
};

struct phi3_bf16_product {
    static __device__ __forceinline__ unsigned pack(float low, float high)
    {
        unsigned pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    static __device__ __forceinline__ void add(float *c, const unsigned *a, const unsigned *b)
    {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
            "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
};

static __device__ __forceinline__ unsigned phi3_shared_address(const void *shared)
{
    return (unsigned)__cvta_generic_to_shared(shared);
}

/* Four matrices of [8][8] 16-bit numbers from shared memory: lane l gives the address of row l % 8 of
 * matrix l / 8, and gets the pair (g, 2t..) of each. */
static __device__ __forceinline__ void phi3_load_matrices(unsigned *pairs, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"(phi3_shared_address(row))
                 : "memory");
}

/* The same, of each matrix's transpose. */
static __device__ __forceinline__ void phi3_load_transposed(unsigned *pairs, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                 : "r"(phi3_shared_address(row))
                 : "memory");
}

/* Starts to copy 128 bits from global to shared memory, or zeros. */
static __device__ __forceinline__ void phi3_copy_async(void *shared, const void *from, bool zeros)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(phi3_shared_address(shared)),
                 "l"(from), "r"(zeros ? 0 : 16)
                 : "memory");
}

/* Waits for what this thread has started. */
static __device__ __forceinline__ void phi3_copies_arrive()
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

#endif

#endif
