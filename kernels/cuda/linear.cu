/*
 * linear.cu - y = x W^T on the device: which product takes which rows.
 *
 * A few rows of x (decode): bound by the bytes of W, which our own kernels (products.h) read once.
 * Activations are rounded to 8 bits, as on the CPU; in the exact mode, and for float weights, all is
 * float32.
 * Many rows (prefill): panels of W are expanded to what the tensor cores multiply, and cuBLAS does.
 */
#include "blas.h"
#include "products.h"

/* Expanded weights at a time: what the L2 cache of a large card holds, so that cuBLAS finds them
 * there, and enough rows for all of its multiprocessors. */
static const size_t PANEL_BYTES = (size_t)48 << 20;

static bool is_quantized(phi3_dtype dtype)
{
    return phi3_dtype_traits(dtype)->block_size > 1;
}

static bool is_exact(const phi3_matrix *matrix)
{
    return matrix->compute == PHI3_COMPUTE_FLOAT32;
}

static bool uses_int8(const phi3_matrix *matrix, const phi3_device_part *part)
{
    return is_quantized(part->dtype) && !is_exact(matrix);
}

static bool are_few(const phi3_matrix *matrix, const phi3_device_part *part, size_t n_rows)
{
    return n_rows <= (uses_int8(matrix, part) ? PHI3_FEW_INT8_ROWS : PHI3_FEW_ROWS);
}

/* ---- Scratch ----------------------------------------------------------------------------------- */

/* What a product needs beside its arguments. */
typedef struct scratch_layout {
    size_t int8;     /* at 0: activations in 8 bits */
    size_t bfloat16; /* after them: activations in bfloat16 */
    size_t panel;    /* then a panel */
} scratch_layout;

static size_t lines(size_t size)
{
    return (size + 255) / 256 * 256;
}

static size_t element_bytes(phi3_operand operand)
{
    return operand == PHI3_OPERAND_BFLOAT16 ? sizeof(uint16_t) : sizeof(float);
}

/* What a part's product is computed in. float32 weights keep all of their digits, and so do float16
 * weights in TF32. */
static phi3_operand operand_of(const phi3_matrix *matrix, const phi3_device_part *part)
{
    if (is_exact(matrix) || part->dtype == PHI3_F32)
        return PHI3_OPERAND_FLOAT32;
    return part->dtype == PHI3_F16 ? PHI3_OPERAND_TF32 : PHI3_OPERAND_BFLOAT16;
}

static bool is_in_place(const phi3_device_part *part, phi3_operand operand)
{
    return part->dtype == (operand == PHI3_OPERAND_BFLOAT16 ? PHI3_BF16 : PHI3_F32);
}

/* Rows of a panel: the part in equal pieces that fit PANEL_BYTES. */
static size_t panel_rows(const phi3_matrix *matrix, const phi3_device_part *part)
{
    size_t row_bytes = matrix->n_columns * element_bytes(operand_of(matrix, part));
    size_t n_panels = (part->n_rows * row_bytes + PANEL_BYTES - 1) / PANEL_BYTES;
    return n_panels > 1 ? (part->n_rows + n_panels - 1) / n_panels : part->n_rows;
}

static scratch_layout layout_of(const phi3_matrix *matrix, size_t n_rows)
{
    scratch_layout layout = {0, 0, 0};
    for (size_t p = 0; p < matrix->n_parts; p++) {
        const phi3_device_part *part = &matrix->parts[p];
        phi3_operand operand = operand_of(matrix, part);
        if (are_few(matrix, part, n_rows)) {
            if (uses_int8(matrix, part))
                layout.int8 = phi3_cuda_int8_bytes(n_rows, matrix->n_columns);
            continue;
        }
        if (operand == PHI3_OPERAND_BFLOAT16)
            layout.bfloat16 = lines(n_rows * matrix->n_columns * sizeof(uint16_t));
        size_t panel = panel_rows(matrix, part) * matrix->n_columns * element_bytes(operand);
        if (!is_in_place(part, operand) && panel > layout.panel)
            layout.panel = panel;
    }
    return layout;
}

/* A smaller batch may need more than a larger one: few rows want other things than many. */
size_t phi3_cuda_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads)
{
    (void)n_threads;
    size_t most = 0;
    const size_t counts[] = {n_rows, PHI3_FEW_INT8_ROWS, PHI3_FEW_ROWS};
    for (size_t count : counts) {
        scratch_layout layout = layout_of(matrix, count < n_rows ? count : n_rows);
        size_t size = layout.int8 + layout.bfloat16 + layout.panel;
        most = size > most ? size : most;
    }
    return most;
}

/* ---- The op ------------------------------------------------------------------------------------ */

/* A product under way: what all of its parts share. */
typedef struct work {
    const phi3_matrix *matrix;
    const float *x; /* [n_rows][n_columns] */
    size_t n_rows;
    char *scratch;
    scratch_layout layout;
    phi3_int8_rows x8; /* codes NULL: not rounded yet */
    uint16_t *x16;     /* the same */
} work;

static void multiply_few(work *w, const phi3_device_part *part, float *y)
{
    phi3_product product = {};
    product.planes = part->planes;
    product.n_out = (int)part->n_rows;
    product.n_columns = (int)w->matrix->n_columns;
    product.n_rows = (int)w->n_rows;
    product.x = w->x;
    product.y = y;
    product.y_stride = w->matrix->n_rows;
    if (uses_int8(w->matrix, part)) {
        if (w->x8.codes == NULL)
            w->x8 = phi3_cuda_round_to_int8(w->x, w->n_rows, w->matrix->n_columns, w->scratch);
        product.x8 = w->x8;
        phi3_cuda_multiply_int8(part->dtype, product);
    } else if (is_quantized(part->dtype)) {
        phi3_cuda_multiply_exact(part->dtype, product);
    } else {
        phi3_cuda_multiply_floats(part->dtype, product);
    }
}

static phi3_status multiply_many(work *w, const phi3_device_part *part, float *y)
{
    phi3_operand operand = operand_of(w->matrix, part);
    size_t n_columns = w->matrix->n_columns, at_once = panel_rows(w->matrix, part);
    phi3_dtype dtype = operand == PHI3_OPERAND_BFLOAT16 ? PHI3_BF16 : PHI3_F32;
    const void *x = w->x;
    if (dtype == PHI3_BF16) {
        if (w->x16 == NULL) {
            w->x16 = reinterpret_cast<uint16_t *>(w->scratch + w->layout.int8);
            phi3_cuda_round_to_bfloat16(w->x, w->n_rows * n_columns, w->x16);
        }
        x = w->x16;
    }
    char *panel = w->scratch + w->layout.int8 + w->layout.bfloat16;
    for (size_t first = 0; first < part->n_rows; first += at_once) {
        size_t left = part->n_rows - first, count = left < at_once ? left : at_once;
        const void *weights = panel;
        if (is_in_place(part, operand))
            weights = part->planes.plane[0] + first * phi3_dtype_row_bytes(dtype, n_columns);
        else
            phi3_cuda_expand(part, first, count, n_columns, dtype, panel);
        PHI3_TRY(phi3_cuda_gemm(operand, weights, count, x, w->n_rows, n_columns, y + first,
                                w->matrix->n_rows));
    }
    return PHI3_OK;
}

phi3_status phi3_cuda_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                             size_t n_rows, float *y)
{
    work w = {};
    w.matrix = weight, w.x = x, w.n_rows = n_rows;
    w.scratch = static_cast<char *>(exec->scratch);
    w.layout = layout_of(weight, n_rows);
    for (size_t p = 0; p < weight->n_parts && n_rows > 0; p++) {
        const phi3_device_part *part = &weight->parts[p];
        if (are_few(weight, part, n_rows))
            multiply_few(&w, part, y);
        else
            PHI3_TRY(multiply_many(&w, part, y));
        y += part->n_rows;
    }
    return phi3_cuda_launched();
}
