/*
 * test_weights.c - the roles of tensors: names, layouts and row orders of Hugging Face directories
 * and GGUF files end up in the same struct.
 */
#include "model_files.h"

#include <math.h>

#include "core/files/weights.h"
#include "core/files/weights_check.h"

typedef struct opened {
    phi3_loaded_config config;
    phi3_weights weights;
} opened;

static void open_model(const char *path, opened *model)
{
    phi3_error error = {0};
    if (phi3_weights_open(path, &model->config, &model->weights, &error) != PHI3_OK)
        fail_msg("%s", error.message);
}

static void close_model(opened *model)
{
    phi3_weights_close(&model->weights);
    phi3_config_free(&model->config);
}

static void write_gguf(const char *name, const char *architecture)
{
    buffer file = tiny_gguf(architecture);
    write_bytes(name, file.data, file.size);
    release(&file);
}

static void write_directory(const char *config, bool fused)
{
    buffer file = tiny_safetensors(fused);
    write_bytes("model.safetensors", file.data, file.size);
    release(&file);
    write_text("config.json", config);
}

static void assert_shape(const phi3_tensor *tensor, size_t n_rows, size_t n_columns)
{
    assert_int_equal(tensor->n_rows, n_rows);
    assert_int_equal(tensor->n_columns, n_columns);
    assert_non_null(tensor->data);
}

/* Holds the bytes that tiny_bytes made for a tensor of this shape. */
static void assert_tiny(const phi3_tensor *tensor, size_t n_rows, size_t n_columns)
{
    assert_shape(tensor, n_rows, n_columns);
    uint8_t *expected = tiny_bytes(tensor->dtype, n_rows, n_columns);
    assert_memory_equal(tensor->data, expected,
                        n_rows * phi3_dtype_row_bytes(tensor->dtype, n_columns));
    free(expected);
}

/* ---- Layouts ---------------------------------------------------------------------------------------- */

static void test_gguf_of_phi3(void **state)
{
    (void)state;
    opened model;
    write_gguf("model.gguf", "phi3");
    open_model(in_directory("model.gguf"), &model);
    const phi3_layer_tensors *layer = &model.weights.layers[1];
    assert_int_equal(layer->qkv.count, 1);
    assert_int_equal(layer->gate_up.count, 1);
    assert_tiny(&layer->qkv.part[0], TINY_QKV_ROWS, TINY_HIDDEN);
    assert_tiny(&layer->gate_up.part[0], 2 * TINY_INTERMEDIATE, TINY_HIDDEN);
    assert_tiny(&layer->output.part[0], TINY_HIDDEN, TINY_HEADS * TINY_HEAD_DIM);
    assert_tiny(&layer->down.part[0], TINY_HIDDEN, TINY_INTERMEDIATE);
    assert_tiny(&layer->attention_norm, 1, TINY_HIDDEN);
    assert_tiny(&layer->mlp_norm, 1, TINY_HIDDEN);
    assert_tiny(&model.weights.embedding.part[0], TINY_VOCAB, TINY_HIDDEN);
    assert_tiny(&model.weights.lm_head.part[0], TINY_VOCAB, TINY_HIDDEN);
    assert_tiny(&model.weights.final_norm, 1, TINY_HIDDEN);
    assert_int_equal(layer->qkv.part[0].dtype, PHI3_Q4_0);
    assert_int_equal(model.weights.lm_head.count, 1);
    close_model(&model);
}

static void test_counts(void **state)
{
    (void)state;
    opened model;
    write_gguf("model.gguf", "phi3");
    open_model(in_directory("model.gguf"), &model);
    size_t layer = TINY_QKV_ROWS * TINY_HIDDEN + TINY_HIDDEN * TINY_HIDDEN +
                   3 * TINY_INTERMEDIATE * TINY_HIDDEN;
    size_t vocab = 2 * TINY_VOCAB * TINY_HIDDEN, norms = (2 * TINY_LAYERS + 1) * TINY_HIDDEN;
    assert_string_equal(model.config.config.dtype, "q4_0");
    assert_int_equal(model.config.config.n_parameters, TINY_LAYERS * layer + vocab + norms);
    assert_int_equal(model.config.config.weight_bytes,
                     TINY_LAYERS * layer / 32 * 18 + vocab / 32 * 34 + norms * 4);
    close_model(&model);
}

/* Row 2i of a head in the file is row i of the model, row 2i + 1 is row i + head_dim / 2. */
static void test_gguf_of_llama_puts_rows_in_order(void **state)
{
    (void)state;
    opened model;
    write_gguf("model.gguf", "llama");
    open_model(in_directory("model.gguf"), &model);
    phi3_matrix_parts *qkv = &model.weights.layers[0].qkv;
    assert_int_equal(qkv->count, 3);
    assert_int_equal(model.weights.layers[0].gate_up.count, 2);
    assert_int_equal(model.weights.lm_head.count, 0);
    assert_tiny(&qkv->part[0], TINY_HEADS * TINY_HEAD_DIM, TINY_HIDDEN);
    assert_int_equal(phi3_weights_prepare(qkv, 2, NULL), PHI3_OK);
    for (int part = 0; part < 2; part++) {
        const phi3_tensor *tensor = &qkv->part[part];
        size_t row_bytes = phi3_dtype_row_bytes(tensor->dtype, TINY_HIDDEN);
        size_t n_heads = part == 0 ? TINY_HEADS : TINY_KV_HEADS;
        assert_shape(tensor, n_heads * TINY_HEAD_DIM, TINY_HIDDEN);
        uint8_t *file = tiny_bytes(tensor->dtype, tensor->n_rows, TINY_HIDDEN);
        const uint8_t *rows = tensor->data;
        for (size_t head = 0; head < n_heads; head++) {
            for (size_t i = 0; i < TINY_HEAD_DIM / 2; i++) {
                size_t first = head * TINY_HEAD_DIM;
                assert_memory_equal(rows + (first + i) * row_bytes,
                                    file + (first + 2 * i) * row_bytes, row_bytes);
                assert_memory_equal(rows + (first + i + TINY_HEAD_DIM / 2) * row_bytes,
                                    file + (first + 2 * i + 1) * row_bytes, row_bytes);
            }
        }
        free(file);
    }
    assert_tiny(&qkv->part[2], TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN);
    phi3_weights_release(qkv); /* back to the file, as often as anybody likes */
    assert_tiny(&qkv->part[0], TINY_HEADS * TINY_HEAD_DIM, TINY_HIDDEN);
    assert_int_equal(phi3_weights_prepare(qkv, 2, NULL), PHI3_OK);
    assert_tiny(&model.weights.layers[0].gate_up.part[0], TINY_INTERMEDIATE, TINY_HIDDEN);
    close_model(&model);
}

static void test_safetensors_fused(void **state)
{
    (void)state;
    opened model;
    write_directory(TINY_CONFIG, true);
    open_model(test_directory, &model);
    const phi3_layer_tensors *layer = &model.weights.layers[0];
    assert_int_equal(layer->qkv.count, 1);
    assert_tiny(&layer->qkv.part[0], TINY_QKV_ROWS, TINY_HIDDEN);
    assert_tiny(&layer->gate_up.part[0], 2 * TINY_INTERMEDIATE, TINY_HIDDEN);
    assert_tiny(&model.weights.final_norm, 1, TINY_HIDDEN);
    assert_int_equal(model.weights.final_norm.dtype, PHI3_F32);
    assert_int_equal(model.weights.lm_head.part[0].dtype, PHI3_F16);
    assert_string_equal(model.config.config.dtype, "bfloat16");
    close_model(&model);
}

/* Separate matrices in safetensors are in Hugging Face's order already. */
static void test_safetensors_separate(void **state)
{
    (void)state;
    opened model;
    write_directory("{\"model_type\": \"llama\", \"vocab_size\": 40, \"hidden_size\": 64,"
                    "\"intermediate_size\": 96, \"num_hidden_layers\": 2,"
                    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
                    "\"tie_word_embeddings\": true}",
                    false);
    open_model(test_directory, &model);
    const phi3_layer_tensors *layer = &model.weights.layers[1];
    assert_int_equal(layer->qkv.count, 3);
    assert_int_equal(layer->gate_up.count, 2);
    assert_tiny(&layer->qkv.part[0], TINY_HEADS * TINY_HEAD_DIM, TINY_HIDDEN);
    assert_tiny(&layer->qkv.part[1], TINY_KV_HEADS * TINY_HEAD_DIM, TINY_HIDDEN);
    assert_tiny(&layer->gate_up.part[1], TINY_INTERMEDIATE, TINY_HIDDEN);
    assert_int_equal(model.weights.lm_head.count, 0); /* tied: the file's own head is not used */
    close_model(&model);
}

static void test_shards(void **state)
{
    (void)state;
    opened model;
    safetensors_parts first = {0}, second = {0};
    safetensors_tensor(&first, "model.embed_tokens.weight", PHI3_BF16, TINY_VOCAB, TINY_HIDDEN);
    tiny_safetensors_layer(&first, 0, true);
    tiny_safetensors_layer(&second, 1, true);
    safetensors_tensor(&second, "model.norm.weight", PHI3_F32, 0, TINY_HIDDEN);
    safetensors_tensor(&second, "lm_head.weight", PHI3_F16, TINY_VOCAB, TINY_HIDDEN);
    buffer files[] = {safetensors_join(&first), safetensors_join(&second)};
    write_bytes("model-00001-of-00002.safetensors", files[0].data, files[0].size);
    write_bytes("model-00002-of-00002.safetensors", files[1].data, files[1].size);
    const char *text = "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {"
                       "\"lm_head.weight\": \"model-00002-of-00002.safetensors\","
                       "\"model.embed_tokens.weight\": \"model-00001-of-00002.safetensors\","
                       "\"model.norm.weight\": \"model-00002-of-00002.safetensors\"}}";
    write_text("model.safetensors.index.json", text);
    write_text("config.json", TINY_CONFIG);
    open_model(test_directory, &model);
    assert_tiny(&model.weights.layers[0].qkv.part[0], TINY_QKV_ROWS, TINY_HIDDEN);
    assert_tiny(&model.weights.layers[1].qkv.part[0], TINY_QKV_ROWS, TINY_HIDDEN);
    close_model(&model);
    release(&files[0]);
    release(&files[1]);
}

/* ---- Finite scales ---------------------------------------------------------------------------------- */

/* Puts a float16 NaN everywhere in a block of zeros: the check must notice it exactly where it
 * spoils what dequantisation gives. */
static void test_scales_are_checked_where_they_are(void **state)
{
    (void)state;
    enum { MAX_BLOCK_BYTES = 210 }; /* of Q6_K */
    for (uint32_t dtype = PHI3_Q4_0; dtype < PHI3_BF16; dtype++) {
        const phi3_dtype_info *traits = phi3_dtype_traits(dtype);
        if (!traits || traits->block_size == 1)
            continue;
        const uint16_t nan_bits = 0x7e00;
        uint8_t rows[4 * MAX_BLOCK_BYTES];
        float values[512];
        size_t n_columns = 2 * traits->block_size, n_noticed = 0;
        for (size_t place = 0; place + 2 <= traits->block_bytes; place += 2) {
            memset(rows, 0, sizeof rows);
            uint8_t *last_block = rows + 3 * traits->block_bytes;
            memcpy(last_block + place, &nan_bits, sizeof nan_bits);
            phi3_dequantize_row((phi3_dtype)dtype, rows + 2 * traits->block_bytes, n_columns,
                                values);
            bool spoilt = false;
            for (size_t i = 0; i < n_columns; i++)
                spoilt |= isnan(values[i]);
            phi3_tensor tensor = {(phi3_dtype)dtype, 2, n_columns, rows};
            phi3_status status = phi3_check_scales("file", "tensor", &tensor, 1, NULL);
            assert_int_equal(status, spoilt ? PHI3_ERROR_BAD_FILE : PHI3_OK);
            n_noticed += spoilt;
        }
        assert_in_range(n_noticed, 1, 2);
    }
}

static void test_norms_are_floats_and_finite(void **state)
{
    (void)state;
    float values[] = {1, 2, NAN, 4};
    const uint16_t halves[] = {0x3c00, 0xbc00, 0x7bff, 0xfc00}; /* 1, -1, 65504, -infinity */
    const uint8_t block[34] = {0};
    phi3_error error;
    phi3_tensor norm = {PHI3_F32, 1, 2, values};
    assert_int_equal(phi3_check_norm("file", "norm", &norm, &error), PHI3_OK);
    norm.n_columns = 4;
    assert_int_equal(phi3_check_norm("file", "norm", &norm, &error), PHI3_ERROR_BAD_FILE);
    assert_string_equal(error.message, "file: tensor 'norm' holds NaN or infinity at element 2");
    norm = (phi3_tensor){PHI3_F16, 1, 3, halves};
    assert_int_equal(phi3_check_norm("file", "norm", &norm, &error), PHI3_OK);
    norm.n_columns = 4;
    assert_int_equal(phi3_check_norm("file", "norm", &norm, &error), PHI3_ERROR_BAD_FILE);
    norm = (phi3_tensor){PHI3_Q8_0, 1, 32, block};
    assert_int_equal(phi3_check_norm("file", "norm", &norm, &error), PHI3_ERROR_UNSUPPORTED);
}

static void test_closing_nothing(void **state)
{
    (void)state;
    phi3_weights nothing = {0};
    phi3_weights_close(&nothing);
    phi3_weights_close(NULL);
}

#define FILE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_gguf_of_phi3),
        FILE_TEST(test_counts),
        FILE_TEST(test_gguf_of_llama_puts_rows_in_order),
        FILE_TEST(test_safetensors_fused),
        FILE_TEST(test_safetensors_separate),
        FILE_TEST(test_shards),
        cmocka_unit_test(test_scales_are_checked_where_they_are),
        cmocka_unit_test(test_norms_are_floats_and_finite),
        cmocka_unit_test(test_closing_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
