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
enum { TILE_ROWS = 16, TILE_LINE = 64 };

/* All eight of 64 bytes in a row. Tiles 0, 1 and 4 have `upper` rows, 2, 3 and 5 `lower`, 6 and 7
 * TILE_ROWS: sums and x, and w, of tile_product.h. */
INLINE void configure_rows(size_t upper, size_t lower)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        bool is_upper = tile < 2 || tile == 4;
        config.rows[tile] = (uint8_t)(tile >= 6 ? TILE_ROWS : is_upper ? upper : lower);
        config.row_bytes[tile] = TILE_LINE;
    }
    /* The compiler does not see what this reads, nor what tiles are loaded from. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

/* All of full size. */
INLINE void configure_tiles(void)
{
    configure_rows(TILE_ROWS, TILE_ROWS);
}
#endif

#endif
