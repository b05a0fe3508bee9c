/* characters.h - the characters of UTF-8 that is known to be valid (utf8.h tells), and the byte-level
 * alphabet, in which each byte of a text is spelled as a character. */
#ifndef PHI3_INTERNAL_CHARACTERS_H
#define PHI3_INTERNAL_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that begins at `text`. */
static inline size_t phi3_character_size(const char *text)
{
    uint8_t byte = (uint8_t)*text;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* Whether a byte is one of a character's that is not its first. */
static inline bool phi3_is_continuation(char byte)
{
    return ((uint8_t)byte & 0xC0) == 0x80;
}

/* The number of the character that begins at `text`; and a character as UTF-8: its size is returned. */
uint32_t phi3_character_at(const char *text);
size_t phi3_character_write(uint32_t character, char out[4]);

/* Unicode's White_Space. */
bool phi3_is_white_space(uint32_t character);

/* The byte-level alphabet: byte -> its character, and back (-1: not in the alphabet). */
uint32_t phi3_byte_to_character(uint8_t byte);
int phi3_character_to_byte(uint32_t character);

/* How many bytes of UTF-8 the byte's character has. */
static inline size_t phi3_spelled_size(char byte)
{
    return phi3_byte_to_character((uint8_t)byte) < 0x80 ? 1 : 2;
}

#endif
