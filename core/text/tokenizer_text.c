/*
 * tokenizer_text.c - text that still knows where it came from. A normalizer may insert and replace
 * text, but a token's place is told in the caller's own text: so each byte carries the span of the
 * character that it stands for. In: sections. Out: rewritten sections.
 */
#include "tokenizer_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "characters.h"

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
