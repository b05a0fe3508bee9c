/*
 * test_backend.c - the registry, what the CPU backend runs on, and one matrix in two threads.
 */
#include <pthread.h>

#include "support.h"

/* ---- Finding a backend ----------------------------------------------------------------------- */

static void assert_found(const char *device, const phi3_backend *expected)
{
    const phi3_backend *backend = NULL;
    phi3_error error = {.message = ""};
    assert_int_equal(phi3_backend_find(device, &backend, &error), PHI3_OK);
    assert_ptr_equal(backend, expected);
}

static void assert_refused(const char *device, phi3_status expected, const char *part_of_message)
{
    const phi3_backend *backend = NULL;
    phi3_error error = {.message = ""};
    assert_int_equal(phi3_backend_find(device, &backend, &error), expected);
    if (strstr(error.message, part_of_message) == NULL)
        fail_msg("%s", error.message);
    assert_null(backend);
}

/* Without CUDA: what its devices are called, test_devices.c tests on emulated ones. */
static void devices_by_name(void **state)
{
    (void)state;
    assert_found("cpu", &phi3_backend_cpu);
    assert_found("-1", &phi3_backend_cpu);
    assert_found("reference", &phi3_backend_reference);
    const char *const cuda[] = {"cuda", "cuda:0", "cuda:1", "0", "12345678901234567890123"};
    for (size_t i = 0; i < sizeof cuda / sizeof cuda[0]; i++) {
        assert_refused(cuda[i], PHI3_ERROR_DEVICE, cuda[i]);
        assert_refused(cuda[i], PHI3_ERROR_DEVICE, "CUDA");
    }
    const char *const unknown[] = {"tpu", "",   "cuda:", "cuda:x", "cuda:1x",
                                   "1x",  "-2", "CPU",   "auto"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_refused(unknown[i], PHI3_ERROR_INVALID_ARGUMENT, "unknown device");
}

static void backends_are_listed(void **state)
{
    (void)state;
    phi3_backend_info infos[8];
    assert_int_equal(phi3_backends(infos, 8), 3);
    assert_string_equal(infos[0].name, "cuda");
    assert_false(infos[0].available);
    assert_string_equal(infos[1].name, "cpu");
    assert_true(infos[1].available);
    assert_non_null(strstr(infos[1].detail, phi3_cpu_isa()));
    assert_string_equal(infos[2].name, "reference");
    assert_true(infos[2].available);
    for (int i = 0; i < 3; i++)
        assert_true(infos[i].detail[0] != '\0');
    assert_int_equal(phi3_backends(NULL, 0), 3);
    assert_int_equal(phi3_backends(infos, 1), 3);
}

/* $PHI3_CPU_ISA is read once per process, so the question needs another one. */
static void refused(const char *isa, const char *reason)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("PHI3_CPU_ISA", isa, 1);
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "test_backend", "find", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    char text[512] = "";
    size_t size = 0;
    for (ssize_t n;
         size < sizeof text - 1 && (n = read(ends[0], text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)n;
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(text, isa));
    assert_non_null(strstr(text, reason));
}

static void unknown_isa_is_refused(void **state)
{
    (void)state;
    refused("sse9", "avx512_vnni");
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx512vnni"))
        refused("avx512_vnni", "supports");
#endif
}

/* The other side of `refused`: what a caller is told. */
static int find_and_print(void)
{
    const phi3_backend *backend = NULL;
    phi3_error error = {.message = ""};
    phi3_status status = phi3_backend_find("cpu", &backend, &error);
    printf("%s\n", error.message);
    fflush(stdout);
    return status == PHI3_ERROR_DEVICE ? 1 : 0;
}

static void threads_by_default(void **state)
{
    (void)state;
    setenv("OMP_NUM_THREADS", "3,2", 1);
    assert_int_equal(phi3_default_threads(), 3);
    setenv("OMP_NUM_THREADS", "many", 1);
    int count = phi3_default_threads();
    unsetenv("OMP_NUM_THREADS");
    assert_int_equal(phi3_default_threads(), count);
    assert_in_range(count, 1, sysconf(_SC_NPROCESSORS_ONLN));
}

/* ---- The products of the CPU backend --------------------------------------------------------- */

enum { N_OUT = 257, N_COLUMNS = 512, MAX_ROWS = 110, ROUNDS = 30 };

typedef struct user {
    const phi3_matrix *matrix;
    size_t n_rows;
    const float *x;    /* [n_rows][N_COLUMNS] */
    const float *want; /* [n_rows][N_OUT] */
    int wrong;
} user;

static void *use_matrix(void *data)
{
    user *u = data;
    size_t bytes = u->n_rows * N_OUT * sizeof(float);
    size_t size = phi3_backend_cpu.matrix_scratch(u->matrix, u->n_rows, 2);
    phi3_exec exec = {
        .n_threads = 2, .scratch = phi3_backend_cpu.allocate(size), .scratch_size = size};
    float *y = malloc(bytes);
    for (int i = 0; i < ROUNDS && exec.scratch && y; i++) {
        memset(y, 0xff, bytes);
        phi3_status status = phi3_backend_cpu.linear(&exec, u->matrix, u->x, u->n_rows, y);
        if (status != PHI3_OK || memcmp(y, u->want, bytes) != 0)
            u->wrong++;
    }
    free(y);
    phi3_backend_cpu.release(exec.scratch);
    return NULL;
}

/* The integers, and float32 in panels, each in two threads of two workers that share the weights. */
static void two_threads_share_a_matrix(void **state)
{
    (void)state;
    random_state = 7;
    const phi3_dtype dtypes[] = {PHI3_Q4_1, PHI3_F32};
    const size_t rows[] = {1, MAX_ROWS};
    float *x = random_floats(MAX_ROWS * N_COLUMNS);
    float *want = test_malloc(MAX_ROWS * N_OUT * sizeof *want);
    for (size_t d = 0; d < COUNT(dtypes); d++) {
        phi3_tensor w = random_tensor(dtypes[d], N_OUT, N_COLUMNS, 0);
        phi3_matrix *matrix = NULL;
        assert_int_equal(
            phi3_backend_cpu.matrix_create(&w, 1, PHI3_COMPUTE_MIXED, NULL, &matrix, NULL),
            PHI3_OK);
        for (size_t r = 0; r < COUNT(rows); r++) {
            size_t size = phi3_backend_cpu.matrix_scratch(matrix, rows[r], 1);
            phi3_exec exec = make_exec(&phi3_backend_cpu, 1, size);
            assert_int_equal(phi3_backend_cpu.linear(&exec, matrix, x, rows[r], want), PHI3_OK);
            free_exec(&phi3_backend_cpu, &exec);

            user users[2] = {{matrix, rows[r], x, want, 0}, {matrix, rows[r], x, want, 0}};
            pthread_t threads[2];
            for (int t = 0; t < 2; t++)
                assert_int_equal(pthread_create(&threads[t], NULL, use_matrix, &users[t]), 0);
            for (int t = 0; t < 2; t++)
                assert_int_equal(pthread_join(threads[t], NULL), 0);
            assert_int_equal(users[0].wrong + users[1].wrong, 0);
        }
        phi3_backend_cpu.matrix_free(matrix);
        test_free((void *)w.data);
    }
    test_free(x);
    test_free(want);
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_by_name),
        cmocka_unit_test(backends_are_listed),
        cmocka_unit_test(unknown_isa_is_refused),
        cmocka_unit_test(threads_by_default),
        cmocka_unit_test(two_threads_share_a_matrix),
    };
    return cmocka_run_group_tests_name("backend", tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "find"))
        return find_and_print();
    return run_on_every_isa(argv, all_tests);
}
