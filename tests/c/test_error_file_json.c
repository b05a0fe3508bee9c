/* Errors, files and JSON: what is refused, and what the message says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

static void test_messages_are_cut_at_characters(void **state)
{
    (void)state;
    phi3_error error;
    char text[1100];
    memset(text, 'a', sizeof text);
    memcpy(text + 1021, "\xE6\x97\xA5", 3); /* straddles the end of the message */
    text[sizeof text - 1] = '\0';
    assert_int_equal(phi3_fail(&error, PHI3_ERROR_IO, "%s", text), PHI3_ERROR_IO);
    assert_int_equal(strlen(error.message), 1021);

    phi3_fail(&error, PHI3_ERROR_IO, "caf\xC3\xA9 \xFF\xC3.\n");
    assert_string_equal(error.message, "caf\xC3\xA9 ??.");
    phi3_fail(&error, PHI3_ERROR_BAD_FILE, "model: %s", error.message);
    assert_string_equal(error.message, "model: caf\xC3\xA9 ??.");
    assert_int_equal(phi3_fail(NULL, PHI3_ERROR_BUSY, "unheard"), PHI3_ERROR_BUSY);
}

static void keep_line(phi3_log_level level, const char *message, void *user_data)
{
    snprintf(user_data, 64, "%d %s", level, message);
}

static void test_log_lines_reach_the_callback(void **state)
{
    (void)state;
    char line[64] = "";
    phi3_log(PHI3_LOG_INFO, "nobody listens");
    phi3_set_log_callback(keep_line, line);
    phi3_log(PHI3_LOG_WARNING, "%d layers", 32);
    phi3_set_log_callback(NULL, NULL);
    phi3_log(PHI3_LOG_INFO, "nobody listens");
    assert_string_equal(line, "30 32 layers");
}

static void test_only_files_are_mapped(void **state)
{
    (void)state;
    phi3_file file;
    phi3_error error;
    assert_int_equal(phi3_file_open("/nowhere/x", &file, &error), PHI3_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "/nowhere/x"));
    assert_int_equal(phi3_file_open("/", &file, &error), PHI3_ERROR_IO);
    assert_int_equal(phi3_file_open("/dev/null", &file, &error), PHI3_ERROR_IO);
    char *path = phi3_path_join("a", "b");
    assert_string_equal(path, "a/b");
    free(path);
}

/* Parses text and gives the message of the refusal. */
static const char *refusal(const char *text, size_t size)
{
    static phi3_error error;
    cJSON *root = NULL;
    phi3_status status = phi3_json_parse("x.json", text, size, &root, &error);
    cJSON_Delete(root);
    return status == PHI3_ERROR_BAD_FILE ? error.message : "accepted";
}
#define REFUSAL(text) refusal(text, sizeof text - 1)

static void test_bad_json_is_refused_with_its_line(void **state)
{
    (void)state;
    assert_string_equal(REFUSAL("{\"a\": 1,\n\"b\" 2}"), "x.json: line 2: not valid JSON");
    assert_string_equal(REFUSAL("{}\n\nx"), "x.json: line 3: text after the end of the JSON value");
    assert_string_equal(REFUSAL("[\"a\\u0000b\"]"), "x.json: line 1: a NUL character in a string");
    assert_string_equal(REFUSAL("[\"a\0b\"]"), "x.json: line 1: a NUL byte");
    assert_string_equal(REFUSAL("[\n\"\xED\xA0\x80\"]"), "x.json: line 2: not UTF-8");
    assert_string_equal(REFUSAL("[\"\\\\u0000\", \"\\\"[\"]"), "accepted");
    char deep[1000];
    memset(deep, '[', 500);
    memset(deep + 500, ']', 500);
    assert_string_equal(refusal(deep, 1000), "x.json: line 1: nested too deeply");
    assert_string_equal(refusal(deep + 400, 200), "accepted");
    for (size_t size = 0; size < 8; size++)
        assert_string_not_equal(refusal("[12, \"a\"]", size), "accepted");
}

static void test_lookups_check_types(void **state)
{
    (void)state;
    const char *text =
        "{\"n\": 12, \"f\": 1.5, \"neg\": -1, \"s\": \"t\", \"b\": true, \"z\": null,"
        " \"huge\": 1e999}";
    cJSON *root;
    phi3_error error;
    assert_int_equal(phi3_json_parse("c.json", text, strlen(text), &root, &error), PHI3_OK);
    size_t n = 7;
    float f = 7;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(phi3_json_size("c.json", root, "absent", &n, &error), PHI3_OK);
    assert_int_equal(phi3_json_size("c.json", root, "z", &n, &error), PHI3_OK);
    assert_int_equal(n, 7);
    assert_int_equal(phi3_json_size("c.json", root, "n", &n, &error), PHI3_OK);
    assert_int_equal(n, 12);
    assert_int_equal(phi3_json_float("c.json", root, "f", &f, &error), PHI3_OK);
    assert_true(f == 1.5f);
    assert_int_equal(phi3_json_bool("c.json", root, "b", &b, &error), PHI3_OK);
    assert_true(b);
    assert_int_equal(phi3_json_string("c.json", root, "s", &s, &error), PHI3_OK);
    assert_string_equal(s, "t");

    assert_int_equal(phi3_json_size("c.json", root, "f", &n, &error), PHI3_ERROR_BAD_FILE);
    assert_string_equal(error.message, "c.json: \"f\" is not a non-negative integer");
    assert_int_equal(phi3_json_size("c.json", root, "neg", &n, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_json_float("c.json", root, "huge", &f, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_json_string("c.json", root, "n", &s, &error), PHI3_ERROR_BAD_FILE);
    assert_int_equal(phi3_json_bool("c.json", root, "n", &b, &error), PHI3_ERROR_BAD_FILE);
    cJSON_Delete(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_are_cut_at_characters),
        cmocka_unit_test(test_log_lines_reach_the_callback),
        cmocka_unit_test(test_only_files_are_mapped),
        cmocka_unit_test(test_bad_json_is_refused_with_its_line),
        cmocka_unit_test(test_lookups_check_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
