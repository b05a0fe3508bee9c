/*
 * emulator.h - the part of CUDA C++ that kernels/cuda uses, for the CPU.
 *
 * A kernel's source is compiled as C++ with this header in the place of CUDA's. In: a launch. Out:
 * what the kernel leaves in memory, or a failure that names the place in the source.
 *
 * The threads of a block are fibers. A fiber runs until it has to wait for others: at __syncthreads,
 * or in a warp's exchange (__shfl_sync and the like). Which one runs next is the test's choice
 * (set_order, or $EMULATOR_ORDER: forward, backward, or the seed of a shuffle): whoever forgot a barrier gets another result in some
 * order. Found by the emulator itself: barriers that not all threads of the block reach, and
 * exchanges that not all lanes of their mask reach. Found with the compiler's help: indices out of
 * bounds (ASan; every allocation has its exact size), and races (TSan, to which a fiber is a thread).
 *
 * Blocks run one after the other; a warp's lanes are not in step with each other.
 */
#ifndef PHI3_CUDA_EMULATOR_H
#define PHI3_CUDA_EMULATOR_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

/* ---- The language -------------------------------------------------------------------------------- */

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace emulator
{

/* Where in the source something happens. */
struct place {
    const char *file;
    int line;
};

#define EMULATOR_HERE (emulator::place{__FILE__, __LINE__})

/* ---- For the tests ------------------------------------------------------------------------------- */

enum class order { forward, backward, shuffled };

/* In which order the threads of a block run from now on. */
void set_order(order order, unsigned seed = 0);

/* What went wrong in a launch since the last call, "" when nothing did. */
const char *take_failure();
bool has_failed();

/* ---- For the kernels ----------------------------------------------------------------------------- */

/* The running thread's place in its launch. */
struct coordinates {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
const coordinates &here();

void launch(dim3 grid, dim3 block, size_t dynamic_shared, const std::function<void()> &kernel);

void barrier(place place);

/* The block's n-th piece of shared memory, the same for the n-th call of each of its threads. It is
 * filled with NaNs. */
void *shared(size_t size);
void *dynamic_shared();

/*
 * Leaves `value` and waits until every lane of `mask` has come to the same place of the source.
 * Lends what all lanes left, [32], until the lane's next exchange; of lanes not in the mask it is
 * undefined.
 */
constexpr size_t largest_exchange = 64;
const void *exchange(unsigned mask, const void *value, size_t size, place place);

template <typename T> const T *exchanged(unsigned mask, const T &value, place place)
{
    static_assert(sizeof(T) <= largest_exchange, "an exchange moves a few registers");
    return static_cast<const T *>(exchange(mask, &value, sizeof value, place));
}

unsigned lane();

/* What the running thread has started to copy: it happens when it is waited for. */
struct pending_copy {
    void *to;
    const void *from; /* NULL: zeros */
};
std::vector<pending_copy> &pending_copies();

template <typename T> T from_lane(unsigned mask, T value, unsigned source, place place)
{
    const T *all = exchanged(mask, value, place);
    return source < 32 && (mask >> source & 1) ? all[source] : value;
}

inline unsigned ballot(unsigned mask, bool vote, place place)
{
    const bool *votes = exchanged(mask, vote, place);
    unsigned result = 0;
    for (unsigned i = 0; i < 32; i++)
        result |= (unsigned)((mask >> i & 1) && votes[i]) << i;
    return result;
}

} // namespace emulator

#define threadIdx (emulator::here().thread)
#define blockIdx (emulator::here().block)
#define blockDim (emulator::here().block_size)
#define gridDim (emulator::here().grid_size)

#define __syncthreads() emulator::barrier(EMULATOR_HERE)
#define __syncwarp(...) ((void)emulator::exchanged(EMULATOR_MASK(__VA_ARGS__), 0, EMULATOR_HERE))
#define EMULATOR_MASK(...) (0xffffffffu __VA_OPT__(&(__VA_ARGS__)))

#define __shfl_sync(mask, value, source) \
    emulator::from_lane(mask, value, (unsigned)(source), EMULATOR_HERE)
#define __shfl_xor_sync(mask, value, bits) \
    emulator::from_lane(mask, value, emulator::lane() ^ (unsigned)(bits), EMULATOR_HERE)
#define __shfl_down_sync(mask, value, distance) \
    emulator::from_lane(mask, value, emulator::lane() + (unsigned)(distance), EMULATOR_HERE)
#define __shfl_up_sync(mask, value, distance) \
    emulator::from_lane(mask, value, emulator::lane() - (unsigned)(distance), EMULATOR_HERE)
#define __ballot_sync(mask, vote) emulator::ballot(mask, vote, EMULATOR_HERE)
#define __any_sync(mask, vote) (emulator::ballot(mask, vote, EMULATOR_HERE) != 0)
#define __all_sync(mask, vote) (emulator::ballot(mask, vote, EMULATOR_HERE) == (mask))

/* ---- Instructions -------------------------------------------------------------------------------- */

inline int __dp4a(int a, int b, int sum)
{
    int8_t x[4], y[4];
    memcpy(x, &a, 4);
    memcpy(y, &b, 4);
    for (int i = 0; i < 4; i++)
        sum += x[i] * y[i];
    return sum;
}

/* Byte k of the result is the one of y:x that nibble k of `chosen` names. */
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned chosen)
{
    uint64_t both = (uint64_t)y << 32 | x;
    unsigned result = 0;
    for (unsigned k = 0; k < 4; k++)
        result |= (unsigned)(both >> (chosen >> 4 * k & 7) * 8 & 0xff) << 8 * k;
    return result;
}

/* A load of what no thread writes meanwhile. */
template <typename T> T __ldg(const T *from)
{
    return *from;
}

/* Never part of a fused multiply-add. */
inline float __fmul_rn(float a, float b)
{
    volatile float product = a * b;
    return product;
}

inline float __fsub_rn(float a, float b)
{
    return a - b;
}

/* Seen by TSan, unlike plain reads and writes. */
inline int atomicAdd(int *address, int value)
{
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}

inline unsigned atomicInc(unsigned *address, unsigned limit)
{
    unsigned old = __atomic_load_n(address, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(address, &old, old >= limit ? 0 : old + 1, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return old;
}

/* The atomics above order everything; TSan knows no fences. */
inline void __threadfence()
{
}

/* A load past the caches of a multiprocessor, which the emulator has not. */
template <typename T> T __ldcg(const T *address)
{
    return *address;
}

inline float __expf(float x)
{
    return expf(x);
}

inline float __fdividef(float a, float b)
{
    return a / b;
}

inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}

inline int __float_as_int(float x)
{
    int bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float __int_as_float(int bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
