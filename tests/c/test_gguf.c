/*
 * test_gguf.c - what the GGUF reader gives for well-formed files. Files that are broken: see
 * test_hostile_gguf.c.
 */
#include "model_files.h"

#include <math.h>
#include <time.h>

static phi3_gguf *open_parts(gguf_parts *parts)
{
    phi3_gguf *gguf = NULL;
    phi3_error error = {0};
    buffer file = gguf_join(parts);
    write_bytes("model.gguf", file.data, file.size);
    release(&file);
    if (phi3_gguf_open(in_directory("model.gguf"), &gguf, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    return gguf;
}

/* A key of every type. The odd length of the first key leaves all that follows unaligned. */
static void put_every_type(gguf_parts *parts)
{
    const int64_t minus_two = -2;
    const double quarter = 0.25;
    const float numbers[] = {1.5f, -2.5f};
    gguf_key(parts, "odd", PHI3_GGUF_UINT8);
    put(&parts->metadata, "\xc8", 1);
    gguf_key(parts, "i8", PHI3_GGUF_INT8);
    put(&parts->metadata, &minus_two, 1);
    gguf_key(parts, "u16", PHI3_GGUF_UINT16);
    put(&parts->metadata, "\xff\xff", 2);
    gguf_key(parts, "i16", PHI3_GGUF_INT16);
    put(&parts->metadata, &minus_two, 2);
    gguf_u32(parts, "u32", UINT32_MAX);
    gguf_key(parts, "i32", PHI3_GGUF_INT32);
    put(&parts->metadata, &minus_two, 4);
    gguf_f32(parts, "f32", 1.5f);
    gguf_key(parts, "bool", PHI3_GGUF_BOOL);
    put(&parts->metadata, "\1", 1);
    gguf_text(parts, "text", "caf\xC3\xA9");
    gguf_key(parts, "u64", PHI3_GGUF_UINT64);
    put_u64(&parts->metadata, UINT64_MAX);
    gguf_key(parts, "i64", PHI3_GGUF_INT64);
    put(&parts->metadata, &minus_two, 8);
    gguf_key(parts, "f64", PHI3_GGUF_FLOAT64);
    put(&parts->metadata, &quarter, 8);
    gguf_strings(parts, "strings", (const char *const[]){"", "ab"}, 2);
    gguf_key(parts, "floats", PHI3_GGUF_ARRAY);
    put_u32(&parts->metadata, PHI3_GGUF_FLOAT32);
    put_u64(&parts->metadata, 2);
    put(&parts->metadata, numbers, sizeof numbers);
    gguf_key(parts, "integers", PHI3_GGUF_ARRAY);
    put_u32(&parts->metadata, PHI3_GGUF_INT64);
    put_u64(&parts->metadata, 2);
    put_u64(&parts->metadata, 5);
    put(&parts->metadata, &minus_two, 8);
    gguf_strings(parts, "empty", NULL, 0);
}

static void test_numbers_of_every_type(void **state)
{
    (void)state;
    gguf_parts parts = {0};
    put_every_type(&parts);
    phi3_gguf *gguf = open_parts(&parts);
    const struct {
        const char *key;
        int64_t expected;
    } integers[] = {{"odd", 200}, {"i8", -2},          {"u16", 65535}, {"i16", -2},
                    {"i32", -2},  {"u32", UINT32_MAX}, {"i64", -2}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        int64_t value = 0;
        size_t size = 77;
        bool negative = integers[i].expected < 0;
        assert_int_equal(phi3_gguf_integer(gguf, integers[i].key, &value, NULL), PHI3_OK);
        assert_int_equal(value, integers[i].expected);
        assert_int_equal(phi3_gguf_size(gguf, integers[i].key, &size, NULL),
                         negative ? PHI3_ERROR_BAD_FILE : PHI3_OK);
        assert_int_equal(size, negative ? 77 : integers[i].expected);
    }
    size_t largest = 0;
    assert_int_equal(phi3_gguf_size(gguf, "u64", &largest, NULL), PHI3_OK);
    assert_true(largest == SIZE_MAX);

    float value = 0;
    assert_int_equal(phi3_gguf_floating(gguf, "f32", &value, NULL), PHI3_OK);
    assert_true(value == 1.5f);
    assert_int_equal(phi3_gguf_floating(gguf, "f64", &value, NULL), PHI3_OK);
    assert_true(value == 0.25f);
    assert_int_equal(phi3_gguf_floating(gguf, "i8", &value, NULL), PHI3_OK);
    assert_true(value == -2);
    assert_int_equal(phi3_gguf_floating(gguf, "odd", &value, NULL), PHI3_OK);
    assert_true(value == 200);
    phi3_gguf_close(gguf);
}

static void test_text_bools_and_arrays(void **state)
{
    (void)state;
    gguf_parts parts = {0};
    put_every_type(&parts);
    phi3_gguf *gguf = open_parts(&parts);
    bool flag = false;
    assert_int_equal(phi3_gguf_bool(gguf, "bool", &flag, NULL), PHI3_OK);
    assert_true(flag);
    phi3_gguf_string text = {0};
    assert_int_equal(phi3_gguf_text(gguf, "text", &text, NULL), PHI3_OK);
    assert_int_equal(text.size, 5);
    assert_memory_equal(text.text, "caf\xC3\xA9", 5);

    phi3_gguf_array list = {0};
    assert_int_equal(phi3_gguf_list(gguf, "strings", &list, NULL), PHI3_OK);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.strings[0].size, 0);
    assert_memory_equal(list.strings[1].text, "ab", 2);
    assert_int_equal(phi3_gguf_list(gguf, "empty", &list, NULL), PHI3_OK);
    assert_int_equal(list.count, 0);
    assert_int_equal(phi3_gguf_list(gguf, "floats", &list, NULL), PHI3_OK);
    assert_null(list.strings);
    assert_true(phi3_gguf_array_float(&list, 1) == -2.5f);
    assert_true(isnan(phi3_gguf_array_float(&list, 2)));
    assert_int_equal(phi3_gguf_list(gguf, "integers", &list, NULL), PHI3_OK);
    assert_int_equal(phi3_gguf_array_integer(&list, 0), 5);
    assert_int_equal(phi3_gguf_array_integer(&list, 1), -2);
    assert_int_equal(phi3_gguf_array_integer(&list, 2), -1); /* there is none */
    phi3_gguf_close(gguf);
}

static void test_absent_and_mistyped_keys(void **state)
{
    (void)state;
    gguf_parts parts = {0};
    put_every_type(&parts);
    phi3_gguf *gguf = open_parts(&parts);
    phi3_error error;
    size_t size = 7;
    float number = 7;
    bool flag = true;
    int64_t integer = 7;
    phi3_gguf_string text = {0};
    phi3_gguf_array list = {0};
    assert_false(phi3_gguf_has(gguf, "absent"));
    assert_true(phi3_gguf_has(gguf, "odd"));
    assert_int_equal(phi3_gguf_size(gguf, "absent", &size, &error), PHI3_OK);
    assert_int_equal(size, 7);
    assert_int_equal(phi3_gguf_size(gguf, "text", &size, &error), PHI3_ERROR_BAD_FILE);
    assert_non_null(strstr(error.message, "model.gguf: key 'text' should be a non-negative"));
    assert_int_equal(phi3_gguf_size(gguf, "f32", &size, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_gguf_integer(gguf, "u64", &integer, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_gguf_floating(gguf, "bool", &number, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_gguf_bool(gguf, "odd", &flag, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_gguf_text(gguf, "strings", &text, &error), PHI3_ERROR_BAD_FILE);
    assert_non_null(strstr(error.message, "key 'strings' should be a string, but is an array"));
    assert_int_equal(phi3_gguf_list(gguf, "text", &list, &error), PHI3_ERROR_BAD_FILE);
    phi3_gguf_close(gguf);
}

static void test_tensors(void **state)
{
    (void)state;
    gguf_parts parts = {0};
    const float values[] = {1, 2, 3, 4, 5, 6};
    uint8_t *blocks = tiny_bytes(PHI3_Q4_0, 3, 64);
    gguf_tensor_bytes(&parts, "zoo", PHI3_F32, 0, 5, values);
    gguf_tensor_bytes(&parts, "matrix", PHI3_F32, 2, 3, values);
    gguf_tensor_bytes(&parts, "quantised", PHI3_Q4_0, 3, 64, blocks);
    phi3_gguf *gguf = open_parts(&parts);
    phi3_tensor tensor;
    assert_int_equal(phi3_gguf_tensor_count(gguf), 3);
    assert_true(phi3_gguf_tensor(gguf, "zoo", &tensor));
    assert_int_equal(tensor.n_rows, 1);
    assert_int_equal(tensor.n_columns, 5);
    assert_true(phi3_gguf_tensor(gguf, "matrix", &tensor));
    assert_int_equal(tensor.n_rows, 2);
    assert_int_equal(tensor.n_columns, 3);
    assert_memory_equal(tensor.data, values, sizeof values);
    assert_true(phi3_gguf_tensor(gguf, "quantised", &tensor));
    assert_int_equal(tensor.dtype, PHI3_Q4_0);
    assert_memory_equal(tensor.data, blocks, 3 * 2 * 18);
    assert_false(phi3_gguf_tensor(gguf, "matri", &tensor));
    assert_false(phi3_gguf_tensor(gguf, "matrix2", &tensor));
    for (size_t i = 0; i < 3; i++) {
        phi3_gguf_string name;
        assert_non_null(phi3_gguf_tensor_at(gguf, i, &name).data);
        assert_int_not_equal(name.size, 0);
    }
    free(blocks);
    phi3_gguf_close(gguf);
}

static void test_other_alignments(void **state)
{
    (void)state;
    const uint32_t alignments[] = {1, 8, 64, 4096};
    const float values[] = {1, 2, 3};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        gguf_parts parts = {.alignment = alignments[i]};
        gguf_u32(&parts, "general.alignment", alignments[i]);
        gguf_tensor_bytes(&parts, "first", PHI3_F32, 0, 3, values);
        gguf_tensor_bytes(&parts, "second", PHI3_F32, 0, 2, values + 1);
        phi3_gguf *gguf = open_parts(&parts);
        phi3_tensor tensor;
        assert_true(phi3_gguf_tensor(gguf, "first", &tensor));
        assert_memory_equal(tensor.data, values, sizeof values);
        assert_true(phi3_gguf_tensor(gguf, "second", &tensor));
        assert_memory_equal(tensor.data, values + 1, 2 * sizeof *values);
        phi3_gguf_close(gguf);
    }
}

/* Many keys and many strings must cost no more than sorting them. */
static void test_large_metadata_is_quick(void **state)
{
    (void)state;
    enum { N_KEYS = 100000, N_TOKENS = 200000 };
    gguf_parts parts = {0};
    char key[32];
    for (uint32_t i = 0; i < N_KEYS; i++) {
        snprintf(key, sizeof key, "key.%u", (i * 7919u) % N_KEYS);
        gguf_u32(&parts, key, (i * 7919u) % N_KEYS);
    }
    gguf_key(&parts, "tokens", PHI3_GGUF_ARRAY);
    put_u32(&parts.metadata, PHI3_GGUF_STRING);
    put_u64(&parts.metadata, N_TOKENS);
    for (int i = 0; i < N_TOKENS; i++)
        put_string(&parts.metadata, "token");

    clock_t start = clock();
    phi3_gguf *gguf = open_parts(&parts);
    for (size_t i = 0; i < N_KEYS; i++) {
        size_t value = 0;
        snprintf(key, sizeof key, "key.%zu", i);
        assert_int_equal(phi3_gguf_size(gguf, key, &value, NULL), PHI3_OK);
        assert_int_equal(value, i);
    }
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    phi3_gguf_close(gguf);
    if (seconds > 5) /* a tenth of a second where this was written; quadratic: minutes */
        fail_msg("%g s", seconds);
}

static void test_closing_nothing(void **state)
{
    (void)state;
    phi3_gguf_close(NULL);
}

#define FILE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_numbers_of_every_type),    FILE_TEST(test_text_bools_and_arrays),
        FILE_TEST(test_absent_and_mistyped_keys), FILE_TEST(test_tensors),
        FILE_TEST(test_other_alignments),         FILE_TEST(test_large_metadata_is_quick),
        cmocka_unit_test(test_closing_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
