/* Packing: the quick way for some formats gives the bytes of the plain way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/pack_words.h"
#include "kernels/cpu/packed.h"

static void test_words_give_the_bytes_of_the_plain_way(void **state)
{
    (void)state;
    enum { ROWS = PHI3_PANEL_ROWS, MAX_BLOCK = 256, MAX_GROUP = 32 * (4 + 16) + 8 * 1024 };
    size_t n_tested = 0;
    uint32_t random = 1;
    for (phi3_dtype dtype = 0; dtype < PHI3_DTYPE_LIMIT; dtype++) {
        phi3_group_writer *write_group = phi3_group_writer_for(dtype);
        if (!write_group)
            continue;
        size_t row_bytes = 3 * phi3_dtype_traits(dtype)->block_bytes + 1; /* any distance does */
        uint8_t stored[ROWS * (3 * MAX_BLOCK + 1)];
        for (size_t i = 0; i < sizeof stored; i++) {
            random = random * 1664525u + 1013904223u;
            stored[i] = (uint8_t)(random >> 24);
        }
        const size_t n_rows[] = {1, 7, ROWS};
        for (size_t i = 0; i < 3; i++) {
            uint8_t plain[MAX_GROUP], quick[MAX_GROUP];
            memset(plain, 0x77, sizeof plain);
            memset(quick, 0x77, sizeof quick);
            phi3_pack_group(dtype, stored, row_bytes, n_rows[i], plain);
            write_group(stored, row_bytes, n_rows[i], quick);
            assert_memory_equal(plain, quick, sizeof plain);
        }
        n_tested++;
    }
    assert_in_range(n_tested, 6, 12);
}

/* A NaN anywhere in the stored blocks of a panel: noticed when and only when it is a scale. */
static void test_bad_scales_are_noticed(void **state)
{
    (void)state;
    enum { ROWS = 37, MAX_BLOCK = 256 };
    static uint8_t rows[ROWS * 2 * MAX_BLOCK], out[2 * 32 * 1024];
    const uint16_t nan_bits = 0x7e00;
    size_t n_noticed = 0, n_formats = 0;
    for (phi3_dtype dtype = 0; dtype < PHI3_DTYPE_LIMIT; dtype++) {
        if (!phi3_dtype_traits(dtype) || phi3_panel_bytes(dtype, 512) == 0)
            continue;
        size_t block_bytes = phi3_dtype_traits(dtype)->block_bytes;
        size_t n_columns = 2 * phi3_dtype_traits(dtype)->block_size;
        phi3_tensor part = {dtype, ROWS, n_columns, rows};
        n_formats++;
        for (size_t place = 0; place + 2 <= block_bytes; place += 2) {
            memset(rows, 0, sizeof rows);
            memcpy(rows + (2 * ROWS - 1) * block_bytes + place, &nan_bits, 2);
            bool bad = phi3_find_bad_scale(dtype, rows, ROWS, n_columns, 1) < ROWS;
            assert_true(phi3_pack_panel(&part, 0, out));
            assert_int_equal(phi3_pack_panel(&part, 1, out), !bad);
            n_noticed += bad;
        }
    }
    assert_in_range(n_formats, 12, 20);
    assert_in_range(n_noticed, n_formats, 2 * n_formats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_give_the_bytes_of_the_plain_way),
        cmocka_unit_test(test_bad_scales_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
