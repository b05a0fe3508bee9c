/*
 * save.h - what the writing of a model is made of: a list of tensors and the metadata beside them.
 *
 * The order: save_tensors.c lists what is to be written, save_metadata.c and save_tokenizer.c describe
 * it, save.c writes.
 */
#ifndef PHI3_INTERNAL_SAVE_H
#define PHI3_INTERNAL_SAVE_H

#include "config.h"
#include "gguf_write.h"
#include "quantization.h"
#include "weights.h"

enum { PHI3_SAVED_NAME_SIZE = 64 }; /* GGUF's own limit */

/* A tensor of the new file: the rows of all parts below each other. */
typedef struct phi3_saved_tensor {
    char name[PHI3_SAVED_NAME_SIZE];
    phi3_tensor part[3];
    size_t n_parts;
    size_t
        interleaved_head; /* rows of a head whose halves are interleaved on the way; 0: as they are */
    phi3_dtype dtype;     /* as written */
    bool is_vector;
} phi3_saved_tensor;

typedef struct phi3_saved_tensors {
    phi3_saved_tensor *list; /* [count] */
    size_t count, capacity;
} phi3_saved_tensors;

/* The tensors of a Hugging Face checkpoint under their GGUF names, and those of a GGUF file under
 * their own. `quantization` NULL: as they are stored. `path` stands for the model in messages. */
phi3_status phi3_save_list_weights(const char *path, const phi3_weights *weights,
                                   const phi3_loaded_config *config,
                                   const phi3_quantization *quantization, phi3_saved_tensors *out,
                                   phi3_error *error);
phi3_status phi3_save_list_gguf(const phi3_gguf *gguf, const phi3_config *config,
                                const phi3_quantization *quantization, phi3_saved_tensors *out,
                                phi3_error *error);

/* The keys of a checkpoint: its hyper-parameters, where generation ends, and the tokenizer's. */
void phi3_save_put_config(phi3_gguf_writer *writer, const char *path,
                          const phi3_loaded_config *config, uint32_t file_type);
void phi3_save_put_ends(phi3_gguf_writer *writer, const phi3_loaded_config *config,
                        const phi3_tokenizer *tokenizer);
phi3_status phi3_save_put_tokenizer(phi3_gguf_writer *writer, const char *path,
                                    const phi3_tokenizer *tokenizer, size_t vocab_size,
                                    phi3_error *error);

#endif
