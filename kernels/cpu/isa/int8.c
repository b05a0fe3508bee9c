/*
 * int8.c - products of packed weights with activations quantised to 8 bits.
 *
 * In: a panel of 32 weight rows (packed.h) and activations (phi3_int8_block). Out: 32 sums for each
 * row of activations. A block of weights stays in registers while all rows of activations go by: its
 * unpacking is paid once, however many they are. The product of a block is an exact integer; it is
 * multiplied by the scales of both sides and added to a float for each lane, block after block. So a
 * row's result is the same however many rows come with it.
 *
 * What bounds it, on Zen 5: two of vpdpbusd, float products and FMA a cycle, in the same units. A
 * block and a row of x are 16 vpdpbusd and 4 of the others, so that scales for every 32 columns on
 * both sides allow 80 % of the int8 peak (73 % with mins, or with halves), and that much is reached
 * in the caches. One scale of x for 64 columns would allow 84 %, but takes SmolLM2's perplexity from
 * 0.5 % above float32 to 0.8 %. oneDNN's int8 product reaches 98 % of the peak with a scale for each
 * row and column; with one for each block it would be 96 products of 32 columns, which spend their
 * time on adding to y. Integer sums in registers for a tile of 12 rows were slower
 * (60-70 %): without the loads and stores of its float sums it would have reached 88 %.
 */
#include <math.h>

#include "kernels.h"
#include "panel.h"
#include "simd_bytes.h"

/* ---- Activations ----------------------------------------------------------------------------- */

enum { BLOCK_VECTORS = 32 / LANES };

/* A block with a NaN or an infinity gets that as its scale, and so spoils the product as it
 * should: as bits, a NaN counts as more than infinity. */
INLINE void quantize_block(const float x[32], phi3_int8_block *out)
{
    ints bits = {0};
    for (int i = 0; i < BLOCK_VECTORS; i++)
        bits = larger_ints(bits, (ints)load(x + i * LANES) & 0x7fffffff);
    float largest = phi3_float_from_bits((uint32_t)largest_int_lane(bits));
    float inverse = isfinite(largest) && largest > 0 ? 127 / largest : 0;
    floats minus[BLOCK_VECTORS] = {{0}}; /* sums of small integers: exact in any order */
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        ints codes = round_to_ints(load(x + i * LANES) * inverse);
        store_low_bytes(out->codes + i * LANES, codes);
        minus[i * 2 / BLOCK_VECTORS] -= ints_to_floats(codes);
    }
    float minus_low = sum_lanes(minus[0]), minus_high = sum_lanes(minus[1]);
    out->scale = largest / 127;
    out->code_sum = -(minus_low + minus_high);
    out->minus_sum = (int32_t)(minus_low + minus_high);
    out->minus_high_sum = (int32_t)minus_high;
}

void ISA_NAME(phi3_quantize_activations)(const float *x, size_t n_blocks, size_t stride,
                                         phi3_int8_block *out)
{
    for (size_t b = 0; b < n_blocks; b++)
        quantize_block(x + 32 * b, out + b * stride);
}

/* ---- One block ------------------------------------------------------------------------------- */

/* Half a block, with WIDTH vectors of weights: lane i of sum[v] gets the product of its codes in four
 * quads with x[16]. Codes are below 1 << n_bits. */
INLINE void add_dots(int n_bits, const bytes codes[WIDTH][QUADS], int first, const int8_t x[16],
                     ints sum[WIDTH])
{
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    if (n_bits < 8) {
        /* In 16 bits, as far as they hold: pairs of 5-bit codes reach 31 * 127 * 2, four times. */
        for (int v = 0; v < WIDTH; v++) {
            shorts pairs[2] = {0};
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                pairs[q / 2] += dot_pairs(codes[v][first + q], splat_quad(x + 4 * q));
            if (n_bits <= 5)
                sum[v] += add_pairs(pairs[0] + pairs[1]);
            else
                sum[v] += add_pairs(pairs[0]) + add_pairs(pairs[1]);
        }
        return;
    }
#else
    (void)n_bits;
#endif
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        bytes quad = splat_quad(x + 4 * q);
#pragma GCC unroll 2
        for (int v = 0; v < WIDTH; v++)
            sum[v] = dot_codes(sum[v], codes[v][first + q], quad);
    }
}

/* sum += the product of a block with one of x. */
INLINE void add_product(const phi3_packed_format f, const block *w, const phi3_int8_block *x,
                        floats sum[WIDTH])
{
    const int n_bits = f.is_table ? 8 : f.low_bits + f.high_bits;
    ints low_start = {0}, high_start = {0};
    if (f.zero_bit) {
        low_start = splat_int(x->minus_sum) << f.zero_bit;
        if (f.has_halves) {
            high_start = splat_int(x->minus_high_sum) << f.zero_bit;
            low_start -= high_start;
        }
    }
    ints low[WIDTH], high[WIDTH];
    for (int v = 0; v < WIDTH; v++) {
        low[v] = low_start;
        high[v] = high_start;
    }
    add_dots(n_bits, w->codes, 0, x->codes, low);
    add_dots(n_bits, w->codes, 4, x->codes + 16, high);
#pragma GCC unroll 2
    for (int v = 0; v < WIDTH; v++) {
        floats product;
        if (!f.has_halves) {
            product = ints_to_floats(low[v] + high[v]) * w->scales[v][0];
            if (f.has_m)
                product = multiply_add(w->mins[v][0], splat(x->code_sum), product);
        } else {
            product = ints_to_floats(low[v]) * w->scales[v][0];
            product = multiply_add(ints_to_floats(high[v]), w->scales[v][1], product);
            if (f.has_m) {
                float high_sum = -(float)x->minus_high_sum;
                product = multiply_add(w->mins[v][0], splat(x->code_sum - high_sum), product);
                product = multiply_add(w->mins[v][1], splat(high_sum), product);
            }
        }
        sum[v] = multiply_add(product, splat(x->scale), sum[v]);
    }
}

/* ---- A panel --------------------------------------------------------------------------------- */

enum { MOST_HEADER_BYTES = PHI3_PANEL_ROWS * (4 + 8 * 2) };

/*
 * Where weights are fetched to, and how many bytes ahead. On Zen 4, into the second level: with one
 * row that leaves what the CPU fetches by itself as good as it is (54 GB/s with Q4_0, 52 with Q8_0, of
 * the 53 that memory gives), which into the first level, or from further ahead, spoils (45, 38). That
 * way of its own needs lines in the order of their addresses, with which narrower vectors cannot
 * serve it. Where a block takes longer to multiply than to read, further ahead is better: with 4
 * rows Q4_0 reads 42 GB/s, 33 without, with 8 rows Q8_0 45 and 30. On an Emerald Rapids, 4096 bytes
 * ahead into the first level made 31 GB/s of 24.
 */
#if defined(__AVX512F__) && !defined(__AMX_TILE__)
enum { FIRST_LEVEL = false };

INLINE size_t fetched_ahead(const phi3_packed_format f, size_t n_rows)
{
    return 2 * n_rows <= f.low_bits + f.high_bits ? 512 : 8192;
}
#else
enum { FIRST_LEVEL = true };

INLINE size_t fetched_ahead(const phi3_packed_format f, size_t n_rows)
{
    (void)f, (void)n_rows;
    return 4096;
}
#endif

/* A group's header, read as a whole before its codes. */
typedef struct group_header {
    uint8_t bytes[MOST_HEADER_BYTES] __attribute__((aligned(64)));
} group_header;

INLINE void load_header(const phi3_packed_format f, const uint8_t *group, size_t ahead,
                        group_header *header)
{
    prefetch(group + ahead, phi3_packed_header_bytes(&f), FIRST_LEVEL);
    memcpy(header->bytes, group, phi3_packed_header_bytes(&f));
    NO_LOAD_EARLIER();
}

/* The codes of block b, which are read next. */
INLINE const uint8_t *next_codes(const phi3_packed_format f, const uint8_t *group, size_t b,
                                 size_t ahead)
{
    const uint8_t *codes = phi3_packed_codes(&f, group, b);
    prefetch(codes + ahead, phi3_packed_code_bytes(&f), FIRST_LEVEL);
    return codes;
}

INLINE void multiply_one(const phi3_packed_format f, const uint8_t *panel, size_t n_groups,
                         const phi3_int8_block *x, float *sums)
{
    const size_t ahead = fetched_ahead(f, 1);
    floats sum[PANEL_VECTORS] = {{0}};
    for (size_t g = 0; g < n_groups; g++) {
        group_header header;
        load_header(f, panel, ahead, &header);
        for (size_t b = 0; b < f.group_blocks; b++, x++) {
            const uint8_t *codes = next_codes(f, panel, b, ahead);
#pragma GCC unroll 4
            for (int v = 0; v < PANEL_VECTORS; v += WIDTH) {
                block w;
                load_block(f, header.bytes, codes, b, v, &w);
                add_product(f, &w, x, sum + v);
            }
        }
        panel += phi3_packed_group_bytes(&f);
    }
    for (int v = 0; v < PANEL_VECTORS; v++)
        store(sums + v * LANES, sum[v]);
}

INLINE void multiply_many(const phi3_packed_format f, const uint8_t *panel, size_t n_groups,
                          const phi3_int8_block *x, size_t n_rows, float *sums)
{
    const size_t ahead = fetched_ahead(f, n_rows);
    memset(sums, 0, n_rows * PHI3_PANEL_ROWS * sizeof *sums);
    for (size_t g = 0; g < n_groups; g++) {
        group_header header;
        load_header(f, panel, ahead, &header);
        for (size_t b = 0; b < f.group_blocks; b++, x += n_rows) {
            const uint8_t *codes = next_codes(f, panel, b, ahead);
            for (int v = 0; v < PANEL_VECTORS; v += WIDTH) {
                block w;
                load_block(f, header.bytes, codes, b, v, &w);
                for (size_t r = 0; r < n_rows; r++) {
                    floats sum[WIDTH];
                    float *at = sums + r * PHI3_PANEL_ROWS + (size_t)v * LANES;
#pragma GCC unroll 2
                    for (int i = 0; i < WIDTH; i++)
                        sum[i] = load(at + i * LANES);
                    add_product(f, &w, x + r, sum);
#pragma GCC unroll 2
                    for (int i = 0; i < WIDTH; i++)
                        store(at + i * LANES, sum[i]);
                }
            }
        }
        panel += phi3_packed_group_bytes(&f);
    }
}

void ISA_NAME(phi3_spread_sums)(const float *sums, size_t sums_stride, size_t n_rows, size_t n_out,
                                bool past_caches, float *y, size_t y_stride)
{
    bool stream = past_caches && has_whole_lines(n_out, y, y_stride);
    for (size_t r = 0; r < n_rows; r++, sums += sums_stride, y += y_stride) {
        if (!stream) {
            memcpy(y, sums, n_out * sizeof *y);
            continue;
        }
        for (size_t i = 0; i < n_out; i += LANES)
            store_past_caches(y + i, load(sums + i));
    }
    if (stream)
        fence_stores();
}

#define DEFINE_PRODUCT(name)                                                                 \
    void ISA_NAME(phi3_product_##name)(const uint8_t *panel, size_t n_blocks,                \
                                       const phi3_int8_block *x, size_t n_rows, float *sums) \
    {                                                                                        \
        size_t n_groups = n_blocks / phi3_packed_##name.group_blocks;                        \
        if (n_rows == 1)                                                                     \
            multiply_one(phi3_packed_##name, panel, n_groups, x, sums);                      \
        else                                                                                 \
            multiply_many(phi3_packed_##name, panel, n_groups, x, n_rows, sums);             \
    }

DEFINE_PRODUCT(q4_0)
DEFINE_PRODUCT(q4_1)
DEFINE_PRODUCT(q5_0)
DEFINE_PRODUCT(q5_1)
DEFINE_PRODUCT(q8_0)
DEFINE_PRODUCT(q2_k)
DEFINE_PRODUCT(q3_k)
DEFINE_PRODUCT(q4_k)
DEFINE_PRODUCT(q5_k)
DEFINE_PRODUCT(q6_k)
DEFINE_PRODUCT(iq4_nl)
DEFINE_PRODUCT(iq4_xs)
