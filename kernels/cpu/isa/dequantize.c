/*
 * dequantize.c - stored rows to float32, equal to the reference to the bit.
 *
 * Whole groups of the formats in formats.h, and 16-bit floats, have vector code of their own; for
 * the rest the reference's source is compiled for this level.
 */
#include "formats.h"
#include "kernels.h"

#define plain_row ISA_NAME(phi3_dequantize_plain_row)
#define phi3_dequantize_row plain_row
#include "kernels/reference/dequantize.c"
#undef phi3_dequantize_row

/* A run of LANES elements has one scale and one min. */
INLINE floats scale_of(const format f, const uint8_t *group, const float *scales, int element)
{
    if (f.block_bytes)
        return splat_float16(group + (size_t)element / 32 * f.block_bytes);
    return splat(scales[element / (f.half_blocks ? 16 : 32)]);
}

INLINE floats min_of(const format f, const uint8_t *group, const float *mins, int element)
{
    if (f.block_bytes)
        return splat_float16(group + (size_t)element / 32 * f.block_bytes + 2);
    return splat(mins[element / 32]);
}

/* The first n_steps vectors of a group. */
INLINE void expand_steps(const format f, const uint8_t *group, int n_steps, float *out)
{
    float scales[16], mins[8];
    if (!f.block_bytes)
        f.scales(group, scales, mins);
    UNROLL_STEPS
    for (int step = 0; step < n_steps; step++) {
        uint8_t codes[VECTOR_BYTES];
        bytes vector = f.codes(group, step);
        memcpy(codes, &vector, sizeof codes);
        for (int i = 0; i < VECTOR_BYTES; i += LANES) {
            int element = step * VECTOR_BYTES + i;
            floats v = lane_bytes_to_floats(codes + i) - (float)f.zero;
            v *= scale_of(f, group, scales, element);
            if (f.has_mins)
                v += min_of(f, group, mins, element);
            store(out + element, v);
        }
    }
}

/* What fills no step goes through one with zeros behind. Returns how many columns it has expanded. */
INLINE size_t expand_groups(const format f, const uint8_t *row, size_t n_columns, float *out)
{
    size_t done = 0;
    for (; done + GROUP <= n_columns; done += GROUP, row += f.group_bytes)
        expand_steps(f, row, STEPS, out + done);
    if (!f.block_bytes)
        return done;
    for (; done + VECTOR_BYTES <= n_columns; done += VECTOR_BYTES, row += BLOCKS * f.block_bytes)
        expand_steps(f, row, 1, out + done);
    if (done < n_columns) {
        uint8_t step[BLOCKS * sizeof(phi3_block_q8_0)] = {0}; /* the largest of them */
        float expanded[VECTOR_BYTES];
        memcpy(step, row, (n_columns - done) / 32 * f.block_bytes);
        expand_steps(f, step, 1, expanded);
        memcpy(out + done, expanded, (n_columns - done) * sizeof *out);
    }
    return n_columns;
}

INLINE size_t expand_float16(const uint8_t *row, size_t n_columns, float *out)
{
    size_t done = 0;
    for (; done + LANES <= n_columns; done += LANES)
        store(out + done, load_float16(row + 2 * done));
    return done;
}

INLINE size_t expand_bfloat16(const uint8_t *row, size_t n_columns, float *out)
{
    size_t done = 0;
    for (; done + LANES <= n_columns; done += LANES)
        store(out + done, load_bfloat16(row + 2 * done));
    return done;
}

static size_t expand(phi3_dtype dtype, const uint8_t *row, size_t n_columns, float *out)
{
    switch (dtype) {
    case PHI3_F16:
        return expand_float16(row, n_columns, out);
    case PHI3_BF16:
        return expand_bfloat16(row, n_columns, out);
    case PHI3_Q4_0:
        return expand_groups(format_q4_0, row, n_columns, out);
    case PHI3_Q4_1:
        return expand_groups(format_q4_1, row, n_columns, out);
    case PHI3_Q5_0:
        return expand_groups(format_q5_0, row, n_columns, out);
    case PHI3_Q5_1:
        return expand_groups(format_q5_1, row, n_columns, out);
    case PHI3_Q8_0:
        return expand_groups(format_q8_0, row, n_columns, out);
    case PHI3_IQ4_NL:
        return expand_groups(format_iq4_nl, row, n_columns, out);
    case PHI3_Q3_K:
        return expand_groups(format_q3_k, row, n_columns, out);
    case PHI3_Q4_K:
        return expand_groups(format_q4_k, row, n_columns, out);
    case PHI3_Q5_K:
        return expand_groups(format_q5_k, row, n_columns, out);
    case PHI3_Q6_K:
        return expand_groups(format_q6_k, row, n_columns, out);
    case PHI3_IQ4_XS:
        return expand_groups(format_iq4_xs, row, n_columns, out);
    default:
        return 0;
    }
}

void ISA_NAME(phi3_dequantize_row)(phi3_dtype dtype, const void *row, size_t n_columns, float *out)
{
    size_t done = expand(dtype, row, n_columns, out);
    if (done < n_columns)
        plain_row(dtype, (const uint8_t *)row + phi3_dtype_row_bytes(dtype, done), n_columns - done,
                  out + done);
}
