/* tokenizer.h - what the rest of core asks of a tokenizer beyond phi3.h. */
#ifndef PHI3_INTERNAL_TOKENIZER_H
#define PHI3_INTERNAL_TOKENIZER_H

#include "phi3.h"

/* The raw bytes that a token adds to a text (a space for SentencePiece's mark, one byte for a byte
 * token, the spelling of an added token). Borrowed; NULL for ids without a token. */
const char *phi3_tokenizer_token_bytes(const phi3_tokenizer *tokenizer, int32_t id, size_t *size);

#endif
