/*
 * packed.h - the weights in the layout that the backend multiplies with, packed when a model is
 * loaded: one piece of memory with one matrix behind the other, or a file of the same that is kept
 * for the next start and shared between processes.
 */
#ifndef PHI3_INTERNAL_PACKED_H
#define PHI3_INTERNAL_PACKED_H

#include "kernels/backend.h"
#include "weights.h"

/* Lives as long as the matrices that read it. */
typedef struct phi3_packed {
    const uint8_t *data; /* 64-byte aligned; NULL when nothing is packed */
    void *mapping;       /* [mapping_size] what munmap gets: data is inside */
    size_t mapping_size;
} phi3_packed;

/* A matrix on its way into a model, and its place. */
typedef struct phi3_packed_matrix {
    phi3_matrix_parts *parts;
    const phi3_backend *backend;
    phi3_matrix *
        *matrix; /* made here where a device copies what is stored; else for the caller, who
                             makes it from what is packed */
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

/*
 * Places the matrices, checks what they hold and packs them, or sends them to their device; or takes
 * what is packed from a kept file, once its checksum is right. The pages of what is packed or sent are
 * given back to the system as it goes on.
 * No directory, no room and a damaged file are no errors: a warning is logged, and the weights are
 * packed into memory. *packed is freed with phi3_packed_free, also after an error.
 */
phi3_status phi3_pack(phi3_packing *packing, phi3_packed *packed, phi3_error *error);
void phi3_packed_free(phi3_packed *packed);

#endif
