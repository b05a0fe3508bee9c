/*
 * plan.h - a batch as kernels see it: its ids, angles and places in the KV cache, in device memory.
 *
 * In: a phi3_batch, which is host memory. Out: its copy, made by one transfer from pinned memory at
 * `begin`, at addresses that depend on nothing but its numbers of rows and logits. All ops of the
 * batch read the copy.
 */
#ifndef PHI3_CUDA_PLAN_H
#define PHI3_CUDA_PLAN_H

#include "cuda.h"

/* One row of the batch. */
typedef struct phi3_row_place {
    int position; /* in its sequence */
    int table;    /* where its page table begins in `pages` */
} phi3_row_place;

typedef struct phi3_plan {
    const phi3_row_place *rows; /* [n_rows] device */
    void *const *pages;         /* device: all page tables, one after the other */
    int n_rows;
    int longest; /* positions of the longest sequence, rounded up: phi3_plan_longest */

    char *host, *device; /* both copies, `size` bytes; the host's is pinned */
    size_t size;
    cudaEvent_t uploaded; /* the host's copy may be written again */
} phi3_plan;

/* The positions of the longest sequence, rounded up in steps of an eighth to a quarter: ops size
 * their launches by it, so that a recorded one fits many steps. Sequences end where rows say. */
int phi3_plan_longest(const phi3_attention *attention);

/* A plan starts as zeros. Makes it that of the batch, and points the batch's arrays into it. */
phi3_status phi3_plan_upload(phi3_plan *plan, phi3_batch *batch);
void phi3_plan_free(phi3_plan *plan);

/* The plan of the batch that `begin` was told of. */
const phi3_plan *phi3_cuda_plan(const phi3_exec *exec);

#endif
