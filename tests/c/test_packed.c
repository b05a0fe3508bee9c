/* Packed weights: in memory; in a file, which is used only when it is whole, right and ours. */
#include "packing.h"

#include <fcntl.h>
#include <utime.h>

static char kept[96]; /* the directory for packed weights */

static int begin(void **state)
{
    int failed = enter_directory(state);
    snprintf(kept, sizeof kept, "%s/a/kept", test_directory);
    write_model("phi3");
    while_packing = NULL;
    return failed;
}

static mode_t mode_of(const char *path)
{
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    return status.st_mode;
}

static size_t size_of(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return (size_t)status.st_size;
}

static uint8_t *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *bytes = malloc(*size = size_of(path));
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void overwrite(const char *path, size_t offset, const void *bytes, size_t size)
{
    int descriptor = open(path, O_WRONLY);
    assert_int_equal(pwrite(descriptor, bytes, size, (off_t)offset), size);
    close(descriptor);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void test_memory_without_a_directory(void **state)
{
    (void)state;
    const char *nowhere[] = {NULL, ""};
    char name[256];
    for (size_t i = 0; i < 2; i++)
        assert_load_packs(nowhere[i], ALL);
    assert_int_equal(count_files(test_directory, name), 1); /* the model */
}

/* Pages are tried at the start and again further on, where a matrix has room for that; none are lost. */
static void test_pages_are_tried_where_matrices_go(void **state)
{
    (void)state;
    enum { MATRIX = 8 << 20, SMALL = 3 << 20, COUNT = 20 };
    const size_t size = (size_t)COUNT * MATRIX;
    phi3_packed packed = {0};
    phi3_error error;
    assert_int_equal(phi3_packed_map(size, &packed, &error), PHI3_OK);
    size_t next_trial = 0, n_trials = 0;
    phi3_packed_choose_pages(&packed, 0, SMALL, &next_trial);
    assert_int_equal(next_trial, 0);
    for (size_t i = 0; i < COUNT; i++) {
        size_t before = next_trial;
        phi3_packed_choose_pages(&packed, i * MATRIX, MATRIX, &next_trial);
        n_trials += next_trial > before;
    }
    assert_int_equal(n_trials, 2);
    uint8_t *memory = (uint8_t *)(uintptr_t)packed.data;
    for (size_t i = 0; i < size; i += MATRIX / 16) {
        assert_int_equal(memory[i], 0);
        memory[i] = 1;
    }
    memory[size - 1] = 1;
    phi3_packed_free(&packed);
    assert_null(packed.data);
}

/* The rows of llama's q and k are in order when they are packed, and their parts are as before. */
static void test_rows_are_packed_in_order(void **state)
{
    (void)state;
    write_model("llama");
    load l;
    load_open(&l, NULL);
    l.packing.matrices = &l.matrices[2];
    l.packing.n_matrices = 4;
    const phi3_matrix_parts *qkv = l.matrices[2].parts;
    const void *stored = qkv->part[0].data;
    assert_int_equal(load_pack(&l), PHI3_OK);
    assert_ptr_equal(qkv->part[0].data, stored);
    assert_null(qkv->copy);
    size_t row_bytes = phi3_dtype_row_bytes(qkv->part[0].dtype, TINY_HIDDEN);
    for (size_t i = 0; i < row_bytes; i++) /* row 1 of the model is row 2 of the file */
        assert_int_equal(l.packed.data[row_bytes + i],
                         ((const uint8_t *)stored)[2 * row_bytes + i] ^ 0xa5);
    load_close(&l);
}

static void test_nothing_to_pack(void **state)
{
    (void)state;
    load l;
    char name[256];
    load_open(&l, kept);
    for (size_t i = 0; i < N_MATRICES; i++)
        l.matrices[i].compute = PHI3_COMPUTE_FLOAT32;
    assert_int_equal(load_pack(&l), PHI3_OK);
    assert_null(l.packed.data);
    assert_int_equal(count_files(kept, name), -1);
    load_close(&l);
}

static void test_bad_scales_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2;
         i++) { /* of the embedding, which is not packed, and of a packed matrix */
        load l;
        char name[256];
        write_model("phi3");
        load_open(&l, kept);
        const phi3_tensor *part = &l.matrices[i == 0 ? 0 : 5].parts->part[0];
        size_t offset =
            (size_t)((const uint8_t *)part->data - phi3_weights_file(&l.weights, 0)->data);
        load_close(&l);
        overwrite(in_directory("model.gguf"), offset, "\0\x7e", 2);
        load_open(&l, kept);
        assert_int_equal(load_pack(&l), PHI3_ERROR_BAD_FILE);
        assert_non_null(strstr(l.error.message, "in row 0 whose scale is NaN"));
        assert_int_equal(count_files(kept, name), 0);
        load_close(&l);
    }
}

/* ---- A file ---------------------------------------------------------------------------------- */

static void test_the_second_load_finds_the_file(void **state)
{
    (void)state;
    assert_load_packs(kept, ALL);
    assert_int_equal(mode_of(kept) & 0777, 0700);
    const char *file = only_file(kept);
    assert_non_null(strstr(file, "model.gguf-"));
    assert_int_equal(mode_of(file) & 0777, 0600);
    assert_load_packs(kept, NONE);
    only_file(kept);
}

/* Those who have mapped a file keep what they have, whatever happens to its name. */
static void test_a_mapped_file_may_go(void **state)
{
    (void)state;
    assert_load_packs(kept, ALL);
    load l;
    load_open(&l, kept);
    assert_packs(&l, NONE);
    assert_int_equal(unlink(only_file(kept)), 0);
    assert_load_packs(kept, ALL);
    assert_int_equal(unlink(in_directory("model.gguf")), 0);
    assert_true(is_right(&l));
    load_close(&l);
}

static void test_a_stale_file_is_replaced(void **state)
{
    (void)state;
    assert_load_packs(kept, ALL);
    struct utimbuf long_ago = {1000, 1000};
    assert_int_equal(utime(in_directory("model.gguf"), &long_ago), 0);
    assert_load_packs(kept, ALL); /* the model's file has another age */
    assert_load_packs(kept, NONE);

    load l;
    load_open(&l, kept);
    size_t at = (size_t)((const uint8_t *)l.matrices[3].parts->part[0].data -
                         phi3_weights_file(&l.weights, 0)->data);
    load_close(&l);
    overwrite(in_directory("model.gguf"), at + 2, "new", 3);
    assert_int_equal(utime(in_directory("model.gguf"), &long_ago), 0);
    assert_load_packs(kept, ALL); /* same size and age, other weights */
    assert_load_packs(kept, NONE);

    load_open(&l, kept);
    l.backend.packed_layout = "turned 2";
    assert_packs(&l, ALL); /* another layout */
    load_close(&l);
    load_open(&l, kept);
    l.backend.name = "returning";
    assert_packs(&l, ALL); /* another backend */
    load_close(&l);
    only_file(kept);
}

/* A model that is loaded both ways has two files, and each finds its own. */
static void test_one_file_for_each_compute_dtype(void **state)
{
    (void)state;
    char name[256];
    assert_load_packs(kept, ALL);
    for (int again = 0; again < 2; again++) {
        load l;
        load_open(&l, kept);
        for (size_t i = 1; i < N_MATRICES; i++)
            l.matrices[i].compute =
                (phi3_compute)(PHI3_COMPUTE_FLOAT32 + 1); /* packed, not mixed */
        assert_packs(&l, again ? NONE : ALL);
        load_close(&l);
    }
    assert_load_packs(kept, NONE);
    assert_int_equal(count_files(kept, name), 2);
}

static void test_a_model_of_another_place_has_another_file(void **state)
{
    (void)state;
    char name[256];
    assert_load_packs(kept, ALL);
    assert_int_equal(rename(in_directory("model.gguf"), in_directory("old.gguf")), 0);
    assert_int_equal(symlink(in_directory("old.gguf"), in_directory("model.gguf")), 0);
    assert_load_packs(kept, ALL);
    assert_load_packs(kept, NONE);
    assert_int_equal(count_files(kept, name), 2);
}

/* ---- Damage ---------------------------------------------------------------------------------- */

static void test_every_damaged_byte_is_noticed(void **state)
{
    (void)state;
    assert_load_packs(kept, ALL);
    size_t size;
    uint8_t *whole = read_all(only_file(kept), &size);
    for (size_t at = 0; at < size; at += at < 64 ? 1 : 97) {
        uint8_t damaged = whole[at] ^ 0x10;
        overwrite(only_file(kept), at, &damaged, 1);
        assert_load_packs(kept, ALL);
        size_t new_size;
        uint8_t *remade = read_all(only_file(kept), &new_size);
        assert_int_equal(new_size, size);
        assert_memory_equal(remade, whole, size);
        free(remade);
    }
    free(whole);
}

static void test_files_of_other_lengths_are_remade(void **state)
{
    (void)state;
    assert_load_packs(kept, ALL);
    size_t size = size_of(only_file(kept));
    const size_t lengths[] = {0, 1, 4095, 4096, size - 4096, size - 1, size + 1, size + 4096};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(truncate(only_file(kept), (off_t)lengths[i]), 0);
        assert_load_packs(kept, ALL);
        assert_int_equal(size_of(only_file(kept)), size);
    }
}

static void test_zeros_in_the_place_of_pages_are_noticed(void **state)
{
    (void)state;
    static const uint8_t zeros[4096];
    assert_load_packs(kept, ALL);
    for (size_t at = size_of(only_file(kept)) / 4096; at-- > 1;) {
        overwrite(only_file(kept), at * 4096, zeros, sizeof zeros);
        assert_load_packs(kept, ALL);
    }
}

/* ---- Whose file it is -------------------------------------------------------------------------- */

static void test_what_others_can_write_is_not_believed(void **state)
{
    (void)state;
    const mode_t modes[] = {0620, 0602, 0666};
    assert_load_packs(kept, ALL);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(chmod(only_file(kept), modes[i]), 0);
        assert_load_packs(kept, ALL);
        assert_int_equal(mode_of(only_file(kept)) & 0777, 0600);
    }
    if (geteuid() == 0) {
        assert_int_equal(chown(only_file(kept), 12345, 12345), 0);
        assert_load_packs(kept, ALL);
    }
    assert_load_packs(kept, NONE);
}

static void test_links_and_pipes_are_not_followed(void **state)
{
    (void)state;
    char path[512], partial[520];
    assert_load_packs(kept, ALL);
    snprintf(path, sizeof path, "%s", only_file(kept));
    snprintf(partial, sizeof partial, "%s.partial", path);
    write_text("precious", "untouched");

    assert_int_equal(rename(path, in_directory("moved")), 0);
    assert_int_equal(symlink(in_directory("moved"), path), 0);
    assert_load_packs(kept, ALL);
    assert_true(S_ISREG(mode_of(path)));

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_load_packs(kept, ALL);
    assert_true(S_ISREG(mode_of(path)));

    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(in_directory("precious"), partial), 0);
    assert_load_packs(kept, ALL); /* into memory */
    assert_int_equal(unlink(partial), 0);
    assert_int_equal(link(in_directory("precious"), partial), 0);
    assert_load_packs(kept, ALL);
    size_t size;
    uint8_t *bytes = read_all(in_directory("precious"), &size);
    assert_int_equal(size, strlen("untouched"));
    assert_memory_equal(bytes, "untouched", size);
    free(bytes);
}

/* ---- Progress -------------------------------------------------------------------------------- */

typedef struct progress {
    int calls, stop_at; /* 0: never */
    float last;
} progress;

static bool on_progress(float done, void *user_data)
{
    progress *p = user_data;
    assert_true(done >= p->last && done <= 1);
    p->last = done;
    return ++p->calls == p->stop_at;
}

static void test_progress_and_interrupts(void **state)
{
    (void)state;
    const char *directories[] = {NULL, kept, kept}; /* memory; a file is written; it is found */
    for (size_t d = 0; d < 3; d++) {
        int n_calls = 0;
        for (int stop_at = d == 0 || d == 1 ? N_MATRICES + 1 : 0; stop_at >= 0; stop_at--) {
            load l;
            char name[256];
            progress p = {.stop_at = stop_at};
            load_open(&l, directories[d]);
            l.packing.progress = on_progress;
            l.packing.progress_data = &p;
            phi3_status status = load_pack(&l);
            if (stop_at > 0) {
                assert_int_equal(status, PHI3_ERROR_INTERRUPTED);
                assert_string_equal(l.error.message, "the load was interrupted");
                assert_int_equal(d == 0 ? 0 : count_files(kept, name), 0);
            } else {
                assert_int_equal(status, PHI3_OK);
                assert_true(p.last == 1);
                n_calls = p.calls;
            }
            load_close(&l);
        }
        assert_int_equal(n_calls, N_MATRICES + 1);
    }
    for (int stop_at = N_MATRICES + 1; stop_at > 0; stop_at--) { /* while it is read */
        load l;
        progress p = {.stop_at = stop_at};
        load_open(&l, kept);
        l.packing.progress = on_progress;
        l.packing.progress_data = &p;
        assert_int_equal(load_pack(&l), PHI3_ERROR_INTERRUPTED);
        load_close(&l);
        only_file(kept);
    }
}

#define FILE_TEST(function) cmocka_unit_test_setup_teardown(function, begin, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_memory_without_a_directory),
        cmocka_unit_test(test_pages_are_tried_where_matrices_go),
        FILE_TEST(test_rows_are_packed_in_order),
        FILE_TEST(test_nothing_to_pack),
        FILE_TEST(test_bad_scales_are_refused),
        FILE_TEST(test_the_second_load_finds_the_file),
        FILE_TEST(test_a_mapped_file_may_go),
        FILE_TEST(test_a_stale_file_is_replaced),
        FILE_TEST(test_one_file_for_each_compute_dtype),
        FILE_TEST(test_a_model_of_another_place_has_another_file),
        FILE_TEST(test_every_damaged_byte_is_noticed),
        FILE_TEST(test_files_of_other_lengths_are_remade),
        FILE_TEST(test_zeros_in_the_place_of_pages_are_noticed),
        FILE_TEST(test_what_others_can_write_is_not_believed),
        FILE_TEST(test_links_and_pipes_are_not_followed),
        FILE_TEST(test_progress_and_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
