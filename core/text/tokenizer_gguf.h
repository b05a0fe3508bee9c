/* tokenizer_gguf.h - what reading and writing a GGUF file's tokenizer share. */
#ifndef PHI3_INTERNAL_TOKENIZER_GGUF_H
#define PHI3_INTERNAL_TOKENIZER_GGUF_H

#include "phi3.h"

/* tokenizer.ggml.token_type */
enum {
    PHI3_TOKEN_TYPE_NORMAL = 1,
    PHI3_TOKEN_TYPE_UNKNOWN = 2,
    PHI3_TOKEN_TYPE_CONTROL = 3,
    PHI3_TOKEN_TYPE_USER_DEFINED = 4,
    PHI3_TOKEN_TYPE_UNUSED = 5,
    PHI3_TOKEN_TYPE_BYTE = 6
};

#define PHI3_SPACE_MARK "\xE2\x96\x81" /* U+2581, a space in SentencePiece's vocabularies */

/* The name that tokenizer.ggml.pre has for a byte-level tokenizer's way to split a text, or NULL. */
const char *phi3_pre_tokenizer_name(const phi3_tokenizer *tokenizer);

#endif
