/*
 * weights_quantize.c - marks the weights of an opened model to be rounded when they are loaded.
 *
 * In: weights as they are stored, the name of a quantisation. Out: the same weights with the formats
 * that they are to have; weights_prepare.c does the rounding, one matrix at a time.
 */
#include "weights.h"

typedef struct marker {
    const phi3_quantization *quantization;
    const phi3_config *config;
    size_t n_elements[PHI3_DTYPE_LIMIT]; /* so far, by format */
    size_t bytes;                        /* so far */
} marker;

static void mark_part(marker *to, phi3_matrix_parts *matrix, size_t i, phi3_tensor_role role,
                      size_t layer)
{
    phi3_tensor *part = &matrix->part[i];
    phi3_dtype dtype =
        phi3_quantization_dtype(to->quantization, to->config, role, layer, part->n_columns);
    if (dtype != part->dtype) {
        part->dtype = dtype;
        part->data = NULL; /* until it is prepared */
    }
    to->n_elements[dtype] += part->n_rows * part->n_columns;
    to->bytes += part->n_rows * phi3_dtype_row_bytes(dtype, part->n_columns);
}

/* A matrix of one part plays `whole`, one of several their roles from `first` on. */
static void mark(marker *to, phi3_matrix_parts *matrix, phi3_tensor_role whole,
                 phi3_tensor_role first, size_t layer)
{
    for (size_t i = 0; i < matrix->count; i++)
        mark_part(to, matrix, i, matrix->count == 1 ? whole : first + i, layer);
}

void phi3_weights_quantize(phi3_weights *weights, const phi3_quantization *quantization,
                           phi3_config *config)
{
    marker to = {.quantization = quantization, .config = config};
    mark(&to, &weights->embedding, PHI3_ROLE_EMBEDDING, PHI3_ROLE_EMBEDDING, 0);
    size_t embedding_bytes = to.bytes;
    for (size_t i = 0; i < weights->n_layers; i++) {
        phi3_layer_tensors *layer = &weights->layers[i];
        mark(&to, &layer->qkv, PHI3_ROLE_QKV, PHI3_ROLE_QUERY, i);
        mark(&to, &layer->output, PHI3_ROLE_ATTENTION_OUTPUT, PHI3_ROLE_ATTENTION_OUTPUT, i);
        mark(&to, &layer->gate_up, PHI3_ROLE_UP, PHI3_ROLE_GATE, i);
        mark(&to, &layer->down, PHI3_ROLE_DOWN, PHI3_ROLE_DOWN, i);
    }
    mark(&to, &weights->lm_head, PHI3_ROLE_LM_HEAD, PHI3_ROLE_LM_HEAD, 0);

    size_t most = 0, matrix_elements = 0;
    for (size_t dtype = 0; dtype < PHI3_DTYPE_LIMIT; dtype++) {
        matrix_elements += to.n_elements[dtype];
        most = to.n_elements[dtype] > to.n_elements[most] ? dtype : most;
    }
    size_t norm_elements = config->n_parameters - matrix_elements;
    config->dtype = phi3_dtype_traits((uint32_t)most)->name;
    config->embedding_bytes = embedding_bytes;
    config->weight_bytes = to.bytes + norm_elements * sizeof(float);
}
