/* utf8.h - where characters begin and end in UTF-8 (RFC 3629). */
#ifndef PHI3_INTERNAL_UTF8_H
#define PHI3_INTERNAL_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that text begins with, 1 to 4; 0 when its first bytes form none (overlong
 * forms, surrogates and numbers above U+10FFFF are none) or `size` ends inside it. */
static inline size_t phi3_utf8_character(const char *text, size_t size)
{
    const uint8_t *byte = (const uint8_t *)text;
    if (size == 0)
        return 0;
    if (byte[0] < 0x80)
        return 1;
    size_t length = byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : 2;
    if (byte[0] < 0xC2 || byte[0] > 0xF4 || size < length)
        return 0;
    uint8_t lowest = byte[0] == 0xE0 ? 0xA0 : byte[0] == 0xF0 ? 0x90 : 0x80;
    uint8_t highest = byte[0] == 0xED ? 0x9F : byte[0] == 0xF4 ? 0x8F : 0xBF;
    if (byte[1] < lowest || byte[1] > highest)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if ((byte[i] & 0xC0) != 0x80)
            return 0;
    }
    return length;
}

#endif
