/* tokenizer_merges.h - the merges of a tokenizer: which two neighbours become one, and in which order. */
#ifndef PHI3_INTERNAL_TOKENIZER_MERGES_H
#define PHI3_INTERNAL_TOKENIZER_MERGES_H

#include "tokenizer_vocabulary.h"

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

/* Notes which neighbours can ever be merged; to be called when all merges are there. unk_id: the
 * unknown token, or -1. */
phi3_status phi3_merges_finish(phi3_merges *merges, const phi3_vocabulary *vocabulary,
                               int32_t unk_id, phi3_error *error);

/*
 * False when no merge reaches across the boundary between two symbols that stand side by side in
 * the text: the text may be cut there without changing the result. (True may be wrong, which only
 * costs time.) Cutting keeps the merging local: "▁" opens a word in every token of Phi-3.
 */
bool phi3_merges_join(const phi3_merges *merges, int32_t left, int32_t right);

void phi3_merges_free(phi3_merges *merges);

#endif
