/*
 * amx.h - AMX's tiles: eight registers of 16 rows of 64 bytes, whose numbers stand in the instructions.
 *
 * A thread configures them before it uses them and releases them afterwards, so that they are saved
 * with its other registers no longer than need be.
 */
#ifndef PHI3_CPU_ISA_AMX_H
#define PHI3_CPU_ISA_AMX_H

#include "simd.h"

#if defined(__AMX_TILE__)
enum { TILE_ROWS = 16, TILE_LINE = 64, TILE_BYTES = TILE_ROWS * TILE_LINE };

/* All eight of full size. */
INLINE void configure_tiles(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        config.rows[tile] = TILE_ROWS;
        config.row_bytes[tile] = TILE_LINE;
    }
    /* The compiler does not see what this reads, nor what tiles are loaded from. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}
#endif

#endif
