/*
 * test_emulator.cpp - the emulator finds what it is there to find.
 *
 * Kernels with and without a planted mistake. Mistakes that only a sanitizer sees (an index out of
 * bounds, a race) are in planted.cpp: they end the program.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstdlib>
#include <vector>

#include "emulator.h"

extern "C" {
#include <cmocka.h>
}

using emulator::order;

static const order all_orders[] = {order::forward, order::backward, order::shuffled};

/* ---- A block's sum through shared memory ---------------------------------------------------------- */

/* out[block] = the sum of the block's part of x, by halving. */
static void sum_block(const float *x, float *out, bool with_barriers)
{
    float *partial = static_cast<float *>(emulator::shared(blockDim.x * sizeof(float)));
    unsigned i = threadIdx.x;
    partial[i] = x[blockIdx.x * blockDim.x + i];
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (with_barriers)
            __syncthreads();
        if (i < half)
            partial[i] += partial[i + half];
    }
    if (i == 0)
        out[blockIdx.x] = partial[0];
}

static std::vector<float> sums(bool with_barriers)
{
    std::vector<float> x(4 * 64), out(4);
    for (size_t i = 0; i < x.size(); i++)
        x[i] = (float)i;
    emulator::launch(4, 64, 0, [&] { sum_block(x.data(), out.data(), with_barriers); });
    return out;
}

static void barriers_order_a_block(void **)
{
    for (order o : all_orders) {
        emulator::set_order(o, 1);
        std::vector<float> out = sums(true);
        assert_string_equal(emulator::take_failure(), "");
        for (size_t b = 0; b < 4; b++)
            assert_true(out[b] == 64 * (64 * (float)b) + 63 * 32);
    }
}

static void a_missing_barrier_shows_in_some_order(void **)
{
    bool wrong = false;
    for (order o : all_orders) {
        emulator::set_order(o, 1);
        std::vector<float> out = sums(false);
        wrong = wrong || !(out[0] == 63 * 32);
    }
    assert_true(wrong);
}

static void a_divergent_barrier_is_named(void **)
{
    emulator::set_order(order::forward);
    emulator::launch(1, 64, 0, [] {
        if (threadIdx.x < 32)
            __syncthreads();
    });
    const char *failure = emulator::take_failure();
    assert_non_null(strstr(failure, "divergence"));
    assert_non_null(strstr(failure, "test_emulator.cpp"));
    emulator::launch(1, 64, 0, [] {
        if (threadIdx.x < 32)
            __syncthreads();
        else
            __syncthreads();
    });
    assert_non_null(strstr(emulator::take_failure(), "divergence"));
}

/* ---- A warp's exchanges --------------------------------------------------------------------------- */

static void a_warp_sums_by_shuffles(void **)
{
    for (order o : all_orders) {
        emulator::set_order(o, 2);
        float out[64] = {0};
        emulator::launch(1, 64, 0, [&] {
            float sum = (float)threadIdx.x;
            for (int bits = 16; bits > 0; bits /= 2)
                sum += __shfl_xor_sync(0xffffffff, sum, bits);
            out[threadIdx.x] = sum;
        });
        assert_string_equal(emulator::take_failure(), "");
        for (int i = 0; i < 64; i++)
            assert_true(out[i] == (i < 32 ? 31 * 16 : 32 * 32 + 31 * 16));
    }
}

static void halves_of_a_warp_exchange_apart(void **)
{
    for (order o : all_orders) {
        emulator::set_order(o, 3);
        int out[32];
        emulator::launch(1, 32, 0, [&] {
            unsigned i = threadIdx.x, mask = i < 16 ? 0xffffu : 0xffff0000u;
            int value = (int)i;
            if (i < 16) /* an exchange that the other half has not */
                value = __shfl_down_sync(mask, value, 1);
            value = __shfl_xor_sync(0xffffffff, value, 16);
            out[i] = value;
        });
        assert_string_equal(emulator::take_failure(), "");
        assert_int_equal(out[16], 1);
        assert_int_equal(out[30], 15);
        assert_int_equal(out[31], 15); /* from beyond the mask: one's own */
        assert_int_equal(out[0], 16);
    }
}

static void votes(void **)
{
    unsigned ballot = 0;
    bool any = false, all = true;
    emulator::launch(1, 32, 0, [&] {
        unsigned b = __ballot_sync(0xffffffff, threadIdx.x % 3 == 0);
        bool some = __any_sync(0xffffffff, threadIdx.x == 7);
        bool every = __all_sync(0xffffffff, threadIdx.x != 7);
        if (threadIdx.x == 0) {
            ballot = b;
            any = some;
            all = every;
        }
    });
    assert_int_equal(ballot, 0x49249249);
    assert_true(any);
    assert_false(all);
}

static void an_exchange_without_all_lanes_is_named(void **)
{
    emulator::launch(1, 32, 0, [] {
        if (threadIdx.x != 5)
            __syncwarp();
    });
    const char *failure = emulator::take_failure();
    assert_non_null(strstr(failure, "thread 5 has ended"));
}

/* ---- Instructions and coordinates ------------------------------------------------------------------ */

static void dp4a_is_signed(void **)
{
    assert_int_equal(__dp4a(0x7f80ff01, 0x02010303, 10), 10 + 3 - 3 - 128 + 254);
}

static void coordinates_cover_the_grid(void **)
{
    std::vector<int> seen(2 * 3 * 2 * 4 * 2 * 2);
    emulator::launch(dim3(2, 3, 2), dim3(4, 2, 2), 0, [&] {
        size_t b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        size_t t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        atomicAdd(&seen[b * 16 + t], 1);
    });
    for (int count : seen)
        assert_int_equal(count, 1);
}

static void shared_memory_starts_as_nan(void **)
{
    bool nan = false;
    emulator::launch(1, 1, 4 * sizeof(float), [&] {
        const float *dynamic = static_cast<const float *>(emulator::dynamic_shared());
        const float *fixed = static_cast<const float *>(emulator::shared(4));
        nan = std::isnan(dynamic[3]) && std::isnan(fixed[0]);
    });
    assert_true(nan);
}

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(barriers_order_a_block),
        cmocka_unit_test(a_missing_barrier_shows_in_some_order),
        cmocka_unit_test(a_divergent_barrier_is_named),
        cmocka_unit_test(a_warp_sums_by_shuffles),
        cmocka_unit_test(halves_of_a_warp_exchange_apart),
        cmocka_unit_test(votes),
        cmocka_unit_test(an_exchange_without_all_lanes_is_named),
        cmocka_unit_test(dp4a_is_signed),
        cmocka_unit_test(coordinates_cover_the_grid),
        cmocka_unit_test(shared_memory_starts_as_nan),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
