/*
 * test_tensor.cpp - the emulator's tensor cores and asynchronous copies (tensor.h).
 *
 * Fragments are laid out here as the PTX manual's figures of mma.m16n8k16 and ldmatrix show them.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include "tensor.h"

static const emulator::order all_orders[] = {emulator::order::forward, emulator::order::backward,
                                             emulator::order::shuffled};

/* Small whole numbers, which both formats hold, and whose products add up exactly. */
static float number(unsigned i, unsigned j)
{
    return (float)((int)(i * 7 + j * 5 + i * j) % 13 - 6);
}

template <typename Product> static void check_product()
{
    float out[16][8];
    emulator::launch(1, 32, 0, [&] {
        unsigned group = threadIdx.x / 4, t = threadIdx.x % 4;
        auto a = [](unsigned row, unsigned column) { /* [16][16] */
                                                     return Product::pack(number(row, column),
                                                                          number(row, column + 1));
        };
        auto b = [](unsigned row, unsigned column) { /* [16][8] */
                                                     return Product::pack(number(row + 3, column),
                                                                          number(row + 4, column));
        };
        unsigned a_pairs[] = {a(group, 2 * t), a(group + 8, 2 * t), a(group, 2 * t + 8),
                              a(group + 8, 2 * t + 8)};
        unsigned b_pairs[] = {b(2 * t, group), b(2 * t + 8, group)};
        float c[] = {1, 2, 3, 4}; /* what it is added to */
        Product::add(c, a_pairs, b_pairs);
        for (unsigned i = 0; i < 4; i++)
            out[group + i / 2 * 8][2 * t + i % 2] = c[i] - (float)(i + 1);
    });
    assert_string_equal(emulator::take_failure(), "");
    for (unsigned row = 0; row < 16; row++)
        for (unsigned column = 0; column < 8; column++) {
            float want = 0;
            for (unsigned k = 0; k < 16; k++)
                want += number(row, k) * number(k + 3, column);
            assert_true(out[row][column] == want);
        }
}

static void products_of_matrices(void **)
{
    for (emulator::order o : all_orders) {
        emulator::set_order(o, 5);
        check_product<phi3_f16_product>();
        check_product<phi3_bf16_product>();
    }
}

static void matrices_are_loaded_and_transposed(void **)
{
    alignas(16) uint16_t matrices[4][8][8];
    for (unsigned i = 0; i < 4 * 8 * 8; i++)
        matrices[i / 64][i / 8 % 8][i % 8] = (uint16_t)i;
    emulator::launch(1, 32, 0, [&] {
        unsigned lane = threadIdx.x, pairs[4], transposed[4];
        phi3_load_matrices(pairs, matrices[lane / 8][lane % 8]);
        phi3_load_transposed(transposed, matrices[lane / 8][lane % 8]);
        unsigned row = lane / 4, column = lane % 4 * 2;
        for (unsigned m = 0; m < 4; m++) {
            assert_int_equal(pairs[m], matrices[m][row][column] |
                                           (unsigned)matrices[m][row][column + 1] << 16);
            assert_int_equal(transposed[m], matrices[m][column][row] |
                                                (unsigned)matrices[m][column + 1][row] << 16);
        }
    });
    assert_string_equal(emulator::take_failure(), "");
}

/* What a kernel reads before it has waited is not yet there. */
static void copies_wait_to_be_waited_for(void **)
{
    emulator::launch(1, 2, 0, [] {
        alignas(16) const uint32_t from[4] = {1, 2, 3, 4};
        alignas(16) uint32_t to[8] = {9, 9, 9, 9, 9, 9, 9, 9};
        phi3_copy_async(to, from, false);
        phi3_copy_async(to + 4, from, true);
        assert_int_equal(to[0], 9);
        assert_int_equal(to[7], 9);
        phi3_copies_arrive();
        assert_memory_equal(to, from, sizeof from);
        assert_int_equal(to[7], 0);
    });
    assert_string_equal(emulator::take_failure(), "");
}

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(products_of_matrices),
        cmocka_unit_test(matrices_are_loaded_and_transposed),
        cmocka_unit_test(copies_wait_to_be_waited_for),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
