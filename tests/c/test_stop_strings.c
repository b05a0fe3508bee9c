/* Stop strings: the examples that transformers gives for its StopStringCriteria. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/text/stop_strings.h"

static const char tokenizer_json[] =
    "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null,"
    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
    " \"trim_offsets\": true, \"use_regex\": true}, \"post_processor\": null,"
    " \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true,"
    " \"use_regex\": true},"
    " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"fuse_unk\": false,"
    " \"byte_fallback\": false, \"ignore_merges\": false, \"merges\": [], \"vocab\":"
    " {\"s\": 0, \"st\": 1, \"sto\": 2, \"stop\": 3, \"op\": 4, \"opera\": 5, \"pper\": 6,"
    " \"las\": 7, \"topper\": 8, \"to\": 9, \"pped\": 10, \"at\": 11, \"tion\": 12,"
    " \"\\u00c3\": 13, \"\\u00a9!\": 14}}}";

enum { S, ST, STO, STOP, OP, OPERA, PPER, LAS, TOPPER, TO, PPED, AT, TION, BYTE_C3, BYTE_A9 };

static phi3_tokenizer *tokenizer;

static int load_tokenizer(void **state)
{
    (void)state;
    char path[] = "/tmp/phi3-stop-XXXXXX.json";
    phi3_error error = {0};
    int descriptor = mkstemps(path, 5);
    if (descriptor < 0)
        return 1;
    FILE *file = fdopen(descriptor, "w");
    fputs(tokenizer_json, file);
    fclose(file);
    if (phi3_tokenizer_load(path, &tokenizer, &error) != PHI3_OK)
        fprintf(stderr, "%s\n", error.message);
    unlink(path);
    return tokenizer == NULL;
}

static int free_tokenizer(void **state)
{
    (void)state;
    phi3_tokenizer_free(tokenizer);
    return 0;
}

static bool stops(const char *string, const int32_t *ids, size_t n_ids)
{
    const char *strings[] = {"never", string};
    return phi3_stop_strings_match(tokenizer, strings, 2, ids, n_ids);
}
#define STOPS(string, ...)                        \
    stops(string, (const int32_t[]){__VA_ARGS__}, \
          sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void test_a_string_ends_in_the_newest_token(void **state)
{
    (void)state;
    assert_true(STOPS("stop", ST, OP));
    assert_true(STOPS("stop", STOP));
    assert_true(STOPS("stop", ST, OPERA));
    assert_true(STOPS("stop", STO, PPER));
    assert_true(STOPS("stop", LAS, TOPPER));
    assert_true(STOPS("stop", S, TO, PPED));
    assert_true(STOPS("per", TOPPER));
    assert_true(STOPS("ppe", TOPPER));
}

static void test_a_string_that_ended_before_does_not_count(void **state)
{
    (void)state;
    assert_false(STOPS("stop", STOP, AT));
    assert_false(STOPS("stop", ST, OP, AT));
    assert_false(STOPS("stop", ST, OPERA, TION));
    assert_false(STOPS("stop", TO, PPED));
    assert_false(STOPS("stop", OP));
    assert_false(STOPS("stop", 500));
    assert_false(STOPS("stop", 500, TOPPER));
}

static void test_characters_may_be_split_between_tokens(void **state)
{
    (void)state;
    assert_true(STOPS("\xC3\xA9", AT, BYTE_C3, BYTE_A9));
    assert_false(STOPS("\xC3\xA9", AT, BYTE_C3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_string_ends_in_the_newest_token),
        cmocka_unit_test(test_a_string_that_ended_before_does_not_count),
        cmocka_unit_test(test_characters_may_be_split_between_tokens),
    };
    return cmocka_run_group_tests(tests, load_tokenizer, free_tokenizer);
}
