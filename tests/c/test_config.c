/*
 * test_config.c - the spellings that Phi-3's config.json and GGUF metadata have had, and what they
 * mean. The expected numbers are those of the published models.
 */
#include "model_files.h"

#include <math.h>

#include "core/files/config.h"

/* ---- Hugging Face ------------------------------------------------------------------------------- */

/* "[1, 1, ...]" of `count` factors. */
static const char *factor_list(size_t count)
{
    static char text[512];
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size +=
            (size_t)snprintf(text + size, sizeof text - size, "%s1.%zu", i ? ", " : "[", i % 10);
    snprintf(text + size, sizeof text - size, "]");
    return text;
}

/* Reads a config.json that may have %s for lists of `n_factors` factors. */
static void read_text(const char *format, size_t n_factors, phi3_loaded_config *loaded)
{
    char text[4096];
    const char *list = factor_list(n_factors);
    phi3_error error = {0};
    snprintf(text, sizeof text, format, list, list);
    write_text("config.json", text);
    if (phi3_config_from_directory(test_directory, loaded, &error) != PHI3_OK)
        fail_msg("%s", error.message);
}

static void assert_near(double value, double expected)
{
    if (fabs(value - expected) > 1e-6 * fabs(expected))
        fail_msg("%.9g instead of %.9g", value, expected);
}

#define PHI35_SIZES                                                                              \
    "\"model_type\": \"phi3\", \"vocab_size\": 32064, \"hidden_size\": 3072,"                    \
    "\"intermediate_size\": 8192, \"num_hidden_layers\": 32, \"num_attention_heads\": 32,"       \
    "\"num_key_value_heads\": 32, \"rms_norm_eps\": 1e-05, \"max_position_embeddings\": 131072," \
    "\"sliding_window\": 262144, \"_name_or_path\": \"Phi-3.5-mini-instruct\","                  \
    "\"architectures\": [\"Phi3ForCausalLM\"], \"hidden_act\": \"silu\", \"attention_bias\": "   \
    "false"

static const char *const phi35_spellings[] = {
    /* as published */
    "{" PHI35_SIZES ", \"rope_theta\": 10000.0, \"original_max_position_embeddings\": 4096,"
    "\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": %s, \"long_factor\": %s}}",
    /* Phi-3-mini-128k's first name for it */
    "{" PHI35_SIZES ", \"rope_theta\": 10000.0, \"original_max_position_embeddings\": 4096,"
    "\"rope_scaling\": {\"type\": \"su\", \"short_factor\": %s, \"long_factor\": %s}}",
    "{" PHI35_SIZES ", \"rope_theta\": 10000.0, \"original_max_position_embeddings\": 4096,"
    "\"rope_scaling\": {\"rope_type\": \"yarn\", \"short_factor\": %s, \"long_factor\": %s}}",
    /* as transformers 5 writes it */
    "{" PHI35_SIZES ", \"original_max_position_embeddings\": 4096, \"rope_parameters\": {"
    "\"rope_type\": \"longrope\", \"rope_theta\": 10000.0, \"partial_rotary_factor\": 1.0,"
    "\"original_max_position_embeddings\": 4096, \"short_factor\": %s, \"long_factor\": %s}}",
    /* the original length in the inner object only */
    "{" PHI35_SIZES ", \"rope_scaling\": null, \"rope_parameters\": {"
    "\"type\": \"longrope\", \"original_max_position_embeddings\": 4096, \"short_factor\": %s,"
    "\"long_factor\": %s}}",
};

static void test_every_spelling_of_phi35(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof phi35_spellings / sizeof *phi35_spellings; i++) {
        phi3_loaded_config loaded;
        read_text(phi35_spellings[i], 48, &loaded);
        const phi3_config *config = &loaded.config;
        assert_string_equal(config->model_type, "phi3");
        assert_string_equal(config->name, "Phi-3.5-mini-instruct");
        assert_int_equal(config->vocab_size, 32064);
        assert_int_equal(config->head_dim, 96);
        assert_int_equal(config->rotary_dim, 96);
        assert_int_equal(config->sliding_window, 0); /* longer than the context */
        assert_int_equal(config->original_max_position_embeddings, 4096);
        assert_int_equal(config->rope_type, PHI3_ROPE_LONGROPE);
        assert_near(config->rope_theta, 10000);
        assert_near(config->rope_attention_factor, 1.190238);
        assert_near(config->rms_norm_eps, 1e-5);
        assert_near(config->long_factor[47], 1.7);
        assert_near(config->short_factor[9], 1.9);
        phi3_config_free(&loaded);
    }
}

static void test_phi4_mini_rotates_a_part(void **state)
{
    (void)state;
    phi3_loaded_config loaded;
    read_text(
        "{\"model_type\": \"phi3\", \"vocab_size\": 200064, \"hidden_size\": 3072,"
        "\"intermediate_size\": 8192, \"num_hidden_layers\": 32, \"num_attention_heads\": 24,"
        "\"num_key_value_heads\": 8, \"max_position_embeddings\": 131072, \"rope_theta\": 10000.0,"
        "\"original_max_position_embeddings\": 4096, \"partial_rotary_factor\": 0.75,"
        "\"tie_word_embeddings\": true, \"rope_scaling\": {\"type\": \"longrope\","
        "\"short_factor\": %s, \"long_factor\": %s}}",
        48, &loaded);
    assert_int_equal(loaded.config.head_dim, 128);
    assert_int_equal(loaded.config.rotary_dim, 96);
    assert_int_equal(loaded.config.num_key_value_heads, 8);
    assert_true(loaded.config.tie_word_embeddings);
    assert_near(loaded.config.partial_rotary_factor, 0.75);
    phi3_config_free(&loaded);
}

static void test_plain_rope_and_a_window(void **state)
{
    (void)state;
    phi3_loaded_config loaded;
    read_text(
        "{\"model_type\": \"phi3\", \"vocab_size\": 32064, \"hidden_size\": 3072,"
        "\"intermediate_size\": 8192, \"num_hidden_layers\": 32, \"num_attention_heads\": 32,"
        "\"max_position_embeddings\": 4096, \"rope_scaling\": null, \"sliding_window\": 2047}",
        1, &loaded);
    assert_int_equal(loaded.config.num_key_value_heads, 32);
    assert_int_equal(loaded.config.sliding_window, 2047);
    assert_int_equal(loaded.config.rope_type, PHI3_ROPE_DEFAULT);
    assert_near(loaded.config.rope_theta, 10000);
    assert_near(loaded.config.rms_norm_eps, 1e-5);
    assert_near(loaded.config.rope_attention_factor, 1);
    assert_null(loaded.config.short_factor);
    assert_false(loaded.config.tie_word_embeddings);
    phi3_config_free(&loaded);
}

/* int(head_dim * factor) as Python computes it: 20 * 0.7 is 14.0, but 0.7f is a little less. */
static void test_rotary_dimensions_in_double_precision(void **state)
{
    (void)state;
    phi3_loaded_config loaded;
    read_text("{\"model_type\": \"llama\", \"vocab_size\": 10, \"hidden_size\": 40,"
              "\"intermediate_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 4,"
              "\"head_dim\": 20, \"rope_parameters\": {\"rope_type\": \"default\","
              "\"rope_theta\": 500000.0, \"partial_rotary_factor\": 0.7}, \"sliding_window\": 5}",
              1, &loaded);
    assert_int_equal(loaded.config.head_dim, 20);
    assert_int_equal(loaded.config.rotary_dim, 14);
    assert_int_equal(loaded.config.sliding_window, 0); /* Llama has none */
    assert_near(loaded.config.rope_theta, 500000);
    assert_near(loaded.config.rms_norm_eps, 1e-6);
    phi3_config_free(&loaded);
}

/* `factor` replaces max / original, and `attention_factor` replaces what follows from it. */
static void test_overrides_of_the_attention_factor(void **state)
{
    (void)state;
    const struct {
        const char *extra;
        double expected;
    } cases[] = {
        {"", 1.1832159566}, /* sqrt(1 + ln 4 / ln 32) */
        {"\"factor\": 32,", 1.4142135624},
        {"\"factor\": 0.5,", 1},
        {"\"factor\": 32, \"attention_factor\": 1.25,", 1.25},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{\"model_type\": \"phi3\", \"vocab_size\": 40, \"hidden_size\": 32,"
                 "\"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
                 "\"max_position_embeddings\": 128, \"original_max_position_embeddings\": 32,"
                 "\"rope_scaling\": {%s \"type\": \"longrope\", \"short_factor\": %%s,"
                 "\"long_factor\": %%s}}",
                 cases[i].extra);
        phi3_loaded_config loaded;
        read_text(text, 4, &loaded);
        assert_near(loaded.config.rope_attention_factor, cases[i].expected);
        phi3_config_free(&loaded);
    }
}

/* ---- generation_config.json ------------------------------------------------------------------------ */

static void test_generation_config(void **state)
{
    (void)state;
    write_text("generation_config.json",
               "{\"eos_token_id\": [32007, 32001, 32000, 32007], \"pad_token_id\": 32000,"
               "\"do_sample\": true, \"temperature\": 0.7, \"top_k\": 20, \"top_p\": 0.95,"
               "\"min_p\": 0.05, \"repetition_penalty\": 1.1, \"max_new_tokens\": 99,"
               "\"max_length\": null, \"_from_model_config\": true}");
    phi3_loaded_config loaded;
    read_text(TINY_CONFIG, 1, &loaded);
    const phi3_generation_config *generation = &loaded.generation;
    assert_int_equal(generation->n_eos_token_ids, 3);
    assert_ptr_equal(generation->eos_token_ids, loaded.eos_token_ids);
    assert_int_equal(generation->eos_token_ids[0], 32007);
    assert_int_equal(generation->eos_token_ids[1], 32001);
    assert_int_equal(generation->eos_token_ids[2], 32000);
    assert_int_equal(generation->pad_token_id, 32000);
    assert_true(generation->do_sample);
    assert_true(generation->temperature == 0.7);
    assert_int_equal(generation->top_k, 20);
    assert_true(generation->top_p == 0.95);
    assert_true(generation->min_p == 0.05);
    assert_true(generation->repetition_penalty == 1.1);
    assert_int_equal(generation->max_new_tokens, 99);
    assert_int_equal(generation->max_length, -1);
    phi3_config_free(&loaded);
}

static void test_eos_without_a_generation_config(void **state)
{
    (void)state;
    phi3_loaded_config loaded;
    read_text(TINY_CONFIG, 1, &loaded);
    assert_int_equal(loaded.generation.n_eos_token_ids, 1);
    assert_int_equal(loaded.generation.eos_token_ids[0], 5);
    assert_false(loaded.generation.do_sample);
    assert_int_equal(loaded.generation.pad_token_id, -1);
    phi3_config_free(&loaded);

    write_text("generation_config.json", "{\"do_sample\": true}");
    read_text(TINY_CONFIG, 1, &loaded);
    assert_int_equal(loaded.generation.n_eos_token_ids, 1);
    assert_int_equal(loaded.generation.eos_token_ids[0], 5);
    assert_true(loaded.generation.do_sample);
    phi3_config_free(&loaded);
}

/* ---- GGUF ------------------------------------------------------------------------------------------ */

static void read_gguf(gguf_parts *parts, phi3_loaded_config *loaded)
{
    phi3_gguf *gguf = NULL;
    phi3_error error = {0};
    buffer file = gguf_join(parts);
    write_bytes("model.gguf", file.data, file.size);
    release(&file);
    if (phi3_gguf_open(in_directory("model.gguf"), &gguf, &error) != PHI3_OK ||
        phi3_config_from_gguf(gguf, loaded, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    phi3_gguf_close(gguf); /* the config keeps nothing of the file */
}

static void test_gguf_of_phi3(void **state)
{
    (void)state;
    gguf_parts parts = tiny_gguf_parts("phi3");
    phi3_loaded_config loaded;
    read_gguf(&parts, &loaded);
    const phi3_config *config = &loaded.config;
    assert_string_equal(config->model_type, "phi3");
    assert_string_equal(config->name, "Tiny");
    assert_int_equal(config->vocab_size, TINY_VOCAB);
    assert_int_equal(config->hidden_size, TINY_HIDDEN);
    assert_int_equal(config->intermediate_size, TINY_INTERMEDIATE);
    assert_int_equal(config->num_hidden_layers, TINY_LAYERS);
    assert_int_equal(config->num_attention_heads, TINY_HEADS);
    assert_int_equal(config->num_key_value_heads, TINY_KV_HEADS);
    assert_int_equal(config->head_dim, TINY_HEAD_DIM);
    assert_int_equal(config->rotary_dim, TINY_HEAD_DIM);
    assert_int_equal(config->max_position_embeddings, 128);
    assert_int_equal(config->original_max_position_embeddings, 32);
    assert_int_equal(config->sliding_window, 100);
    assert_int_equal(config->rope_type, PHI3_ROPE_LONGROPE);
    assert_near(config->rope_attention_factor, sqrt(1 + log(4) / log(32)));
    assert_near(config->long_factor[7], 8);
    assert_near(config->short_factor[7], 1);
    assert_false(config->tie_word_embeddings);
    phi3_config_free(&loaded);
}

static void test_gguf_attention_factor(void **state)
{
    (void)state;
    gguf_parts parts = tiny_gguf_parts("phi3");
    gguf_f32(&parts, "phi3.rope.scaling.attn_factor", 1.190238f);
    phi3_loaded_config loaded;
    read_gguf(&parts, &loaded);
    assert_near(loaded.config.rope_attention_factor, 1.190238);
    phi3_config_free(&loaded);
}

static void test_gguf_of_llama(void **state)
{
    (void)state;
    gguf_parts parts = tiny_gguf_parts("llama");
    phi3_loaded_config loaded;
    read_gguf(&parts, &loaded);
    assert_string_equal(loaded.config.model_type, "llama");
    assert_true(loaded.config.tie_word_embeddings);
    assert_int_equal(loaded.config.rope_type, PHI3_ROPE_DEFAULT);
    assert_near(loaded.config.rope_attention_factor, 1);
    phi3_config_free(&loaded);
}

/* The file's own EOS first, then the tokens that end a chat turn, each once. */
static void test_gguf_ends_of_a_turn(void **state)
{
    (void)state;
    gguf_parts parts = tiny_gguf_parts("phi3");
    gguf_u32(&parts, "tokenizer.ggml.eot_token_id", 7);
    phi3_loaded_config loaded;
    read_gguf(&parts, &loaded);
    const int32_t expected[] = {2, 7, 5}; /* EOS, EOT and <|end|>, <|endoftext|> */
    assert_int_equal(loaded.generation.n_eos_token_ids, 3);
    assert_memory_equal(loaded.generation.eos_token_ids, expected, sizeof expected);
    assert_int_equal(loaded.generation.pad_token_id, 5);
    phi3_config_free(&loaded);

    parts = tiny_gguf_parts("llama"); /* <|endoftext|> does not end a turn of ChatML */
    read_gguf(&parts, &loaded);
    assert_int_equal(loaded.generation.n_eos_token_ids, 1);
    assert_int_equal(loaded.generation.eos_token_ids[0], 2);
    phi3_config_free(&loaded);
}

static void test_freeing_nothing(void **state)
{
    (void)state;
    phi3_loaded_config nothing = {0};
    phi3_config_free(&nothing);
    phi3_config_free(NULL);
}

#define FILE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_every_spelling_of_phi35),
        FILE_TEST(test_phi4_mini_rotates_a_part),
        FILE_TEST(test_plain_rope_and_a_window),
        FILE_TEST(test_rotary_dimensions_in_double_precision),
        FILE_TEST(test_overrides_of_the_attention_factor),
        FILE_TEST(test_generation_config),
        FILE_TEST(test_eos_without_a_generation_config),
        FILE_TEST(test_gguf_of_phi3),
        FILE_TEST(test_gguf_attention_factor),
        FILE_TEST(test_gguf_of_llama),
        FILE_TEST(test_gguf_ends_of_a_turn),
        cmocka_unit_test(test_freeing_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
