/* Stop strings in a stream: whatever the pieces, the text is cut where a search of the whole would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/text/stop_text.h"

/* Puts `text` in pieces of `step` bytes and expects `wanted`. */
static void check(const char *const *strings, size_t n_strings, const char *text, size_t step,
                  const char *wanted)
{
    phi3_error error;
    phi3_stop_text stop = {.strings = strings, .n_strings = n_strings};
    phi3_bytes out = {0};
    bool stopped = false;
    size_t size = strlen(text);
    for (size_t i = 0; i < size && !stopped; i += step) {
        size_t piece = size - i < step ? size - i : step;
        assert_int_equal(phi3_stop_text_put(&stop, text + i, piece, &out, &stopped, &error),
                         PHI3_OK);
        assert_true(out.size <= strlen(wanted)); /* nothing of a stop string has got out */
    }
    if (!stopped)
        assert_int_equal(phi3_stop_text_end(&stop, &out, &error), PHI3_OK);
    assert_int_equal(stopped, strlen(wanted) < size);
    assert_string_equal(out.bytes == NULL ? "" : out.bytes, wanted);
    free(out.bytes);
    free(stop.held.bytes);
}

static void test_text_ends_before_the_first_stop_string(void **state)
{
    (void)state;
    const char *const strings[] = {"abab", "bcd", "\n\n", "\xC3\xA9t\xC3\xA9"};
    const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", ""},
        {"nothing of it", "nothing of it"},
        {"aabab", "a"},
        {"abaabab!", "aba"},
        {"xabcd", "xa"},
        {"ababcd", ""},
        {"one\ntwo\n\nthree", "one\ntwo"},
        {"ends like one: aba", "ends like one: aba"},
        {"l'\xC3\xA9t\xC3\xA9 vient", "l'"},
        {"l'\xC3\xA9t\xC3\xA8", "l'\xC3\xA9t\xC3\xA8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 8; step++)
            check(strings, 4, cases[i].text, step, cases[i].wanted);
    }
}

static void test_without_stop_strings_nothing_waits(void **state)
{
    (void)state;
    phi3_error error;
    phi3_stop_text stop = {0};
    phi3_bytes out = {0};
    bool stopped;
    assert_int_equal(phi3_stop_text_put(&stop, "abc", 3, &out, &stopped, &error), PHI3_OK);
    assert_false(stopped);
    assert_string_equal(out.bytes, "abc");
    free(out.bytes);
    free(stop.held.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_ends_before_the_first_stop_string),
        cmocka_unit_test(test_without_stop_strings_nothing_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
