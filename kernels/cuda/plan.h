/*
 * plan.h - where the rows of a batch stand in the KV cache, as kernels see it.
 *
 * The spans and page tables of a phi3_attention are host memory. A plan is their copy on the device,
 * row by row, made for one op and given back in the order of the stream.
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
    int longest; /* positions of the longest sequence */
    void *memory;
} phi3_plan;

phi3_status phi3_plan_create(const phi3_attention *attention, phi3_plan *plan);
void phi3_plan_free(phi3_plan *plan);

#endif
