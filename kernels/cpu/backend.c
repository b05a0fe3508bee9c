/* backend.c - the table of the CPU backend: oneDNN for matrix products, our own kernels beside it. */
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>

#include "isa.h"
#include "kernels/host_memory.h"
#include "kernels/reference/reference.h"

static bool available(char *detail, size_t size)
{
    if (phi3_isa_current() == PHI3_ISA_NONE) {
        phi3_isa_explain(detail, size);
        return false;
    }
    const dnnl_version_t *onednn = dnnl_version();
    snprintf(detail, size, "%s%s kernels, oneDNN %d.%d.%d", phi3_isa_name(phi3_isa_current()),
             phi3_isa_has_bfloat16() ? " and bfloat16" : "", onednn->major, onednn->minor,
             onednn->patch);
    return true;
}

const phi3_backend phi3_backend_cpu = {
    .name = "cpu",
    .available = available,
    .allocate = phi3_host_allocate,
    .release = phi3_host_release,
    .upload = phi3_host_copy,
    .download = phi3_host_copy,
    .matrix_create = phi3_reference_matrix_create,
    .matrix_free = phi3_reference_matrix_free,
    .matrix_scratch = phi3_reference_matrix_scratch,
    .attention_scratch = phi3_reference_attention_scratch,
    .embed = phi3_reference_embed,
    .linear = phi3_reference_linear,
    .add_rms_norm = phi3_reference_add_rms_norm,
    .rope_append = phi3_reference_rope_append,
    .attention = phi3_reference_attention,
    .swiglu = phi3_reference_swiglu,
    .gather_rows = phi3_reference_gather_rows,
};
