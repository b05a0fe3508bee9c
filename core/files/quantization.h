/*
 * quantization.h - which format each tensor of a quantised model gets.
 *
 * A quantisation such as "q4_k_m" is a mixture: the tensors that suffer most from rounding get more
 * bits. The mixtures are those of llama.cpp, so that a file of a name is what users expect of it.
 */
#ifndef PHI3_INTERNAL_QUANTIZATION_H
#define PHI3_INTERNAL_QUANTIZATION_H

#include "kernels/backend.h"
#include "phi3.h"

typedef struct phi3_quantization {
    const char *name;   /* "q4_k_m" */
    phi3_dtype dtype;   /* of most tensors */
    uint32_t file_type; /* general.file_type of GGUF */
} phi3_quantization;

/* Looks a name up; the error lists the known ones. */
phi3_status phi3_quantization_find(const char *name, const phi3_quantization **out,
                                   phi3_error *error);

/* general.file_type of a file that holds mostly this dtype. */
uint32_t phi3_quantization_file_type(phi3_dtype dtype);

typedef enum phi3_tensor_role {
    PHI3_ROLE_OTHER, /* norms and all else that is not a weight matrix: never quantised */
    PHI3_ROLE_EMBEDDING,
    PHI3_ROLE_LM_HEAD,
    PHI3_ROLE_QUERY,
    PHI3_ROLE_KEY,
    PHI3_ROLE_VALUE,
    PHI3_ROLE_QKV, /* the three in one tensor */
    PHI3_ROLE_ATTENTION_OUTPUT,
    PHI3_ROLE_GATE,
    PHI3_ROLE_UP, /* or gate and up in one tensor */
    PHI3_ROLE_DOWN
} phi3_tensor_role;

/* The role of a GGUF tensor by its name, such as "blk.3.ffn_down.weight", and its layer. */
phi3_tensor_role phi3_tensor_role_of(const char *name, size_t size, size_t *layer);

/* The format of a matrix. Rows that are no multiple of a format's block get the next best one. */
phi3_dtype phi3_quantization_dtype(const phi3_quantization *quantization, const phi3_config *config,
                                   phi3_tensor_role role, size_t layer, size_t n_columns);

#endif
