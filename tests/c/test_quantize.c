/*
 * Quantising and saving from C: what is written and loaded again says what the model said; whatever
 * stops the writing leaves the directory as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tiny_model.h"

enum { N_IDS = 90 }; /* more than TINY_ORIGINAL: the long factors are used, too */

static char directory[] = "/tmp/phi3-quantize-XXXXXX";
static char phi3_path[64], llama_path[64]; /* two checkpoints */
static char new_path[64], second_path[64]; /* what is written */
static phi3_error error;
static char last_warning[1024];

static void keep_warning(phi3_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    if (level == PHI3_LOG_WARNING)
        snprintf(last_warning, sizeof last_warning, "%s", message);
}

static int begin(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(phi3_path, sizeof phi3_path, "%s/phi3", directory);
    snprintf(llama_path, sizeof llama_path, "%s/llama", directory);
    snprintf(new_path, sizeof new_path, "%s/new.gguf", directory);
    snprintf(second_path, sizeof second_path, "%s/second.gguf", directory);
    if (mkdir(phi3_path, 0700) != 0 || mkdir(llama_path, 0700) != 0)
        return -1;
    tiny_model_write(phi3_path, tiny_config);
    tiny_model_write(llama_path, tiny_llama_config);
    phi3_set_log_callback(keep_warning, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    tiny_model_remove(phi3_path);
    tiny_model_remove(llama_path);
    return rmdir(directory);
}

static int remove_written(void **state)
{
    (void)state;
    unlink(new_path);
    unlink(second_path);
    return 0;
}

/* ---- Helpers --------------------------------------------------------------------------------- */

static void assert_written(phi3_status status)
{
    if (status != PHI3_OK)
        fail_msg("%s", error.message);
}

static void assert_refused(phi3_status status, phi3_status expected, const char *message)
{
    assert_int_equal(status, expected);
    if (strstr(error.message, message) == NULL)
        fail_msg("'%s' is not in '%s'", message, error.message);
}

static phi3_model *load(const char *path, const char *quantization)
{
    phi3_model_options options = {
        .device = "reference", .compute_dtype = "float32", .quantization = quantization};
    phi3_model *model = NULL;
    assert_written(phi3_model_load(path, &options, &model, &error));
    return model;
}

/* After each of N_IDS ids: [N_IDS][TINY_VOCAB]. */
static void read_logits(const phi3_model *model, float *logits)
{
    int32_t ids[N_IDS];
    tiny_ids(7, ids, N_IDS);
    phi3_cache *cache;
    assert_written(phi3_cache_create(model, &cache, &error));
    phi3_span span = {cache, ids, N_IDS, N_IDS};
    assert_written(phi3_model_forward(model, &span, 1, NULL, logits, &error));
    phi3_cache_free(cache);
}

static void load_logits(const char *path, const char *quantization, float *logits)
{
    phi3_model *model = load(path, quantization);
    read_logits(model, logits);
    phi3_model_free(model);
}

static bool same_logits(const float *a, const float *b)
{
    return memcmp(a, b, N_IDS * TINY_VOCAB * sizeof(float)) == 0;
}

/* Files in the directory, the two checkpoints among them. */
static int count_files(void)
{
    DIR *opened = opendir(directory);
    assert_non_null(opened);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(opened)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(opened);
    return count;
}

static void assert_nothing_is_new(void)
{
    assert_int_equal(count_files(), 2);
}

static void write_old_file(void)
{
    FILE *file = fopen(new_path, "w");
    assert_non_null(file);
    fputs("old", file);
    fclose(file);
}

static void assert_old_file_is_there(void)
{
    char text[8] = "";
    FILE *file = fopen(new_path, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text, file), 3);
    fclose(file);
    assert_string_equal(text, "old");
    assert_int_equal(count_files(), 3);
}

/* ---- The same model -------------------------------------------------------------------------- */

/* Rounded into a file, rounded at load, saved: the same logits. A llama's queries and keys change
 * their order on the way. */
static void assert_round_trip(const char *path, const char *type)
{
    static float found[N_IDS * TINY_VOCAB], expected[N_IDS * TINY_VOCAB];
    const phi3_save_options again = {.overwrite = true};
    phi3_model *model = load(path, type);
    read_logits(model, expected);
    assert_written(phi3_quantize(path, type, new_path, NULL, &error));
    load_logits(new_path, NULL, found);
    assert_true(same_logits(found, expected));
    assert_written(phi3_model_save(model, new_path, &again, &error));
    phi3_model_free(model);
    load_logits(new_path, NULL, found);
    assert_true(same_logits(found, expected));
    assert_int_equal(unlink(new_path), 0);
}

static void test_round_trips(void **state)
{
    (void)state;
    const char *types[] = {"q8_0", "q4_0", "f32", "f16", "q4_k_m", NULL};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_round_trip(phi3_path, types[i]);
        assert_round_trip(llama_path, types[i]);
    }
}

/* float32 is what the checkpoints hold; 8 bits round. */
static void test_what_is_rounded(void **state)
{
    (void)state;
    static float whole[N_IDS * TINY_VOCAB], found[N_IDS * TINY_VOCAB];
    const char *paths[] = {phi3_path, llama_path};
    for (size_t i = 0; i < 2; i++) {
        load_logits(paths[i], NULL, whole);
        load_logits(paths[i], "f32", found);
        assert_true(same_logits(found, whole));
        load_logits(paths[i], "q8_0", found);
        assert_false(same_logits(found, whole));
    }
}

/* By way of a file of float32 weights, and with a warning by way of one of 8 bits. */
static void test_files_of_files(void **state)
{
    (void)state;
    static float expected[N_IDS * TINY_VOCAB], found[N_IDS * TINY_VOCAB];
    load_logits(llama_path, "q8_0", expected);
    assert_written(phi3_quantize(llama_path, "f32", new_path, NULL, &error));
    assert_non_null(strstr(last_warning, "no tokenizer"));
    *last_warning = '\0';
    assert_written(phi3_quantize(new_path, "Q8_0", second_path, NULL, &error));
    assert_string_equal(last_warning, "");
    load_logits(second_path, NULL, found);
    assert_true(same_logits(found, expected));
    const phi3_save_options again = {.overwrite = true};
    assert_written(
        phi3_quantize(second_path, "q4_0", second_path, &again, &error)); /* its own source */
    assert_non_null(strstr(last_warning, "quantised already"));
    phi3_model *model = load(second_path, NULL);
    assert_string_equal(phi3_model_config(model)->dtype, "q4_0");
    phi3_model_free(model);
}

/* ---- What stops it --------------------------------------------------------------------------- */

typedef struct watch {
    float last, stop_after;
    int n_calls;
} watch;

static bool watch_progress(float done, void *data)
{
    watch *seen = data;
    assert_true(done >= seen->last && done <= 1);
    seen->last = done;
    seen->n_calls++;
    return done > seen->stop_after;
}

static void test_an_interrupt_leaves_what_was_there(void **state)
{
    (void)state;
    watch seen = {.stop_after = 0.5f};
    phi3_save_options options = {.progress = watch_progress, .progress_data = &seen};
    phi3_status status = phi3_quantize(phi3_path, "q8_0", new_path, &options, &error);
    assert_refused(status, PHI3_ERROR_INTERRUPTED, "new.gguf: the writing was interrupted");
    assert_true(seen.last > 0.5f && seen.last < 1);
    assert_nothing_is_new();

    write_old_file();
    options.overwrite = true;
    phi3_model *model = load(phi3_path, "q8_0");
    const float moments[] = {-1, 0.9f}; /* at once, and near the end */
    for (size_t i = 0; i < 2; i++) {
        seen = (watch){.stop_after = moments[i]};
        status = phi3_model_save(model, new_path, &options, &error);
        assert_int_equal(status, PHI3_ERROR_INTERRUPTED);
        assert_old_file_is_there();
    }
    seen = (watch){.stop_after = 1};
    assert_written(phi3_model_save(model, new_path, &options, &error));
    assert_true(seen.last == 1 && seen.n_calls > 2);
    phi3_model_free(model);
}

static void test_a_file_that_is_there(void **state)
{
    (void)state;
    write_old_file();
    const phi3_save_options options[] = {{.overwrite = false}, {.overwrite = true}};
    assert_refused(phi3_quantize(phi3_path, "q8_0", new_path, NULL, &error), PHI3_ERROR_IO,
                   "new.gguf: exists already");
    assert_refused(phi3_quantize(phi3_path, "q8_0", new_path, &options[0], &error), PHI3_ERROR_IO,
                   "new.gguf: exists already");
    assert_old_file_is_there();
    assert_written(phi3_quantize(phi3_path, "q8_0", new_path, &options[1], &error));
    phi3_model_free(load(new_path, NULL));
    assert_refused(phi3_quantize(phi3_path, "q8_0", llama_path, &options[1], &error), PHI3_ERROR_IO,
                   "is a directory");
}

static void test_directories_that_cannot_be_written(void **state)
{
    (void)state;
    char path[96];
    snprintf(path, sizeof path, "%s/nowhere/new.gguf", directory);
    assert_refused(phi3_quantize(phi3_path, "q8_0", path, NULL, &error), PHI3_ERROR_NOT_FOUND,
                   path);
    snprintf(path, sizeof path, "%s/config.json/new.gguf", phi3_path);
    assert_refused(phi3_quantize(phi3_path, "q8_0", path, NULL, &error), PHI3_ERROR_NOT_FOUND,
                   path);

    uid_t user = geteuid();
    assert_int_equal(chmod(directory, 0555), 0);
    assert_int_equal(chmod(phi3_path, 0755), 0);
    if (user == 0)
        assert_int_equal(seteuid(65534), 0); /* root may write everywhere */
    phi3_status status = phi3_quantize(phi3_path, "q8_0", new_path, NULL, &error);
    assert_int_equal(seteuid(user), 0);
    assert_int_equal(chmod(directory, 0700), 0);
    assert_refused(status, PHI3_ERROR_IO, "new.gguf: cannot write: Permission denied");
    assert_nothing_is_new();
}

/* Every write beyond the limit would raise a signal, which ends a process that does not expect it. */
static void test_a_limit_on_files(void **state)
{
    (void)state;
    write_old_file();
    const phi3_save_options options = {.overwrite = true};
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit limit = {.rlim_cur = 20000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    phi3_status status = phi3_quantize(phi3_path, "q8_0", new_path, &options, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_refused(status, PHI3_ERROR_IO, "bytes: File too large");
    assert_old_file_is_there();
}

/* The last tensor of the checkpoint is the last layer's down_proj. */
static void write_last_weight(float value)
{
    char path[96];
    snprintf(path, sizeof path, "%s/model.safetensors", phi3_path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)sizeof value, SEEK_END), 0);
    assert_int_equal(fwrite(&value, sizeof value, 1, file), 1);
    fclose(file);
}

static void test_weights_that_no_format_holds(void **state)
{
    (void)state;
    write_last_weight(strtof("nan", NULL));
    const char *where = "blk.1.ffn_down.weight' holds NaN or infinity in row 31, column 47";
    const char *types[] = {"q8_0", "f16", "q4_k_m"};
    for (size_t i = 0; i < 3; i++)
        assert_refused(phi3_quantize(phi3_path, types[i], new_path, NULL, &error),
                       PHI3_ERROR_BAD_FILE, where);
    write_last_weight(1e30f);
    assert_refused(phi3_quantize(phi3_path, "q8_0", new_path, NULL, &error), PHI3_ERROR_UNSUPPORTED,
                   "in row 31 that is too large for");
    write_last_weight(0.25f);
    assert_nothing_is_new();
}

static void test_arguments(void **state)
{
    (void)state;
    const char *names[] = {"", "q4", "int4", "q4_0 ", "bf17"};
    phi3_model *model = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        phi3_model_options options = {.device = "reference", .quantization = names[i]};
        assert_refused(phi3_quantize(phi3_path, names[i], new_path, NULL, &error),
                       PHI3_ERROR_INVALID_ARGUMENT, "q4_k_m");
        assert_refused(phi3_model_load(phi3_path, &options, &model, &error),
                       PHI3_ERROR_INVALID_ARGUMENT, "q4_k_m");
    }
    assert_null(model);
    assert_refused(phi3_quantize(phi3_path, "q8_0", "", NULL, &error), PHI3_ERROR_INVALID_ARGUMENT,
                   "empty");
    phi3_save_options options = {.n_threads = -1};
    assert_refused(phi3_quantize(phi3_path, "q8_0", new_path, &options, &error),
                   PHI3_ERROR_INVALID_ARGUMENT, "n_threads is -1");
    assert_int_equal(phi3_quantize("/nowhere", "q8_0", new_path, NULL, NULL), PHI3_ERROR_NOT_FOUND);
    assert_nothing_is_new();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_round_trips, remove_written),
        cmocka_unit_test_teardown(test_what_is_rounded, remove_written),
        cmocka_unit_test_teardown(test_files_of_files, remove_written),
        cmocka_unit_test_teardown(test_an_interrupt_leaves_what_was_there, remove_written),
        cmocka_unit_test_teardown(test_a_file_that_is_there, remove_written),
        cmocka_unit_test_teardown(test_directories_that_cannot_be_written, remove_written),
        cmocka_unit_test_teardown(test_a_limit_on_files, remove_written),
        cmocka_unit_test_teardown(test_weights_that_no_format_holds, remove_written),
        cmocka_unit_test_teardown(test_arguments, remove_written),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
