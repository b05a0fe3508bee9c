/*
 * parallel.h - spreading the indices of a loop over threads.
 *
 * Why not OpenMP's own loops: its team waits for every member at the end of every loop, and waits
 * by spinning. On a machine that others use too, a member that is not running then costs a time
 * slice, some 15 ms, where the loop takes 0.5. Here whoever is there takes the next index, the
 * caller included, and nobody waits for a thread that has not begun.
 */
#ifndef PHI3_CPU_PARALLEL_H
#define PHI3_CPU_PARALLEL_H

#include <stddef.h>

/* Index `index` of a loop. Threads that run at the same time have different numbers `thread`, from
 * 0 to n_threads - 1. */
typedef void phi3_loop_body(void *context, size_t index, int thread);

/* Calls body for every index below count, on this thread and up to n_threads - 1 others, and
 * returns when all calls have. Any threads may do so at the same time. */
void phi3_parallel(int n_threads, size_t count, phi3_loop_body *body, void *context);

#endif
