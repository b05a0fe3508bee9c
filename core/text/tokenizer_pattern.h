/* tokenizer_pattern.h - PCRE2 with the meaning that tokenizers' regular expressions have. */
#ifndef PHI3_INTERNAL_TOKENIZER_PATTERN_H
#define PHI3_INTERNAL_TOKENIZER_PATTERN_H

#include "tokenizer_text.h"

typedef struct phi3_pattern phi3_pattern;

/* Compiles a regular expression, or plain text when `literal`. What PCRE2 would understand
 * differently is refused. `file` stands for it in messages. */
phi3_status phi3_pattern_compile(const char *file, const char *source, size_t size, bool literal,
                                 phi3_pattern **pattern, phi3_error *error);
void phi3_pattern_free(phi3_pattern *pattern);

/* What one thread needs to match: one for each call of encode. */
typedef struct phi3_matcher phi3_matcher;
phi3_matcher *phi3_matcher_create(void);
void phi3_matcher_free(phi3_matcher *matcher);

/* The text as patterns are to see it: the same size, characters that PCRE2 classifies differently
 * from tokenizers replaced by others of their class. Borrowed from the matcher or from `bytes`;
 * NULL when there is no memory. */
const char *phi3_matcher_subject(phi3_matcher *matcher, const char *bytes, size_t size);

/* The first match at or after `from` in a subject. *found false: none. */
phi3_status phi3_pattern_search(const phi3_pattern *pattern, phi3_matcher *matcher,
                                const char *subject, size_t size, size_t from, bool *found,
                                phi3_range *match, phi3_error *error);

#endif
