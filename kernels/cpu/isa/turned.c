/*
 * turned.c - rows of activations as columns, and products of columns as rows again: what is around a
 * product that reads the weights as they are stored (linear_onednn.h).
 */
#include "kernels.h"
#include "units.h"

#if defined(__AVX512BF16__)
enum { COLUMNS = 2 * LANES /* of a vector of pairs */ };

void ISA_NAME(phi3_turn_rows)(const float *x, size_t n_rows, size_t n_columns, uint16_t *panel)
{
    float *to = (float *)(void *)panel;
    for (size_t i = 0; i < n_columns; i += COLUMNS) {
        floats lanes[LANES];
        for (size_t r = 0; r < LANES; r++) {
            const float *from = x + r * n_columns + i;
            lanes[r] = r < n_rows ? round_pairs(load(from), load(from + LANES)) : (floats){0};
        }
        transpose(lanes);
        for (size_t pair = 0; pair < LANES; pair++, to += PHI3_ONEDNN_PANEL)
            store(to, lanes[pair]);
    }
}

void ISA_NAME(phi3_turn_sums)(const float *sums, size_t sums_stride, size_t n_rows, size_t n_out,
                              bool past_caches, float *y, size_t y_stride)
{
    bool stream = past_caches && has_whole_lines(n_out, y, y_stride);
    for (size_t r = 0; r < n_rows; r += LANES) {
        size_t rows = n_rows - r < LANES ? n_rows - r : LANES;
        for (size_t o = 0; o < n_out; o += LANES) {
            size_t count = n_out - o < LANES ? n_out - o : LANES;
            floats lanes[LANES];
            for (size_t i = 0; i < LANES; i++)
                lanes[i] = i < count ? load(sums + (o + i) * sums_stride + r) : (floats){0};
            transpose(lanes);
            for (size_t i = 0; i < rows; i++) {
                float *to = y + (r + i) * y_stride + o;
                if (stream)
                    store_past_caches(to, lanes[i]);
                else
                    store_up_to(to, lanes[i], count);
            }
        }
    }
    if (stream)
        fence_stores();
}
#endif
