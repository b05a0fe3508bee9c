/*
 * weights_check.c - looks for NaN and infinity where one of them spoils everything: in the weights of
 * norms and in the scales of quantised blocks.
 *
 * In: a tensor inside a mapped file. Out: PHI3_OK, or an error that names file, tensor and place.
 */
#include "weights_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

phi3_status phi3_check_norm(const char *path, const char *name, const phi3_tensor *norm,
                            phi3_error *error)
{
    if (phi3_dtype_traits(norm->dtype)->block_size != 1)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: tensor '%s' is a norm stored as %s; floats are needed", path, name,
                         phi3_dtype_traits(norm->dtype)->name);
    float *values = malloc(norm->n_columns * sizeof *values);
    if (!values)
        return phi3_fail_memory(error, "a norm's weights");
    phi3_dequantize_row(norm->dtype, norm->data, norm->n_columns, values);
    size_t i = 0;
    while (i < norm->n_columns && isfinite(values[i]))
        i++;
    free(values);
    if (i < norm->n_columns)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' holds NaN or infinity at element %zu", path, name, i);
    return PHI3_OK;
}

/* ---- Scales -------------------------------------------------------------------------------- */

/* Where the float16 scales of a block are, in bytes from its start: the second is the minimum. */
typedef struct scale_places {
    size_t count;
    size_t offset[2];
} scale_places;

static scale_places find_scales(phi3_dtype dtype)
{
    switch (dtype) {
    case PHI3_Q4_0:
    case PHI3_Q5_0:
    case PHI3_Q8_0:
    case PHI3_IQ4_NL:
    case PHI3_IQ4_XS:
        return (scale_places){1, {0}};
    case PHI3_Q4_1:
    case PHI3_Q5_1:
    case PHI3_Q4_K:
    case PHI3_Q5_K:
        return (scale_places){2, {0, 2}};
    case PHI3_Q2_K:
        return (scale_places){2, {80, 82}};
    case PHI3_Q3_K:
        return (scale_places){1, {108}};
    case PHI3_Q6_K:
        return (scale_places){1, {208}};
    case PHI3_F32:
    case PHI3_F16:
    case PHI3_BF16:
    case PHI3_DTYPE_LIMIT:
        break;
    }
    return (scale_places){0};
}

/* All bits of a float16's exponent are set in NaN and infinity only. */
static bool all_finite(const uint8_t *half, size_t count, size_t stride)
{
    const uint16_t exponent = 0x7c00;
    size_t n_bad = 0;
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, half + i * stride, sizeof bits);
        n_bad += (bits & exponent) == exponent;
    }
    return n_bad == 0;
}

phi3_status phi3_check_scales(const char *path, const char *name, const phi3_tensor *tensor,
                              phi3_error *error)
{
    scale_places scales = find_scales(tensor->dtype);
    const phi3_dtype_info *traits = phi3_dtype_traits(tensor->dtype);
    size_t row_blocks = tensor->n_columns / traits->block_size;
    size_t row_bytes = row_blocks * traits->block_bytes;
    for (size_t row = 0; row < tensor->n_rows && scales.count > 0; row++) {
        const uint8_t *blocks = (const uint8_t *)tensor->data + row * row_bytes;
        for (size_t i = 0; i < scales.count; i++) {
            if (!all_finite(blocks + scales.offset[i], row_blocks, traits->block_bytes))
                return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                                 "%s: tensor '%s' has a block in row %zu whose scale is NaN or "
                                 "infinite",
                                 path, name, row);
        }
    }
    return PHI3_OK;
}
