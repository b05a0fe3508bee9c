/* stop_text.h - a stream of text that ends before the first of some stop strings. */
#ifndef PHI3_INTERNAL_STOP_TEXT_H
#define PHI3_INTERNAL_STOP_TEXT_H

#include "base/bytes.h"
#include "phi3.h"

typedef struct phi3_stop_text {
    const char *const *strings; /* [n_strings] borrowed */
    size_t n_strings;
    phi3_bytes held; /* what may be the beginning of a stop string */
} phi3_stop_text;

/* Takes the next piece and appends to `out` what is certain not to belong to a stop string. *stopped
 * is set when one has come: the text ends there. */
phi3_status phi3_stop_text_put(phi3_stop_text *stop, const char *text, size_t size, phi3_bytes *out,
                               bool *stopped, phi3_error *error);

/* The stream ends without a stop string: appends what was held back. */
phi3_status phi3_stop_text_end(phi3_stop_text *stop, phi3_bytes *out, phi3_error *error);

#endif
