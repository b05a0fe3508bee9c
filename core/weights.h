/*
 * weights.h - the tensors of a model by the role they play, wherever they are stored.
 *
 * Hugging Face directories (one or many safetensors shards) and GGUF files of the phi3 and llama
 * architectures give the same struct: model.c does not know where weights came from.
 */
#ifndef PHI3_INTERNAL_WEIGHTS_H
#define PHI3_INTERNAL_WEIGHTS_H

#include "config.h"
#include "kernels/backend.h"

/* A matrix as one tensor, or as up to three below each other (separate q, k, v or gate, up). */
typedef struct phi3_matrix_parts {
    phi3_tensor part[3];
    size_t count; /* 0: the matrix is absent */
} phi3_matrix_parts;

typedef struct phi3_layer_tensors {
    phi3_tensor attention_norm; /* [1][hidden] */
    phi3_matrix_parts qkv;      /* [(n_heads + 2 n_kv_heads) head_dim][hidden] */
    phi3_matrix_parts output;   /* [hidden][n_heads head_dim] */
    phi3_tensor mlp_norm;       /* [1][hidden] */
    phi3_matrix_parts gate_up;  /* [2 intermediate][hidden] */
    phi3_matrix_parts down;     /* [hidden][intermediate] */
} phi3_layer_tensors;

typedef struct phi3_weights {
    phi3_matrix_parts embedding;     /* [vocab][hidden] */
    phi3_layer_tensors *layers;      /* [num_hidden_layers] */
    phi3_tensor final_norm;          /* [1][hidden] */
    phi3_matrix_parts lm_head;       /* [vocab][hidden]; count 0: tied to the embedding */
    struct phi3_weight_store *store; /* the mapped files and un-permuted copies; private */
} phi3_weights;

/*
 * Opens a model: fills config (phi3_config_free) and weights (phi3_weights_close). The tensors point
 * into mapped files and live until the weights are closed. Shapes agree with the config. q and k rows
 * of llama GGUFs, which are permuted for interleaved rotation, are put back in order.
 *
 * Norms and the scales of all quantised blocks are checked for NaN and infinity: one pass over the
 * file, about 0.1 s for each GB that is in the page cache. Elements of float matrices are not.
 */
phi3_status phi3_weights_open(const char *path, phi3_loaded_config *config, phi3_weights *weights,
                              phi3_error *error);
void phi3_weights_close(phi3_weights *weights);

#endif
