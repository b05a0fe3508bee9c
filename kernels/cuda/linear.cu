/*
 * linear.cu - y = x W^T on the device.
 *
 * A few rows of x (decode): bound by the bytes of W, which our kernels read once for up to eight
 * rows, 16 bytes at a time. Activations are rounded to 8 bits per 32 columns, as on the CPU, and
 * multiplied by dp4a; in the exact mode, and for float weights, everything is float32.
 * Many rows (prefill): panels of W are expanded to bfloat16 (float32 in the exact mode), cuBLAS
 * multiplies.
 *
 * A warp computes ROWS outputs for N_X rows of x: its lanes take the units of the weight rows in
 * turn, so that neighbours read neighbouring bytes, and add up their sums at the end.
 */
#include "blas.h"
#include "matrix.h"
#include "units.h"

enum { THREADS = 128, N_WARPS = THREADS / PHI3_WARP, ROWS = 2, MOST_X = 8 };

/* ---- Activations -------------------------------------------------------------------------------------- */

/* x = scale * code, a scale for each 32 columns. */
typedef struct int8_rows {
    int8_t *codes; /* [n_rows][n_columns] */
    float *scales; /* [n_rows][n_columns / 32] */
} int8_rows;

/* A warp rounds the 32 columns of one unit. A NaN or an infinity becomes the scale, and so spoils
 * the product as it should. */
static __global__ void __launch_bounds__(THREADS)
    quantize(const float *x, size_t n_units, int8_rows out)
{
    size_t unit = (size_t)blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP;
    if (unit >= n_units)
        return;
    unsigned lane = threadIdx.x % PHI3_WARP;
    float value = x[unit * PHI3_UNIT + lane];
    float largest = phi3_warp_largest(value);
    float inverse = largest > 0 && phi3_is_finite(largest) ? 127 / largest : 0;
    out.codes[unit * PHI3_UNIT + lane] = (int8_t)rintf(inverse > 0 ? value * inverse : 0);
    if (lane == 0)
        out.scales[unit] = largest / 127;
}

static __global__ void __launch_bounds__(THREADS)
    round_to_bfloat16(const float *x, size_t count, uint16_t *out)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        out[i] = phi3_float_to_bfloat16(x[i]);
}

/* ---- A few rows of x ----------------------------------------------------------------------------------- */

/* What a launch multiplies: rows of one part, by N_X rows of x. */
typedef struct product {
    phi3_planes planes;
    int n_out;      /* weight rows */
    int n_columns;  /* a multiple of 32 for quantised weights */
    const float *x; /* [N_X][n_columns] */
    int8_rows x8;   /* the same in 8 bits; codes NULL: float32 it is */
    float *y;       /* [N_X][y_stride] */
    size_t y_stride;
} product;

/* A unit of weights by the same unit of one row of x in 8 bits. */
static __device__ __forceinline__ float dot8(const phi3_unit &u, const int8_t *codes, float scale)
{
    int x[8];
    phi3_load16(reinterpret_cast<const uint8_t *>(codes), x);
    phi3_load16(reinterpret_cast<const uint8_t *>(codes) + 16, x + 4);
    float sum = 0;
    for (int half = 0; half < 2; half++) {
        int dot = 0, total = 0;
        for (int i = 4 * half; i < 4 * half + 4; i++) {
            dot = __dp4a(u.codes[i], x[i], dot);
            total = __dp4a(0x01010101, x[i], total);
        }
        sum += u.scale[half] * (float)(dot - u.zero * total) - u.min[half] * (float)total;
    }
    return scale * sum;
}

/* The same in float32. */
static __device__ __forceinline__ float dot32(const phi3_unit &u, const float *x)
{
    float sum = 0;
    for (int c = 0; c < PHI3_UNIT; c++) {
        int code = (int8_t)(u.codes[c / 4] >> (c % 4 * 8));
        sum += (u.scale[c / 16] * (float)(code - u.zero) - u.min[c / 16]) * x[c];
    }
    return sum;
}

/* Lane 0 writes what the lanes of the warp have summed up. */
template <int N_X>
static __device__ __forceinline__ void write_sums(const product &p, int first,
                                                  float sums[ROWS][N_X])
{
    for (int r = 0; r < ROWS; r++)
        for (int n = 0; n < N_X; n++) {
            float sum = phi3_warp_sum(sums[r][n]);
            if (threadIdx.x % PHI3_WARP == 0 && first + r < p.n_out)
                p.y[n * p.y_stride + first + r] = sum;
        }
}

template <typename Format, int N_X, bool EXACT>
static __global__ void __launch_bounds__(THREADS) multiply_units(product p)
{
    int first = (blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP) * ROWS;
    if (first >= p.n_out)
        return;
    int n_units = p.n_columns / PHI3_UNIT, per_block = n_units / p.planes.n_blocks;
    float sums[ROWS][N_X] = {};
    for (int i = threadIdx.x % PHI3_WARP; i < n_units; i += PHI3_WARP) {
        PHI3_UNROLL
        for (int r = 0; r < ROWS; r++) {
            size_t row = first + r < p.n_out ? first + r : first;
            phi3_unit u =
                Format::load(p.planes, row * p.planes.n_blocks + i / per_block, i % per_block);
            PHI3_UNROLL
            for (int n = 0; n < N_X; n++)
                sums[r][n] += EXACT ? dot32(u, p.x + (size_t)n * p.n_columns + i * PHI3_UNIT)
                                    : dot8(u, p.x8.codes + (size_t)n * p.n_columns + i * PHI3_UNIT,
                                           p.x8.scales[(size_t)n * n_units + i]);
        }
    }
    write_sums<N_X>(p, first, sums);
}

/* Eight elements of a float row, from column i on, of which `count` exist. */
static __device__ __forceinline__ void load8(const uint8_t *plane, phi3_dtype dtype, size_t at,
                                             int count, float out[8])
{
    size_t size = dtype == PHI3_F32 ? 4 : 2;
    const uint8_t *from = plane + at * size;
    if (count == 8 && size == 2 && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
        int words[4];
        phi3_load16(from, words);
        for (int k = 0; k < 8; k++) {
            uint16_t half = (uint16_t)(words[k / 2] >> (k % 2 * 16));
            out[k] = dtype == PHI3_F16 ? phi3_half_to_float(half) : phi3_bfloat16_to_float(half);
        }
        return;
    }
    for (int k = 0; k < 8; k++) {
        const uint16_t *half = reinterpret_cast<const uint16_t *>(from) + k;
        out[k] = k >= count          ? 0
                 : dtype == PHI3_F32 ? reinterpret_cast<const float *>(from)[k]
                 : dtype == PHI3_F16 ? phi3_half_to_float(*half)
                                     : phi3_bfloat16_to_float(*half);
    }
}

template <int N_X>
static __global__ void __launch_bounds__(THREADS) multiply_floats(product p, phi3_dtype dtype)
{
    int first = (blockIdx.x * N_WARPS + threadIdx.x / PHI3_WARP) * ROWS;
    if (first >= p.n_out)
        return;
    float sums[ROWS][N_X] = {};
    for (int i = threadIdx.x % PHI3_WARP * 8; i < p.n_columns; i += PHI3_WARP * 8) {
        int count = p.n_columns - i < 8 ? p.n_columns - i : 8;
        for (int r = 0; r < ROWS; r++) {
            size_t row = first + r < p.n_out ? first + r : first;
            float w[8];
            load8(p.planes.plane[0], dtype, row * p.n_columns + i, count, w);
            for (int n = 0; n < N_X; n++)
                for (int k = 0; k < count; k++)
                    sums[r][n] += w[k] * p.x[(size_t)n * p.n_columns + i + k];
        }
    }
    write_sums<N_X>(p, first, sums);
}

template <int N_X> static void launch_product(phi3_dtype dtype, const product &p)
{
    dim3 grid((unsigned)((p.n_out + N_WARPS * ROWS - 1) / (N_WARPS * ROWS))), block(THREADS);
    bool exact = p.x8.codes == NULL;
    switch (dtype) {
#define MULTIPLY(name, format)                                                              \
    case name:                                                                              \
        if (exact)                                                                          \
            PHI3_LAUNCH((multiply_units<format, N_X, true>), grid, block, PHI3_STREAM, p);  \
        else                                                                                \
            PHI3_LAUNCH((multiply_units<format, N_X, false>), grid, block, PHI3_STREAM, p); \
        break;
        PHI3_FOR_EACH_FORMAT(MULTIPLY)
#undef MULTIPLY
    default:
        PHI3_LAUNCH(multiply_floats<N_X>, grid, block, PHI3_STREAM, p, dtype);
    }
}

/* All rows of x, by eights, then by what is left: a row's sum is the same in each. */
static void multiply_few(phi3_dtype dtype, product p, size_t n_rows)
{
    size_t n_units = (size_t)p.n_columns / PHI3_UNIT;
    while (n_rows > 0) {
        int step = n_rows >= 8 ? 8 : n_rows >= 4 ? 4 : n_rows >= 2 ? 2 : 1;
        switch (step) {
        case 8:
            launch_product<8>(dtype, p);
            break;
        case 4:
            launch_product<4>(dtype, p);
            break;
        case 2:
            launch_product<2>(dtype, p);
            break;
        default:
            launch_product<1>(dtype, p);
        }
        p.x += (size_t)step * p.n_columns;
        if (p.x8.codes != NULL) {
            p.x8.codes += (size_t)step * p.n_columns;
            p.x8.scales += (size_t)step * n_units;
        }
        p.y += (size_t)step * p.y_stride;
        n_rows -= (size_t)step;
    }
}

/* ---- Many rows of x ------------------------------------------------------------------------------------- */

static bool is_exact(const phi3_matrix *matrix)
{
    return matrix->compute == PHI3_COMPUTE_FLOAT32;
}

/* What a part's product is computed in: float32 weights keep all of their digits. */
static phi3_dtype operand_type(const phi3_matrix *matrix, const phi3_device_part *part)
{
    return is_exact(matrix) || part->dtype == PHI3_F32 ? PHI3_F32 : PHI3_BF16;
}

static phi3_status multiply_panels(const phi3_matrix *matrix, const phi3_device_part *part,
                                   phi3_dtype dtype, const void *x, size_t n_rows, void *panel,
                                   float *y)
{
    for (size_t first = 0; first < part->n_rows; first += PHI3_PANEL_ROWS) {
        size_t left = part->n_rows - first;
        size_t count = left < PHI3_PANEL_ROWS ? left : PHI3_PANEL_ROWS;
        const void *weights = panel;
        if (part->dtype == dtype)
            weights =
                part->planes.plane[0] + first * phi3_dtype_row_bytes(dtype, matrix->n_columns);
        else
            phi3_cuda_expand(part, first, count, matrix->n_columns, dtype, panel);
        PHI3_TRY(phi3_cuda_gemm(dtype, weights, count, x, n_rows, matrix->n_columns, y + first,
                                matrix->n_rows));
    }
    return PHI3_OK;
}

/* ---- The op ------------------------------------------------------------------------------------------------ */

static bool is_quantized(phi3_dtype dtype)
{
    return phi3_dtype_traits(dtype)->block_size > 1;
}

static size_t lines(size_t size)
{
    return (size + 255) / 256 * 256;
}

/* Scratch: the activations in 8 bits with their scales, or in bfloat16 and a panel. */
size_t phi3_cuda_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads)
{
    (void)n_threads;
    size_t elements = n_rows * matrix->n_columns;
    if (n_rows <= PHI3_FEW_ROWS)
        return lines(elements) + lines(elements / PHI3_UNIT * sizeof(float));
    size_t size = is_exact(matrix) ? sizeof(float) : sizeof(uint16_t);
    return lines(elements * sizeof(uint16_t)) + PHI3_PANEL_ROWS * matrix->n_columns * size;
}

static phi3_status linear_few(const phi3_exec *exec, const phi3_matrix *matrix, const float *x,
                              size_t n_rows, float *y)
{
    size_t elements = n_rows * matrix->n_columns, n_units = elements / PHI3_UNIT;
    int8_rows x8 = {static_cast<int8_t *>(exec->scratch), NULL};
    x8.scales = reinterpret_cast<float *>(x8.codes + lines(elements));
    bool rounded = false;
    for (size_t p = 0; p < matrix->n_parts; p++) {
        const phi3_device_part *part = &matrix->parts[p];
        product what = {};
        what.planes = part->planes;
        what.n_out = (int)part->n_rows;
        what.n_columns = (int)matrix->n_columns;
        what.x = x;
        what.y = y;
        what.y_stride = matrix->n_rows;
        if (is_quantized(part->dtype) && !is_exact(matrix)) {
            if (!rounded)
                PHI3_LAUNCH(quantize, dim3((unsigned)((n_units + N_WARPS - 1) / N_WARPS)),
                            dim3(THREADS), PHI3_STREAM, x, n_units, x8);
            rounded = true;
            what.x8 = x8;
        }
        multiply_few(part->dtype, what, n_rows);
        y += part->n_rows;
    }
    return phi3_cuda_launched();
}

static phi3_status linear_many(const phi3_exec *exec, const phi3_matrix *matrix, const float *x,
                               size_t n_rows, float *y)
{
    size_t elements = n_rows * matrix->n_columns;
    uint16_t *x16 = static_cast<uint16_t *>(exec->scratch);
    char *panel = static_cast<char *>(exec->scratch) + lines(elements * sizeof *x16);
    bool rounded = false;
    for (size_t p = 0; p < matrix->n_parts; p++) {
        const phi3_device_part *part = &matrix->parts[p];
        phi3_dtype dtype = operand_type(matrix, part);
        if (dtype == PHI3_BF16 && !rounded)
            PHI3_LAUNCH(round_to_bfloat16, dim3((unsigned)((elements + THREADS - 1) / THREADS)),
                        dim3(THREADS), PHI3_STREAM, x, elements, x16);
        rounded = rounded || dtype == PHI3_BF16;
        const void *operand = dtype == PHI3_BF16 ? static_cast<const void *>(x16) : x;
        PHI3_TRY(multiply_panels(matrix, part, dtype, operand, n_rows, panel, y));
        y += part->n_rows;
    }
    return phi3_cuda_launched();
}

phi3_status phi3_cuda_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                             size_t n_rows, float *y)
{
    if (n_rows <= PHI3_FEW_ROWS)
        return linear_few(exec, weight, x, n_rows, y);
    return linear_many(exec, weight, x, n_rows, y);
}
