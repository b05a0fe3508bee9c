/*
 * tokenizer_parts.h - what a tokenizer is made of, and the road of a text through it:
 *
 *   text --added tokens are cut out--> sections          tokenizer_added.c
 *        --normalizer----------------> aligned text      tokenizer_text.c
 *        --pre-tokenizer-------------> pieces            tokenizer_split.c, tokenizer_pattern.c
 *        --model---------------------> symbols, merged   tokenizer_bpe.c, tokenizer_merges.c
 *        -------------------------------> ids and places tokenizer_encode.c
 *
 * and back: ids --tokenizer_decoder.c, tokenizer_decode.c--> text.
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

enum {
    PHI3_MAX_TOKEN_ID = 1 << 21,      /* ten times the largest known vocabulary */
    PHI3_MAX_TOKEN_SIZE = 1024,       /* bytes; the longest known token has 128 */
    PHI3_MAX_ENCODED_SIZE = 1 << 30,  /* bytes of one text */
    PHI3_MAX_TEXT_GROWTH = 32,        /* how many times longer a normalizer may make a text */
    PHI3_MAX_PRE_TOKENIZER_STEPS = 32 /* a splitting step costs a pass over the text */
};

/* ---- Vocabulary: ids <-> spellings ---------------------------------------------------------- */

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

/* ---- Merges: which two neighbours become one, and in which order ---------------------------- */

typedef struct phi3_merge {
    int32_t left, right; /* ids; left -1: a free slot */
    uint32_t rank;       /* lower is merged first */
    int32_t result;      /* id */
} phi3_merge;

typedef struct phi3_merges {
    phi3_merge *slots; /* [slot_count], placed by the hash of (left, right) */
    size_t slot_count;
    size_t count;
    uint64_t *joins; /* bit set of the symbol pairs that some merge spans: see phi3_merges_join */
} phi3_merges;

bool phi3_merges_put(phi3_merges *merges, int32_t left, int32_t right, uint32_t rank,
                     int32_t result);
const phi3_merge *phi3_merges_find(const phi3_merges *merges, int32_t left, int32_t right);

/* Adds left + right as merge number `rank`; all three must be in the vocabulary. */
phi3_status phi3_merges_add(phi3_merges *merges, const phi3_vocabulary *vocabulary,
                            const char *file, size_t rank, const char *left, size_t left_size,
                            const char *right, size_t right_size, phi3_error *error);

/* Adds every way to split a token in two, in the order of the tokens' scores: highest first, and
 * of equals the leftmost in the text. A NaN score takes no part. scores: [vocabulary->count]. */
phi3_status phi3_merges_from_scores(phi3_merges *merges, const phi3_vocabulary *vocabulary,
                                    const float *scores, phi3_error *error);

/* Notes which neighbours can ever be merged; to be called when all merges are there. */
phi3_status phi3_merges_finish(phi3_tokenizer *tokenizer, phi3_error *error);

/*
 * False when no merge reaches across the boundary between two symbols that stand side by side in
 * the text: the text may be cut there without changing the result. (True may be wrong, which only
 * costs time.) Cutting keeps the merging local: "▁" opens a word in every token of Phi-3.
 */
bool phi3_merges_join(const phi3_merges *merges, int32_t left, int32_t right);

void phi3_merges_free(phi3_merges *merges);

/* ---- Text with its origin ------------------------------------------------------------------- */

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

typedef struct phi3_normalizer_step {
    const char *pattern; /* what is replaced; NULL: content comes before the text */
    size_t pattern_size;
    const char *content;
    size_t content_size;
} phi3_normalizer_step;

/* Runs the tokenizer's normalizer: *section then points into one of the texts. */
phi3_status phi3_normalize(const phi3_tokenizer *tokenizer, phi3_section *section,
                           phi3_aligned texts[2], phi3_error *error);

/* ---- Patterns: PCRE2 with the meaning that tokenizers' regular expressions have ------------- */

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

/* The stand-in for a character that PCRE2's tables do not know as tokenizers' do, with as many bytes
 * in UTF-8; the character itself when there is no need. */
uint32_t phi3_unicode_stand_in(uint32_t character);

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

/* The byte-level alphabet: byte -> its character, and back (-1: not in the alphabet). */
uint32_t phi3_byte_to_character(uint8_t byte);
int phi3_character_to_byte(uint32_t character);

/* How many bytes of UTF-8 the byte's character has. */
static inline size_t phi3_spelled_size(char byte)
{
    return phi3_byte_to_character((uint8_t)byte) < 0x80 ? 1 : 2;
}

/* ---- Small things --------------------------------------------------------------------------- */

/* UTF-8 that is known to be valid. */
static inline size_t phi3_character_size(const char *text)
{
    uint8_t byte = (uint8_t)*text;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

static inline bool phi3_is_continuation(char byte)
{
    return ((uint8_t)byte & 0xC0) == 0x80;
}

uint32_t phi3_character_at(const char *text);
size_t phi3_character_write(uint32_t character, char out[4]);

/* Unicode's White_Space. */
bool phi3_is_white_space(uint32_t character);

#endif
