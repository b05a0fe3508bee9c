/* tokenizer_text.h - text that still knows where in the caller's text it came from. */
#ifndef PHI3_INTERNAL_TOKENIZER_TEXT_H
#define PHI3_INTERNAL_TOKENIZER_TEXT_H

#include "phi3.h"

typedef struct phi3_range {
    uint32_t start, end;
} phi3_range;

/* A part of the text on its way to the model. */
typedef struct phi3_section {
    const char *bytes;
    size_t size;
    const phi3_range *origins; /* [size] where in the caller's text each byte's character stood;
                                 NULL: this is the caller's text itself, from `base` on */
    uint32_t base;
} phi3_section;

/* Where in the caller's text the bytes [start, end) came from: whole characters. */
phi3_offset phi3_section_origin(const phi3_section *section, size_t start, size_t end);

/* Memory for a section that differs from the caller's text. */
typedef struct phi3_aligned {
    char *bytes;         /* [size] */
    phi3_range *origins; /* [size] */
    size_t size;
    size_t limit; /* of the size; 0: none but that of a phi3_range */
    size_t bytes_capacity, origins_capacity;
} phi3_aligned;

/* Appends bytes that all came from one place, or a part of a section. */
bool phi3_aligned_append(phi3_aligned *out, const char *bytes, size_t size, phi3_offset origin);
bool phi3_aligned_copy(phi3_aligned *out, const phi3_section *section, size_t start, size_t end);
/* Appends a section's bytes [start, end) with every `pattern` replaced. */
bool phi3_aligned_replace(phi3_aligned *out, const phi3_section *section, phi3_range part,
                          const char *pattern, size_t pattern_size, const char *content,
                          size_t content_size);
phi3_section phi3_aligned_section(const phi3_aligned *text);
void phi3_aligned_free(phi3_aligned *text);

#endif
