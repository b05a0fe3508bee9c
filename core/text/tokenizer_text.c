/*
 * tokenizer_text.c - text that still knows where it came from. A normalizer may insert and replace
 * text, but a token's place is told in the caller's own text: so each byte carries the span of the
 * character that it stands for. In: sections. Out: rewritten sections. Also: characters of UTF-8.
 */
#include "tokenizer_parts.h"

/* ---- Characters ----------------------------------------------------------------------------- */

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

/* ---- Sections ------------------------------------------------------------------------------- */

phi3_offset phi3_section_origin(const phi3_section *section, size_t start, size_t end)
{
    if (end > section->size)
        end = section->size;
    if (start >= end)
        start = end > 0 ? end - 1 : 0;
    if (section->origins != NULL)
        return (phi3_offset){section->origins[start].start, section->origins[end - 1].end};
    while (start > 0 && phi3_is_continuation(section->bytes[start]))
        start--;
    while (end < section->size && phi3_is_continuation(section->bytes[end]))
        end++;
    return (phi3_offset){section->base + start, section->base + end};
}

phi3_section phi3_aligned_section(const phi3_aligned *text)
{
    return (phi3_section){.bytes = text->bytes, .size = text->size, .origins = text->origins};
}

void phi3_aligned_free(phi3_aligned *text)
{
    free(text->bytes);
    free(text->origins);
    *text = (phi3_aligned){0};
}

static bool make_room(phi3_aligned *out, size_t size)
{
    size_t needed;
    size_t limit = out->limit > 0 ? out->limit : UINT32_MAX - 1;
    return !phi3_add_overflows(out->size, size, &needed) && needed <= limit &&
           phi3_reserve(&out->bytes, &out->bytes_capacity, needed + 1, 1) &&
           phi3_reserve(&out->origins, &out->origins_capacity, needed + 1, sizeof *out->origins);
}

bool phi3_aligned_append(phi3_aligned *out, const char *bytes, size_t size, phi3_offset origin)
{
    if (!make_room(out, size))
        return false;
    memcpy(out->bytes + out->size, bytes, size);
    phi3_range span = {(uint32_t)origin.start, (uint32_t)origin.end};
    for (size_t i = 0; i < size; i++)
        out->origins[out->size + i] = span;
    out->size += size;
    return true;
}

bool phi3_aligned_copy(phi3_aligned *out, const phi3_section *section, size_t start, size_t end)
{
    size_t size = end - start;
    if (!make_room(out, size))
        return false;
    memcpy(out->bytes + out->size, section->bytes + start, size);
    phi3_range *origins = out->origins + out->size;
    out->size += size;
    if (section->origins != NULL) {
        memcpy(origins, section->origins + start, size * sizeof *origins);
        return true;
    }
    for (size_t i = start; i < end;) {
        size_t step = phi3_character_size(section->bytes + i);
        uint32_t place = section->base + (uint32_t)i;
        for (size_t k = 0; k < step; k++)
            *origins++ = (phi3_range){place, place + (uint32_t)step};
        i += step;
    }
    return true;
}

bool phi3_aligned_replace(phi3_aligned *out, const phi3_section *section, phi3_range part,
                          const char *pattern, size_t pattern_size, const char *content,
                          size_t content_size)
{
    size_t at = part.start;
    while (at < part.end) {
        const char *found = memmem(section->bytes + at, part.end - at, pattern, pattern_size);
        size_t stop = found == NULL ? part.end : (size_t)(found - section->bytes);
        if (!phi3_aligned_copy(out, section, at, stop))
            return false;
        at = stop;
        if (found != NULL) {
            /* New text takes the place of the last character that it replaces. */
            at += pattern_size;
            if (!phi3_aligned_append(out, content, content_size,
                                     phi3_section_origin(section, at - 1, at)))
                return false;
        }
    }
    return true;
}

/* ---- Normalizer ----------------------------------------------------------------------------- */

phi3_status phi3_normalize(const phi3_tokenizer *tokenizer, phi3_section *section,
                           phi3_aligned texts[2], phi3_error *error)
{
    size_t limit = (section->size + 1) * PHI3_MAX_TEXT_GROWTH;
    for (size_t i = 0; i < tokenizer->normalizer_steps && section->size > 0; i++) {
        const phi3_normalizer_step *step = &tokenizer->normalizer[i];
        phi3_aligned *out = &texts[i % 2]; /* the other one holds *section */
        phi3_range whole = {0, (uint32_t)section->size};
        out->size = 0;
        out->limit = limit < UINT32_MAX ? limit : UINT32_MAX - 1;
        bool enough_memory;
        if (step->pattern == NULL)
            enough_memory = phi3_aligned_append(out, step->content, step->content_size,
                                                phi3_section_origin(section, 0, 1)) &&
                            phi3_aligned_copy(out, section, 0, section->size);
        else
            enough_memory =
                phi3_aligned_replace(out, section, whole, step->pattern, step->pattern_size,
                                     step->content, step->content_size);
        if (!enough_memory)
            return phi3_fail_memory(error, "a text");
        *section = phi3_aligned_section(out);
    }
    return PHI3_OK;
}

phi3_status phi3_normalizer_add(phi3_tokenizer *tokenizer, const char *pattern, const char *content,
                                phi3_error *error)
{
    size_t count = tokenizer->normalizer_steps;
    phi3_normalizer_step *steps = realloc(tokenizer->normalizer, (count + 1) * sizeof *steps);
    if (steps == NULL)
        return phi3_fail_memory(error, "a normalizer");
    tokenizer->normalizer = steps;
    phi3_normalizer_step step = {.content_size = strlen(content)};
    step.content = phi3_vocabulary_keep(&tokenizer->vocabulary, content, step.content_size);
    if (pattern != NULL) {
        step.pattern_size = strlen(pattern);
        step.pattern = phi3_vocabulary_keep(&tokenizer->vocabulary, pattern, step.pattern_size);
    }
    if (step.content == NULL || (pattern != NULL && step.pattern == NULL))
        return phi3_fail_memory(error, "a normalizer");
    steps[count] = step;
    tokenizer->normalizer_steps = count + 1;
    return PHI3_OK;
}
