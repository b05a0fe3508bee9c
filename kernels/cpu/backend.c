/* backend.c - the table of the CPU backend. */
#include <stdio.h>

#include "cpu.h"
#include "isa.h"
#include "kernels.h"
#include "kernels/host_memory.h"
#include "packed.h"

static bool available(char *detail, size_t size)
{
    if (phi3_isa_current() == PHI3_ISA_NONE) {
        phi3_isa_explain(detail, size);
        return false;
    }
    snprintf(detail, size, "%s kernels", phi3_isa_name(phi3_isa_current()));
    return true;
}

const phi3_backend phi3_backend_cpu = {
    .name = "cpu",
    .available = available,
    .allocate = phi3_host_allocate,
    .release = phi3_host_release,
    .upload = phi3_host_copy,
    .download = phi3_host_copy,
    .key_lanes = PHI3_KEY_LANES,
    .packed_layout = PHI3_PACKED_LAYOUT,
    .matrix_packed_size = phi3_cpu_matrix_packed_size,
    .matrix_pack = phi3_cpu_matrix_pack,
    .matrix_create = phi3_cpu_matrix_create,
    .matrix_free = phi3_cpu_matrix_free,
    .matrix_scratch = phi3_cpu_matrix_scratch,
    .attention_scratch = phi3_cpu_attention_scratch,
    .top_k_scratch = phi3_cpu_top_k_scratch,
    .embed = phi3_cpu_embed,
    .linear = phi3_cpu_linear,
    .add_rms_norm = phi3_cpu_add_rms_norm,
    .rope_append = phi3_cpu_rope_append,
    .attention = phi3_cpu_attention,
    .swiglu = phi3_cpu_swiglu,
    .gather_rows = phi3_cpu_gather_rows,
    .top_k = phi3_cpu_top_k,
};
