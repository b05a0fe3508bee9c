/*
 * panel.h - a block of a packed panel as vectors.
 *
 * In: a panel as packed.h lays it out. Out: the codes of WIDTH vectors of lanes, quad by quad in
 * bytes, and their scales in float32. All members of a format are known to the compiler.
 */
#ifndef PHI3_ISA_PANEL_H
#define PHI3_ISA_PANEL_H

#include "kernels/cpu/packed.h"
#include "simd_bytes.h"
#include "simd_narrow.h"

enum {
    QUADS = 8,                                      /* of a block */
    PANEL_VECTORS = PHI3_QUAD_BYTES / VECTOR_BYTES, /* that hold the lanes of a panel */
    WIDTH = VECTOR_BYTES == 64 ? 2 : 1, /* of them at a time: their codes stay in registers */
};

typedef struct block {
    bytes codes[WIDTH][QUADS];
    floats scales[WIDTH][2]; /* [1] only with halves */
    floats mins[WIDTH][2];   /* what is added to every weight */
} block;

/* Bits [shift, ...) of every code from a plane of `width` bits. Lines are read in the order of their
 * addresses: the CPU's own prefetching follows such a stream, and no other. */
INLINE void add_plane(const uint8_t *plane, int width, int shift, bytes codes[WIDTH][QUADS])
{
    const uint8_t mask = (uint8_t)((1 << width) - 1);
#pragma GCC unroll 16
    for (int i = 0; i < width * WIDTH; i++) {
        const int j = i / WIDTH, v = i % WIDTH;
        bytes packed = load_bytes(plane + j * PHI3_QUAD_BYTES + v * VECTOR_BYTES);
        NO_LOAD_EARLIER();
#pragma GCC unroll 8
        for (int k = 0; k < 8 / width; k++) {
            int down = width * k - shift;
            bytes bits = down >= 0 ? shift_right(packed, down) : shift_left(packed, -down);
            bits = width == 8 ? packed : bits & (uint8_t)(mask << shift);
            bytes *code = &codes[v][j + width * k];
            *code = shift ? *code | bits : bits;
        }
    }
}

/* phi3_iq4_values, 128 higher. */
static const uint8_t iq4_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                      129, 141, 153, 166, 181, 197, 217, 241};

INLINE void load_codes(const phi3_packed_format f, const uint8_t *from, bytes codes[WIDTH][QUADS])
{
    add_plane(from, f.low_bits, 0, codes);
    if (f.high_bits)
        add_plane(from + PHI3_QUAD_BYTES * f.low_bits, f.high_bits, f.low_bits, codes);
    if (f.is_table)
#pragma GCC unroll 2
        for (int v = 0; v < WIDTH; v++)
#pragma GCC unroll 8
            for (int q = 0; q < QUADS; q++)
                codes[v][q] = look_up(iq4_codes, codes[v][q]);
}

/* The scales and mins of LANES rows; header: the group's, at lane `first`. */
INLINE void load_scales(const phi3_packed_format f, const uint8_t *header, size_t first, size_t b,
                        floats scales[2], floats mins[2])
{
    floats d = load_float16(header + 2 * first);
    floats m = f.has_m ? load_float16(header + 2 * (PHI3_PANEL_ROWS + first)) : d;
    scales[0] = d;
    mins[0] = m;
    if (!f.scale_bytes)
        return;
    const uint8_t *own =
        header + PHI3_PANEL_ROWS * (f.has_m ? 4 : 2) + PHI3_PANEL_ROWS * f.scale_bytes * b + first;
    for (int half = 0; half <= f.has_halves; half++) {
        const uint8_t *at = own + PHI3_PANEL_ROWS * half;
        if (f.has_halves && f.has_m) {
            scales[half] = d * low_nibbles_to_floats(at);
            mins[half] = m * -high_nibbles_to_floats(at);
        } else {
            scales[half] = d * (f.signed_scales ? load_int8(at) : lane_bytes_to_floats(at));
        }
    }
    if (f.has_m && !f.has_halves)
        mins[0] = m * -lane_bytes_to_floats(own + PHI3_PANEL_ROWS);
}

/* Block b of a group, its codes from `codes` on, the vectors from number `first` on. */
INLINE void load_block(const phi3_packed_format f, const uint8_t *header, const uint8_t *codes,
                       size_t b, int first, block *out)
{
#pragma GCC unroll 2
    for (int v = 0; v < WIDTH; v++)
        load_scales(f, header, (size_t)(first + v) * LANES, b, out->scales[v], out->mins[v]);
    load_codes(f, codes + first * VECTOR_BYTES, out->codes);
}

#endif
