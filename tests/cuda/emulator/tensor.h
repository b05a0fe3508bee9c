/*
 * tensor.h - what kernels/cuda/mma.h declares, for the emulator: products of a warp's matrices, and
 * copies that have not happened before they are waited for.
 */
#ifndef PHI3_CUDA_TENSOR_H
#define PHI3_CUDA_TENSOR_H

#include "emulator.h"

extern "C" {
#include "kernels/float16.h"
}

namespace emulator
{

/* c += A B, whose fragments the lanes bring: mma.sync.m16n8k16. Every lane computes its own c. */
template <typename Unpack>
void multiply(float *c, const unsigned *a, const unsigned *b, Unpack unpack, place place)
{
    struct fragments {
        unsigned a[4], b[2];
    } mine;
    memcpy(mine.a, a, sizeof mine.a);
    memcpy(mine.b, b, sizeof mine.b);
    const fragments *lanes = exchanged(0xffffffffu, mine, place);
    unsigned g = lane() / 4, t = lane() % 4;
    for (unsigned k = 0; k < 16; k++) {
        /* Column k of A, and row k of B, are with lanes 4 . + k % 8 / 2. */
        unsigned from = k % 8 / 2, shift = k % 2 * 16;
        const fragments &row = lanes[4 * g + from];
        for (unsigned half = 0; half < 2; half++)
            for (unsigned n = 0; n < 2; n++) {
                const fragments &column = lanes[4 * (2 * t + n) + from];
                c[2 * half + n] += unpack((uint16_t)(row.a[k / 8 * 2 + half] >> shift)) *
                                   unpack((uint16_t)(column.b[k / 8] >> shift));
            }
    }
}

inline unsigned pair_of(uint16_t low, uint16_t high)
{
    return low | (unsigned)high << 16;
}

/* ldmatrix: element (i, j) of matrix m is 16-bit number j behind the address of lane 8 m + i. */
inline void load_matrices(unsigned *pairs, const void *row, bool transposed, place place)
{
    const void *const *rows = exchanged(0xffffffffu, row, place);
    unsigned g = lane() / 4, t = lane() % 4;
    for (unsigned m = 0; m < 4; m++) {
        auto at = [&](unsigned i, unsigned j) {
            return static_cast<const uint16_t *>(rows[8 * m + i])[j];
        };
        pairs[m] = transposed ? pair_of(at(2 * t, g), at(2 * t + 1, g))
                              : pair_of(at(g, 2 * t), at(g, 2 * t + 1));
    }
}

} // namespace emulator

struct phi3_f16_product {
    static unsigned pack(float low, float high)
    {
        return emulator::pair_of(phi3_f16_from_f32(low), phi3_f16_from_f32(high));
    }
    static void add(float *c, const unsigned *a, const unsigned *b)
    {
        emulator::multiply(c, a, b, phi3_f16_to_f32, EMULATOR_HERE);
    }
};

struct phi3_bf16_product {
    static unsigned pack(float low, float high)
    {
        return emulator::pair_of(phi3_bf16_from_f32(low), phi3_bf16_from_f32(high));
    }
    static void add(float *c, const unsigned *a, const unsigned *b)
    {
        emulator::multiply(c, a, b, phi3_bf16_to_f32, EMULATOR_HERE);
    }
};

inline void phi3_load_matrices(unsigned *pairs, const void *row)
{
    emulator::load_matrices(pairs, row, false, EMULATOR_HERE);
}

inline void phi3_load_transposed(unsigned *pairs, const void *row)
{
    emulator::load_matrices(pairs, row, true, EMULATOR_HERE);
}

inline void phi3_copy_async(void *shared, const void *from, bool zeros)
{
    emulator::pending_copies().push_back({shared, zeros ? nullptr : from});
}

inline void phi3_copies_arrive()
{
    std::vector<emulator::pending_copy> &pending = emulator::pending_copies();
    for (const emulator::pending_copy &copy : pending)
        if (copy.from != nullptr)
            memcpy(copy.to, copy.from, 16);
        else
            memset(copy.to, 0, 16);
    pending.clear();
}

#endif
