/*
 * scales.c - looks for NaN and infinity in the scales of quantised blocks, where one of them would
 * spoil every product.
 *
 * In: rows of a format. Out: the first row that has one. A pass over the memory, on all threads.
 */
#include <stdatomic.h>
#include <string.h>

#include "cpu/parallel.h"
#include "formats.h"

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
    default: /* floats */
        return (scale_places){0};
    }
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

typedef struct search {
    scale_places scales;
    const uint8_t *rows; /* [n_rows][row_blocks][block_bytes] */
    size_t n_rows, row_blocks, block_bytes;
    size_t piece_rows;
    atomic_size_t first_bad;
} search;

static void search_piece(void *context, size_t index, int thread)
{
    (void)thread;
    search *s = context;
    size_t row = index * s->piece_rows, end = row + s->piece_rows;
    if (end > s->n_rows)
        end = s->n_rows;
    for (; row < end; row++) {
        const uint8_t *blocks = s->rows + row * s->row_blocks * s->block_bytes;
        bool finite = true;
        for (size_t i = 0; i < s->scales.count; i++)
            finite =
                finite && all_finite(blocks + s->scales.offset[i], s->row_blocks, s->block_bytes);
        if (!finite)
            break;
    }
    size_t first = atomic_load(&s->first_bad);
    while (row < end && row < first && !atomic_compare_exchange_weak(&s->first_bad, &first, row))
        ;
}

size_t phi3_find_bad_scale(phi3_dtype dtype, const void *rows, size_t n_rows, size_t n_columns,
                           int n_threads)
{
    enum { PIECE_BYTES = 256 * 1024 };
    const phi3_dtype_info *traits = phi3_dtype_traits(dtype);
    search s = {.scales = find_scales(dtype),
                .rows = rows,
                .n_rows = n_rows,
                .row_blocks = n_columns / traits->block_size,
                .block_bytes = traits->block_bytes,
                .first_bad = n_rows};
    s.piece_rows = PIECE_BYTES / phi3_dtype_row_bytes(dtype, n_columns) + 1;
    if (s.scales.count > 0)
        phi3_parallel(n_threads, (n_rows + s.piece_rows - 1) / s.piece_rows, search_piece, &s);
    return s.first_bad;
}
