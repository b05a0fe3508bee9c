/*
 * weights.h - the tensors of a model by the role they play, wherever they are stored.
 *
 * Hugging Face directories (one or many safetensors shards) and GGUF files of the phi3 and llama
 * architectures give the same struct: model.c does not know where weights came from.
 */
#ifndef PHI3_INTERNAL_WEIGHTS_H
#define PHI3_INTERNAL_WEIGHTS_H

#include "base/file.h"
#include "config.h"
#include "kernels/backend.h"
#include "quantization.h"

enum { PHI3_TENSOR_NAME_SIZE = 128 };

/* A matrix as one tensor, or as up to three below each other (separate q, k, v or gate, up). */
typedef struct phi3_matrix_parts {
    phi3_tensor part[3];                 /* for the backend; see phi3_weights_prepare */
    size_t count;                        /* 0: the matrix is absent */
    phi3_tensor stored[3];               /* in the file */
    const char *file[3];                 /* where each part stands, and its name there: */
    char name[3][PHI3_TENSOR_NAME_SIZE]; /* for messages */
    size_t interleaved_head;             /* rows of a head when parts 0 and 1 are a llama GGUF's q
                                            and k, whose rows are to be put in order; else 0 */
    void *copy;                          /* of parts that are not as they are stored; owned */
    bool is_table;                       /* rows are read singly, too, wherever it was packed to:
                                            the copy stays */
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
    phi3_layer_tensors *layers;      /* [n_layers] */
    size_t n_layers;                 /* num_hidden_layers */
    phi3_tensor final_norm;          /* [1][hidden] */
    phi3_matrix_parts lm_head;       /* [vocab][hidden]; count 0: tied to the embedding */
    struct phi3_weight_store *store; /* the mapped files; private */
} phi3_weights;

/*
 * Opens a model: fills config (phi3_config_free) and weights (phi3_weights_close). The tensors point
 * into mapped files and live until the weights are closed. Shapes agree with the config, norms are
 * finite; of the matrices nothing has been read yet.
 */
phi3_status phi3_weights_open(const char *path, phi3_loaded_config *config, phi3_weights *weights,
                              phi3_error *error);
void phi3_weights_close(phi3_weights *weights);

/* The mapped files that hold the weights. Borrowed. */
size_t phi3_weights_file_count(const phi3_weights *weights);
const phi3_file *phi3_weights_file(const phi3_weights *weights, size_t index);

/* Every matrix is to be rounded to the quantisation's formats when it is prepared. */
void phi3_weights_quantize(phi3_weights *weights, const phi3_quantization *quantization,
                           phi3_config *config);

/*
 * A matrix is prepared before all of it is read: parts that are to differ from what is stored are made
 * in a copy, on n_threads: q and k rows of llama GGUFs, which are permuted for interleaved rotation, in
 * order; weights that are to be quantised. Once it is packed, its memory is released: the copy, but
 * for a table's, and the pages of the file, which come back when they are read again.
 */
phi3_status phi3_weights_prepare(phi3_matrix_parts *parts, int n_threads, phi3_error *error);
void phi3_weights_release(phi3_matrix_parts *parts);

/* Looks for NaN and infinity in the scales of quantised blocks (not in the elements of float
 * matrices), in a pass on n_threads. Packing does so, too, but cannot say where they are. */
phi3_status phi3_weights_check(const phi3_matrix_parts *parts, int n_threads, phi3_error *error);

/* Tells the system that a matrix will be read soon. */
void phi3_weights_expect(const phi3_matrix_parts *parts);

#endif
