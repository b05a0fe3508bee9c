/*
 * tokenizer.c - the tokenizer object: loading, freeing, and the questions that phi3.h lets one ask.
 * In: the path of a directory, a tokenizer.json or a GGUF file. Out: an object that never changes
 * again, for any number of threads. tokenizer_parts.h shows how the parts work together.
 */
#include "tokenizer.h"

#include <stdio.h>

#include "base/file.h"
#include "characters.h"
#include "tokenizer_parts.h"

/* ---- Loading -------------------------------------------------------------------------------- */

static phi3_status load_directory(phi3_tokenizer *tokenizer, const char *directory,
                                  phi3_error *error)
{
    char *path = phi3_path_join(directory, "tokenizer.json");
    if (path == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_status status;
    if (phi3_path_is_file(path))
        status = phi3_tokenizer_load_json(tokenizer, path, error);
    else
        status = phi3_fail(error, PHI3_ERROR_NOT_FOUND,
                           "%s: no tokenizer.json in this directory (a tokenizer.model alone is "
                           "not read)",
                           directory);
    free(path);
    if (status == PHI3_OK)
        status = phi3_tokenizer_load_settings(tokenizer, directory, error);
    return status;
}

static phi3_status is_gguf(const char *path, bool *result, phi3_error *error)
{
    phi3_file file;
    PHI3_TRY(phi3_file_open(path, &file, error));
    *result = file.size >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    phi3_file_close(&file);
    return PHI3_OK;
}

static phi3_status load_file(phi3_tokenizer *tokenizer, const char *path, phi3_error *error)
{
    bool gguf = false;
    PHI3_TRY(is_gguf(path, &gguf, error));
    if (gguf)
        return phi3_tokenizer_load_gguf(tokenizer, path, error);
    PHI3_TRY(phi3_tokenizer_load_json(tokenizer, path, error));
    const char *slash = strrchr(path, '/');
    char *directory = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    if (directory == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_status status = phi3_tokenizer_load_settings(tokenizer, directory, error);
    free(directory);
    return status;
}

/* The symbols that bytes and ASCII characters become. */
static void find_symbols(phi3_tokenizer *tokenizer)
{
    const phi3_vocabulary *vocabulary = &tokenizer->vocabulary;
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        uint32_t character =
            tokenizer->byte_level ? phi3_byte_to_character((uint8_t)byte) : (uint32_t)byte;
        size_t size = phi3_character_write(character, text);
        tokenizer->single[byte] = phi3_vocabulary_find(vocabulary, text, size);
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        tokenizer->byte_ids[byte] = phi3_vocabulary_find(vocabulary, text, 6);
    }
}

phi3_status phi3_tokenizer_finish(phi3_tokenizer *tokenizer, const char *file, phi3_error *error)
{
    const phi3_vocabulary *vocabulary = &tokenizer->vocabulary;
    if (vocabulary->n_tokens == 0)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: the vocabulary is empty", file);
    find_symbols(tokenizer);
    PHI3_TRY(phi3_merges_finish(&tokenizer->merges, vocabulary, tokenizer->unk_id, error));
    PHI3_TRY(phi3_added_finish(tokenizer, file, error));
    return phi3_decoder_prepare(tokenizer, file, error);
}

phi3_status phi3_tokenizer_load(const char *path, phi3_tokenizer **tokenizer, phi3_error *error)
{
    phi3_tokenizer *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a tokenizer");
    made->unk_id = -1;
    made->model_max_length = SIZE_MAX;
    for (size_t role = 0; role < sizeof made->special_ids / sizeof *made->special_ids; role++)
        made->special_ids[role] = -1;
    phi3_status status = phi3_path_is_directory(path) ? load_directory(made, path, error)
                                                      : load_file(made, path, error);
    if (status == PHI3_OK)
        status = phi3_tokenizer_finish(made, path, error);
    if (status == PHI3_OK)
        *tokenizer = made;
    else
        phi3_tokenizer_free(made);
    return status;
}

void phi3_tokenizer_free(phi3_tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    for (size_t i = 0; i < tokenizer->pre_tokenizer.count; i++)
        phi3_pattern_free(tokenizer->pre_tokenizer.step[i].pattern);
    phi3_merges_free(&tokenizer->merges);
    phi3_added_free(&tokenizer->added);
    free(tokenizer->normalizer);
    free(tokenizer->decoder.steps);
    free(tokenizer->prefix);
    free(tokenizer->suffix);
    phi3_vocabulary_free(&tokenizer->vocabulary);
    free(tokenizer);
}

/* ---- Questions ------------------------------------------------------------------------------ */

size_t phi3_tokenizer_vocab_size(const phi3_tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

size_t phi3_tokenizer_length(const phi3_tokenizer *tokenizer)
{
    return tokenizer->vocabulary.n_tokens;
}

int32_t phi3_tokenizer_token_to_id(const phi3_tokenizer *tokenizer, const char *token, size_t size)
{
    return phi3_vocabulary_find(&tokenizer->vocabulary, token, size);
}

const char *phi3_tokenizer_id_to_token(const phi3_tokenizer *tokenizer, int32_t id, size_t *size)
{
    const phi3_token *token = phi3_vocabulary_token(&tokenizer->vocabulary, id);
    if (token == NULL)
        return NULL;
    *size = token->text_size;
    return token->text;
}

const char *phi3_tokenizer_token_bytes(const phi3_tokenizer *tokenizer, int32_t id, size_t *size)
{
    const phi3_token *token = phi3_vocabulary_token(&tokenizer->vocabulary, id);
    if (token == NULL)
        return NULL;
    *size = token->bytes_size;
    return token->bytes;
}

size_t phi3_tokenizer_added_token_count(const phi3_tokenizer *tokenizer)
{
    return tokenizer->added.count;
}

phi3_added_token phi3_tokenizer_added_token(const phi3_tokenizer *tokenizer, size_t index)
{
    if (index >= tokenizer->added.count)
        return (phi3_added_token){.id = -1, .content = ""};
    return tokenizer->added.tokens[index];
}

int32_t phi3_tokenizer_special_id(const phi3_tokenizer *tokenizer, phi3_special_token role)
{
    size_t n_roles = sizeof tokenizer->special_ids / sizeof *tokenizer->special_ids;
    return (size_t)role < n_roles ? tokenizer->special_ids[role] : -1;
}

size_t phi3_tokenizer_model_max_length(const phi3_tokenizer *tokenizer)
{
    return tokenizer->model_max_length;
}

const char *phi3_tokenizer_chat_template(const phi3_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}
