/*
 * test_hostile_gguf.c - GGUF files that lie. Each starts as a whole tiny model and is spoilt in one
 * place; opening it must give an error that names the file and the fault.
 */
#include "hostile.h"

/* ---- The file that is spoilt --------------------------------------------------------------------- */

/* Keys that are valid as they stand and that some cases need. */
static gguf_parts base_parts(void)
{
    gguf_parts parts = tiny_gguf_parts("phi3");
    gguf_u32(&parts, "general.alignment", 32);
    gguf_text(&parts, "phi3.rope.scaling.type", "longrope");
    gguf_f32(&parts, "phi3.rope.scaling.attn_factor", 1.2f);
    gguf_u32(&parts, "phi3.attention.key_length", TINY_HEAD_DIM);
    gguf_u32(&parts, "phi3.attention.value_length", TINY_HEAD_DIM);
    gguf_u32(&parts, "phi3.expert_count", 0);
    return parts;
}

static buffer base_file(void)
{
    gguf_parts parts = base_parts();
    return gguf_join(&parts);
}

/* The first byte after a name of the file, which stands there behind its length. */
static size_t after_name(const buffer *file, const char *name)
{
    buffer wanted = {0};
    put_string(&wanted, name);
    const uint8_t *found = memmem(file->data, file->size, wanted.data, wanted.size);
    size_t size = wanted.size;
    release(&wanted);
    if (!found)
        fail_msg("no '%s' in the file", name);
    return (size_t)(found - file->data) + size;
}

static uint64_t u64_at(const buffer *file, size_t place)
{
    uint64_t value;
    memcpy(&value, file->data + place, sizeof value);
    return value;
}

/* Where the directory of tensors ends: behind the last one, which the fixture makes the last layer's
 * ffn_down. */
static size_t directory_end(const buffer *file)
{
    return after_name(file, "blk.1.ffn_down.weight") + 4 + 2 * 8 + 4 + 8;
}

/* The first byte of a tensor's data. */
static size_t data_of(const buffer *file, const char *name)
{
    size_t place = after_name(file, name), end = directory_end(file);
    size_t n_dims = file->data[place];
    return (end + 31) / 32 * 32 + u64_at(file, place + 4 + 8 * n_dims + 4);
}

static void write_model(const buffer *file)
{
    write_bytes("model.gguf", file->data, file->size);
}

/* ---- One wrong value ------------------------------------------------------------------------------- */

/* Places, counted from the end of the name that a case gives. */
enum {
    VALUE_TYPE = 0, /* of a key */
    VALUE = 4,
    ELEMENT_TYPE = 4,
    ELEMENT_COUNT = 8,
    FIRST_ELEMENT = 16,
    N_DIMS = 0, /* of a tensor */
    COLUMNS = 4,
    ROWS = 12,
    TYPE = 20, /* of a matrix */
    OFFSET = 24,
    VECTOR_TYPE = 12, /* of a tensor of one dimension */
};

#define F32_NAN 0x7fc00000u
#define F32_INFINITY 0x7f800000u
#define F32_MINUS_ONE 0xbf800000u
#define HUGE (UINT64_C(1) << 62)
/* A value of another type: the type in the lower half, the bits in the upper. */
#define TYPED(type, bits) ((type) | (uint64_t)(uint32_t)(bits) << 32)

typedef struct spoilt_value {
    const char *what;
    const char *name; /* NULL: places count from the start of the file */
    size_t place;
    size_t size;
    uint64_t value;
    const char *fault;
} spoilt_value;

static const spoilt_value header_cases[] = {
    {"other magic", NULL, 0, 4, 0x46554747 ^ 1, "does not start with 'GGUF'"},
    {"version 0", NULL, 4, 4, 0, "version 0"},
    {"version 1", NULL, 4, 4, 1, "GGUF version 1"},
    {"version 4", NULL, 4, 4, 4, "GGUF version 4"},
    {"big-endian", NULL, 4, 4, 0x03000000, "big-endian"},
    {"impossible tensor count", NULL, 8, 8, HUGE, "number of tensors is"},
    {"more tensors than bytes", NULL, 8, 8, 100000, "number of tensors is 100000"},
    {"fewer tensors than the model", NULL, 8, 8, 3, "is missing"},
    {"no tensors", NULL, 8, 8, 0, "is missing"},
    {"impossible key count", NULL, 16, 8, UINT64_MAX, "number of metadata keys is"},
    {"more keys than bytes", NULL, 16, 8, 1000000, "number of metadata keys is 1000000"},
    {"no keys", NULL, 16, 8, 0, "dimensions"},
};

static const spoilt_value metadata_cases[] = {
    {"unknown value type", "general.name", VALUE_TYPE, 4, 13, "'general.name' has a value"},
    {"endless string", "general.name", VALUE, 8, HUGE, "string value"},
    {"string up to the limit", "general.name", VALUE, 8, UINT64_MAX, "string value"},
    {"array inside an array", "tokenizer.ggml.tokens", ELEMENT_TYPE, 4, PHI3_GGUF_ARRAY,
     "arrays inside an array"},
    {"unknown element type", "tokenizer.ggml.tokens", ELEMENT_TYPE, 4, 99, "unknown type 99"},
    {"endless array", "tokenizer.ggml.tokens", ELEMENT_COUNT, 8, HUGE, "length of an array"},
    {"endless element", "tokenizer.ggml.tokens", FIRST_ELEMENT, 8, HUGE, "a string of an array"},
    {"strings read as numbers", "tokenizer.ggml.tokens", VALUE_TYPE, 8,
     TYPED(PHI3_GGUF_ARRAY, PHI3_GGUF_UINT64), "a metadata key at byte"},
    {"bool of 2", "tokenizer.ggml.eos_token_id", VALUE_TYPE, 4, PHI3_GGUF_BOOL, "the bool 2"},
    {"float as a size", "phi3.block_count", VALUE_TYPE, 4, PHI3_GGUF_FLOAT32,
     "'phi3.block_count' should be a non-negative integer, but is a float32"},
    {"negative size", "phi3.attention.head_count", VALUE_TYPE, 8, TYPED(PHI3_GGUF_INT32, -4),
     "should be a non-negative integer"},
    {"text read as a number", "phi3.rope.scaling.type", VALUE_TYPE, 8, TYPED(PHI3_GGUF_UINT64, 8),
     "a metadata key at byte"},
    {"negative EOS", "tokenizer.ggml.eos_token_id", VALUE_TYPE, 8, TYPED(PHI3_GGUF_INT32, -1),
     "eos_token_id -1"},
    {"alignment 0", "general.alignment", VALUE, 4, 0, "general.alignment is 0"},
    {"alignment 48", "general.alignment", VALUE, 4, 48, "general.alignment is 48"},
    {"alignment 2^31", "general.alignment", VALUE, 4, 1u << 31, "general.alignment is"},
    {"another alignment", "general.alignment", VALUE, 4, 4096, "multiple of the alignment 4096"},
    {"other architecture", "general.architecture", VALUE + 8, 4, 0x32696870, "'phi2'"},
    {"no context", "phi3.context_length", VALUE, 4, 0, "max_position_embeddings is 0"},
    {"endless context", "phi3.context_length", VALUE, 4, UINT32_MAX, "max_position_embeddings"},
    {"no hidden size", "phi3.embedding_length", VALUE, 4, 0, "hidden_size is 0"},
    {"other hidden size", "phi3.embedding_length", VALUE, 4, 128,
     "'token_embd.weight' has the shape"},
    {"huge hidden size", "phi3.embedding_length", VALUE, 4, 1 << 30, "hidden_size is"},
    {"no layers", "phi3.block_count", VALUE, 4, 0, "num_hidden_layers is 0"},
    {"one layer more", "phi3.block_count", VALUE, 4, 3, "'blk.2.attn_norm.weight' is missing"},
    {"endless layers", "phi3.block_count", VALUE, 4, UINT32_MAX, "num_hidden_layers is"},
    {"no heads", "phi3.attention.head_count", VALUE, 4, 0, "num_attention_heads is 0"},
    {"endless heads", "phi3.attention.head_count", VALUE, 4, UINT32_MAX, "num_attention_heads is"},
    {"no key heads", "phi3.attention.head_count_kv", VALUE, 4, 0, "num_key_value_heads is 0"},
    {"uneven key heads", "phi3.attention.head_count_kv", VALUE, 4, 3, "evenly"},
    {"more key heads", "phi3.attention.head_count_kv", VALUE, 4, 8, "evenly"},
    {"huge heads", "phi3.attention.key_length", VALUE, 4, 1 << 20, "keys have 1048576 dimensions"},
    {"other values", "phi3.attention.value_length", VALUE, 4, 8, "values 8"},
    {"no mlp", "phi3.feed_forward_length", VALUE, 4, 0, "intermediate_size is 0"},
    {"other mlp", "phi3.feed_forward_length", VALUE, 4, 97, "has the shape [192][64]"},
    {"experts", "phi3.expert_count", VALUE, 4, 8, "mixture of 8 experts"},
    {"no epsilon", "phi3.attention.layer_norm_rms_epsilon", VALUE, 4, 0, "rms_norm_eps is 0"},
    {"NaN epsilon", "phi3.attention.layer_norm_rms_epsilon", VALUE, 4, F32_NAN, "finite number"},
    {"negative epsilon", "phi3.attention.layer_norm_rms_epsilon", VALUE, 4, F32_MINUS_ONE,
     "rms_norm_eps is -1"},
    {"infinite theta", "phi3.rope.freq_base", VALUE, 4, F32_INFINITY, "finite number"},
    {"no theta", "phi3.rope.freq_base", VALUE, 4, 0, "rope_theta is 0"},
    {"no rotation", "phi3.rope.dimension_count", VALUE, 4, 0, "rope_factors_short.weight"},
    {"odd rotation", "phi3.rope.dimension_count", VALUE, 4, 17, "17 rotary dimensions"},
    {"more rotation than head", "phi3.rope.dimension_count", VALUE, 4, 32,
     "rope_factors_short.weight"},
    {"no original context", "phi3.rope.scaling.original_context_length", VALUE, 4, 0,
     "original_max_position_embeddings is 0"},
    {"other scaling", "phi3.rope.scaling.type", VALUE + 8, 4, 0x6e726179,
     "rope scaling 'yarnrope'"},
    {"NaN attention factor", "phi3.rope.scaling.attn_factor", VALUE, 4, F32_NAN, "finite number"},
    {"no attention factor", "phi3.rope.scaling.attn_factor", VALUE, 4, 0, "attention factor is 0"},
};

static const spoilt_value tensor_cases[] = {
    {"no dimensions", "output.weight", N_DIMS, 4, 0, "'output.weight' has 0 dimensions"},
    {"three dimensions", "output.weight", N_DIMS, 4, 3, "'output.weight' has 3 dimensions"},
    {"endless dimensions", "output.weight", N_DIMS, 4, UINT32_MAX, "dimensions"},
    {"no rows", "output.weight", ROWS, 8, 0, "a dimension of 0"},
    {"no columns", "output.weight", COLUMNS, 8, 0, "a dimension of 0"},
    {"shape that overflows", "output.weight", ROWS, 8, HUGE, "impossible shape"},
    {"columns that overflow", "blk.0.attn_norm.weight", COLUMNS, 8, HUGE, "impossible shape"},
    {"more rows than bytes", "output.weight", ROWS, 8, 1 << 20, "truncated or damaged"},
    {"half a block", "output.weight", COLUMNS, 8, 48, "not a multiple of q8_0's block"},
    {"unknown type", "output.weight", TYPE, 4, 999, "unknown type 999"},
    {"type of other programs", "output.weight", TYPE, 4, 16, "type 16, IQ2_XXS"},
    {"type that was removed", "output.weight", TYPE, 4, 4, "type 4, Q4_2"},
    {"unaligned offset", "output.weight", OFFSET, 8, 8, "multiple of the alignment"},
    {"offset behind the end", "output.weight", OFFSET, 8, 1 << 20, "truncated or damaged"},
    {"offset that wraps", "output.weight", OFFSET, 8, UINT64_MAX - 31, "truncated or damaged"},
    {"fewer rows than tokens", "token_embd.weight", ROWS, 8, 4, "4 rows for 8 tokens"},
    {"fewer rows in the head", "output.weight", ROWS, 8, 39, "has the shape [39][64]"},
    {"other columns", "blk.1.ffn_down.weight", COLUMNS, 8, 64, "has the shape [64][64]"},
    {"quantised norm", "blk.1.ffn_norm.weight", VECTOR_TYPE, 4, PHI3_Q8_0, "floats are needed"},
    {"short factors", "rope_factors_long.weight", COLUMNS, 8, 4, "'rope_factors_long.weight' is"},
    {"half factors", "rope_factors_long.weight", VECTOR_TYPE, 4, PHI3_F16, "of float16"},
};

static void run_values(const spoilt_value *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const spoilt_value *one = &cases[i];
        buffer file = base_file();
        size_t place = one->place + (one->name ? after_name(&file, one->name) : 0);
        memcpy(file.data + place, &one->value, one->size);
        write_model(&file);
        release(&file);
        assert_refused(one->what, in_directory("model.gguf"), one->fault);
    }
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void test_headers(void **state)
{
    (void)state;
    run_values(header_cases, COUNT(header_cases));
}

static void test_metadata(void **state)
{
    (void)state;
    run_values(metadata_cases, COUNT(metadata_cases));
}

static void test_tensor_directories(void **state)
{
    (void)state;
    run_values(tensor_cases, COUNT(tensor_cases));
}

/* ---- One wrong name -------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *what, *name, *replacement, *fault;
    } cases[] = {
        {"key without UTF-8", "general.name", "general.n\xffme", "not valid UTF-8"},
        {"overlong UTF-8", "general.name", "general.n\xc0\xaf.", "not valid UTF-8"},
        {"surrogate", "general.name", "general.\xed\xa0\x80.", "not valid UTF-8"},
        {"cut character", "general.name", "general.nam\xc3", "not valid UTF-8"},
        {"duplicate key", "phi3.context_length", "phi3.rope.freq_base", "occurs twice"},
        {"no architecture", "general.architecture", "general.architectur_",
         "'general.architecture' is missing"},
        {"no layer count", "phi3.block_count", "phi3.block_coun_", "'phi3.block_count' is missing"},
        {"no epsilon", "phi3.attention.layer_norm_rms_epsilon",
         "phi3.attention.layer_norm_rms_epsilo_", "is missing"},
        {"tensor without UTF-8", "output_norm.weight", "output_norm\xfeweight", "not valid UTF-8"},
        {"duplicate tensor", "blk.0.attn_norm.weight", "blk.1.attn_norm.weight", "occurs twice"},
        {"no embedding", "token_embd.weight", "token_embd.weighs",
         "'token_embd.weight' is missing"},
        {"no final norm", "output_norm.weight", "output_norm.weighs",
         "'output_norm.weight' is missing"},
        {"no queries", "blk.1.attn_qkv.weight", "blk.9.attn_qkv.weight",
         "'blk.1.attn_qkv.weight' is missing"},
        {"no second norm", "blk.0.ffn_norm.weight", "blk.9.ffn_norm.weight",
         "'blk.0.ffn_norm.weight' is missing"},
        {"no gate", "blk.0.ffn_up.weight", "blk.9.ffn_up.weight",
         "'blk.0.ffn_up.weight' is missing"},
        {"one set of factors", "rope_factors_long.weight", "rope_factors_lang.weight",
         "'rope_factors_long.weight' is missing"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        buffer file = base_file();
        size_t size = strlen(cases[i].name);
        assert_int_equal(strlen(cases[i].replacement), size);
        memcpy(file.data + after_name(&file, cases[i].name) - size, cases[i].replacement, size);
        write_model(&file);
        release(&file);
        assert_refused(cases[i].what, in_directory("model.gguf"), cases[i].fault);
    }
}

/* The length in front of a name. */
static void test_lengths_of_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t length;
        const char *fault;
    } cases[] = {
        {"general.name", 0, "a metadata key at byte"},
        {"general.name", HUGE, "a metadata key at byte"},
        {"general.name", UINT64_MAX, "a metadata key at byte"},
        {"output.weight", 0, "a tensor name at byte"},
        {"output.weight", UINT64_MAX - 7, "a tensor name at byte"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        buffer file = base_file();
        size_t place = after_name(&file, cases[i].name) - strlen(cases[i].name) - 8;
        memcpy(file.data + place, &cases[i].length, 8);
        write_model(&file);
        release(&file);
        assert_refused("length of a name", in_directory("model.gguf"), cases[i].fault);
    }
    gguf_parts parts = base_parts();
    char *long_key = calloc(70000, 1);
    assert_non_null(long_key);
    memset(long_key, 'k', 69999);
    gguf_u32(&parts, long_key, 1);
    free(long_key);
    buffer file = gguf_join(&parts);
    write_model(&file);
    release(&file);
    assert_refused("a key of 70 kB", in_directory("model.gguf"), "69999 bytes");
}

/* ---- Wrong numbers in the data ---------------------------------------------------------------------- */

static void test_numbers_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t place, size;
        uint32_t value;
        const char *fault;
    } cases[] = {
        {"output_norm.weight", 63 * 4, 4, F32_NAN, "'output_norm.weight' holds NaN or infinity"},
        {"blk.0.attn_norm.weight", 0, 4, F32_INFINITY, "'blk.0.attn_norm.weight' holds NaN"},
        {"blk.1.ffn_norm.weight", 4, 4, F32_NAN, "'blk.1.ffn_norm.weight' holds NaN"},
        {"token_embd.weight", 0, 2, 0x7e00, "'token_embd.weight' has a block in row 0"},
        {"output.weight", 39 * 68 + 34, 2, 0xfc00, "'output.weight' has a block in row 39"},
        {"blk.0.attn_qkv.weight", 5 * 36, 2, 0xfe00,
         "'blk.0.attn_qkv.weight' has a block in row 5"},
        {"blk.1.ffn_down.weight", 63 * 54 + 36, 2, 0x7c00, "has a block in row 63 whose scale"},
        {"rope_factors_short.weight", 0, 4, F32_NAN, "short rope factor 0 is"},
        {"rope_factors_long.weight", 7 * 4, 4, F32_MINUS_ONE, "long rope factor 7 is -1"},
        {"rope_factors_long.weight", 0, 4, 0, "long rope factor 0 is 0"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        buffer file = base_file();
        memcpy(file.data + data_of(&file, cases[i].name) + cases[i].place, &cases[i].value,
               cases[i].size);
        write_model(&file);
        release(&file);
        assert_refused(cases[i].name, in_directory("model.gguf"), cases[i].fault);
    }
}

/* ---- Tensors that would change the model -------------------------------------------------------------- */

static void refuse_extra_tensor(const char *architecture, const char *name, const char *fault)
{
    gguf_parts parts = tiny_gguf_parts(architecture);
    tiny_tensor(&parts, name, PHI3_F32, 0, 8);
    buffer file = gguf_join(&parts);
    write_model(&file);
    release(&file);
    assert_refused(name, in_directory("model.gguf"), fault);
}

static void test_other_models(void **state)
{
    (void)state;
    refuse_extra_tensor("phi3", "blk.0.attn_qkv.bias", "'blk.0.attn_qkv.bias' is a bias");
    refuse_extra_tensor("llama", "rope_freqs.weight", "Llama 3's rope scaling");

    gguf_parts parts = tiny_gguf_parts("llama");
    gguf_f32(&parts, "llama.rope.scaling.factor", 4);
    buffer file = gguf_join(&parts);
    write_model(&file);
    assert_refused("linear scaling", in_directory("model.gguf"), "linear rope scaling by 4");
    release(&file);

    file = tiny_gguf("llama");
    file.data[after_name(&file, "llama.rope.dimension_count") + VALUE] = TINY_HEAD_DIM / 2;
    write_model(&file);
    assert_refused("partial rotation", in_directory("model.gguf"), "8 rotary dimensions");
    release(&file);
}

/* ---- Not a file of its own ------------------------------------------------------------------------------ */

static void test_things_that_are_no_file(void **state)
{
    (void)state;
    write_text("empty.gguf", "");
    assert_refused("an empty file", in_directory("empty.gguf"), "the magic number");
    write_text("text.gguf", "version https://git-lfs.github.com/spec/v1\n");
    assert_refused("a pointer of git-lfs", in_directory("text.gguf"), "not a GGUF file");
    assert_refused("nothing", in_directory("absent.gguf"), "No such file");
    assert_int_equal(mkdir(in_directory("directory.gguf"), 0777), 0);
    assert_refused("a directory", in_directory("directory.gguf"), "config.json");
    assert_int_equal(mkfifo(in_directory("pipe.gguf"), 0666), 0);
    assert_refused("a pipe", in_directory("pipe.gguf"), "not a regular file");
    assert_int_equal(symlink("loop.gguf", in_directory("loop.gguf")), 0);
    assert_refused("a link to itself", in_directory("loop.gguf"), "cannot open");
}

/* ---- Every length, and random bytes ---------------------------------------------------------------------- */

static void test_every_truncation(void **state)
{
    (void)state;
    buffer file = base_file();
    write_model(&file);
    size_t end = directory_end(&file);
    const char *path = in_directory("model.gguf");
    for (size_t size = file.size - 32; size-- > 0;) {
        if (size > end + 200 && size % 509 != 0)
            continue; /* inside the data, a sample is enough */
        assert_int_equal(truncate(path, (off_t)size), 0);
        assert_refused("a truncated file", path, "bytes");
    }
    release(&file);
}

/* Random bytes at random places of the metadata and the directory. */
static void test_random_bytes(void **state)
{
    (void)state;
    enum { N_ROUNDS = 2000, MAX_BYTES = 4 };
    uint64_t random = 88172645463325252u;
    static const uint8_t favourites[] = {0, 1, 0x7f, 0x80, 0xff};
    buffer whole = base_file();
    size_t end = directory_end(&whole);
    for (int round = 0; round < N_ROUNDS; round++) {
        buffer file = {0};
        put(&file, whole.data, whole.size);
        for (size_t n = next_random(&random) % MAX_BYTES + 1; n > 0; n--) {
            uint64_t draw = next_random(&random);
            uint8_t byte = (uint8_t)(draw >> 40);
            file.data[draw % end] = byte % 2 ? favourites[byte % sizeof favourites] : byte;
        }
        write_model(&file);
        assert_survived(in_directory("model.gguf"));
        release(&file);
    }
    release(&whole);
}

#define FILE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_headers),
        FILE_TEST(test_metadata),
        FILE_TEST(test_tensor_directories),
        FILE_TEST(test_names),
        FILE_TEST(test_lengths_of_names),
        FILE_TEST(test_numbers_that_are_none),
        FILE_TEST(test_other_models),
        FILE_TEST(test_things_that_are_no_file),
        FILE_TEST(test_every_truncation),
        FILE_TEST(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
