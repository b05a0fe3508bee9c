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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_give_the_bytes_of_the_plain_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
