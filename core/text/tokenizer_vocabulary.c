/*
 * tokenizer_vocabulary.c - the tokens of a vocabulary. In: ids and spellings from a file. Out: the
 * token of an id, by index, and the id of a spelling, through a hash table with open addressing.
 *
 * Spellings are copied into blocks that never move, so that tokens and callers may point to them.
 */
#include "tokenizer_vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "utf8.h"

enum { BLOCK_SIZE = 1 << 16, SHOWN_TOKEN_SIZE = 60 };

int phi3_shown(size_t size)
{
    return (int)(size < SHOWN_TOKEN_SIZE ? size : SHOWN_TOKEN_SIZE);
}

/* ---- Spellings ------------------------------------------------------------------------------ */

struct phi3_text_block {
    struct phi3_text_block *previous;
    size_t used;
    size_t size;
    char text[];
};

char *phi3_vocabulary_keep(phi3_vocabulary *vocabulary, const char *text, size_t size)
{
    struct phi3_text_block *block = vocabulary->blocks;
    if (block == NULL || block->size - block->used < size + 1) {
        size_t room = size + 1 > BLOCK_SIZE ? size + 1 : BLOCK_SIZE;
        block = malloc(sizeof *block + room);
        if (block == NULL)
            return NULL;
        *block = (struct phi3_text_block){.previous = vocabulary->blocks, .size = room};
        vocabulary->blocks = block;
    }
    char *copy = block->text + block->used;
    if (size > 0)
        memcpy(copy, text, size);
    copy[size] = '\0';
    block->used += size + 1;
    return copy;
}

void phi3_vocabulary_free(phi3_vocabulary *vocabulary)
{
    while (vocabulary->blocks != NULL) {
        struct phi3_text_block *previous = vocabulary->blocks->previous;
        free(vocabulary->blocks);
        vocabulary->blocks = previous;
    }
    free(vocabulary->tokens);
    free(vocabulary->slots);
    *vocabulary = (phi3_vocabulary){0};
}

/* ---- Spelling -> id ------------------------------------------------------------------------- */

static uint64_t hash_text(const char *text, size_t size)
{
    const uint64_t factor = 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio */
    uint64_t hash = size * factor;
    while (size > 0) {
        uint64_t word = 0;
        size_t step = size < sizeof word ? size : sizeof word;
        memcpy(&word, text, step);
        hash = (hash ^ word) * factor;
        hash ^= hash >> 29;
        text += step;
        size -= step;
    }
    return hash ^ hash >> 32;
}

/* The slot that holds the spelling, or the free one where it would go. */
static size_t slot_of(const phi3_vocabulary *vocabulary, const char *text, size_t size)
{
    size_t mask = vocabulary->slot_count - 1;
    size_t slot = hash_text(text, size) & mask;
    for (; vocabulary->slots[slot] >= 0; slot = (slot + 1) & mask) {
        const phi3_token *token = &vocabulary->tokens[vocabulary->slots[slot]];
        if (token->text_size == size && memcmp(token->text, text, size) == 0)
            break;
    }
    return slot;
}

/* Keeps the table at most half full. */
static bool grow_slots(phi3_vocabulary *vocabulary)
{
    if ((vocabulary->n_tokens + 1) * 2 <= vocabulary->slot_count)
        return true;
    size_t slot_count = vocabulary->slot_count == 0 ? 1024 : vocabulary->slot_count * 2;
    int32_t *slots = malloc(slot_count * sizeof *slots);
    if (slots == NULL)
        return false;
    memset(slots, -1, slot_count * sizeof *slots);
    free(vocabulary->slots);
    vocabulary->slots = slots;
    vocabulary->slot_count = slot_count;
    for (size_t id = 0; id < vocabulary->count; id++) {
        const phi3_token *token = &vocabulary->tokens[id];
        if (token->text != NULL)
            slots[slot_of(vocabulary, token->text, token->text_size)] = (int32_t)id;
    }
    return true;
}

int32_t phi3_vocabulary_find(const phi3_vocabulary *vocabulary, const char *text, size_t size)
{
    if (vocabulary->slot_count == 0)
        return -1;
    return vocabulary->slots[slot_of(vocabulary, text, size)];
}

const phi3_token *phi3_vocabulary_token(const phi3_vocabulary *vocabulary, int32_t id)
{
    if (id < 0 || (size_t)id >= vocabulary->count || vocabulary->tokens[id].text == NULL)
        return NULL;
    return &vocabulary->tokens[id];
}

/* ---- Filling -------------------------------------------------------------------------------- */

static phi3_status check_spelling(const char *file, int64_t id, const char *text, size_t size,
                                  phi3_error *error)
{
    long long number = (long long)id;
    if (size == 0)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: token %lld is empty", file, number);
    if (size > PHI3_MAX_TOKEN_SIZE)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: token %lld has %zu bytes, more than the %d that a token may have",
                         file, number, size, PHI3_MAX_TOKEN_SIZE);
    size_t step = 0;
    for (size_t i = 0; i < size; i += step) {
        step = phi3_utf8_character(text + i, size - i);
        if (step == 0 || text[i] == '\0')
            return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: token %lld %s at its byte %zu", file,
                             number, step == 0 ? "is not UTF-8" : "holds a NUL", i);
    }
    return PHI3_OK;
}

static phi3_status make_room(phi3_vocabulary *vocabulary, size_t count, phi3_error *error)
{
    if (!phi3_reserve(&vocabulary->tokens, &vocabulary->capacity, count,
                      sizeof *vocabulary->tokens) ||
        !grow_slots(vocabulary))
        return phi3_fail_memory(error, "a vocabulary");
    for (; vocabulary->count < count; vocabulary->count++)
        vocabulary->tokens[vocabulary->count] = (phi3_token){.added = -1, .byte = -1};
    return PHI3_OK;
}

phi3_status phi3_vocabulary_add(phi3_vocabulary *vocabulary, const char *file, int64_t id,
                                const char *text, size_t size, phi3_error *error)
{
    PHI3_TRY(check_spelling(file, id, text, size, error));
    if (id < 0 || id >= PHI3_MAX_TOKEN_ID)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: token \"%.*s\" has the id %lld, which is not in 0 to %d", file,
                         phi3_shown(size), text, (long long)id, PHI3_MAX_TOKEN_ID - 1);
    const phi3_token *taken = phi3_vocabulary_token(vocabulary, (int32_t)id);
    if (taken != NULL)
        return phi3_fail(
            error, PHI3_ERROR_BAD_FILE, "%s: tokens \"%.*s\" and \"%.*s\" have the same id %lld",
            file, phi3_shown(taken->text_size), taken->text, phi3_shown(size), text, (long long)id);
    int32_t other = phi3_vocabulary_find(vocabulary, text, size);
    if (other >= 0)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: token \"%.*s\" stands twice, with the ids %d and %lld", file,
                         phi3_shown(size), text, (int)other, (long long)id);

    size_t count = (size_t)id + 1;
    PHI3_TRY(make_room(vocabulary, count < vocabulary->count ? vocabulary->count : count, error));
    char *copy = phi3_vocabulary_keep(vocabulary, text, size);
    if (copy == NULL)
        return phi3_fail_memory(error, "a vocabulary");
    phi3_token *token = &vocabulary->tokens[id];
    token->text = copy;
    token->text_size = (uint32_t)size;
    vocabulary->slots[slot_of(vocabulary, text, size)] = (int32_t)id;
    vocabulary->n_tokens++;
    return PHI3_OK;
}
