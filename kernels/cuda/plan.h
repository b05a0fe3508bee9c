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

/* Rows of one sequence that stand one after the other, for attention by tensor cores. */
typedef struct phi3_tile {
    int first_row, n_rows; /* at most PHI3_TILE_ROWS */
    int position, table;   /* of the first row */
} phi3_tile;

enum {
    PHI3_TILE_ROWS = 64,
    PHI3_TILE_MIN_ROWS = 17, /* spans with fewer rows are attended row by row */
    PHI3_SPLIT_BLOCKS = 1024 /* blocks that fill any device: see attend_rows.cu */
};

typedef struct phi3_plan {
    /* Device memory. */
    const phi3_row_place *rows; /* [n_rows] */
    const phi3_tile *tiles;     /* [n_tiles] the rows that attention takes in tiles ... */
    const int *few;             /* [n_few] ... and those that it takes one by one */
    unsigned *arrivals;         /* [PHI3_SPLIT_BLOCKS] zeros: counters, which ops leave at 0 */
    void *const *pages;         /* all page tables, one after the other */
    int n_rows, n_tiles, n_few;
    int longest; /* positions of the longest sequence, rounded up: phi3_plan_longest */

    char *host, *device; /* both copies, `size` bytes; the host's is pinned */
    size_t size;
    cudaEvent_t uploaded; /* the host's copy may be written again */
} phi3_plan;

/* The positions of the longest sequence, rounded up in steps of an eighth to a quarter: ops size
 * their launches by it, so that a recorded one fits many steps. Sequences end where rows say. */
int phi3_plan_longest(const phi3_attention *attention);

/* The rows that attention takes one by one. */
size_t phi3_plan_few(const phi3_attention *attention);

/* A plan starts as zeros. Makes it that of the batch, and points the batch's arrays into it. */
phi3_status phi3_plan_upload(phi3_plan *plan, phi3_batch *batch);
void phi3_plan_free(phi3_plan *plan);

/* The plan of the batch that `begin` was told of. */
const phi3_plan *phi3_cuda_plan(const phi3_exec *exec);

#endif
