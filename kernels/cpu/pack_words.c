/*
 * pack_words.c - panels of the formats that most files use, written at the speed of the memory.
 *
 * In: a group of every row of a panel. Out: the bytes that pack.c would make of them, but four at a
 * time: in these formats a quad's bits stand in one word of the stored block, or in a few.
 */
#include "pack_words.h"

#include <string.h>

#include "kernels/blocks.h"
#include "packed.h"

enum { QUADS = 8 }; /* of a block of 32 columns */

static const uint32_t each_byte = 0x01010101; /* times a byte: that byte in all four */

/* Four bytes stay in their order on any machine. */
static uint32_t load(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Word number `vector` of a row: lane is where its first one is. */
static void put(uint8_t *lane, int vector, uint32_t word)
{
    memcpy(lane + vector * PHI3_QUAD_BYTES, &word, sizeof word);
}

static void put_number(uint8_t *numbers, size_t row, const uint8_t float16[2])
{
    memcpy(numbers + 2 * row, float16, 2);
}

/* Byte i of a row goes to line i of the scales. */
static void put_scales(uint8_t *lines, size_t row, const uint8_t *scales, int count)
{
    for (int i = 0; i < count; i++)
        lines[i * PHI3_PANEL_ROWS + row] = scales[i];
}

/* A plane of 4 bits: those from bit `shift` on of 32 stored bytes. */
static void put_nibbles(const uint8_t *bytes, int shift, uint8_t *lane)
{
    for (int j = 0; j < QUADS / 2; j++) {
        uint32_t first = load(bytes + 4 * j) >> shift & each_byte * 15;
        uint32_t second = load(bytes + 4 * (j + QUADS / 2)) >> shift & each_byte * 15;
        put(lane, j, first | second << 4);
    }
}

/* A plane of 2 bits, the same way. */
static void put_pairs(const uint8_t *bytes, int shift, uint8_t *lane)
{
    for (int j = 0; j < QUADS / 4; j++) {
        uint32_t word = 0;
        for (int k = 0; k < 4; k++)
            word |= (load(bytes + 4 * (j + 2 * k)) >> shift & each_byte * 3) << 2 * k;
        put(lane, j, word);
    }
}

/* A plane of 1 bit, the same way. */
static void put_bits(const uint8_t *bytes, int shift, uint8_t *lane)
{
    uint32_t word = 0;
    for (int k = 0; k < QUADS; k++)
        word |= (load(bytes + 4 * k) >> shift & each_byte) << k;
    put(lane, 0, word);
}

/* ---- Blocks of 32: the stored words as they are ------------------------------------------------- */

static void write_q4_0(const uint8_t *blocks, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    uint8_t *lane = out + phi3_packed_header_bytes(&phi3_packed_q4_0);
    for (size_t row = 0; row < n_rows; row++, blocks += row_bytes, lane += 4) {
        const phi3_block_q4_0 *block = (const void *)blocks;
        put_number(out, row, block->d);
        for (int j = 0; j < 4; j++)
            put(lane, j, load(block->codes + 4 * j));
    }
}

static void write_q4_1(const uint8_t *blocks, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    uint8_t *lane = out + phi3_packed_header_bytes(&phi3_packed_q4_1);
    for (size_t row = 0; row < n_rows; row++, blocks += row_bytes, lane += 4) {
        const phi3_block_q4_1 *block = (const void *)blocks;
        put_number(out, row, block->d);
        put_number(out + 2 * PHI3_PANEL_ROWS, row, block->m);
        for (int j = 0; j < 4; j++)
            put(lane, j, load(block->codes + 4 * j));
    }
}

static void write_q8_0(const uint8_t *blocks, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    uint8_t *lane = out + phi3_packed_header_bytes(&phi3_packed_q8_0);
    for (size_t row = 0; row < n_rows; row++, blocks += row_bytes, lane += 4) {
        const phi3_block_q8_0 *block = (const void *)blocks;
        put_number(out, row, block->d);
        for (int j = 0; j < QUADS; j++)
            put(lane, j, load((const uint8_t *)block->codes + 4 * j) ^ each_byte * 128);
    }
}

/* ---- Blocks of 256 ----------------------------------------------------------------------------- */

/* The scales and mins of q4_k and q5_k, by turns. */
static void put_k_scales(uint8_t *lines, size_t row, const uint8_t packed[12])
{
    uint8_t scales[8], mins[8];
    phi3_unpack_scales(packed, scales, mins);
    for (int b = 0; b < 8; b++) {
        lines[2 * b * PHI3_PANEL_ROWS + (int)row] = scales[b];
        lines[(2 * b + 1) * PHI3_PANEL_ROWS + (int)row] = mins[b];
    }
}

static void write_q4_k(const uint8_t *blocks, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    uint8_t *lane = out + phi3_packed_header_bytes(&phi3_packed_q4_k);
    size_t code_bytes = phi3_packed_code_bytes(&phi3_packed_q4_k);
    for (size_t row = 0; row < n_rows; row++, blocks += row_bytes, lane += 4) {
        const phi3_block_q4_k *block = (const void *)blocks;
        put_number(out, row, block->d);
        put_number(out + 2 * PHI3_PANEL_ROWS, row, block->dmin);
        put_k_scales(out + 4 * PHI3_PANEL_ROWS, row, block->scales);
        for (int b = 0; b < 8; b++)
            put_nibbles(block->codes + b / 2 * 32, b % 2 * 4, lane + (size_t)b * code_bytes);
    }
}

static void write_q5_k(const uint8_t *blocks, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    uint8_t *lane = out + phi3_packed_header_bytes(&phi3_packed_q5_k);
    size_t code_bytes = phi3_packed_code_bytes(&phi3_packed_q5_k);
    for (size_t row = 0; row < n_rows; row++, blocks += row_bytes, lane += 4) {
        const phi3_block_q5_k *block = (const void *)blocks;
        put_number(out, row, block->d);
        put_number(out + 2 * PHI3_PANEL_ROWS, row, block->dmin);
        put_k_scales(out + 4 * PHI3_PANEL_ROWS, row, block->scales);
        for (int b = 0; b < 8; b++) {
            uint8_t *to = lane + (size_t)b * code_bytes;
            put_nibbles(block->codes + b / 2 * 32, b % 2 * 4, to);
            put_bits(block->high, b, to + 4 * PHI3_QUAD_BYTES);
        }
    }
}

static void write_q6_k(const uint8_t *blocks, size_t row_bytes, size_t n_rows, uint8_t *out)
{
    uint8_t *lane = out + phi3_packed_header_bytes(&phi3_packed_q6_k);
    size_t code_bytes = phi3_packed_code_bytes(&phi3_packed_q6_k);
    for (size_t row = 0; row < n_rows; row++, blocks += row_bytes, lane += 4) {
        const phi3_block_q6_k *block = (const void *)blocks;
        put_number(out, row, block->d);
        put_scales(out + 2 * PHI3_PANEL_ROWS, row, (const uint8_t *)block->scales, 16);
        for (int b = 0; b < 8; b++) {
            int run = b / 4, quarter = b % 4;
            uint8_t *to = lane + (size_t)b * code_bytes;
            put_nibbles(block->codes + 64 * run + quarter % 2 * 32, quarter / 2 * 4, to);
            put_pairs(block->high + 32 * run, quarter * 2, to + 4 * PHI3_QUAD_BYTES);
        }
    }
}

phi3_group_writer *phi3_group_writer_for(phi3_dtype dtype)
{
    switch (dtype) {
    case PHI3_Q4_0:
    case PHI3_IQ4_NL:
        return write_q4_0;
    case PHI3_Q4_1:
        return write_q4_1;
    case PHI3_Q8_0:
        return write_q8_0;
    case PHI3_Q4_K:
        return write_q4_k;
    case PHI3_Q5_K:
        return write_q5_k;
    case PHI3_Q6_K:
        return write_q6_k;
    default:
        return NULL;
    }
}
