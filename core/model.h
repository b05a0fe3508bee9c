/* model.h - the inside of a loaded model, which model_load.c builds, and what model.c does with it. */
#ifndef PHI3_INTERNAL_MODEL_H
#define PHI3_INTERNAL_MODEL_H

#include "chunk.h"
#include "devices/placement.h"
#include "files/config.h"
#include "files/packed.h"
#include "files/quantization.h"
#include "files/weights.h"
#include "kernels/backend.h"
#include "page.h"
#include "rope.h"
#include "workspace.h"

/* Weights of one transformer layer, in the memory of its segment's backend. */
typedef struct phi3_layer {
    float *attention_norm; /* [hidden] */
    phi3_matrix *qkv;      /* [(n_heads + 2 n_kv_heads) head_dim][hidden] */
    phi3_matrix *output;   /* [hidden][n_heads head_dim] */
    float *mlp_norm;       /* [hidden] */
    phi3_matrix *gate_up;  /* [2 intermediate][hidden] */
    phi3_matrix *down;     /* [hidden][intermediate] */
} phi3_layer;

struct phi3_model {
    phi3_loaded_config config;
    phi3_weights weights;                  /* the files; matrices may point into them */
    phi3_packed packed;                    /* or into what they were packed to */
    bool has_files;                        /* config and weights are open */
    char *path;                            /* of these, wherever the process works later */
    const phi3_quantization *quantization; /* NULL: as stored */
    int n_threads;
    phi3_compute compute;
    phi3_kv_layout kv; /* of all layers together */
    phi3_rope rope;

    phi3_segment *segments; /* [n_segments] in the order of the layers; usually one */
    size_t n_segments;

    phi3_matrix *embedding; /* [vocab][hidden]; of the first segment */
    phi3_layer *layers;     /* [num_hidden_layers] */
    float *final_norm;      /* [hidden]; of the last segment, as the next */
    phi3_matrix *lm_head;   /* [vocab][hidden]; the embedding itself when they are tied and on one
                               backend */

    /* What changes behind a const model. */
    phi3_pool *workspaces;
    phi3_pool *pages;
};

/* The segment with the head. */
static inline const phi3_segment *phi3_last_segment(const phi3_model *loaded)
{
    return &loaded->segments[loaded->n_segments - 1];
}

/* Takes the scratch memory that the chunk needs in each segment. */
phi3_status phi3_model_reserve_scratch(phi3_forward *forward, phi3_error *error);

/* Runs the chunk: longer caches, and logits or candidates at the caller's. Returns a bare status, which
 * the caller words; forward->segment is the one that failed. */
phi3_status phi3_model_run_chunk(phi3_forward *forward);

#endif
