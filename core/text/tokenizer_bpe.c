/*
 * tokenizer_bpe.c - byte-pair encoding of one piece. In: the piece's bytes. Out: ids, in order,
 * each with the number of bytes it stands for.
 *
 * The piece becomes symbols: characters (SentencePiece's kind) or bytes (the byte-level kind).
 * Then, again and again, the pair of neighbours with the lowest rank becomes one symbol; of equal
 * ranks the leftmost. Symbols that no merge can join are separated first, so that most runs are a
 * word long: those are merged by plain search, long ones with a heap, in n log n steps.
 */
#include "characters.h"
#include "tokenizer_parts.h"

enum { SHORT_RUN = 32 };

/* A long run as a linked list; rank and result are those of the pair (this, next). */
typedef struct phi3_link {
    int32_t previous, next; /* -1: none */
    uint32_t rank;          /* NO_RANK: cannot be merged, or is gone */
    int32_t result;
} phi3_link;

static const uint32_t NO_RANK = UINT32_MAX;

void phi3_merger_free(phi3_merger *merger)
{
    free(merger->symbols);
    free(merger->spelling.bytes);
    free(merger->links);
    free(merger->heap);
    *merger = (phi3_merger){0};
}

static uint32_t rank_of(const phi3_merges *merges, phi3_symbol left, phi3_symbol right,
                        int32_t *result)
{
    const phi3_merge *merge = phi3_merges_find(merges, left.id, right.id);
    if (merge == NULL)
        return NO_RANK;
    *result = merge->result;
    return merge->rank;
}

/* ---- Short runs: search the lowest rank, merge, close the gap ------------------------------- */

static size_t merge_short(const phi3_merges *merges, phi3_symbol *symbols, size_t count)
{
    uint32_t ranks[SHORT_RUN];
    int32_t results[SHORT_RUN];
    for (size_t i = 0; i + 1 < count; i++)
        ranks[i] = rank_of(merges, symbols[i], symbols[i + 1], &results[i]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            if (ranks[i] < ranks[best])
                best = i;
        }
        if (ranks[best] == NO_RANK)
            break;
        symbols[best].id = results[best];
        symbols[best].size += symbols[best + 1].size;
        count--;
        for (size_t i = best + 1; i < count; i++) {
            symbols[i] = symbols[i + 1];
            ranks[i - 1] = ranks[i];
            results[i - 1] = results[i];
        }
        if (best + 1 < count)
            ranks[best] = rank_of(merges, symbols[best], symbols[best + 1], &results[best]);
        if (best > 0)
            ranks[best - 1] = rank_of(merges, symbols[best - 1], symbols[best], &results[best - 1]);
    }
    return count;
}

/* ---- Long runs: a heap of (rank, place) ----------------------------------------------------- */

static void sift_down(uint64_t *heap, size_t count, size_t at)
{
    uint64_t key = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (key <= heap[child])
            break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

static uint64_t heap_pop(phi3_merger *merger)
{
    uint64_t top = merger->heap[0];
    merger->heap[0] = merger->heap[--merger->heap_count];
    if (merger->heap_count > 0)
        sift_down(merger->heap, merger->heap_count, 0);
    return top;
}

static bool heap_push(phi3_merger *merger, uint64_t key)
{
    if (!phi3_reserve(&merger->heap, &merger->heap_capacity, merger->heap_count + 1,
                      sizeof *merger->heap))
        return false;
    size_t at = merger->heap_count++;
    for (size_t parent; at > 0 && key < merger->heap[parent = (at - 1) / 2]; at = parent)
        merger->heap[at] = merger->heap[parent];
    merger->heap[at] = key;
    return true;
}

/* Looks the pair (place, next) up again after one of them changed. */
static bool update_pair(const phi3_merges *merges, phi3_merger *merger, int32_t place)
{
    phi3_link *link = &merger->links[place];
    link->rank = NO_RANK;
    if (link->next < 0)
        return true;
    link->rank =
        rank_of(merges, merger->symbols[place], merger->symbols[link->next], &link->result);
    return link->rank == NO_RANK || heap_push(merger, (uint64_t)link->rank << 32 | (uint32_t)place);
}

static bool begin_long(const phi3_merges *merges, phi3_merger *merger)
{
    size_t count = merger->count;
    if (!phi3_reserve(&merger->links, &merger->links_capacity, count, sizeof *merger->links) ||
        !phi3_reserve(&merger->heap, &merger->heap_capacity, count, sizeof *merger->heap))
        return false;
    merger->heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        phi3_link *link = &merger->links[i];
        *link = (phi3_link){(int32_t)i - 1, i + 1 < count ? (int32_t)i + 1 : -1, NO_RANK, -1};
        if (link->next >= 0)
            link->rank = rank_of(merges, merger->symbols[i], merger->symbols[i + 1], &link->result);
        if (link->rank != NO_RANK)
            merger->heap[merger->heap_count++] = (uint64_t)link->rank << 32 | (uint32_t)i;
    }
    for (size_t i = merger->heap_count / 2; i-- > 0;)
        sift_down(merger->heap, merger->heap_count, i);
    return true;
}

static bool merge_long(const phi3_merges *merges, phi3_merger *merger)
{
    if (!begin_long(merges, merger))
        return false;
    phi3_symbol *symbols = merger->symbols;
    phi3_link *links = merger->links;
    while (merger->heap_count > 0) {
        uint64_t top = heap_pop(merger);
        int32_t place = (int32_t)(uint32_t)top;
        if (links[place].rank != top >> 32) /* the pair has changed since */
            continue;
        int32_t gone = links[place].next;
        symbols[place].id = links[place].result;
        symbols[place].size += symbols[gone].size;
        symbols[gone].size = 0;
        links[gone].rank = NO_RANK;
        links[place].next = links[gone].next;
        if (links[place].next >= 0)
            links[links[place].next].previous = place;
        if (!update_pair(merges, merger, place) ||
            (links[place].previous >= 0 && !update_pair(merges, merger, links[place].previous)))
            return false;
    }
    size_t kept = 0;
    for (size_t i = 0; i < merger->count; i++) {
        if (symbols[i].size > 0)
            symbols[kept++] = symbols[i];
    }
    merger->count = kept;
    return true;
}

/* ---- From bytes to symbols ------------------------------------------------------------------ */

/* Merges the symbols gathered so far and hands them on. */
static phi3_status flush(const phi3_tokenizer *tokenizer, phi3_merger *merger, phi3_error *error)
{
    if (merger->count > SHORT_RUN) {
        if (!merge_long(&tokenizer->merges, merger))
            return phi3_fail_memory(error, "the merging of a text");
    } else if (merger->count > 1) {
        merger->count = merge_short(&tokenizer->merges, merger->symbols, merger->count);
    }
    for (size_t i = 0; i < merger->count; i++)
        PHI3_TRY(merger->emit(merger->target, merger->symbols[i]));
    merger->count = 0;
    return PHI3_OK;
}

static phi3_status add_symbol(const phi3_tokenizer *tokenizer, phi3_merger *merger, int32_t id,
                              size_t size, phi3_error *error)
{
    if (merger->count > 0 &&
        !phi3_merges_join(&tokenizer->merges, merger->symbols[merger->count - 1].id, id))
        PHI3_TRY(flush(tokenizer, merger, error));
    if (!phi3_reserve(&merger->symbols, &merger->capacity, merger->count + 1,
                      sizeof *merger->symbols))
        return phi3_fail_memory(error, "the merging of a text");
    merger->symbols[merger->count++] = (phi3_symbol){id, (uint32_t)size};
    return PHI3_OK;
}

/* The byte tokens of a character that the vocabulary lacks; false when one of them is lacking. */
static bool has_byte_tokens(const phi3_tokenizer *tokenizer, const char *character, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (tokenizer->byte_ids[(uint8_t)character[i]] < 0)
            return false;
    }
    return tokenizer->byte_fallback;
}

static int32_t symbol_at(const phi3_tokenizer *tokenizer, const char *text, size_t size)
{
    if (size == 1)
        return tokenizer->single[(uint8_t)*text];
    return phi3_vocabulary_find(&tokenizer->vocabulary, text, size);
}

/* A piece that is a token as it stands, or -1. */
static int32_t whole_token(const phi3_tokenizer *tokenizer, phi3_merger *merger, const char *piece,
                           size_t size)
{
    if (!tokenizer->byte_level)
        return phi3_vocabulary_find(&tokenizer->vocabulary, piece, size);
    if (size > PHI3_MAX_TOKEN_SIZE)
        return -1;
    merger->spelling.size = 0;
    for (size_t i = 0; i < size; i++) {
        char character[4];
        size_t length = phi3_character_write(phi3_byte_to_character((uint8_t)piece[i]), character);
        if (!phi3_bytes_append(&merger->spelling, character, length))
            return -1;
    }
    return phi3_vocabulary_find(&tokenizer->vocabulary, merger->spelling.bytes,
                                merger->spelling.size);
}

phi3_status phi3_bpe_encode(const phi3_tokenizer *tokenizer, phi3_merger *merger, const char *piece,
                            size_t size, phi3_error *error)
{
    if (tokenizer->ignore_merges) {
        int32_t id = whole_token(tokenizer, merger, piece, size);
        size_t spelled = tokenizer->byte_level ? merger->spelling.size : size;
        if (id >= 0)
            return merger->emit(merger->target, (phi3_symbol){id, (uint32_t)spelled});
    }
    merger->count = 0;
    size_t unknown = 0; /* bytes that wait to become one unknown token */
    size_t step = 1;
    for (size_t i = 0; i < size; i += step) {
        step = tokenizer->byte_level ? 1 : phi3_character_size(piece + i);
        int32_t id = symbol_at(tokenizer, piece + i, step);
        if (id < 0 && has_byte_tokens(tokenizer, piece + i, step)) {
            for (size_t k = 0; k < step; k++)
                PHI3_TRY(add_symbol(tokenizer, merger, tokenizer->byte_ids[(uint8_t)piece[i + k]],
                                    1, error));
            continue;
        }
        bool is_unknown = id < 0 && tokenizer->unk_id >= 0;
        if (unknown > 0 && (id >= 0 || (is_unknown && !tokenizer->fuse_unk))) {
            PHI3_TRY(add_symbol(tokenizer, merger, tokenizer->unk_id, unknown, error));
            unknown = 0;
        }
        size_t spelled = tokenizer->byte_level ? phi3_spelled_size(piece[i]) : step;
        if (id >= 0)
            PHI3_TRY(add_symbol(tokenizer, merger, id, spelled, error));
        else if (is_unknown)
            unknown += spelled;
    }
    if (unknown > 0)
        PHI3_TRY(add_symbol(tokenizer, merger, tokenizer->unk_id, unknown, error));
    return flush(tokenizer, merger, error);
}
