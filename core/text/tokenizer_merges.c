/*
 * tokenizer_merges.c - the merges of a BPE model. In: pairs in order, or the scores of the tokens.
 * Out: a hash table from a pair of ids to its rank and result, and the set of neighbours that any
 * merge can join.
 */
#include "tokenizer_merges.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "characters.h"

#include <math.h>

/* ---- Pair -> merge -------------------------------------------------------------------------- */

static uint64_t hash_pair(int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    pair *= 0x9E3779B97F4A7C15u;
    return pair ^ pair >> 32;
}

static size_t slot_of(const phi3_merges *merges, int32_t left, int32_t right)
{
    size_t mask = merges->slot_count - 1;
    size_t slot = hash_pair(left, right) & mask;
    for (; merges->slots[slot].left >= 0; slot = (slot + 1) & mask) {
        if (merges->slots[slot].left == left && merges->slots[slot].right == right)
            break;
    }
    return slot;
}

static bool grow(phi3_merges *merges)
{
    phi3_merges grown = {.slot_count = merges->slot_count == 0 ? 1024 : merges->slot_count * 2};
    grown.slots = malloc(grown.slot_count * sizeof *grown.slots);
    if (grown.slots == NULL)
        return false;
    for (size_t i = 0; i < grown.slot_count; i++)
        grown.slots[i].left = -1;
    for (size_t i = 0; i < merges->slot_count; i++) {
        const phi3_merge *merge = &merges->slots[i];
        if (merge->left >= 0)
            grown.slots[slot_of(&grown, merge->left, merge->right)] = *merge;
    }
    free(merges->slots);
    merges->slots = grown.slots;
    merges->slot_count = grown.slot_count;
    return true;
}

bool phi3_merges_put(phi3_merges *merges, int32_t left, int32_t right, uint32_t rank,
                     int32_t result)
{
    if ((merges->count + 1) * 2 > merges->slot_count && !grow(merges))
        return false;
    phi3_merge *merge = &merges->slots[slot_of(merges, left, right)];
    merges->count += merge->left < 0;
    *merge = (phi3_merge){left, right, rank, result}; /* of a repeated pair the last one counts */
    return true;
}

const phi3_merge *phi3_merges_find(const phi3_merges *merges, int32_t left, int32_t right)
{
    if (merges->slot_count == 0)
        return NULL;
    const phi3_merge *merge = &merges->slots[slot_of(merges, left, right)];
    return merge->left < 0 ? NULL : merge;
}

void phi3_merges_free(phi3_merges *merges)
{
    free(merges->slots);
    free(merges->joins);
    *merges = (phi3_merges){0};
}

/* ---- From a list of pairs ------------------------------------------------------------------- */

phi3_status phi3_merges_add(phi3_merges *merges, const phi3_vocabulary *vocabulary,
                            const char *file, size_t rank, const char *left, size_t left_size,
                            const char *right, size_t right_size, phi3_error *error)
{
    char joined[2 * PHI3_MAX_TOKEN_SIZE];
    int32_t left_id = phi3_vocabulary_find(vocabulary, left, left_size);
    int32_t right_id = phi3_vocabulary_find(vocabulary, right, right_size);
    int32_t result = -1;
    if (left_id >= 0 && right_id >= 0) { /* hence each at most PHI3_MAX_TOKEN_SIZE long */
        memcpy(joined, left, left_size);
        memcpy(joined + left_size, right, right_size);
        result = phi3_vocabulary_find(vocabulary, joined, left_size + right_size);
    }
    if (result < 0)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: merge %zu, \"%.*s\" with \"%.*s\", needs a token that the vocabulary "
                         "lacks",
                         file, rank, phi3_shown(left_size), left, phi3_shown(right_size), right);
    if (rank >= UINT32_MAX)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: too many merges", file);
    if (!phi3_merges_put(merges, left_id, right_id, (uint32_t)rank, result))
        return phi3_fail_memory(error, "the merges of a tokenizer");
    return PHI3_OK;
}

/* ---- From scores ---------------------------------------------------------------------------- */

typedef struct scored_token {
    float score;
    int32_t id;
} scored_token;

static int by_falling_score(const void *a, const void *b)
{
    const scored_token *left = a, *right = b;
    if (left->score != right->score)
        return left->score > right->score ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

/* Every cut of one token into two tokens. */
static bool add_splits(phi3_merges *merges, const phi3_vocabulary *vocabulary, const float *scores,
                       int32_t id, uint32_t rank)
{
    const phi3_token *token = &vocabulary->tokens[id];
    for (size_t cut = 1; cut < token->text_size; cut++) {
        if (phi3_is_continuation(token->text[cut]))
            continue;
        int32_t left = phi3_vocabulary_find(vocabulary, token->text, cut);
        if (left < 0 || isnan(scores[left]))
            continue;
        int32_t right = phi3_vocabulary_find(vocabulary, token->text + cut, token->text_size - cut);
        if (right < 0 || isnan(scores[right]))
            continue;
        if (!phi3_merges_put(merges, left, right, rank, id))
            return false;
    }
    return true;
}

phi3_status phi3_merges_from_scores(phi3_merges *merges, const phi3_vocabulary *vocabulary,
                                    const float *scores, phi3_error *error)
{
    scored_token *order = malloc((vocabulary->count + 1) * sizeof *order);
    bool enough_memory = order != NULL;
    size_t count = 0;
    for (size_t id = 0; enough_memory && id < vocabulary->count; id++) {
        if (vocabulary->tokens[id].text != NULL && !isnan(scores[id]))
            order[count++] = (scored_token){scores[id], (int32_t)id};
    }
    if (count > 0)
        qsort(order, count, sizeof *order, by_falling_score);

    uint32_t rank = 0; /* equal scores share a rank: then the leftmost is merged first */
    for (size_t i = 0; enough_memory && i < count; i++) {
        rank += i > 0 && order[i].score != order[i - 1].score;
        enough_memory = add_splits(merges, vocabulary, scores, order[i].id, rank);
    }
    free(order);
    return enough_memory ? PHI3_OK : phi3_fail_memory(error, "the merges of a tokenizer");
}

/* ---- Neighbours that a merge can join ------------------------------------------------------- */

enum { JOIN_BITS = 20 };

static size_t join_bit(int32_t left, int32_t right)
{
    return hash_pair(left, right) & ((1u << JOIN_BITS) - 1);
}

/*
 * The symbols that a text of this token can begin (or end) with: its first (last) character, and
 * the token itself where it is a symbol of its own: a byte token, the unknown token.
 */
static size_t edge_symbols(const phi3_vocabulary *vocabulary, int32_t unk_id, int32_t id, bool last,
                           int32_t symbols[2])
{
    const phi3_token *token = &vocabulary->tokens[id];
    size_t start = 0;
    size_t size = phi3_character_size(token->text);
    if (last) {
        start = token->text_size - 1;
        while (start > 0 && phi3_is_continuation(token->text[start]))
            start--;
        size = token->text_size - start;
    }
    size_t count = 0;
    int32_t character = phi3_vocabulary_find(vocabulary, token->text + start, size);
    if (character >= 0)
        symbols[count++] = character;
    if (id == unk_id || strncmp(token->text, "<0x", 3) == 0)
        symbols[count++] = id;
    return count;
}

phi3_status phi3_merges_finish(phi3_merges *merges, const phi3_vocabulary *vocabulary,
                               int32_t unk_id, phi3_error *error)
{
    merges->joins = calloc((1u << JOIN_BITS) / 64, sizeof *merges->joins);
    if (merges->joins == NULL)
        return phi3_fail_memory(error, "the merges of a tokenizer");
    for (size_t i = 0; i < merges->slot_count; i++) {
        const phi3_merge *merge = &merges->slots[i];
        if (merge->left < 0)
            continue;
        int32_t ends[2], begins[2];
        size_t n_ends = edge_symbols(vocabulary, unk_id, merge->left, true, ends);
        size_t n_begins = edge_symbols(vocabulary, unk_id, merge->right, false, begins);
        for (size_t pair = 0; pair < n_ends * n_begins; pair++) {
            size_t bit = join_bit(ends[pair / n_begins], begins[pair % n_begins]);
            merges->joins[bit / 64] |= 1ull << bit % 64;
        }
    }
    return PHI3_OK;
}

bool phi3_merges_join(const phi3_merges *merges, int32_t left, int32_t right)
{
    size_t bit = join_bit(left, right);
    return merges->joins[bit / 64] >> bit % 64 & 1;
}
