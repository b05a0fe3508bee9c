/*
 * test_hostile_huggingface.c - model directories that lie: config.json, generation_config.json,
 * safetensors headers and the index of shards. Each starts as a whole tiny model and is spoilt in one
 * place; opening it must give an error that names the file and the fault.
 */
#include "hostile.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- The directory that is spoilt --------------------------------------------------------------------- */

static void write_whole_directory(void)
{
    buffer file = tiny_safetensors(true);
    write_bytes("model.safetensors", file.data, file.size);
    release(&file);
    write_text("config.json", TINY_CONFIG);
}

/* `text` with its first `old` replaced; freed by the caller. */
static char *replace(const char *text, const char *old, const char *replacement)
{
    const char *found = strstr(text, old);
    if (!found)
        fail_msg("no '%s' in the text", old);
    buffer out = {0};
    put(&out, text, (size_t)(found - text));
    put(&out, replacement, strlen(replacement));
    put(&out, found + strlen(old), strlen(found + strlen(old)) + 1);
    return (char *)out.data;
}

/* A replacement in a file, and what must come of it. */
typedef struct spoilt_text {
    const char *what, *old, *replacement, *fault;
} spoilt_text;

/* A file's text, and what must come of it. */
typedef struct whole_text {
    const char *what, *text, *fault;
} whole_text;

/* ---- config.json ----------------------------------------------------------------------------------------- */

static const spoilt_text config_cases[] = {
    {"no JSON", "{", "(", "not valid JSON"},
    {"cut", "}}\n", "", "not valid JSON"},
    {"text behind the end", "}}\n", "}} {", "text after the end"},
    {"no kind", "\"model_type\"", "\"model_typo\"", "\"model_type\" is missing"},
    {"kind of the wrong type", "\"phi3\"", "3", "\"model_type\" is not a string"},
    {"Phi-3-small", "\"phi3\"", "\"phi3small\"", "'phi3small'"},
    {"another model", "\"phi3\"", "\"qwen2\"", "'qwen2'"},
    {"another class", "Phi3ForCausalLM", "Phi3SmallForCausalLM", "'Phi3SmallForCausalLM'"},
    {"other activation", "\"silu\"", "\"gelu\"", "'gelu'"},
    {"biases", "\"rope_theta\"", "\"attention_bias\": true, \"rope_theta\"", "attention_bias"},
    {"quantised", "\"rope_theta\"",
     "\"quantization_config\": {\"quant_method\": \"gptq\"}, \"rope_theta\"", "'gptq'"},
    {"no hidden size", "\"hidden_size\": 64,", "", "\"hidden_size\" is missing"},
    {"negative hidden size", "64", "-64", "\"hidden_size\" is not a non-negative integer"},
    {"fractional hidden size", "64", "64.5", "\"hidden_size\" is not a non-negative integer"},
    {"hidden size of text", "64", "\"64\"", "\"hidden_size\" is not a non-negative integer"},
    {"huge hidden size", "64", "9007199254740992", "hidden_size is 9007199254740992"},
    {"infinite hidden size", "64", "1e999", "\"hidden_size\" is not"},
    {"other hidden size", "64", "128", "\"short_factor\" should be a list of 16"},
    {"heads that do not divide", "64", "66", "hidden_size 66 is not a multiple"},
    {"huge vocabulary", "\"vocab_size\": 40", "\"vocab_size\": 16777217", "vocab_size is 16777217"},
    {"other vocabulary", "\"vocab_size\": 40", "\"vocab_size\": 41", "config asks for [41][64]"},
    {"other mlp", "96", "97", "config asks for [194][64]"},
    {"no layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "num_hidden_layers"},
    {"a layer more", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
     "'model.layers.2.input_layernorm.weight' is missing"},
    {"endless layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4294967296",
     "num_hidden_layers is"},
    {"no heads", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "num_attention_heads"},
    {"uneven heads", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "evenly"},
    {"other heads", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4",
     "config asks for [192][64]"},
    {"no epsilon", "1e-05", "0", "rms_norm_eps is 0"},
    {"negative epsilon", "1e-05", "-1e-5", "rms_norm_eps is"},
    {"huge epsilon", "1e-05", "1e39", "\"rms_norm_eps\" is not a finite number"},
    {"no theta", "10000.0", "0", "rope_theta is 0"},
    {"tie of text", "false", "\"no\"", "\"tie_word_embeddings\" is not true or false"},
    {"window of text", "null", "\"wide\"", "\"sliding_window\" is not"},
    {"no context", "128", "0", "max_position_embeddings is 0"},
    {"no original context", "32, \"sliding", "0, \"sliding", "original_max_position_embeddings"},
    {"linear rope", "\"su\"", "\"linear\"", "rope scaling 'linear'"},
    {"rope of no type", "\"su\"", "7", "\"type\" is not a string"},
    {"too few factors", "[1, 1, ", "[1, ", "\"short_factor\" should be a list of 8"},
    {"too many factors", "[1, 2, ", "[1, 2, 2, ", "\"long_factor\" should be a list of 8"},
    {"no factors", "\"long_factor\"", "\"lang_factor\"", "\"long_factor\" should be a list of 8"},
    {"factors of text", "7, 8]", "7, \"8\"]", "\"long_factor\" has an element"},
    {"a factor of 0", "7, 8]", "7, 0]", "long rope factor 7 is 0"},
    {"a negative factor", "[1, 1, ", "[-1, 1, ", "short rope factor 0 is -1"},
    {"an infinite factor", "7, 8]", "7, 1e99]", "long rope factor 7 is inf"},
    {"no attention factor", "\"su\"", "\"su\", \"attention_factor\": 0", "attention factor is 0"},
    {"partial rotation above 1", "\"su\"", "\"su\", \"partial_rotary_factor\": 2", "not in (0, 1]"},
    {"odd rotation", "\"su\"", "\"su\", \"partial_rotary_factor\": 0.32", "should be a list of 2"},
    {"EOS of text", "\"eos_token_id\": 5", "\"eos_token_id\": \"x\"",
     "\"eos_token_id\" is neither"},
    {"EOS below 0", "\"eos_token_id\": 5", "\"eos_token_id\": [-3]", "\"eos_token_id\" is neither"},
    {"EOS above 2^31", "\"eos_token_id\": 5", "\"eos_token_id\": 1e300", "\"eos_token_id\" is"},
    {"many EOS", "\"eos_token_id\": 5",
     "\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "more than 16 ids"},
    {"not UTF-8", "\"silu\"", "\"si\xfflu\"", "not UTF-8"},
    {"a NUL in a string", "\"silu\"", "\"silu\\u0000\"", "a NUL character"},
};

static void test_configs(void **state)
{
    (void)state;
    write_whole_directory();
    for (size_t i = 0; i < COUNT(config_cases); i++) {
        const spoilt_text *one = &config_cases[i];
        char *text = replace(TINY_CONFIG, one->old, one->replacement);
        write_text("config.json", text);
        free(text);
        assert_refused(one->what, test_directory, one->fault);
    }
}

static void test_generation_configs(void **state)
{
    (void)state;
    static const whole_text cases[] = {
        {"cut", "{\"eos_token_id\": 1", "generation_config.json: line 1: not valid JSON"},
        {"a list", "[]", "generation_config.json: not a JSON object"},
        {"EOS of objects", "{\"eos_token_id\": [{}]}", "\"eos_token_id\" is neither"},
        {"EOS of fractions", "{\"eos_token_id\": 1.5}", "\"eos_token_id\" is neither"},
        {"PAD of text", "{\"pad_token_id\": \"x\"}", "\"pad_token_id\" is not a finite number"},
        {"PAD below -1", "{\"pad_token_id\": -7}", "\"pad_token_id\" -7 is not a token id"},
        {"text for a number", "{\"temperature\": \"hot\"}", "\"temperature\" is not"},
        {"negative top_k", "{\"top_k\": -1}", "\"top_k\" is not a non-negative integer"},
        {"number for a bool", "{\"do_sample\": 1}", "\"do_sample\" is not true or false"},
    };
    write_whole_directory();
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_text("generation_config.json", cases[i].text);
        assert_refused(cases[i].what, test_directory, cases[i].fault);
    }
}

/* 10^5 levels of nesting must not use up the stack. */
static void test_deep_json(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *text = malloc(DEPTH + 1);
    assert_non_null(text);
    memset(text, '[', DEPTH);
    text[DEPTH] = '\0';
    write_whole_directory();
    write_text("config.json", text);
    assert_refused("lists in lists", test_directory, "nested too deeply");
    write_text("config.json", TINY_CONFIG);

    buffer file = {0};
    put_u64(&file, DEPTH);
    put(&file, text, DEPTH);
    write_bytes("model.safetensors", file.data, file.size);
    release(&file);
    free(text);
    assert_refused("a header of lists", test_directory, "model.safetensors: line 1: nested too");
}

/* ---- model.safetensors ------------------------------------------------------------------------------------- */

/* Writes model.safetensors with a header of `text` in front of the data of `file`. */
static void write_header(const buffer *file, const char *text)
{
    uint64_t old_size;
    memcpy(&old_size, file->data, sizeof old_size);
    buffer changed = {0};
    put_string(&changed, text);
    put(&changed, file->data + 8 + old_size, file->size - 8 - old_size);
    write_bytes("model.safetensors", changed.data, changed.size);
    release(&changed);
}

static char *header_of(const buffer *file)
{
    uint64_t size;
    memcpy(&size, file->data, sizeof size);
    char *text = calloc(size + 1, 1);
    assert_non_null(text);
    memcpy(text, file->data + 8, size);
    return text;
}

#define EMBEDDING "\"model.embed_tokens.weight\":"
#define NORM "\"model.norm.weight\":"

static const spoilt_text header_cases[] = {
    {"no object", "{", "[", "not valid JSON"},
    {"cut", "}", "", "not valid JSON"},
    {"a tensor of a number", EMBEDDING "{", EMBEDDING "7,\"x\":{", "not described by an object"},
    {"no dtype", EMBEDDING "{\"dtype\":", EMBEDDING "{\"type\":", "no \"dtype\""},
    {"dtype of a number", EMBEDDING "{\"dtype\":\"BF16\"", EMBEDDING "{\"dtype\":16",
     "\"dtype\" is not a string"},
    {"unknown dtype", EMBEDDING "{\"dtype\":\"BF16\"", EMBEDDING "{\"dtype\":\"F4\"",
     "'model.embed_tokens.weight' is of F4"},
    {"float8", EMBEDDING "{\"dtype\":\"BF16\",\"shape\":[40,",
     EMBEDDING "{\"dtype\":\"F8_E4M3\",\"shape\":[80,",
     "'model.embed_tokens.weight' is of F8_E4M3"},
    {"integers", EMBEDDING "{\"dtype\":\"BF16\"", EMBEDDING "{\"dtype\":\"I16\"", "is of I16"},
    {"wider dtype", EMBEDDING "{\"dtype\":\"BF16\"", EMBEDDING "{\"dtype\":\"F32\"",
     "has 2560 elements of F32, but takes 5120 bytes"},
    {"no shape", "\"shape\":[40,64]", "\"shapes\":[40,64]", "no \"shape\" list"},
    {"negative shape", "[40,64]", "[-40,64]", "more than integers"},
    {"fractional shape", "[40,64]", "[40.5,64]", "more than integers"},
    {"shape that overflows", "[40,64]", "[4294967296,4294967296]", "impossibly large"},
    {"shape of 9 dimensions", "[40,64]", "[1,1,1,1,1,1,1,40,64]", "more than 8 dimensions"},
    {"another shape", "[40,64]", "[41,64]", "has 2624 elements"},
    {"transposed", "[40,64]", "[64,40]", "has the shape [64][40]"},
    {"three dimensions", "[40,64]", "[1,40,64]", "has 3 dimensions"},
    {"a number as tensor", "[40,64]", "[]", "has 1 elements"},
    {"no offsets", "\"data_offsets\":[0,", "\"offsets\":[0,", "\"data_offsets\" are not two"},
    {"three offsets", "\"data_offsets\":[0,", "\"data_offsets\":[0,0,", "are not two integers"},
    {"negative offset", "\"data_offsets\":[0,", "\"data_offsets\":[-1,", "are not two integers"},
    {"offsets of text", "\"data_offsets\":[0,", "\"data_offsets\":[\"0\",", "are not two integers"},
    {"offsets backwards", "\"data_offsets\":[0,5120]", "\"data_offsets\":[5120,0]",
     "takes bytes 5120 to 0"},
    {"offsets behind the end", "\"data_offsets\":[0,5120]", "\"data_offsets\":[9000000,9005120]",
     "takes bytes 9000000 to 9005120"},
    {"endless offsets", "\"data_offsets\":[0,5120]",
     "\"data_offsets\":[9007199254735872,9007199254740992]", "takes bytes"},
    {"twice", NORM, EMBEDDING, "'model.embed_tokens.weight': it occurs twice"},
    {"no embedding", EMBEDDING, "\"embedding\":", "'model.embed_tokens.weight' is missing"},
    {"no final norm", NORM, "\"norm\":", "'model.norm.weight' is missing"},
    {"no head", "\"lm_head.weight\":", "\"head\":", "'lm_head.weight' is missing"},
    {"no queries", "\"model.layers.1.self_attn.qkv_proj.weight\":", "\"x\":",
     "'model.layers.1.self_attn.qkv_proj.weight' is missing"},
    {"no mlp", "\"model.layers.0.mlp.down_proj.weight\":", "\"x\":",
     "'model.layers.0.mlp.down_proj.weight' is missing"},
    {"a bias", "{\"__metadata__\"",
     "{\"a.bias\":{\"dtype\":\"F32\",\"shape\":[1],"
     "\"data_offsets\":[0,4]},\"__metadata__\"",
     "'a.bias' is a bias"},
    {"not UTF-8", EMBEDDING, "\"model.embed\xff\":", "not UTF-8"},
    {"a NUL", EMBEDDING, "\"model\\u0000\":", "a NUL character"},
};

static void test_safetensors_headers(void **state)
{
    (void)state;
    write_whole_directory();
    buffer file = tiny_safetensors(true);
    char *header = header_of(&file);
    for (size_t i = 0; i < COUNT(header_cases); i++) {
        const spoilt_text *one = &header_cases[i];
        char *text = replace(header, one->old, one->replacement);
        write_header(&file, text);
        free(text);
        assert_refused(one->what, test_directory, one->fault);
    }
    free(header);
    release(&file);
}

static void test_safetensors_header_of_a_list(void **state)
{
    (void)state;
    write_whole_directory();
    write_bytes("model.safetensors", "\2\0\0\0\0\0\0\0[]", 10);
    assert_refused("a list", test_directory, "model.safetensors: the header is not a JSON object");
    write_bytes("model.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    assert_refused("no tensors", test_directory, "'model.embed_tokens.weight' is missing");
}

static void test_safetensors_lengths(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 7, 100000001, 1ull << 31, 1ull << 62, UINT64_MAX};
    write_whole_directory();
    for (size_t i = 0; i < COUNT(lengths); i++) {
        buffer file = tiny_safetensors(true);
        memcpy(file.data, &lengths[i], sizeof lengths[i]);
        write_bytes("model.safetensors", file.data, file.size);
        release(&file);
        assert_refused("a lying length", test_directory, "model.safetensors: ");
    }
}

static void test_safetensors_truncations(void **state)
{
    (void)state;
    write_whole_directory();
    buffer file = tiny_safetensors(true);
    uint64_t header_size;
    memcpy(&header_size, file.data, sizeof header_size);
    const char *path = in_directory("model.safetensors");
    for (size_t size = file.size; size-- > 0;) {
        if (size > header_size + 100 && size % 997 != 0)
            continue; /* inside the data, a sample is enough */
        assert_int_equal(truncate(path, (off_t)size), 0);
        assert_refused("a truncated file", test_directory, "model.safetensors: ");
    }
    release(&file);
}

static void test_norms_that_are_no_numbers(void **state)
{
    (void)state;
    static const uint32_t values[] = {0x7fc00000, 0x7f800000, 0xff800000};
    write_whole_directory();
    for (size_t i = 0; i < COUNT(values); i++) {
        buffer file = tiny_safetensors(true);
        char *header = header_of(&file);
        size_t begin = 0;
        const char *norm = strstr(header, NORM);
        assert_int_equal(sscanf(strstr(norm, "[64]"), "[64],\"data_offsets\":[%zu", &begin), 1);
        memcpy(file.data + 8 + strlen(header) + begin + 63 * 4, &values[i], sizeof values[i]);
        write_bytes("model.safetensors", file.data, file.size);
        free(header);
        release(&file);
        assert_refused("a norm", test_directory, "'model.norm.weight' holds NaN or infinity");
    }
}

/* ---- The index of shards -------------------------------------------------------------------------------------- */

#define SHARD "model-00001-of-00001.safetensors"

static void test_indexes(void **state)
{
    (void)state;
    static const whole_text cases[] = {
        {"cut", "{\"weight_map\": {\"a\"", "index.json: line 1: not valid JSON"},
        {"no map", "{\"weights\": {}}", "\"weight_map\" lists no tensors"},
        {"a list as map", "{\"weight_map\": []}", "\"weight_map\" lists no tensors"},
        {"an empty map", "{\"weight_map\": {}}", "\"weight_map\" lists no tensors"},
        {"a path upwards", "{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "'a' is not mapped"},
        {"an absolute path", "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "'a' is not mapped"},
        {"the directory above", "{\"weight_map\": {\"a\": \"..\"}}", "'a' is not mapped"},
        {"no name", "{\"weight_map\": {\"a\": \"\"}}", "'a' is not mapped"},
        {"a number as name", "{\"weight_map\": {\"a\": 1}}", "'a' is not mapped"},
        {"no such shard", "{\"weight_map\": {\"a\": \"b.safetensors\"}}", "b.safetensors: cannot"},
        {"the index itself", "{\"weight_map\": {\"a\": \"model.safetensors.index.json\"}}",
         "model.safetensors.index.json: the header's length"},
        {"a directory as shard", "{\"weight_map\": {\"a\": \"directory\"}}", "is a directory"},
        {"tensor elsewhere", "{\"weight_map\": {\"absent\": \"" SHARD "\"}}",
         "'absent' should be in " SHARD},
        {"the same tensors twice",
         "{\"weight_map\": {\"a\": \"" SHARD "\", \"b\": \"copy.safetensors\"}}", "occurs twice"},
    };
    write_whole_directory();
    assert_int_equal(rename(in_directory("model.safetensors"), in_directory(SHARD)), 0);
    assert_int_equal(link(in_directory(SHARD), in_directory("copy.safetensors")), 0);
    assert_int_equal(mkdir(in_directory("directory"), 0777), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_text("model.safetensors.index.json", cases[i].text);
        assert_refused(cases[i].what, test_directory, cases[i].fault);
    }
}

/* ---- Files that are not there ----------------------------------------------------------------------------------- */

static void test_directories_without_files(void **state)
{
    (void)state;
    assert_refused("an empty directory", test_directory, "config.json: cannot open");
    write_text("config.json", "");
    assert_refused("an empty config", test_directory, "config.json: an empty file");
    write_text("config.json", "[]");
    assert_refused("a list", test_directory, "config.json: not a JSON object");
    write_text("config.json", TINY_CONFIG);
    assert_refused("no weights", test_directory, "neither model.safetensors nor");
    write_text("pytorch_model.bin", "PK");
    assert_refused("a pickle", test_directory, "convert it with transformers");
    write_text("model.safetensors", "");
    assert_refused("empty weights", test_directory, "model.safetensors: 0 bytes are too few");
    assert_int_equal(unlink(in_directory("config.json")), 0);
    assert_int_equal(mkdir(in_directory("config.json"), 0777), 0);
    assert_refused("a directory as config", test_directory, "config.json: is a directory");
}

/* ---- Random bytes -------------------------------------------------------------------------------------------------- */

static void test_random_bytes(void **state)
{
    (void)state;
    enum { N_ROUNDS = 1000 };
    static const char favourites[] = "{}[]\",:0-9e\\\xff";
    uint64_t random = 0x9e3779b97f4a7c15u;
    write_whole_directory();
    buffer whole = tiny_safetensors(true);
    char *header = header_of(&whole);
    size_t size = 8 + strlen(header), config_size = strlen(TINY_CONFIG);
    free(header);
    for (int round = 0; round < N_ROUNDS; round++) {
        buffer file = {0};
        put(&file, whole.data, whole.size);
        uint64_t draw = next_random(&random);
        file.data[draw % size] = (uint8_t)favourites[(draw >> 40) % (sizeof favourites - 1)];
        write_bytes("model.safetensors", file.data, file.size);
        release(&file);
        assert_survived(test_directory);
    }
    write_bytes("model.safetensors", whole.data, whole.size);
    release(&whole);
    for (int round = 0; round < N_ROUNDS; round++) {
        char text[] = TINY_CONFIG;
        uint64_t draw = next_random(&random);
        text[draw % config_size] = favourites[(draw >> 40) % (sizeof favourites - 1)];
        write_bytes("config.json", text, config_size);
        assert_survived(test_directory);
    }
}

#define FILE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_configs),
        FILE_TEST(test_generation_configs),
        FILE_TEST(test_deep_json),
        FILE_TEST(test_safetensors_headers),
        FILE_TEST(test_safetensors_header_of_a_list),
        FILE_TEST(test_safetensors_lengths),
        FILE_TEST(test_safetensors_truncations),
        FILE_TEST(test_norms_that_are_no_numbers),
        FILE_TEST(test_indexes),
        FILE_TEST(test_directories_without_files),
        FILE_TEST(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
