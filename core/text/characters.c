/*
 * characters.c - characters of UTF-8 <-> their numbers; bytes <-> the characters that spell them.
 */
#include "characters.h"

uint32_t phi3_character_at(const char *text)
{
    const uint8_t *byte = (const uint8_t *)text;
    switch (phi3_character_size(text)) {
    case 1:
        return byte[0];
    case 2:
        return (byte[0] & 0x1Fu) << 6 | (byte[1] & 0x3Fu);
    case 3:
        return (byte[0] & 0x0Fu) << 12 | (byte[1] & 0x3Fu) << 6 | (byte[2] & 0x3Fu);
    default:
        return (byte[0] & 0x07u) << 18 | (byte[1] & 0x3Fu) << 12 | (byte[2] & 0x3Fu) << 6 |
               (byte[3] & 0x3Fu);
    }
}

size_t phi3_character_write(uint32_t character, char out[4])
{
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t size = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; character >>= 6)
        out[i] = (char)(0x80 | (character & 0x3F));
    out[0] = (char)(leads[size] | character);
    return size;
}

bool phi3_is_white_space(uint32_t character)
{
    return (character >= 0x09 && character <= 0x0D) || character == 0x20 || character == 0x85 ||
           character == 0xA0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200A) || character == 0x2028 ||
           character == 0x2029 || character == 0x202F || character == 0x205F || character == 0x3000;
}

/* The byte-level alphabet of GPT-2: bytes that print stand for themselves, the others follow in
 * order from U+0100 on. */
uint32_t phi3_byte_to_character(uint8_t byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0)
        return 0x121u + (byte - 0x7Fu);
    return byte == 0xAD ? 0x143 : byte;
}

int phi3_character_to_byte(uint32_t character)
{
    if (character >= 0x100 && character <= 0x120)
        return (int)character - 0x100;
    if (character >= 0x121 && character <= 0x142)
        return (int)character - 0x121 + 0x7F;
    if (character == 0x143)
        return 0xAD;
    bool prints = (character > 0x20 && character < 0x7F) ||
                  (character > 0xA0 && character < 0x100 && character != 0xAD);
    return prints ? (int)character : -1;
}
