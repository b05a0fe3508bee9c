/*
 * workspace.h - the activations and scratch of one forward, for up to PHI3_CHUNK_ROWS rows.
 *
 * A model keeps finished workspaces for the next forward, so that decoding allocates nothing.
 */
#ifndef PHI3_INTERNAL_WORKSPACE_H
#define PHI3_INTERNAL_WORKSPACE_H

#include "base/pool.h"
#include "kernels/backend.h"
#include "phi3.h"

enum {
    PHI3_CHUNK_ROWS = 512, /* rows that go through the layers together: enough to use every weight
                              well, few enough that an interrupt is answered soon */
    PHI3_LOGIT_ROWS = 32   /* rows that go through the head together */
};

/* The activations of one segment, in its backend's memory; rows: PHI3_CHUNK_ROWS, logit rows:
 * PHI3_LOGIT_ROWS. */
typedef struct phi3_activations {
    float *hidden;     /* [rows][hidden] the residual stream */
    float *normed;     /* [rows][hidden] */
    float *qkv;        /* [rows][(n_heads + 2 n_kv_heads) head_dim] */
    float *attended;   /* [rows][n_heads head_dim] */
    float *delta;      /* [rows][hidden] what the next norm adds to the residual stream */
    float *gate_up;    /* [rows][2 intermediate] */
    float *activated;  /* [rows][intermediate] */
    float *logits;     /* [logit rows][vocab] */
    float *top_values; /* [logit rows][PHI3_TOP_K_MAX] the highest of them ... */
    int32_t *top_ids;  /* [logit rows][PHI3_TOP_K_MAX] ... and their tokens */
    phi3_exec exec;
    void *block; /* what the pointers point into */
} phi3_activations;

typedef struct phi3_workspace {
    phi3_idle idle; /* while it waits in the model's pool */

    phi3_activations *segments; /* [n_segments] */

    /* Host memory: the plan of a chunk. */
    int32_t *ids;               /* [rows] */
    float *cosine;              /* [rows][rotary_dim / 2] */
    float *sine;                /* [rows][rotary_dim / 2] */
    phi3_kv_span *parts;        /* [rows] the spans' parts in this chunk */
    struct phi3_cache **caches; /* [rows] the cache of each part */
    size_t *logit_rows;         /* [rows] rows whose logits are wanted ... */
    size_t *logit_slots;        /* [rows] ... and the rows of the caller's array they go to */
    float *host_top_values;     /* [logit rows][PHI3_TOP_K_MAX] */
    int32_t *host_top_ids;      /* [logit rows][PHI3_TOP_K_MAX] */
    float *border;              /* [rows][hidden] on their way to the next segment */
    void *host_block;
} phi3_workspace;

/* For the workspaces of a model that wait for use. */
phi3_status phi3_workspace_pool_create(phi3_pool **pool, phi3_error *error);

/* Frees the pool and what is idle in it; no workspace may be in use. */
void phi3_workspace_pool_free(const phi3_model *model, phi3_pool *pool);

/* Takes an idle workspace of the model, or makes one. */
phi3_status phi3_workspace_acquire(const phi3_model *model, phi3_workspace **workspace,
                                   phi3_error *error);
void phi3_workspace_release(const phi3_model *model, phi3_workspace *workspace);

/* Grows the scratch memory of a segment to at least `size` bytes. */
phi3_status phi3_workspace_need_scratch(const phi3_model *model, phi3_workspace *workspace,
                                        size_t segment, size_t size, phi3_error *error);

/* Bytes of a segment's activations, without scratch memory. */
size_t phi3_workspace_bytes(const phi3_model *model);

#endif
