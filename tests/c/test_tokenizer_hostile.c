/*
 * test_tokenizer_hostile.c - tokenizer files that are broken, or made to do harm: each is refused
 * with an error that names the file and the fault, and none crashes (the suite also runs with the
 * sanitizers).
 */
#include "tokenizer_files.h"

#include <math.h>

/* ---- Helpers -------------------------------------------------------------------------------- */

/* Loads what must be refused: the message begins with the test's directory and tells the fault. */
static void expect_refused(const char *what, const char *path, const char *fault)
{
    phi3_tokenizer *tokenizer = NULL;
    phi3_error error = {0};
    phi3_status status = phi3_tokenizer_load(path, &tokenizer, &error);
    if (status == PHI3_OK)
        fail_msg("%s: was accepted", what);
    assert_null(tokenizer);
    assert_int_equal(error.code, status);
    assert_int_not_equal(status, PHI3_ERROR_INTERNAL);
    if (strncmp(error.message, test_directory, strlen(test_directory)) != 0)
        fail_msg("%s: the file is not named in: %s", what, error.message);
    if (strstr(error.message, fault) == NULL)
        fail_msg("%s: '%s' is not in: %s", what, fault, error.message);
}

/* A tokenizer.json with these parts. */
static void write_json(const char *vocab, const char *merges, const char *others)
{
    buffer json = {0};
    put_text(&json, "{");
    put_text(&json, others);
    put_text(&json, "\"model\":{\"type\":\"BPE\",\"vocab\":");
    put_text(&json, vocab);
    put_text(&json, ",\"merges\":");
    put_text(&json, merges);
    put_text(&json, "}}");
    write_bytes("tokenizer.json", json.data, json.size);
    release(&json);
}

/* ---- tokenizer.json ------------------------------------------------------------------------- */

static void refuses_broken_models(void **state)
{
    (void)state;
    static const struct {
        const char *what, *vocab, *merges, *fault;
    } cases[] = {
        {"a negative id", "{\"a\":-1}", "[]", "has the id -1"},
        {"a huge id", "{\"a\":2097152}", "[]", "has the id 2097152"},
        {"an id beyond integers", "{\"a\":1e300}", "[]", "not an integer"},
        {"a broken id", "{\"a\":0.5}", "[]", "not an integer"},
        {"an id that is text", "{\"a\":\"0\"}", "[]", "not an integer"},
        {"two tokens of one id", "{\"a\":1,\"b\":1}", "[]", "\"a\" and \"b\" have the same id 1"},
        {"a token twice", "{\"a\":1,\"a\":2}", "[]", "stands twice"},
        {"an empty token", "{\"\":0}", "[]", "token 0 is empty"},
        {"an empty vocabulary", "{}", "[]", "vocabulary is empty"},
        {"a vocabulary that is a list", "[\"a\"]", "[]", "\"model.vocab\" is not an object"},
        {"merges that are no list", "{\"a\":0}", "{\"a\":\"b\"}", "\"model.merges\" is not a list"},
        {"a merge of an absent token", "{\"a\":0}", "[\"a b\"]", "merge 0, \"a\" with \"b\""},
        {"a merge into an absent token", "{\"a\":0,\"b\":1}", "[[\"a\",\"b\"]]", "lacks"},
        {"a merge of three", "{\"a\":0}", "[\"a a a\"]", "merge 0 is not a pair"},
        {"a merge of one", "{\"a\":0,\"aa\":1}", "[[\"a\",\"a\"],[\"a\"]]",
         "merge 1 is not a pair"},
        {"a merge of numbers", "{\"a\":0}", "[[1,2]]", "merge 0 is not a pair"},
        {"a merge that is null", "{\"a\":0}", "[null]", "merge 0 is not a pair"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_json(cases[i].vocab, cases[i].merges, "");
        expect_refused(cases[i].what, in_directory("tokenizer.json"), cases[i].fault);
    }
}

#define SPLIT(pattern)                                                        \
    "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern \
    "\"},\"behavior\":\"Isolated\"},"

static void refuses_broken_parts(void **state)
{
    (void)state;
    static const struct {
        const char *what, *others, *fault;
    } cases[] = {
        {"an unknown normalizer", "\"normalizer\":{\"type\":\"NFC\"},",
         "normalizer NFC is not supported"},
        {"a normalizer in a Sequence",
         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]},",
         "normalizer Lowercase is not supported"},
        {"a normalizer without a type", "\"normalizer\":{},", "\"normalizer\" is not an object"},
        {"a normalizer that is text", "\"normalizer\":\"NFC\",", "\"normalizer\" is not an object"},
        {"a Sequence without a list", "\"decoder\":{\"type\":\"Sequence\"},", "has no list"},
        {"an unknown pre-tokenizer", "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},",
         "pre-tokenizer BertPreTokenizer is not supported"},
        {"an unknown decoder", "\"decoder\":{\"type\":\"WordPiece\"},",
         "decoder WordPiece is not supported"},
        {"an unknown post-processor", "\"post_processor\":{\"type\":\"BertProcessing\"},",
         "post-processor BertProcessing is not supported"},
        {"an invalid expression", SPLIT("(a"), "pattern \"(a\""},
        {"an expression too large", SPLIT("(((a{1000}){1000}){1000}){1000}"), "pattern"},
        {"an expression with another meaning", SPLIT("\\\\w+"), "is not supported: \"\\w+\""},
        {"a set within a set", SPLIT("[a[bc]]"), "is not supported"},
        {"an ambiguous repetition", SPLIT("a{1,3}+"), "is not supported"},
        {"recursion", SPLIT("(?R)*a"), "is not supported"},
        {"a verb", SPLIT("(*COMMIT)a"), "is not supported"},
        {"a Split without a pattern", "\"pre_tokenizer\":{\"type\":\"Split\"},", "pattern"},
        {"a Split without a behavior",
         "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"}},", "behavior"},
        {"a template with an absent id",
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
         "{\"id\":\"x\"}},{\"Sequence\":{}}],\"special_tokens\":{\"x\":{\"ids\":[7]}}},",
         "an id that the vocabulary lacks"},
        {"a template without the token",
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
         "{\"id\":\"x\"}}],\"special_tokens\":{}},",
         "without ids"},
        {"added tokens that are no list", "\"added_tokens\":{\"a\":1},", "added_tokens"},
        {"an added token that is text", "\"added_tokens\":[\"a\"],", "added_tokens"},
        {"an added token without an id", "\"added_tokens\":[{\"content\":\"b\"}],", "an id below"},
        {"an added token with a huge id", "\"added_tokens\":[{\"id\":1e9,\"content\":\"b\"}],",
         "an id below"},
        {"an added token with another's id", "\"added_tokens\":[{\"id\":0,\"content\":\"b\"}],",
         "have the same id 0"},
        {"an added token with two ids", "\"added_tokens\":[{\"id\":5,\"content\":\"a\"}],",
         "but the vocabulary gives it 0"},
        {"a flag that is text",
         "\"added_tokens\":[{\"id\":5,\"content\":\"b\",\"special\":\"yes\"}],", "special"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_json("{\"a\":0}", "[]", cases[i].others);
        expect_refused(cases[i].what, in_directory("tokenizer.json"), cases[i].fault);
    }
}

static void refuses_long_tokens(void **state)
{
    (void)state;
    buffer vocab = {0};
    put_text(&vocab, "{\"");
    for (size_t i = 0; i < 1000000; i++)
        put(&vocab, "a", 1);
    put_text(&vocab, "\":0}");
    put(&vocab, "", 1);
    write_json((const char *)vocab.data, "[]", "");
    release(&vocab);
    expect_refused("a token of a million letters", in_directory("tokenizer.json"),
                   "has 1000000 bytes");
}

static void refuses_long_pre_tokenizers(void **state)
{
    (void)state;
    buffer others = {0};
    put_text(&others, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (size_t i = 0; i < 1000; i++)
        put_text(&others, i > 0 ? ",{\"type\":\"Digits\"}" : "{\"type\":\"Digits\"}");
    put_text(&others, "]},");
    put(&others, "", 1);
    write_json("{\"a\":0}", "[]", (const char *)others.data);
    release(&others);
    expect_refused("a thousand steps", in_directory("tokenizer.json"), "more than 32 steps");
}

/* Text that grows without end: a thousand letters for each "a". */
static void refuses_explosive_replacements(void **state)
{
    (void)state;
    buffer letters = {0}, others = {0};
    for (size_t i = 0; i < 1000; i++)
        put(&letters, "a", 1);
    put(&letters, "", 1);
    char replace[1200];
    snprintf(replace, sizeof replace,
             "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
             (const char *)letters.data);

    put_text(&others, "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[");
    for (size_t i = 0; i < 3; i++) {
        put_text(&others, replace);
        put_text(&others, i < 2 ? "," : "]},");
    }
    put(&others, "", 1);
    write_json("{\"a\":0}", "[]", (const char *)others.data);
    expect_refused("a decoder that grows", test_directory, "token 0 becomes too long");

    others.size = 0;
    put_text(&others, "\"normalizer\":");
    put_text(&others, replace);
    put_text(&others, ",");
    put(&others, "", 1);
    write_json("{\"a\":0}", "[]", (const char *)others.data);
    phi3_tokenizer *tokenizer = NULL;
    phi3_encoding encoding = {0};
    assert_int_equal(phi3_tokenizer_load(test_directory, &tokenizer, NULL), PHI3_OK);
    assert_int_equal(phi3_tokenizer_encode(tokenizer, "aaaa", 4, NULL, &encoding, NULL),
                     PHI3_ERROR_OUT_OF_MEMORY);
    assert_null(encoding.ids);
    phi3_tokenizer_free(tokenizer);
    release(&letters);
    release(&others);
}

/* Cut off anywhere, a file is refused or (cut behind its end) whole. */
static void refuses_truncated_files(void **state)
{
    (void)state;
    buffer json = sentence_tokenizer();
    for (size_t size = 0; size < json.size; size += size < 64 ? 1 : 37) {
        write_bytes("tokenizer.json", json.data, size);
        expect_refused("a truncated file", in_directory("tokenizer.json"), "tokenizer.json: ");
    }
    release(&json);
}

static void refuses_what_is_no_tokenizer(void **state)
{
    (void)state;
    expect_refused("an empty directory", test_directory, "no tokenizer.json");
    expect_refused("a missing file", in_directory("nothing.json"), "nothing.json");
    write_text("tokenizer.json", "[]");
    expect_refused("a list", test_directory, "not a JSON object");
    write_text("tokenizer.json", "{}");
    expect_refused("an empty object", test_directory, "\"model\" is not an object");
    write_text("tokenizer.json", "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}");
    expect_refused("another model", test_directory, "model Unigram is not supported");
    write_text("tokenizer.json", "{\"model\":{\"vocab\":{\"a\xFF\":0},\"merges\":[]}}");
    expect_refused("a token that is not UTF-8", test_directory, "not UTF-8");

    buffer deep = {0};
    for (size_t i = 0; i < 100000; i++)
        put_text(&deep, "[");
    write_bytes("tokenizer.json", deep.data, deep.size);
    release(&deep);
    expect_refused("deep nesting", test_directory, "nested too deeply");
}

static void refuses_broken_settings(void **state)
{
    (void)state;
    static const struct {
        const char *what, *config, *fault;
    } cases[] = {
        {"a list", "[]", "not a JSON object"},
        {"a role that is a number", "{\"bos_token\":1}", "\"bos_token\" is neither"},
        {"a role of a million letters", NULL, "has 1000000 bytes"},
        {"a length that is text", "{\"model_max_length\":\"long\"}", "model_max_length"},
        {"a negative length", "{\"model_max_length\":-1}", "model_max_length"},
        {"a template that is a number", "{\"chat_template\":1}", "chat_template"},
        {"a decoder of tokens without ids",
         "{\"added_tokens_decoder\":{\"x\":{\"content\":\"q\"}}}", "added_tokens_decoder"},
        {"a decoder with a taken id", "{\"added_tokens_decoder\":{\"0\":{\"content\":\"q\"}}}",
         "the same id 0"},
        {"a decoder that is a list", "{\"added_tokens_decoder\":[{\"content\":\"q\"}]}",
         "added_tokens_decoder"},
    };
    write_json("{\"a\":0}", "[]", "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer config = {0};
        put_text(&config, cases[i].config != NULL ? cases[i].config : "{\"eos_token\":\"");
        for (size_t k = 0; cases[i].config == NULL && k < 1000000; k++)
            put(&config, "a", 1);
        put_text(&config, cases[i].config != NULL ? "" : "\"}");
        write_bytes("tokenizer_config.json", config.data, config.size);
        release(&config);
        expect_refused(cases[i].what, test_directory, cases[i].fault);
    }
    write_text("tokenizer_config.json", "{}");
    write_text("chat_template.jinja", "{{ \xFF }}");
    expect_refused("a template that is not UTF-8", test_directory, "not UTF-8");
}

/* ---- Expressions that would take for ever --------------------------------------------------- */

static void gives_up_on_explosive_expressions(void **state)
{
    (void)state;
    /* They end in a set: what PCRE2 can see to be absent from the text, it does not try. */
    static const char *const bombs[] = {"(a+)+[bc]", "(a|aa)+[bc]", "(a*)*[bc]",
                                        "(a?){40}a{40}[bc]"};
    enum { SIZE = 5000 };
    char text[SIZE];
    memset(text, 'a', SIZE);
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        char others[256];
        snprintf(others, sizeof others,
                 "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                 "\"behavior\":\"Isolated\"},",
                 bombs[i]);
        write_json("{\"a\":0}", "[]", others);
        phi3_tokenizer *tokenizer = NULL;
        phi3_encoding encoding = {0};
        phi3_error error = {0};
        assert_int_equal(phi3_tokenizer_load(test_directory, &tokenizer, &error), PHI3_OK);
        phi3_status status = phi3_tokenizer_encode(tokenizer, text, SIZE, NULL, &encoding, &error);
        assert_int_equal(status, PHI3_ERROR_UNSUPPORTED);
        assert_non_null(strstr(error.message, "gave up"));
        assert_null(encoding.ids);
        phi3_tokenizer_free(tokenizer);
    }
}

/* ---- GGUF ----------------------------------------------------------------------------------- */

typedef struct gguf_case {
    const char *what, *fault;
    const char *model;  /* NULL: absent */
    const char *pre;    /* NULL: absent */
    const char *tokens; /* separated by spaces; NULL: absent */
    const char *merges; /* separated by commas; NULL: absent */
    size_t n_scores, n_types;
    uint32_t type;
    float score;
    uint32_t bos;
} gguf_case;

/* Splits text in place. */
static size_t split_words(char *text, const char *separator, const char *words[8])
{
    size_t count = 0;
    for (char *word = strtok(text, separator); word != NULL; word = strtok(NULL, separator))
        words[count++] = word;
    return count;
}

static void put_words(gguf_parts *parts, const char *key, const char *text, const char *separator)
{
    char copy[64];
    const char *words[8];
    snprintf(copy, sizeof copy, "%s", text);
    gguf_strings(parts, key, words, split_words(copy, separator, words));
}

static void put_numbers(gguf_parts *parts, const char *key, phi3_gguf_type type, uint32_t bits,
                        size_t count)
{
    gguf_key(parts, key, PHI3_GGUF_ARRAY);
    put_u32(&parts->metadata, type);
    put_u64(&parts->metadata, count);
    for (size_t i = 0; i < count; i++)
        put_u32(&parts->metadata, bits);
}

static void write_gguf(const gguf_case *from)
{
    gguf_parts parts = {0};
    gguf_text(&parts, "general.architecture", "phi3");
    if (from->model != NULL)
        gguf_text(&parts, "tokenizer.ggml.model", from->model);
    if (from->pre != NULL)
        gguf_text(&parts, "tokenizer.ggml.pre", from->pre);
    if (from->tokens != NULL)
        put_words(&parts, "tokenizer.ggml.tokens", from->tokens, " ");
    if (from->merges != NULL)
        put_words(&parts, "tokenizer.ggml.merges", from->merges, ",");
    uint32_t bits;
    memcpy(&bits, &from->score, sizeof bits);
    if (from->n_scores > 0)
        put_numbers(&parts, "tokenizer.ggml.scores", PHI3_GGUF_FLOAT32, bits, from->n_scores);
    if (from->n_types > 0)
        put_numbers(&parts, "tokenizer.ggml.token_type", PHI3_GGUF_INT32, from->type,
                    from->n_types);
    gguf_u32(&parts, "tokenizer.ggml.bos_token_id", from->bos);
    buffer file = gguf_join(&parts);
    write_bytes("model.gguf", file.data, file.size);
    release(&file);
}

static void refuses_broken_gguf(void **state)
{
    (void)state;
    static const gguf_case cases[] = {
        {"no tokenizer", "tokenizer model", NULL, NULL, "a b", NULL, 2, 2, 1, 0, 0},
        {"an unknown model", "\"bert\" is not supported", "bert", NULL, "a b", NULL, 2, 2, 1, 0, 0},
        {"an unknown pattern", "known are default, gpt-2, smollm", "gpt2", "poro", "a b", "a b", 0,
         2, 1, 0, 0},
        {"no tokens", "tokens is missing", "llama", NULL, NULL, NULL, 2, 2, 1, 0, 0},
        {"no scores", "scores is missing", "llama", NULL, "a b", NULL, 0, 2, 1, 0, 0},
        {"no merges", "merges is missing", "gpt2", "gpt-2", "a b", NULL, 0, 2, 1, 0, 0},
        {"too few scores", "scores has 1 entries for 2 tokens", "llama", NULL, "a b", NULL, 1, 2, 1,
         0, 0},
        {"too many scores", "scores has 3 entries", "llama", NULL, "a b", NULL, 3, 2, 1, 0, 0},
        {"too few types", "token_type has 1 entries", "llama", NULL, "a b", NULL, 2, 1, 1, 0, 0},
        {"too many types", "token_type has 9 entries", "llama", NULL, "a b", NULL, 2, 9, 1, 0, 0},
        {"an unknown type", "unknown type 77", "llama", NULL, "a b", NULL, 2, 2, 77, 0, 0},
        {"a NaN score", "no score (NaN)", "llama", NULL, "a b", NULL, 2, 2, 1, NAN, 0},
        {"a role out of range", "bos_token_id is 2 of 2", "llama", NULL, "a b", NULL, 2, 2, 1, 0,
         2},
        {"a token twice", "stands twice", "llama", NULL, "a a", NULL, 2, 2, 1, 0, 0},
        {"a token that is not UTF-8", "token 1 is not UTF-8", "llama", NULL, "a \xFF", NULL, 2, 2,
         1, 0, 0},
        {"a merge of an absent token", "merge 1, \"b\" with \"c\"", "gpt2", "gpt-2", "a b ab",
         "a b,b c", 0, 3, 1, 0, 0},
        {"a merge of one", "merge 0 is not a pair", "gpt2", "gpt-2", "a b ab", "ab", 0, 3, 1, 0, 0},
        {"only unused tokens", "vocabulary is empty", "llama", NULL, "a b", NULL, 2, 2, 5, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_gguf(&cases[i]);
        expect_refused(cases[i].what, in_directory("model.gguf"), cases[i].fault);
    }
}

static void refuses_lists_of_the_wrong_type(void **state)
{
    (void)state;
    gguf_parts parts = {0};
    gguf_text(&parts, "tokenizer.ggml.model", "llama");
    put_numbers(&parts, "tokenizer.ggml.tokens", PHI3_GGUF_INT32, 7, 2);
    buffer file = gguf_join(&parts);
    write_bytes("model.gguf", file.data, file.size);
    release(&file);
    expect_refused("tokens that are numbers", in_directory("model.gguf"), "not a list of strings");
    for (size_t size = 4; size < 60; size++) {
        gguf_case whole = {"", "", "llama", NULL, "a b", NULL, 2, 2, 1, 0, 0};
        write_gguf(&whole);
        assert_int_equal(truncate(in_directory("model.gguf"), (off_t)size), 0);
        expect_refused("a truncated file", in_directory("model.gguf"), "model.gguf: ");
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(refuses_broken_models),
        TEST(refuses_broken_parts),
        TEST(refuses_long_tokens),
        TEST(refuses_long_pre_tokenizers),
        TEST(refuses_explosive_replacements),
        TEST(refuses_truncated_files),
        TEST(refuses_what_is_no_tokenizer),
        TEST(refuses_broken_settings),
        TEST(gives_up_on_explosive_expressions),
        TEST(refuses_broken_gguf),
        TEST(refuses_lists_of_the_wrong_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
