/* packing.h - what is to be packed: all the matrices of a model, and how. */
#ifndef PHI3_INTERNAL_PACKING_H
#define PHI3_INTERNAL_PACKING_H

#include "kernels/backend.h"
#include "weights.h"

/* A matrix on its way into a model, and its place. */
typedef struct phi3_packed_matrix {
    phi3_matrix_parts *parts;
    const phi3_backend *backend;
    /* Made by phi3_pack where a device copies what is stored; else by the caller, from what is packed. */
    phi3_matrix **matrix;
    phi3_compute compute;
    size_t offset; /* in phi3_packed.data, a multiple of 64 */
    size_t size;   /* 0: the backend reads the parts where they are */
} phi3_packed_matrix;

/* All the matrices of a model, in the order in which they are packed. */
typedef struct phi3_packing {
    const phi3_weights *weights;
    phi3_packed_matrix *matrices; /* [n_matrices], placed by phi3_pack */
    size_t n_matrices;
    const char *path;      /* of the model */
    const char *directory; /* where a file may be kept; NULL or "": nowhere */
    int n_threads;
    phi3_progress_callback progress; /* may be NULL */
    void *progress_data;
} phi3_packing;

#endif
