/*
 * tokenizer_parts.h - what a tokenizer is made of, and the road of a text through it:
 *
 *   text --added tokens are cut out--> sections          tokenizer_added.c
 *        --normalizer----------------> aligned text      tokenizer_normalizer.c
 *        --pre-tokenizer-------------> pieces            tokenizer_split.c, tokenizer_pattern.c
 *        --model---------------------> symbols, merged   tokenizer_bpe.c, tokenizer_merges.c
 *        -------------------------------> ids and places tokenizer_encode.c
 *
 * and back: ids --tokenizer_decoder.c, tokenizer_decode.c--> text.
 *
 * The tokens, merges, patterns and texts themselves know no tokenizer: they have headers of their own.
 *
 * The terms are those of Hugging Face tokenizers, whose results these files reproduce.
 * tokenizer_json.c, tokenizer_settings.c and tokenizer_gguf.c fill the object from files;
 * afterwards it never changes.
 */
#ifndef PHI3_INTERNAL_TOKENIZER_PARTS_H
#define PHI3_INTERNAL_TOKENIZER_PARTS_H

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "phi3.h"
#include "tokenizer_merges.h"
#include "tokenizer_pattern.h"
#include "tokenizer_text.h"
#include "tokenizer_vocabulary.h"

enum {
    PHI3_MAX_ENCODED_SIZE = 1 << 30,  /* bytes of one text */
    PHI3_MAX_TEXT_GROWTH = 32,        /* how many times longer a normalizer may make a text */
    PHI3_MAX_PRE_TOKENIZER_STEPS = 32 /* a splitting step costs a pass over the text */
};

/* ---- Normalizer: a section -> a section ----------------------------------------------------- */

typedef struct phi3_normalizer_step {
    const char *pattern; /* what is replaced; NULL: content comes before the text */
    size_t pattern_size;
    const char *content;
    size_t content_size;
} phi3_normalizer_step;

/* Runs the tokenizer's normalizer: *section then points into one of the texts. */
phi3_status phi3_normalize(const phi3_tokenizer *tokenizer, phi3_section *section,
                           phi3_aligned texts[2], phi3_error *error);

/* ---- Pre-tokenizer: a section -> pieces ----------------------------------------------------- */

typedef enum phi3_split_behavior {
    PHI3_SPLIT_REMOVED,
    PHI3_SPLIT_ISOLATED,
    PHI3_SPLIT_MERGED_WITH_PREVIOUS,
    PHI3_SPLIT_MERGED_WITH_NEXT,
    PHI3_SPLIT_CONTIGUOUS
} phi3_split_behavior;

typedef enum phi3_prepend_scheme {
    PHI3_PREPEND_NEVER,
    PHI3_PREPEND_FIRST, /* only where the piece opens the whole text */
    PHI3_PREPEND_ALWAYS
} phi3_prepend_scheme;

typedef struct phi3_split_step {
    phi3_pattern *pattern; /* not NULL: splits each piece by it */
    const char *source;    /* of the pattern, kept in the vocabulary's memory */
    bool literal;          /* it is plain text, not an expression */
    phi3_split_behavior behavior;
    bool invert; /* what does not match is the delimiter */
    /* pattern NULL: writes the mark for each space and in front of each piece without one. For
     * ByteLevel's add_prefix_space the mark is the space itself. */
    const char *mark;
    size_t mark_size;
    phi3_prepend_scheme scheme;
} phi3_split_step;

typedef struct phi3_split_steps {
    phi3_split_step step[PHI3_MAX_PRE_TOKENIZER_STEPS];
    size_t count;
} phi3_split_steps;

/* The pieces of a section and the memory to make them in. */
typedef struct phi3_pieces {
    phi3_range *spans; /* [count] of the section's bytes */
    size_t count;
    size_t capacity;
    phi3_range *next; /* the other list, while a step runs */
    size_t next_count;
    size_t next_capacity;
    bool *is_match; /* [next_count] */
    size_t is_match_capacity;
    phi3_aligned text[2]; /* a section that a step rewrote */
    size_t texts_used;
} phi3_pieces;

/* Splits the part [start, end) of *section; steps that rewrite text change *section. */
phi3_status phi3_split(const phi3_split_steps *steps, phi3_matcher *matcher, phi3_section *section,
                       phi3_range part, phi3_pieces *pieces, phi3_error *error);
void phi3_pieces_free(phi3_pieces *pieces);

/* ---- Added tokens --------------------------------------------------------------------------- */

/* A tree of spellings: the children of a node are a list of siblings. */
typedef struct phi3_trie_node {
    uint32_t child, sibling; /* nodes; 0: none */
    int32_t token;           /* index of the added token that ends here, or -1 */
    uint8_t byte;
} phi3_trie_node;

typedef struct phi3_trie {
    phi3_trie_node *nodes; /* [count]; nodes[0] is not used */
    size_t count;
    size_t capacity;
    uint32_t first[256]; /* nodes by first byte; 0: none */
} phi3_trie;

typedef struct phi3_added_tokens {
    phi3_added_token *tokens; /* [count] in the order of their ids, once finished */
    size_t count;
    size_t capacity;
    phi3_trie raw;        /* found in the caller's text */
    phi3_trie normalized; /* found in normalized text */
    phi3_pattern *word;   /* matches one character of a word; NULL: no token asks for it */
} phi3_added_tokens;

/* The next added token that counts, at or after *position, which moves on behind it. `from` is
 * where the text begins that no token has taken yet. *span includes stripped white space. */
phi3_status phi3_added_next(const phi3_added_tokens *added, const phi3_trie *trie,
                            phi3_matcher *matcher, const char *text, size_t size, size_t from,
                            bool skip_special, size_t *position, const phi3_added_token **token,
                            phi3_range *span, phi3_error *error);

/* Puts the tokens in order and builds the search trees. */
phi3_status phi3_added_finish(phi3_tokenizer *tokenizer, const char *file, phi3_error *error);
void phi3_added_free(phi3_added_tokens *added);

/* ---- The model: a piece -> ids -------------------------------------------------------------- */

/* An id and how many bytes of the section it stands for; byte-level ones are measured in the
 * byte-level spelling of the section. */
typedef struct phi3_symbol {
    int32_t id;
    uint32_t size;
} phi3_symbol;

/* The memory of the merging in one call of encode. */
typedef struct phi3_merger {
    phi3_symbol *symbols; /* [count] the symbols that are being merged */
    size_t count;
    size_t capacity;
    phi3_bytes spelling;     /* a piece in the byte-level alphabet */
    struct phi3_link *links; /* for long runs: neighbours of each symbol */
    size_t links_capacity;
    uint64_t *heap;
    size_t heap_count;
    size_t heap_capacity;
    /* Takes the symbols that are final, in order. */
    phi3_status (*emit)(void *target, phi3_symbol symbol);
    void *target;
} phi3_merger;

/* Turns the bytes of one piece into symbols and merges them. */
phi3_status phi3_bpe_encode(const phi3_tokenizer *tokenizer, phi3_merger *merger, const char *piece,
                            size_t size, phi3_error *error);
void phi3_merger_free(phi3_merger *merger);

/* ---- Decoder -------------------------------------------------------------------------------- */

/* What every token becomes on its own is computed at load, in phi3_token.bytes. */
typedef struct phi3_decoder_step {
    bool strip; /* drops up to `count` copies of `pattern` at the beginning; else replaces all */
    const char *pattern;
    size_t pattern_size;
    const char *content;
    size_t content_size;
    size_t count;
} phi3_decoder_step;

/* How the tokens' bytes become one text. */
typedef struct phi3_decoder {
    phi3_decoder_step *steps; /* [n_steps] for each token */
    size_t n_steps;
    bool byte_level;       /* broken characters become U+FFFD */
    bool byte_fallback;    /* runs of byte tokens form characters */
    bool join_with_spaces; /* no decoder in the file: tokens stand apart */
    const char *mark;      /* Metaspace: these become nothing in the first token; NULL: no */
    size_t mark_size;
    size_t strip; /* copies of strip_content that the whole text loses at its beginning */
    const char *strip_content;
    size_t strip_content_size;
} phi3_decoder;

/* Decoding in progress: text that is decided comes out, bytes that are not wait. */
typedef struct phi3_decoding {
    const phi3_tokenizer *tokenizer;
    bool skip_special_tokens;
    phi3_bytes out;     /* decided; the owner takes it and resets its size */
    phi3_bytes pending; /* byte_fallback: a run; byte_level: the beginning of a character */
    size_t strip_left;  /* characters that may still be stripped from the beginning */
    bool begun;         /* a token has been seen */
} phi3_decoding;

void phi3_decoding_begin(phi3_decoding *decoding, const phi3_tokenizer *tokenizer,
                         bool skip_special_tokens);
phi3_status phi3_decoding_put(phi3_decoding *decoding, int32_t id, phi3_error *error);
/* Decides what waits and makes ready for another text. */
phi3_status phi3_decoding_end(phi3_decoding *decoding, phi3_error *error);
void phi3_decoding_free(phi3_decoding *decoding);

/* ---- The object ----------------------------------------------------------------------------- */

struct phi3_tokenizer {
    phi3_vocabulary vocabulary;
    size_t vocab_size; /* without the added tokens that stand behind it */

    /* The model: BPE. */
    phi3_merges merges;
    int32_t single[256]; /* the symbol of a byte (byte_level) or of an ASCII character; -1: none */
    int32_t byte_ids[256]; /* byte_fallback: the token of a byte; -1: none */
    int32_t unk_id;        /* the model's own, or -1 */
    bool byte_level;       /* symbols are bytes, not characters */
    bool byte_fallback;
    bool fuse_unk;
    bool ignore_merges; /* a piece that is a token is that token */

    phi3_added_tokens added;
    phi3_normalizer_step *normalizer; /* [normalizer_steps] */
    size_t normalizer_steps;
    phi3_split_steps pre_tokenizer;
    phi3_decoder decoder;

    /* The post-processor. */
    int32_t *prefix; /* [prefix_count] special tokens before the text */
    size_t prefix_count;
    int32_t *suffix; /* [suffix_count] and after it */
    size_t suffix_count;
    bool trim_offsets;      /* spans leave out the tokens' outer spaces */
    bool trim_keeps_prefix; /* except one that add_prefix_space may have put there */

    int32_t special_ids[4]; /* by phi3_special_token; -1: none */
    size_t model_max_length;
    const char *chat_template; /* kept in the vocabulary's memory, or NULL */
};

/* ---- Loading -------------------------------------------------------------------------------- */

phi3_status phi3_tokenizer_load_json(phi3_tokenizer *tokenizer, const char *path,
                                     phi3_error *error);
/* normalizer, pre_tokenizer, post_processor and decoder of a parsed tokenizer.json. */
struct cJSON;
phi3_status phi3_tokenizer_load_parts(phi3_tokenizer *tokenizer, const char *path,
                                      const struct cJSON *root, phi3_error *error);
phi3_status phi3_tokenizer_load_gguf(phi3_tokenizer *tokenizer, const char *path,
                                     phi3_error *error);

/* tokenizer_config.json, special_tokens_map.json and chat_template.jinja, where they are. */
phi3_status phi3_tokenizer_load_settings(phi3_tokenizer *tokenizer, const char *directory,
                                         phi3_error *error);

/* Copies a chat template; it must be UTF-8. */
phi3_status phi3_tokenizer_keep_template(phi3_tokenizer *tokenizer, const char *file,
                                         const char *text, size_t size, phi3_error *error);

/* Adds an added token, or changes the flags of the one with this content. token.id -1: the
 * content's id in the vocabulary, or the next free one. content is copied. */
phi3_status phi3_tokenizer_add_token(phi3_tokenizer *tokenizer, const char *file,
                                     phi3_added_token token, phi3_error *error);
const phi3_added_token *phi3_tokenizer_find_added(const phi3_tokenizer *tokenizer,
                                                  const char *content);

/* Splitting steps, as GGUF and tokenizer.json both need them. */
phi3_status phi3_tokenizer_add_split(phi3_tokenizer *tokenizer, const char *file,
                                     const char *pattern, size_t size, bool literal,
                                     phi3_split_behavior behavior, bool invert, phi3_error *error);
phi3_status phi3_tokenizer_add_mark(phi3_tokenizer *tokenizer, const char *file, const char *mark,
                                    phi3_prepend_scheme scheme, phi3_error *error);

extern const char phi3_gpt2_pattern[];
extern const char phi3_digit_pattern[];

/* Checks and computes what follows from the filled object: symbols, merges' reach, token bytes, the
 * search trees of the added tokens. */
phi3_status phi3_tokenizer_finish(phi3_tokenizer *tokenizer, const char *file, phi3_error *error);

/* Adds a step to the decoder; texts are copied. */
phi3_status phi3_decoder_replace(phi3_tokenizer *tokenizer, const char *file, const char *pattern,
                                 const char *content, phi3_error *error);
phi3_status phi3_decoder_strip_tokens(phi3_tokenizer *tokenizer, const char *file,
                                      const char *content, size_t count, phi3_error *error);
phi3_status phi3_decoder_strip_text(phi3_tokenizer *tokenizer, const char *content, size_t count,
                                    phi3_error *error);

/* Adds a step to the normalizer; texts are copied. pattern NULL: content comes before the text. */
phi3_status phi3_normalizer_add(phi3_tokenizer *tokenizer, const char *pattern, const char *content,
                                phi3_error *error);

/* Fills bytes and byte of every token, as the decoder says. */
phi3_status phi3_decoder_prepare(phi3_tokenizer *tokenizer, const char *file, phi3_error *error);

#endif
