/* pool.c - a list behind a lock. */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "error.h"

struct phi3_pool {
    pthread_mutex_t lock;
    phi3_idle *first;
    size_t count, most;
};

phi3_status phi3_pool_create(size_t most, phi3_pool **pool, phi3_error *error)
{
    phi3_pool *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a pool");
    made->most = most;
    pthread_mutex_init(&made->lock, NULL);
    *pool = made;
    return PHI3_OK;
}

void phi3_pool_free(phi3_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

phi3_idle *phi3_pool_take(phi3_pool *pool)
{
    if (pool == NULL)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    phi3_idle *thing = pool->first;
    if (thing != NULL) {
        pool->first = thing->next;
        pool->count--;
    }
    pthread_mutex_unlock(&pool->lock);
    return thing;
}

bool phi3_pool_put(phi3_pool *pool, phi3_idle *thing)
{
    pthread_mutex_lock(&pool->lock);
    bool has_room = pool->count < pool->most;
    if (has_room) {
        thing->next = pool->first;
        pool->first = thing;
        pool->count++;
    }
    pthread_mutex_unlock(&pool->lock);
    return has_room;
}
