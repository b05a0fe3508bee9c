/* process.c - notices, in a child, that the parent had computed before fork(). */
#include "process.h"

#include <pthread.h>
#include <stdatomic.h>

#include "error.h"

static atomic_bool has_worked;
static atomic_bool is_orphan; /* the threads of the work were left behind in the parent */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void after_fork_in_child(void)
{
    if (atomic_load(&has_worked))
        atomic_store(&is_orphan, true);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

phi3_status phi3_process_begin_work(phi3_error *error)
{
    pthread_once(&once, watch_forks);
    if (atomic_load(&is_orphan))
        return phi3_fail(error, PHI3_ERROR_FORKED,
                         "this process was forked from one that had already loaded a model; load "
                         "models after the fork, or start workers with \"spawn\"");
    atomic_store(&has_worked, true);
    return PHI3_OK;
}
