/*
 * save_tokenizer.c - a tokenizer as the metadata of a GGUF file, the reverse of tokenizer_gguf.c.
 *
 * In: a tokenizer that was read from a tokenizer.json. Out: the keys tokenizer.ggml.* as llama.cpp's
 * converter writes them. A tokenizer that the format has no words for is refused.
 */
#include "text/tokenizer_gguf.h"

#include <stdio.h>

#include "save.h"
#include "text/tokenizer_parts.h"

typedef struct saver {
    phi3_gguf_writer *writer;
    const char *path;
    const phi3_tokenizer *tokenizer;
    size_t count; /* of tokens in the file: the rows of the embedding */
    phi3_error *error;
} saver;

static phi3_status unsupported(const saver *to, const char *what)
{
    return phi3_fail(to->error, PHI3_ERROR_UNSUPPORTED, "%s: GGUF has no words for %s", to->path,
                     what);
}

static void put_text(const saver *to, const char *key, const char *text)
{
    phi3_gguf_put_text(to->writer, key, text, strlen(text));
}

/* ---- Tokens --------------------------------------------------------------------------------- */

static int32_t type_of(const saver *to, size_t id)
{
    const phi3_token *token = phi3_vocabulary_token(&to->tokenizer->vocabulary, (int32_t)id);
    if (token == NULL)
        return PHI3_TOKEN_TYPE_UNUSED;
    if (!to->tokenizer->byte_level && (int32_t)id == to->tokenizer->unk_id)
        return PHI3_TOKEN_TYPE_UNKNOWN;
    if (token->added >= 0)
        return token->special ? PHI3_TOKEN_TYPE_CONTROL : PHI3_TOKEN_TYPE_USER_DEFINED;
    bool is_byte = to->tokenizer->byte_fallback && token->byte >= 0;
    return is_byte ? PHI3_TOKEN_TYPE_BYTE : PHI3_TOKEN_TYPE_NORMAL;
}

/* Rows of the embedding without a token get a name, as the converter gives them one. */
static phi3_status put_tokens(const saver *to)
{
    phi3_gguf_put_list(to->writer, "tokenizer.ggml.tokens", PHI3_GGUF_STRING, to->count);
    for (size_t id = 0; id < to->count; id++) {
        char name[32];
        const phi3_token *token = phi3_vocabulary_token(&to->tokenizer->vocabulary, (int32_t)id);
        if (token != NULL)
            phi3_gguf_put_string(to->writer, token->text, token->text_size);
        else
            phi3_gguf_put_string(to->writer, name,
                                 (size_t)snprintf(name, sizeof name, "[PAD%zu]", id));
    }
    phi3_gguf_put_list(to->writer, "tokenizer.ggml.token_type", PHI3_GGUF_INT32, to->count);
    for (size_t id = 0; id < to->count; id++) {
        int32_t type = type_of(to, id);
        phi3_gguf_put_element(to->writer, &type, sizeof type);
    }
    return PHI3_OK;
}

/* ---- Merges --------------------------------------------------------------------------------- */

static int by_rank(const void *a, const void *b)
{
    const phi3_merge *left = a, *right = b;
    return (left->rank > right->rank) - (left->rank < right->rank);
}

/* All merges, the first one first: [merges.count], freed with free. */
static phi3_merge *sorted_merges(const phi3_merges *merges)
{
    phi3_merge *list = malloc((merges->count + 1) * sizeof *list);
    size_t count = 0;
    for (size_t i = 0; list != NULL && i < merges->slot_count; i++) {
        if (merges->slots[i].left >= 0)
            list[count++] = merges->slots[i];
    }
    if (count > 0)
        qsort(list, count, sizeof *list, by_rank);
    return list;
}

static phi3_status put_merges(const saver *to, const phi3_merge *merges)
{
    const phi3_token *tokens = to->tokenizer->vocabulary.tokens;
    char text[2 * PHI3_MAX_TOKEN_SIZE + 1];
    size_t count = to->tokenizer->merges.count;
    phi3_gguf_put_list(to->writer, "tokenizer.ggml.merges", PHI3_GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) {
        const phi3_token *left = &tokens[merges[i].left], *right = &tokens[merges[i].right];
        memcpy(text, left->text, left->text_size);
        text[left->text_size] = ' ';
        memcpy(text + left->text_size + 1, right->text, right->text_size);
        phi3_gguf_put_string(to->writer, text, left->text_size + 1 + right->text_size);
    }
    return PHI3_OK;
}

/* A token's score says when it is merged: the first of all 0, the next -1, and so on; then those
 * that no merge makes. Tokens that take no part have the scores that the converter gives them. */
static phi3_status put_scores(const saver *to, const phi3_merge *merges)
{
    static const float added_score = -1000, unused_score = -10000;
    const phi3_tokenizer *tokenizer = to->tokenizer;
    float *scores = calloc(to->count + 1, sizeof *scores);
    if (scores == NULL)
        return phi3_fail_memory(to->error, "the scores of a tokenizer");
    float next = -1; /* 0 marks those without one */
    for (size_t i = 0; i < tokenizer->merges.count; i++) {
        if (scores[merges[i].result] == 0)
            scores[merges[i].result] = next--;
    }
    phi3_gguf_put_list(to->writer, "tokenizer.ggml.scores", PHI3_GGUF_FLOAT32, to->count);
    for (size_t id = 0; id < to->count; id++) {
        int32_t type = type_of(to, id);
        float score = 0;
        if (type == PHI3_TOKEN_TYPE_NORMAL)
            score = 1 + (scores[id] < 0 ? scores[id] : next--);
        else if (type == PHI3_TOKEN_TYPE_UNUSED)
            score = unused_score;
        else if (id >= tokenizer->vocab_size)
            score = added_score;
        phi3_gguf_put_element(to->writer, &score, sizeof score);
    }
    free(scores);
    return PHI3_OK;
}

/* ---- The two models ------------------------------------------------------------------------- */

static bool is_mark(const char *text, size_t size)
{
    return size == strlen(PHI3_SPACE_MARK) && memcmp(text, PHI3_SPACE_MARK, size) == 0;
}

/* SentencePiece's normalizer: a mark for each space, and perhaps one in front. */
static bool reads_spaces_as_marks(const phi3_tokenizer *tokenizer, bool *adds_prefix)
{
    const phi3_normalizer_step *step = tokenizer->normalizer;
    size_t left = tokenizer->normalizer_steps;
    *adds_prefix = left == 2 && step->pattern == NULL && is_mark(step->content, step->content_size);
    if (*adds_prefix)
        step++, left--;
    return left == 1 && step->pattern != NULL && step->pattern_size == 1 && *step->pattern == ' ' &&
           is_mark(step->content, step->content_size) && tokenizer->pre_tokenizer.count == 0;
}

static phi3_status put_llama(const saver *to, const phi3_merge *merges)
{
    bool adds_prefix = false;
    if (!to->tokenizer->byte_fallback || !reads_spaces_as_marks(to->tokenizer, &adds_prefix))
        return unsupported(to, "this tokenizer: neither byte-level BPE nor SentencePiece's "
                               "normalizer with byte fallback");
    put_text(to, "tokenizer.ggml.model", "llama");
    put_text(to, "tokenizer.ggml.pre", "default");
    phi3_gguf_put_bool(to->writer, "tokenizer.ggml.add_space_prefix", adds_prefix);
    PHI3_TRY(put_tokens(to));
    return put_scores(to, merges);
}

static phi3_status put_gpt2(const saver *to, const phi3_merge *merges)
{
    const char *name = phi3_pre_tokenizer_name(to->tokenizer);
    if (name == NULL || to->tokenizer->normalizer_steps > 0)
        return unsupported(to, "this tokenizer's way to split a text");
    put_text(to, "tokenizer.ggml.model", "gpt2");
    put_text(to, "tokenizer.ggml.pre", name);
    PHI3_TRY(put_tokens(to));
    return put_merges(to, merges);
}

/* ---- Roles and chat template ------------------------------------------------------------------ */

/* What is put around a text: nothing, or the one token that the key stands for. */
static phi3_status put_outer_token(const saver *to, const char *key, const int32_t *ids,
                                   size_t count, phi3_special_token role)
{
    int32_t id = to->tokenizer->special_ids[role];
    if (count > 1 || (count == 1 && ids[0] != id))
        return unsupported(to, "the special tokens that this tokenizer puts around a text");
    phi3_gguf_put_bool(to->writer, key, count == 1);
    return PHI3_OK;
}

static phi3_status put_roles(const saver *to)
{
    const phi3_tokenizer *tokenizer = to->tokenizer;
    int32_t bos = tokenizer->special_ids[PHI3_TOKEN_BOS];
    int32_t unk = tokenizer->special_ids[PHI3_TOKEN_UNK];
    if (unk < 0)
        unk = tokenizer->unk_id;
    if (bos >= 0)
        phi3_gguf_put_u32(to->writer, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    if (unk >= 0)
        phi3_gguf_put_u32(to->writer, "tokenizer.ggml.unknown_token_id", (uint32_t)unk);
    PHI3_TRY(put_outer_token(to, "tokenizer.ggml.add_bos_token", tokenizer->prefix,
                             tokenizer->prefix_count, PHI3_TOKEN_BOS));
    PHI3_TRY(put_outer_token(to, "tokenizer.ggml.add_eos_token", tokenizer->suffix,
                             tokenizer->suffix_count, PHI3_TOKEN_EOS));
    if (tokenizer->chat_template != NULL)
        put_text(to, "tokenizer.chat_template", tokenizer->chat_template);
    return PHI3_OK;
}

phi3_status phi3_save_put_tokenizer(phi3_gguf_writer *writer, const char *path,
                                    const phi3_tokenizer *tokenizer, size_t vocab_size,
                                    phi3_error *error)
{
    saver to = {writer, path, tokenizer, vocab_size, error};
    if (tokenizer->vocabulary.count > vocab_size)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: the tokenizer has ids up to %zu, but the embedding has %zu rows",
                         path, tokenizer->vocabulary.count - 1, vocab_size);
    phi3_merge *merges = sorted_merges(&tokenizer->merges);
    if (merges == NULL)
        return phi3_fail_memory(error, "the merges of a tokenizer");
    phi3_status status = tokenizer->byte_level ? put_gpt2(&to, merges) : put_llama(&to, merges);
    free(merges);
    return status == PHI3_OK ? put_roles(&to) : status;
}
