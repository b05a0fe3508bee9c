/* dequantize.c - stored rows to float32, equal to the reference to the bit. */
#include "formats.h"
#include "kernels.h"
#include "units.h"

/* The first n_steps of a group. */
INLINE void expand_steps(const format f, const uint8_t *group, size_t n_steps, float *out)
{
    scales s;
    load_scales(f, group, n_steps * BLOCKS, &s);
    UNROLL_STEPS
    for (size_t step = 0; step < n_steps; step++) {
        floats elements[STEP_VECTORS];
        expand_step(f, group, &s, step, elements);
        memcpy(out + step * STEP, elements, sizeof elements);
    }
}

INLINE void expand_blocks(const format f, const uint8_t *row, size_t n_columns, float *out)
{
    const float *end = out + n_columns;
    for (; out + GROUP <= end; out += GROUP, row += group_bytes(f))
        expand_steps(f, row, GROUP / STEP, out);
    if (f.block_size == GROUP)
        return;
    for (; out + STEP <= end; out += STEP, row += step_bytes(f))
        expand_steps(f, row, 1, out);
    if (out < end) {
        half_step half = load_half_step(f, row);
        float elements[STEP];
        expand_steps(f, half.blocks, 1, elements);
        memcpy(out, elements, sizeof elements / 2);
    }
}

INLINE void expand_floats(phi3_dtype dtype, const uint8_t *row, size_t n_columns, float *out)
{
    for (size_t i = 0; i < n_columns; i += LANES) {
        const char *from = (const char *)row + i * element_bytes(dtype);
        store_up_to(out + i, load_units_up_to(dtype, false, from, n_columns - i), n_columns - i);
    }
}

void ISA_NAME(phi3_dequantize_row)(phi3_dtype dtype, const void *row, size_t n_columns, float *out)
{
    switch (dtype) {
    case PHI3_F32:
        memcpy(out, row, n_columns * sizeof *out);
        break;
    case PHI3_F16:
        expand_floats(PHI3_F16, row, n_columns, out);
        break;
    case PHI3_BF16:
        expand_floats(PHI3_BF16, row, n_columns, out);
        break;
#define EXPAND(dtype, name)                                \
    case dtype:                                            \
        expand_blocks(format_##name, row, n_columns, out); \
        break;
        FOR_EACH_FORMAT(EXPAND)
#undef EXPAND
    default:
        break;
    }
}
