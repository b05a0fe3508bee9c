/*
 * backend.c - the table of the reference backend: plain C, one thread, no cleverness.
 *
 * It is the truth that every other backend is tested against. Sums run in double.
 */
#include <stdio.h>

#include "kernels/host_memory.h"
#include "reference.h"

static bool available(char *detail, size_t size)
{
    snprintf(detail, size, "plain C, one thread; slow, for comparison");
    return true;
}

const phi3_backend phi3_backend_reference = {
    .name = "reference",
    .available = available,
    .allocate = phi3_host_allocate,
    .release = phi3_host_release,
    .upload = phi3_host_copy,
    .download = phi3_host_copy,
    .key_lanes = 1,
    .packed_layout = "in place",
    .matrix_packed_size = phi3_reference_matrix_packed_size,
    .matrix_pack = phi3_reference_matrix_pack,
    .matrix_create = phi3_reference_matrix_create,
    .matrix_free = phi3_reference_matrix_free,
    .matrix_scratch = phi3_reference_matrix_scratch,
    .attention_scratch = phi3_reference_attention_scratch,
    .top_k_scratch = phi3_reference_top_k_scratch,
    .embed = phi3_reference_embed,
    .linear = phi3_reference_linear,
    .add_rms_norm = phi3_reference_add_rms_norm,
    .rope_append = phi3_reference_rope_append,
    .attention = phi3_reference_attention,
    .swiglu = phi3_reference_swiglu,
    .gather_rows = phi3_reference_gather_rows,
    .top_k = phi3_reference_top_k,
};
