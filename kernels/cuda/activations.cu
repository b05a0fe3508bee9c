/*
 * activations.cu - x rounded for products: see activations.h.
 *
 * In: float32 rows in device memory. Out: codes of 8 bits, with a scale for 32 columns and the sum of
 * the codes for 16; or bfloat16.
 */
#include "activations.h"

#include "device.h"

enum { THREADS = 128, N_WARPS = THREADS / PHI3_WARP, UNIT = 32 };

static const size_t ALIGNMENT = 256;

/* A warp rounds the 32 columns of one unit. A NaN or an infinity becomes the scale, and so spoils
 * the product as it should. */
static __global__ void __launch_bounds__(THREADS)
    round_to_int8(const float *x, size_t n_units, phi3_int8_rows out)
{
    size_t unit = (size_t)blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP;
    if (unit >= n_units)
        return;
    unsigned lane = threadIdx.x % PHI3_WARP;
    float value = x[unit * UNIT + lane];
    float largest = phi3_warp_largest(value);
    float inverse = largest > 0 && phi3_is_finite(largest) ? 127 / largest : 0;
    int code = (int)rintf(inverse > 0 ? value * inverse : 0);
    out.codes[unit * UNIT + lane] = (int8_t)code;
    int sum = code;
    for (int bits = UNIT / 4; bits > 0; bits /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    if (lane % 16 == 0)
        out.groups[unit * 2 + lane / 16] = {largest / 127, sum};
}

static size_t lines(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

size_t phi3_cuda_int8_bytes(size_t n_rows, size_t n_columns)
{
    size_t elements = n_rows * n_columns;
    return lines(elements) + lines(elements / 16 * sizeof(phi3_x_group));
}

phi3_int8_rows phi3_cuda_round_to_int8(const float *x, size_t n_rows, size_t n_columns,
                                       void *memory)
{
    size_t elements = n_rows * n_columns, n_units = elements / UNIT;
    char *groups = static_cast<char *>(memory) + lines(elements);
    phi3_int8_rows out = {static_cast<int8_t *>(memory), reinterpret_cast<phi3_x_group *>(groups)};
    unsigned n_blocks = (unsigned)((n_units + N_WARPS - 1) / N_WARPS);
    PHI3_LAUNCH(round_to_int8, dim3(n_blocks), dim3(THREADS), PHI3_STREAM, x, n_units, out);
    return out;
}

static __global__ void __launch_bounds__(THREADS)
    round_to_bfloat16(const float *x, size_t count, uint16_t *out)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        out[i] = phi3_float_to_bfloat16(x[i]);
}

void phi3_cuda_round_to_bfloat16(const float *x, size_t count, uint16_t *out)
{
    PHI3_LAUNCH(round_to_bfloat16, dim3((unsigned)((count + THREADS - 1) / THREADS)), dim3(THREADS),
                PHI3_STREAM, x, count, out);
}
