/* tokenizer_vocabulary.h - the tokens of a tokenizer: ids <-> spellings. */
#ifndef PHI3_INTERNAL_TOKENIZER_VOCABULARY_H
#define PHI3_INTERNAL_TOKENIZER_VOCABULARY_H

#include "phi3.h"

enum {
    PHI3_MAX_TOKEN_ID = 1 << 21, /* ten times the largest known vocabulary */
    PHI3_MAX_TOKEN_SIZE = 1024   /* bytes; the longest known token has 128 */
};

typedef struct phi3_token {
    const char *text;  /* [text_size] the spelling; NULL: the id has no token */
    const char *bytes; /* [bytes_size] what it adds to a decoded text */
    uint32_t text_size;
    uint32_t bytes_size;
    int32_t added; /* index of the added token; -1: it is none */
    int16_t byte;  /* what a byte token such as "<0xE2>" stands for; -1: not a byte token */
    bool special;  /* dropped by skip_special_tokens */
} phi3_token;

typedef struct phi3_vocabulary {
    phi3_token *tokens; /* [count] by id */
    size_t count;       /* highest id + 1 */
    size_t capacity;
    size_t n_tokens; /* ids that have a token */
    int32_t *slots;  /* [slot_count] ids, placed by the hash of their spelling; -1: free */
    size_t slot_count;
    struct phi3_text_block *blocks; /* where the spellings stand; they never move */
} phi3_vocabulary;

/* Adds a token; `file` stands for it in messages. Refuses taken ids and spellings, text that is not
 * UTF-8 or too long, and ids out of range. */
phi3_status phi3_vocabulary_add(phi3_vocabulary *vocabulary, const char *file, int64_t id,
                                const char *text, size_t size, phi3_error *error);

/* The id of a spelling, or -1. */
int32_t phi3_vocabulary_find(const phi3_vocabulary *vocabulary, const char *text, size_t size);

/* The token of an id, or NULL. */
const phi3_token *phi3_vocabulary_token(const phi3_vocabulary *vocabulary, int32_t id);

/* A NUL-terminated copy that lives as long as the vocabulary; NULL when there is no memory. */
char *phi3_vocabulary_keep(phi3_vocabulary *vocabulary, const char *text, size_t size);

void phi3_vocabulary_free(phi3_vocabulary *vocabulary);

/* How much of a token's spelling a message quotes, for "%.*s". */
int phi3_shown(size_t size);

#endif
