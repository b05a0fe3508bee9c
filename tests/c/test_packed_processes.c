/* Packed weights in a file, when others are at it too, and when there is no room or no right to write. */
#include "packing.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/base/error.h"

static char kept[96];
static int n_warnings;
static char last_warning[1024];

static void on_log(phi3_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    if (level < PHI3_LOG_WARNING)
        return;
    n_warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", message);
}

static int begin(void **state)
{
    int failed = enter_directory(state);
    snprintf(kept, sizeof kept, "%s/kept", test_directory);
    write_model("phi3");
    while_packing = NULL;
    n_warnings = 0;
    phi3_set_log_callback(on_log, NULL);
    return failed;
}

static int end(void **state)
{
    phi3_set_log_callback(NULL, NULL);
    return leave_directory(state);
}

/* ---- Processes at the same time ---------------------------------------------------------------- */

/* What a child finds: 0, and in *n_calls how often it packed. */
static void run_child(size_t *n_calls)
{
    load l;
    load_open(&l, kept);
    bool good = load_pack(&l) == PHI3_OK;
    *n_calls = n_packed;
    good = good && is_right(&l);
    load_close(&l);
    _exit(good ? 0 : 1);
}

static void wait_for(pid_t child, int expected)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, expected);
}

static void pause_briefly(void)
{
    usleep(2000);
}

static void test_of_many_processes_one_packs(void **state)
{
    (void)state;
    enum { N_CHILDREN = 6, N_ROUNDS = 10 };
    size_t *n_calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(n_calls != MAP_FAILED);
    while_packing = pause_briefly; /* so that the others come meanwhile */
    for (int round = 0; round < N_ROUNDS; round++) {
        pid_t children[N_CHILDREN];
        for (int i = 0; i < N_CHILDREN; i++) {
            children[i] = fork();
            if (children[i] == 0)
                run_child(&n_calls[i]);
        }
        size_t total = 0;
        for (int i = 0; i < N_CHILDREN; i++) {
            wait_for(children[i], 0);
            total += n_calls[i];
        }
        assert_int_equal(total, ALL);
        assert_int_equal(unlink(only_file(kept)), 0);
    }
    munmap(n_calls, 4096);
}

static void die(void)
{
    if (n_packed == 3)
        raise(SIGKILL);
}

static void test_the_file_of_a_killed_process_is_taken_over(void **state)
{
    (void)state;
    size_t n_calls;
    char name[256];
    while_packing = die;
    pid_t child = fork();
    if (child == 0)
        run_child(&n_calls);
    wait_for(child, SIGKILL);
    assert_int_equal(count_files(kept, name), 1);
    assert_non_null(strstr(name, ".partial"));
    while_packing = NULL;
    assert_load_packs(kept, ALL);
    only_file(kept);
    assert_load_packs(kept, NONE);
}

static atomic_bool *has_begun; /* shared with the child */

static void wait_for_ever(void)
{
    *has_begun = true;
    pause();
}

static bool stop_third(float done, void *calls)
{
    assert_true(done == 0);
    return ++*(int *)calls == 3;
}

/* A writer that has stopped: others wait for it, and may be interrupted. */
static void test_waiting_can_be_interrupted(void **state)
{
    (void)state;
    size_t n_calls;
    int calls = 0;
    has_begun = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(has_begun != MAP_FAILED);
    while_packing = wait_for_ever;
    pid_t child = fork();
    if (child == 0)
        run_child(&n_calls);
    while (!*has_begun)
        usleep(1000);
    load l;
    load_open(&l, kept);
    l.packing.progress = stop_third;
    l.packing.progress_data = &calls;
    while_packing = NULL;
    assert_int_equal(load_pack(&l), PHI3_ERROR_INTERRUPTED);
    assert_int_equal(n_packed, 0);
    load_close(&l);
    kill(child, SIGKILL);
    wait_for(child, SIGKILL);
    munmap(has_begun, 4096);
    assert_load_packs(kept, ALL);
    only_file(kept);
}

/* ---- No room, no right ------------------------------------------------------------------------- */

static void assert_memory_serves(const char *directory, const char *reason)
{
    n_warnings = 0;
    assert_load_packs(directory, ALL);
    assert_int_equal(n_warnings, 1);
    if (!strstr(last_warning, reason) || !strstr(last_warning, "packed into memory"))
        fail_msg("'%s' is not in: %s", reason, last_warning);
}

static void test_a_place_that_is_no_directory(void **state)
{
    (void)state;
    assert_memory_serves(in_directory("model.gguf"), strerror(ENOTDIR));
    assert_memory_serves("/proc/phi3", strerror(ENOENT));
}

/* The kept file may be used, but not be replaced. */
static void test_a_directory_that_is_read_only(void **state)
{
    (void)state;
    uid_t user = geteuid();
    chmod(test_directory, 0755);
    assert_int_equal(mkdir(kept, 0700), 0);
    if (user == 0) {
        assert_int_equal(chown(kept, 65534, 65534), 0);
        assert_int_equal(seteuid(65534), 0); /* root may write everywhere */
    }
    assert_load_packs(kept, ALL);
    assert_int_equal(chmod(kept, 0500), 0);
    assert_load_packs(kept, NONE);
    assert_int_equal(n_warnings, 0);
    FILE *file = fopen(only_file(kept), "r+b");
    fseek(file, -1, SEEK_END);
    fputc('x', file); /* damage in the last byte, which is padding */
    fclose(file);
    load l;
    load_open(&l, kept);
    assert_packs(&l, ALL);
    load_close(&l);
    assert_int_equal(n_warnings, 2);
    assert_int_equal(chmod(kept, 0700), 0);
    assert_int_equal(unlink(only_file(kept)), 0);
    assert_int_equal(chmod(kept, 0500), 0);
    assert_memory_serves(kept, strerror(EACCES));
    assert_int_equal(chmod(kept, 0700), 0);
    assert_int_equal(seteuid(user), 0);
}

static void set_file_limit(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A write beyond it would raise a signal, which ends the process. */
static void test_a_limit_on_files(void **state)
{
    (void)state;
    char name[256];
    set_file_limit(20000);
    assert_memory_serves(kept, strerror(EFBIG));
    set_file_limit(RLIM_INFINITY);
    assert_int_equal(count_files(kept, name), 0);
    assert_load_packs(kept, ALL);
}

static void lower_limit(void)
{
    if (n_packed == 2)
        set_file_limit(20000);
}

static void test_a_write_that_fails_midway(void **state)
{
    (void)state;
    char name[256];
    load l;
    signal(SIGXFSZ, SIG_IGN);
    while_packing = lower_limit;
    load_open(&l, kept);
    assert_int_equal(load_pack(&l), PHI3_OK); /* begun for a file, then done in memory */
    assert_in_range(n_packed, ALL + 1, 2 * ALL);
    set_file_limit(RLIM_INFINITY);
    while_packing = NULL;
    assert_true(is_right(&l));
    load_close(&l);
    assert_int_equal(n_warnings, 1);
    assert_non_null(strstr(last_warning, strerror(EFBIG)));
    assert_int_equal(count_files(kept, name), 0);
}

static void test_a_full_disk(void **state)
{
    (void)state;
    char name[256];
    assert_int_equal(mkdir(kept, 0700), 0);
    if (mount("tmpfs", kept, "tmpfs", 0, "size=16k") != 0)
        skip(); /* that takes root */
    assert_memory_serves(kept, strerror(ENOSPC));
    assert_int_equal(count_files(kept, name), 0);
    assert_int_equal(umount(kept), 0);
}

#define FILE_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_of_many_processes_one_packs),
        FILE_TEST(test_the_file_of_a_killed_process_is_taken_over),
        FILE_TEST(test_waiting_can_be_interrupted),
        FILE_TEST(test_a_place_that_is_no_directory),
        FILE_TEST(test_a_directory_that_is_read_only),
        FILE_TEST(test_a_limit_on_files),
        FILE_TEST(test_a_write_that_fails_midway),
        FILE_TEST(test_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
