/* stop_strings.h - texts that end a generation when the newest token completes one. */
#ifndef PHI3_INTERNAL_STOP_STRINGS_H
#define PHI3_INTERNAL_STOP_STRINGS_H

#include "phi3.h"

/* True when one of the strings ends inside the bytes of the last id: at any place in them, so that a
 * token may hang over. It may begin in any earlier token. */
bool phi3_stop_strings_match(const phi3_tokenizer *tokenizer, const char *const *strings,
                             size_t n_strings, const int32_t *ids, size_t n_ids);

#endif
