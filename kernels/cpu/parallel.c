/*
 * parallel.c - a pool of threads that take part in the loops of whoever calls.
 *
 * A loop stands in a slot while it has indices left. A worker that is free joins the first one that
 * still has room, works until its indices are used up, and leaves; the caller then closes the slot
 * and waits for the members that are still at their last index. Workers are started when a call
 * first asks for them and live until the library goes.
 *
 * Decoding posts a hundred loops of some microseconds each for a token, so that handing one over
 * takes no lock and no system call while the workers are awake: they look for a new loop for a few
 * ten microseconds before they sleep. Mutex and conditions are for those who sleep only.
 */
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
    MAX_WORKERS = 1023,
    N_SLOTS = 64, /* loops at the same time; one more runs on its caller alone */
    SPINS = 50,   /* looks before a thread lets others have the core, if any want it, ... */
    YIELDS = 100  /* ... and looks of that kind before it goes to sleep: some ten microseconds */
};

/* A slot's state in one word: how many workers may still join, how many are in, and whether the
 * caller sleeps until they have left. */
enum { ROOM = 0xffff, WORKER = 0x10000, WORKERS = 0x7fff0000 };
#define CALLER_SLEEPS 0x80000000u

typedef struct loop {
    alignas(64) atomic_uint state;
    phi3_loop_body *body;
    void *context;
    size_t count;
    alignas(64) atomic_size_t next; /* the first index that nobody has taken */
} loop;

static struct {
    loop slots[N_SLOTS];
    alignas(64) atomic_ullong taken; /* a bit for each slot that a caller has */
    alignas(64) atomic_ullong open;  /* and for each that may have room */
    atomic_uint n_posted;            /* loops that ever came */
    atomic_int n_sleeping;           /* workers that wait for `posted` */
    atomic_int n_workers;
    atomic_bool forked; /* this is a fork, which has none of the workers */

    pthread_mutex_t mutex; /* guards what follows, and the sleep */
    pthread_cond_t posted; /* a loop has come, or the end */
    pthread_cond_t left;   /* the last worker has left a loop whose caller sleeps */
    pthread_t workers[MAX_WORKERS];
    bool watches_forks, ending;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .posted = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

/* Between looks number `i` and i + 1. */
static void wait_briefly(int i)
{
    if (i >= SPINS)
        sched_yield();
#ifdef __x86_64__
    else
        __builtin_ia32_pause();
#endif
}

static void work(loop *l, int thread)
{
    for (size_t i; (i = atomic_fetch_add(&l->next, 1)) < l->count;)
        l->body(l->context, i, thread);
}

/* ---- Workers --------------------------------------------------------------------------------- */

/* Joins a loop if it has room: returns the number of this thread there, or 0. */
static int join_loop(loop *l)
{
    unsigned state = atomic_load(&l->state);
    while ((state & ROOM) != 0)
        if (atomic_compare_exchange_weak(&l->state, &state, state - 1 + WORKER))
            return (int)(state & ROOM);
    return 0;
}

static void leave_loop(loop *l)
{
    unsigned before = atomic_fetch_sub(&l->state, WORKER);
    if ((before & CALLER_SLEEPS) && (before & WORKERS) == WORKER) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.left);
        pthread_mutex_unlock(&pool.mutex);
    }
}

/* Takes part in a loop, if there is one with room. */
static bool take_part(void)
{
    for (unsigned long long open = atomic_load(&pool.open); open; open &= open - 1) {
        loop *l = &pool.slots[__builtin_ctzll(open)];
        int thread = join_loop(l);
        if (thread > 0) {
            work(l, thread);
            leave_loop(l);
            return true;
        }
    }
    return false;
}

/* Until there are more loops than `seen`. False: there will be none. */
static bool wait_for_loop(unsigned seen)
{
    for (int i = 0; i < SPINS + YIELDS; i++) {
        if (atomic_load_explicit(&pool.n_posted, memory_order_relaxed) != seen)
            return true;
        wait_briefly(i);
    }
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.n_sleeping,
                     1); /* before the look at n_posted: post() does the reverse */
    while (atomic_load(&pool.n_posted) == seen && !pool.ending)
        pthread_cond_wait(&pool.posted, &pool.mutex);
    atomic_fetch_sub(&pool.n_sleeping, 1);
    bool ending = pool.ending;
    pthread_mutex_unlock(&pool.mutex);
    return !ending;
}

static void *run_worker(void *unused)
{
    (void)unused;
    unsigned seen;
    do {
        seen = atomic_load(&pool.n_posted);
        while (take_part())
            ;
    } while (wait_for_loop(seen));
    return NULL;
}

static void note_fork(void)
{
    atomic_store(&pool.forked, true);
}

/* Starts workers until there are `wanted`; fewer do too. Signals are for the program's own
 * threads. */
static void start_workers(int wanted)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&pool.mutex);
    if (!pool.watches_forks)
        pool.watches_forks = pthread_atfork(NULL, NULL, note_fork) == 0;
    int n = atomic_load(&pool.n_workers);
    while (pool.watches_forks && !pool.ending && n < wanted && n < MAX_WORKERS &&
           pthread_create(&pool.workers[n], NULL, run_worker, NULL) == 0)
        n++;
    atomic_store(&pool.n_workers, n);
    pthread_mutex_unlock(&pool.mutex);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* When the program ends or unloads the library, whose code the workers run. */
__attribute__((destructor)) static void end_workers(void)
{
    if (atomic_load(&pool.forked))
        return;
    pthread_mutex_lock(&pool.mutex);
    pool.ending = true;
    pthread_cond_broadcast(&pool.posted);
    pthread_mutex_unlock(&pool.mutex);
    for (int i = 0; i < atomic_load(&pool.n_workers); i++)
        pthread_join(pool.workers[i], NULL);
}

/* ---- Callers --------------------------------------------------------------------------------- */

/* A slot for the caller; NULL: all are taken. */
static loop *take_slot(void)
{
    unsigned long long taken = atomic_load(&pool.taken);
    while (~taken) {
        unsigned long long free_slot = ~taken & (taken + 1);
        if (atomic_compare_exchange_weak(&pool.taken, &taken, taken | free_slot))
            return &pool.slots[__builtin_ctzll(free_slot)];
    }
    return NULL;
}

static unsigned long long slot_bit(const loop *l)
{
    return 1ull << (l - pool.slots);
}

/* Lets up to `room` workers in. */
static void post(loop *l, int room)
{
    if (atomic_load(&pool.n_workers) < room)
        start_workers(room);
    atomic_store(&l->state, (unsigned)room);
    atomic_fetch_or(&pool.open, slot_bit(l));
    atomic_fetch_add(&pool.n_posted, 1);
    if (atomic_load(&pool.n_sleeping) > 0) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.posted);
        pthread_mutex_unlock(&pool.mutex);
    }
}

/* Closes a loop, waits for those who have joined, and gives the slot back. */
static void finish(loop *l)
{
    atomic_fetch_and(&pool.open, ~slot_bit(l));
    atomic_fetch_and(&l->state, ~(unsigned)ROOM);
    for (int i = 0; i < SPINS + YIELDS && atomic_load(&l->state) != 0; i++)
        wait_briefly(i);
    if (atomic_load(&l->state) != 0) {
        pthread_mutex_lock(&pool.mutex);
        atomic_fetch_or(&l->state, CALLER_SLEEPS);
        while (atomic_load(&l->state) & WORKERS)
            pthread_cond_wait(&pool.left, &pool.mutex);
        pthread_mutex_unlock(&pool.mutex);
        atomic_store(&l->state, 0);
    }
    atomic_fetch_and(&pool.taken, ~slot_bit(l));
}

void phi3_parallel(int n_threads, size_t count, phi3_loop_body *body, void *context)
{
    int room = (count < (size_t)n_threads ? (int)count : n_threads) - 1;
    loop *l = room > 0 && !atomic_load(&pool.forked) ? take_slot() : NULL;
    if (l) {
        l->body = body;
        l->context = context;
        l->count = count;
        atomic_store(&l->next, 0);
        post(l, room < ROOM ? room : ROOM);
        work(l, 0);
        finish(l);
    } else {
        for (size_t i = 0; i < count; i++)
            body(context, i, 0);
    }
}
