/* pool.h - things of one kind that wait until somebody needs one again; threads share it. */
#ifndef PHI3_INTERNAL_POOL_H
#define PHI3_INTERNAL_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "phi3.h"

/* The first member of what can wait. */
typedef struct phi3_idle {
    struct phi3_idle *next;
} phi3_idle;

typedef struct phi3_pool phi3_pool;

/* A pool that holds up to `most` things. */
phi3_status phi3_pool_create(size_t most, phi3_pool **pool, phi3_error *error);

/* Frees a pool, which must be empty. */
void phi3_pool_free(phi3_pool *pool);

/* Takes the one that came last; NULL: there is none, or no pool. */
phi3_idle *phi3_pool_take(phi3_pool *pool);

/* Puts one in; false: there are enough, and the caller frees it. */
bool phi3_pool_put(phi3_pool *pool, phi3_idle *thing);

#endif
