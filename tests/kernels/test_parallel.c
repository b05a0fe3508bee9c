/* test_parallel.c - the CPU backend's loops over threads: every index once, whoever calls. */
#include <pthread.h>
#include <stdatomic.h>

#include "kernels/cpu/parallel.h"
#include "support.h"

enum { MAX_COUNT = 5000, N_CALLERS = 4 };

typedef struct record {
    int n_threads;
    atomic_int calls[MAX_COUNT];
    atomic_int busy[8]; /* by thread number */
    atomic_int faults;
} record;

static void note(void *context, size_t index, int thread)
{
    record *r = context;
    if (thread < 0 || thread >= r->n_threads || atomic_fetch_add(&r->busy[thread], 1) != 0)
        r->faults++; /* a number that is out of range or in use */
    atomic_fetch_add(&r->calls[index], 1);
    volatile int sum = 0;
    for (int i = 0; i < 50; i++)
        sum = sum + i;
    atomic_fetch_sub(&r->busy[thread], 1);
}

/* Returns how many things went wrong. */
static int run_loop(int n_threads, size_t count)
{
    record *r = calloc(1, sizeof *r);
    if (!r)
        return 1;
    r->n_threads = n_threads;
    phi3_parallel(n_threads, count, note, r);
    int faults = r->faults;
    for (size_t i = 0; i < MAX_COUNT; i++)
        faults += r->calls[i] != (i < count);
    free(r);
    return faults;
}

static void every_index_once(void **state)
{
    (void)state;
    const size_t counts[] = {0, 1, 2, 7, 1000, MAX_COUNT};
    for (int n_threads = 1; n_threads <= 8; n_threads++)
        for (size_t c = 0; c < COUNT(counts); c++)
            assert_int_equal(run_loop(n_threads, counts[c]), 0);
    for (int i = 0; i < 3000; i++) /* loops that are over before anybody comes */
        assert_int_equal(run_loop(3, 2), 0);
}

static void *call_often(void *data)
{
    int *faults = data;
    for (int i = 0; i < 300; i++)
        *faults += run_loop(1 + i % 4, (size_t)(i * 7 % 400));
    return NULL;
}

static void many_callers(void **state)
{
    (void)state;
    pthread_t threads[N_CALLERS];
    int faults[N_CALLERS] = {0};
    for (int t = 0; t < N_CALLERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, call_often, &faults[t]), 0);
    for (int t = 0; t < N_CALLERS; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_int_equal(faults[t], 0);
    }
}

static void call_again(void *context, size_t index, int thread)
{
    (void)index, (void)thread;
    atomic_fetch_add((atomic_int *)context, run_loop(2, 10));
}

static void loops_in_loops(void **state)
{
    (void)state;
    atomic_int faults = 0;
    phi3_parallel(4, 100, call_again, &faults);
    assert_int_equal(faults, 0);
}

/* A fork has none of its parent's threads: it computes alone, and ends. */
static void after_a_fork(void **state)
{
    (void)state;
    assert_int_equal(run_loop(4, 1000), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int status = run_loop(4, 1000) ? 1 : 0;
#ifdef __SANITIZE_ADDRESS__
        _exit(status); /* what the missing threads had allocated would count as lost */
#endif
        exit(status);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once),
        cmocka_unit_test(many_callers),
        cmocka_unit_test(loops_in_loops),
        cmocka_unit_test(after_a_fork),
    };
    return cmocka_run_group_tests_name("parallel", tests, NULL, NULL);
}
