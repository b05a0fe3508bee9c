/*
 * peaks.c - loops that keep a core's load or multiply-add units busy, to measure what they can do.
 *
 * In: memory to read, or a number of rounds. Out: the operations done, a multiply-add being two; 0
 * where the level has no instruction for it.
 */
#include "amx.h"
#include "kernels.h"
#include "simd_bytes.h"

enum { CHAINS = VECTOR_BYTES == 64 ? 16 : 8 /* independent sums, more than the units' latency */ };

/* Reads whole runs of 8 vectors; data stands at a multiple of 64. */
uint32_t ISA_NAME(phi3_peak_read)(const void *data, size_t size)
{
    enum { RUN = 8 * VECTOR_BYTES, AHEAD = 4096 };
    const char *from = data;
    uints sum[4] = {{0}};
    for (size_t i = 0; i + RUN <= size; i += RUN) {
        for (int line = 0; line < RUN; line += 64)
            __builtin_prefetch(from + i + AHEAD + line);
        for (int v = 0; v < 8; v++)
            sum[v % 4] += (uints)load_bytes(from + i + v * VECTOR_BYTES);
    }
    uints all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    uint32_t total = 0;
    for (int i = 0; i < LANES; i++)
        total += all[i];
    return total;
}

/* Keeps what was computed from being left out. */
INLINE void keep(const void *sums)
{
    __asm__ volatile("" : : "r"(sums) : "memory");
}

/* Sums that start apart: the compiler would make one of those that are equal. */
INLINE void start(floats sum[CHAINS])
{
    for (int i = 0; i < CHAINS; i++)
        sum[i] = splat((float)i);
}

double ISA_NAME(phi3_peak_float32)(size_t rounds)
{
    floats sum[CHAINS], a = splat(1), b = splat(0x1p-10f);
    start(sum);
    for (size_t n = 0; n < rounds; n++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = multiply_add(a, b, sum[i]);
    keep(sum);
    return 2.0 * LANES * CHAINS * (double)rounds;
}

#if defined(__AMX_TILE__)
/* Sums in tiles 0 to 3, of tiles 4 and 5 with 6 and 7, as tiles.c has them. A round is one product. */
enum { TILE_SUMS = 4 };

/* Tiles are left full of `byte`s: an ordinary number, as zeros might be quicker. */
INLINE void start_tiles(int byte)
{
    char line[TILE_LINE];
    memset(line, byte, sizeof line);
    configure_tiles();
    __asm__ volatile("" : : "r"(line) : "memory"); /* the compiler does not see it read */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, line, 0); /* one line for all rows */
    _tile_loadd(5, line, 0);
    _tile_loadd(6, line, 0);
    _tile_loadd(7, line, 0);
}

/* Products of tiles full of `byte`s, which are int8 or else halves of bfloat16. */
INLINE double run_tiles(bool int8, int byte, size_t rounds)
{
    start_tiles(byte);
    size_t done = 0;
    for (; done < rounds; done += TILE_SUMS) {
        if (int8) {
            _tile_dpbssd(0, 4, 6);
            _tile_dpbssd(1, 4, 7);
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        } else {
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_release();
    return 2.0 * (int8 ? 64 : 32) * TILE_ROWS * TILE_ROWS * (double)done;
}
#endif

double ISA_NAME(phi3_peak_bfloat16)(size_t rounds)
{
#if defined(__AMX_BF16__)
    return run_tiles(false, 0x3c, rounds); /* 0.0115 */
#elif defined(__AVX512BF16__)
    floats sum[CHAINS];
    start(sum);
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (size_t n = 0; n < rounds; n++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = (floats)_mm512_dpbf16_ps((__m512)sum[i], ones, ones);
    keep(sum);
    return 4.0 * LANES * CHAINS * (double)rounds;
#else
    (void)rounds;
    return 0;
#endif
}

#if defined(__AVX2__)
#if defined(__AVX512VNNI__)
enum { PRODUCTS = 1 };
#else
enum { PRODUCTS = 4 }; /* added in 16 bits before they are in 32, as int8.c does */
#endif

/* PRODUCTS vectors of bytes times as many, added in fours. Each is computed in full: the compiler
 * would share those that are equal. */
INLINE ints add_bytes(ints sum, bytes *ones)
{
#if !defined(__AVX512VNNI__)
    shorts pairs = {0};
    for (int i = 0; i < PRODUCTS; i++) {
        __asm__("" : "+v"(*ones));
        pairs += dot_pairs(*ones, *ones);
    }
    return sum + add_pairs(pairs);
#else
    __asm__("" : "+v"(*ones));
    return dot_codes(sum, *ones, *ones);
#endif
}
#endif

double ISA_NAME(phi3_peak_int8)(size_t rounds)
{
#if defined(__AMX_INT8__)
    return run_tiles(true, 1, rounds);
#elif defined(__AVX2__)
    floats sum[CHAINS];
    start(sum);
    bytes ones = splat_byte(1);
    for (size_t n = 0; n < rounds; n++)
        for (int i = 0; i < CHAINS; i++)
            sum[i] = (floats)add_bytes((ints)sum[i], &ones);
    keep(sum);
    return 8.0 * PRODUCTS * LANES * CHAINS * (double)rounds;
#else
    (void)rounds;
    return 0;
#endif
}
