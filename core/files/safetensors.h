/*
 * safetensors.h - reading the weights of a Hugging Face directory: model.safetensors, or the shards
 * that model.safetensors.index.json lists.
 *
 * Specification: the README of huggingface/safetensors. A file is the length of its header (8 bytes,
 * little-endian), the header (JSON: name -> dtype, shape, data_offsets) and the data.
 */
#ifndef PHI3_INTERNAL_SAFETENSORS_H
#define PHI3_INTERNAL_SAFETENSORS_H

#include "base/file.h"
#include "kernels/backend.h"
#include "phi3.h"

typedef struct phi3_safetensors phi3_safetensors;

/* Maps every shard and checks every header. */
phi3_status phi3_safetensors_open(const char *directory, phi3_safetensors **out, phi3_error *error);
void phi3_safetensors_close(phi3_safetensors *tensors);

/*
 * A tensor by name; *found says whether there is one, *file which shard holds it (borrowed). A tensor
 * of one dimension has n_rows 1. Dtypes other than F32, F16 and BF16, and other numbers of
 * dimensions, are errors here and not at open: a file may carry what the model does not use.
 */
phi3_status phi3_safetensors_find(const phi3_safetensors *tensors, const char *name,
                                  phi3_tensor *out, const char **file, bool *found,
                                  phi3_error *error);

size_t phi3_safetensors_file_count(const phi3_safetensors *tensors);
const phi3_file *phi3_safetensors_file(const phi3_safetensors *tensors, size_t index);

size_t phi3_safetensors_count(const phi3_safetensors *tensors);
const char *phi3_safetensors_name(const phi3_safetensors *tensors, size_t index);

#endif
