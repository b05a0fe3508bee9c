/*
 * test_chat.c - chat templates: texts that Jinja gave for the sources in data/chat_templates, how
 * sources are recognised, and what is refused. tests/python/test_chat_templates.py compares with
 * Jinja itself, on thousands of conversations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/text/chat.h"

static const phi3_text bos = {"<s>", 3}, eos = {"<|endoftext|>", 13};

/* A template's source, NUL-terminated, freed by the caller. */
static char *read_source(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "data/chat_templates/%s.jinja", name);
    phi3_file file;
    phi3_error error;
    if (phi3_file_open(path, &file, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    char *source = strndup((const char *)file.data, file.size);
    phi3_file_close(&file);
    assert_non_null(source);
    return source;
}

static void expect_text(const char *source, const phi3_message *messages, size_t count,
                        phi3_chat_options options, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    phi3_error error;
    if (phi3_chat_render_template(source, bos, eos, messages, count, &options, &text, &size,
                                  &error) != PHI3_OK)
        fail_msg("%s", error.message);
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    phi3_free(text);
}

static void expect_failure(const char *source, const phi3_message *messages, size_t count,
                           phi3_chat_options options, phi3_status code, const char *part)
{
    char *text = NULL;
    size_t size = 77;
    phi3_error error = {0};
    assert_int_equal(phi3_chat_render_template(source, bos, eos, messages, count, &options, &text,
                                               &size, &error),
                     code);
    assert_int_equal(error.code, code);
    if (strstr(error.message, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, error.message);
    assert_null(text);
    assert_int_equal(size, 77);
    assert_int_equal(
        phi3_chat_render_template(source, bos, eos, messages, count, &options, &text, &size, NULL),
        code);
}

/* ---- What each template writes ---------------------------------------------------------------- */

static const phi3_message talk[] = {
    {.role = "system", .content = "Be kind.", .tools = "[{\"name\": \"f\"}]"},
    {.role = "user", .content = "Hi"},
    {.role = "tool", .content = "42"},
    {.role = "assistant", .content = "Hello."},
    {.role = "user", .content = " Bye\n"},
};
enum { TALK = sizeof talk / sizeof *talk };

/* The text through the last message's content, then what follows it without and with a generation
 * prompt. */
static const struct {
    const char *name, *body, *end, *prompt;
} golden[] = {
    {"phi-3-mini-first", "<s><|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\n Bye\n",
     "<|end|>\n<|assistant|>\n", "<|end|>\n<|assistant|>\n"},
    {"phi-3-mini-system",
     "<s><|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\n"
     " Bye\n",
     "<|end|>\n<|assistant|>\n", "<|end|>\n<|assistant|>\n"},
    {"phi-3-medium", "<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\n Bye\n",
     "<|end|>\n<|assistant|>\n", "<|end|>\n<|assistant|>\n"},
    {"phi-3-mini",
     "<|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\n"
     " Bye\n",
     "<|end|>\n<|endoftext|>", "<|end|>\n<|assistant|>\n"},
    {"phi-3.5-mini",
     "<|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\n"
     " Bye\n",
     "<|end|>\n<|endoftext|>", "<|end|>\n<|assistant|>\n"},
    {"phi-4-first",
     "<|im_start|>system<|im_sep|>Be kind.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
     "<|im_start|>assistant<|im_sep|>Hello.<|im_end|><|im_start|>user<|im_sep|> Bye\n",
     "<|im_end|><|im_start|>assistant<|im_sep|>", "<|im_end|><|im_start|>assistant<|im_sep|>"},
    {"phi-4",
     "<|im_start|>system<|im_sep|>Be kind.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
     "<|im_start|>assistant<|im_sep|>Hello.<|im_end|><|im_start|>user<|im_sep|> Bye\n",
     "<|im_end|>", "<|im_end|><|im_start|>assistant<|im_sep|>"},
    {"phi-4-mini",
     "<|system|>Be kind.<|tool|>[{\"name\": \"f\"}]<|/tool|><|end|><|user|>Hi<|end|><|tool|>42"
     "<|end|><|assistant|>Hello.<|end|><|user|> Bye\n",
     "<|end|><|endoftext|>", "<|end|><|assistant|>"},
    {"chatml",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>tool\n42"
     "<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n Bye\n",
     "<|im_end|>\n", "<|im_end|>\n<|im_start|>assistant\n"},
    {"chatml-guarded",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>tool\n42"
     "<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n Bye\n",
     "<|im_end|>\n", "<|im_end|>\n<|im_start|>assistant\n"},
    {"smollm2",
     "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>tool\n42"
     "<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n Bye\n",
     "<|im_end|>\n", "<|im_end|>\n<|im_start|>assistant\n"},
};

static void test_golden_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        char *source = read_source(golden[i].name), expected[512];
        snprintf(expected, sizeof expected, "%s%s", golden[i].body, golden[i].end);
        expect_text(source, talk, TALK, (phi3_chat_options){0}, expected);
        snprintf(expected, sizeof expected, "%s%s", golden[i].body, golden[i].prompt);
        expect_text(source, talk, TALK, (phi3_chat_options){.add_generation_prompt = true},
                    expected);
        expect_text(source, talk, TALK, (phi3_chat_options){.continue_final_message = true},
                    golden[i].body);
        free(source);
    }
}

static void test_default_system_message(void **state)
{
    (void)state;
    char *source = read_source("smollm2");
    const phi3_message user = {.role = "user", .content = "Hi"};
    expect_text(source, &user, 1, (phi3_chat_options){.add_generation_prompt = true},
                "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                "Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    free(source);
}

static void test_empty_system_message(void **state)
{
    (void)state;
    const phi3_message empty = {.role = "system", .content = ""}, none = {.role = "system"};
    const phi3_chat_options prompt = {.add_generation_prompt = true};
    char *phi35 = read_source("phi-3.5-mini"), *phi3 = read_source("phi-3-mini");
    expect_text(phi35, &empty, 1, prompt, "<|assistant|>\n");
    expect_text(phi35, &none, 1, prompt, "<|assistant|>\n");
    expect_text(phi35, &empty, 1, (phi3_chat_options){.continue_final_message = true},
                "<|system|>\n");
    expect_text(phi3, &empty, 1, prompt, "<|system|>\n<|end|>\n<|assistant|>\n");
    expect_failure(phi3, &none, 1, prompt, PHI3_ERROR_INVALID_ARGUMENT, "message 0 has no content");
    free(phi35);
    free(phi3);
}

static void test_defaults(void **state)
{
    (void)state;
    char *source = read_source("phi-3-mini-first"), *text;
    const phi3_message user = {.role = "user", .content = "Hi"};
    size_t size;
    assert_int_equal(phi3_chat_render_template(source, (phi3_text){0}, (phi3_text){0}, &user, 1,
                                               NULL, &text, &size, NULL),
                     PHI3_OK);
    assert_string_equal(text, "<|user|>\nHi<|end|>\n<|assistant|>\n");
    phi3_free(text);
    free(source);
}

/* ---- Contents --------------------------------------------------------------------------------- */

static void test_content_with_nuls(void **state)
{
    (void)state;
    char *source = read_source("chatml"), *text;
    const phi3_message user = {.role = "user", .content = "a\0b\0", .content_size = 4};
    const char expected[] = "<|im_start|>user\na\0b\0<|im_end|>\n";
    size_t size;
    assert_int_equal(
        phi3_chat_render_template(source, bos, eos, &user, 1, NULL, &text, &size, NULL), PHI3_OK);
    assert_int_equal(size, sizeof expected - 1);
    assert_memory_equal(text, expected, sizeof expected);
    phi3_free(text);
    free(source);
}

static void test_big_content(void **state)
{
    (void)state;
    const size_t big = 10000000, around = strlen("<|im_start|>user\n<|im_end|>\n");
    char *source = read_source("chatml"), *content = malloc(big), *text;
    assert_non_null(content);
    memset(content, 'x', big);
    const phi3_message user = {.role = "user", .content = content, .content_size = big};
    size_t size;
    assert_int_equal(
        phi3_chat_render_template(source, bos, eos, &user, 1, NULL, &text, &size, NULL), PHI3_OK);
    assert_int_equal(size, big + around);
    assert_memory_equal(strchr(text, '\n') + 1, content, big);
    phi3_free(text);
    free(content);
    free(source);
}

static void test_text_that_is_not_utf8(void **state)
{
    (void)state;
    static const char *broken[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"};
    char *source = read_source("phi-4-mini");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        phi3_message content = {.role = "user", .content = broken[i]};
        phi3_message role = {.role = broken[i], .content = ""};
        phi3_message tools = {.role = "system", .content = "", .tools = broken[i]};
        const phi3_chat_options options = {0};
        expect_failure(source, &content, 1, options, PHI3_ERROR_TYPE, "content of message 0");
        expect_failure(source, &role, 1, options, PHI3_ERROR_TYPE, "role of message 0");
        expect_failure(source, &tools, 1, options, PHI3_ERROR_TYPE, "tools of message 0");
    }
    free(source);
}

/* ---- Recognition ------------------------------------------------------------------------------ */

/* `source` with every `from` replaced by `to`; freed by the caller. */
static char *respelled(const char *source, const char *from, const char *to)
{
    char *copy = calloc(strlen(source) + 1, strlen(to) + 1), *end = copy;
    assert_non_null(copy);
    while (*source != '\0') {
        bool hit = strncmp(source, from, strlen(from)) == 0;
        size_t size = hit ? strlen(to) : 1;
        memcpy(end, hit ? to : source, size);
        end += size;
        source += hit ? strlen(from) : 1;
    }
    return copy;
}

static char *joined(const char *first, const char *second)
{
    char *text = NULL;
    assert_true(asprintf(&text, "%s%s", first, second) >= 0);
    return text;
}

/* Whether the template is known, which is what the test expects; frees it. */
static void expect_known(char *source, bool known, const phi3_chat_format *format)
{
    assert_ptr_equal(phi3_chat_find_format(source), known ? format : NULL);
    free(source);
}

static void test_spellings(void **state)
{
    (void)state;
    char *source = read_source("phi-3.5-mini");
    const phi3_chat_format *format = phi3_chat_find_format(source);
    assert_non_null(format);
    expect_known(respelled(source, "\n", "\\n"), true, format);
    expect_known(respelled(source, "\n", "\r\n"), true, format);
    expect_known(respelled(source, "\n", "\r"), true, format);
    expect_known(joined(source, "\n"), true, format);
    expect_known(joined(source, "\r\n\n"), true, format);

    expect_known(joined(source, "\n\n\n"), false, format);
    expect_known(joined(source, " "), false, format);
    expect_known(joined("\n", source), false, format);
    expect_known(respelled(source, "\n", "\\\\n"), false, format);
    expect_known(respelled(source, "\n", ""), false, format);
    expect_known(respelled(source, "eos", "bos"), false, format);
    expect_known(strdup(""), false, format);
    expect_known(strdup("\r\n"), false, format);
    expect_known(strdup("\\"), false, format);
    free(source);
}

/* ---- Refusals --------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    (void)state;
    char *source = read_source("phi-3.5-mini");
    const phi3_chat_options none = {0}, further = {.continue_final_message = true};
    const phi3_chat_options both = {true, true};
    const phi3_message no_role = {.content = "x"}, no_content = {.role = "user"};
    const phi3_message unknown[] = {talk[1], {.role = "tool", .content = "x"}};
    const phi3_status invalid = PHI3_ERROR_INVALID_ARGUMENT;
    expect_failure(source, talk, 0, none, invalid, "empty conversation");
    expect_failure(source, NULL, 1, none, invalid, "messages is NULL");
    expect_failure(source, talk, TALK, both, invalid, "are not compatible");
    expect_failure(source, &no_role, 1, none, invalid, "message 0 has no role");
    expect_failure(source, &no_content, 1, none, invalid, "message 0 has no content");
    expect_failure(source, &no_content, 1, further, invalid, "no \"content\" to continue");
    expect_failure(source, unknown, 2, further, invalid, "does not appear in the chat");
    expect_failure(NULL, talk, TALK, none, PHI3_ERROR_UNSUPPORTED, "has no chat template");
    expect_failure("{{ x }}", talk, TALK, none, PHI3_ERROR_UNSUPPORTED, "jinja2");
    free(source);

    char *text;
    size_t size;
    phi3_error error;
    assert_int_equal(phi3_chat_render(NULL, talk, TALK, NULL, &text, &size, &error), invalid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_texts),
        cmocka_unit_test(test_default_system_message),
        cmocka_unit_test(test_empty_system_message),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_content_with_nuls),
        cmocka_unit_test(test_big_content),
        cmocka_unit_test(test_text_that_is_not_utf8),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
