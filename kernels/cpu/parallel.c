/*
 * parallel.c - a pool of threads that take part in the loops of whoever calls.
 *
 * A loop stands in a list while it has indices left. A worker that is free joins the first one that
 * still takes members, works until its indices are used up, and leaves; the caller then waits for
 * the members that are still at their last index. Workers are started when a call first asks for
 * them and live until the library goes.
 */
#include "parallel.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

typedef struct loop {
    phi3_loop_body *body;
    void *context;
    size_t count;
    atomic_size_t next; /* the first index that nobody has taken */
    int n_threads;
    int n_joined;         /* threads that ever took part: the number of the next one */
    atomic_int n_working; /* workers in it now */
    struct loop *following;
} loop;

enum {
    MAX_WORKERS = 1023,
    SPINS = 2000 /* looks before a thread goes to sleep: some tens of microseconds */
};

/* All fields but the atomic ones are guarded by the mutex. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t posted; /* a loop has come, or the end */
    pthread_cond_t left;   /* a worker has left a loop */
    atomic_uint n_posted;  /* loops that ever came, for those who spin */
    loop *loops;
    pthread_t workers[MAX_WORKERS];
    int n_workers;
    bool ending;
    _Atomic pid_t process; /* whose workers these are; 0: there are none yet */
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .posted = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

static void pause_briefly(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static void work(loop *l, int thread)
{
    for (size_t i; (i = atomic_fetch_add(&l->next, 1)) < l->count;)
        l->body(l->context, i, thread);
}

/* ---- Workers --------------------------------------------------------------------------------- */

/* A loop that has both indices and room. */
static loop *find_loop(void)
{
    for (loop *l = pool.loops; l; l = l->following)
        if (l->n_joined < l->n_threads && atomic_load(&l->next) < l->count)
            return l;
    return NULL;
}

/* Called with the mutex held, and returns so. */
static void take_part(loop *l)
{
    int thread = l->n_joined++;
    atomic_fetch_add(&l->n_working, 1);
    pthread_mutex_unlock(&pool.mutex);
    work(l, thread);
    pthread_mutex_lock(&pool.mutex);
    if (atomic_fetch_sub(&l->n_working, 1) == 1)
        pthread_cond_broadcast(&pool.left);
}

/* The same: the mutex is held before and after. */
static void wait_for_loop(void)
{
    unsigned seen = atomic_load(&pool.n_posted);
    pthread_mutex_unlock(&pool.mutex);
    for (int i = 0; i < SPINS && atomic_load(&pool.n_posted) == seen; i++)
        pause_briefly();
    pthread_mutex_lock(&pool.mutex);
    if (atomic_load(&pool.n_posted) == seen && !pool.ending)
        pthread_cond_wait(&pool.posted, &pool.mutex);
}

static void *run_worker(void *unused)
{
    (void)unused;
    omp_set_num_threads(1);
    pthread_mutex_lock(&pool.mutex);
    while (!pool.ending) {
        loop *l = find_loop();
        if (l)
            take_part(l);
        else
            wait_for_loop();
    }
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

/* Starts workers until there are `wanted`; fewer do too. Signals are for the program's own
 * threads. */
static void start_workers(int wanted)
{
    pool.process = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.n_workers < wanted && pool.n_workers < MAX_WORKERS &&
           pthread_create(&pool.workers[pool.n_workers], NULL, run_worker, NULL) == 0)
        pool.n_workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* When the program ends or unloads the library, whose code the workers run. */
__attribute__((destructor)) static void end_workers(void)
{
    if (pool.process != getpid())
        return;
    pthread_mutex_lock(&pool.mutex);
    pool.ending = true;
    pthread_cond_broadcast(&pool.posted);
    pthread_mutex_unlock(&pool.mutex);
    for (int i = 0; i < pool.n_workers; i++)
        pthread_join(pool.workers[i], NULL);
}

/* ---- Callers --------------------------------------------------------------------------------- */

static void post(loop *l)
{
    pthread_mutex_lock(&pool.mutex);
    if (pool.n_workers < l->n_threads - 1 && !pool.ending)
        start_workers(l->n_threads - 1);
    l->following = pool.loops;
    pool.loops = l;
    atomic_fetch_add(&pool.n_posted, 1);
    pthread_cond_broadcast(&pool.posted);
    pthread_mutex_unlock(&pool.mutex);
}

/* Takes the loop out, so that nobody joins any more, and waits for those who have. */
static void finish(loop *l)
{
    pthread_mutex_lock(&pool.mutex);
    loop **link = &pool.loops;
    while (*link != l)
        link = &(*link)->following;
    *link = l->following;
    pthread_mutex_unlock(&pool.mutex);

    for (int i = 0; i < SPINS && atomic_load(&l->n_working) > 0; i++)
        pause_briefly();
    pthread_mutex_lock(&pool.mutex); /* even after the spin: a worker may still hold it to leave */
    while (atomic_load(&l->n_working) > 0)
        pthread_cond_wait(&pool.left, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
}

/* A fork has none of the workers, and perhaps a mutex that one of them holds for ever. */
static bool is_fork(void)
{
    return pool.process != 0 && pool.process != getpid();
}

void phi3_parallel(int n_threads, size_t count, phi3_loop_body *body, void *context)
{
    loop l = {.body = body, .context = context, .count = count, .n_joined = 1};
    l.n_threads = count < (size_t)n_threads ? (int)count : n_threads;
    if (l.n_threads > 1 && is_fork())
        l.n_threads = 1;
    int omp_threads = omp_get_max_threads();
    omp_set_num_threads(1);
    if (l.n_threads > 1)
        post(&l);
    work(&l, 0);
    if (l.n_threads > 1)
        finish(&l);
    omp_set_num_threads(omp_threads);
}
