/*
 * tokenizer_settings.c - the small files beside tokenizer.json: tokenizer_config.json,
 * special_tokens_map.json and chat_template.jinja. In: the directory. Out: roles of tokens (BOS,
 * EOS, ...), flags of added tokens, the longest length and the chat template of a phi3_tokenizer.
 *
 * add_bos_token is not read: beside a tokenizer.json, transformers 5 does not read it either; what
 * is put around a text is the post-processor's business.
 */
#include <stdio.h>

#include "base/file.h"
#include "base/json.h"
#include "tokenizer_parts.h"
#include "utf8.h"

static const size_t MAX_FILE_SIZE = (size_t)32 << 20;

enum { N_ROLES = 4 };
static const char *const role_keys[N_ROLES] = {[PHI3_TOKEN_BOS] = "bos_token",
                                               [PHI3_TOKEN_EOS] = "eos_token",
                                               [PHI3_TOKEN_UNK] = "unk_token",
                                               [PHI3_TOKEN_PAD] = "pad_token"};

typedef struct reader {
    phi3_tokenizer *tokenizer;
    const char *path;
    phi3_error *error;
} reader;

/* ---- Tokens --------------------------------------------------------------------------------- */

/* An added token as an object, or as its content alone. content NULL: there is none. */
static phi3_status read_token(const reader *in, const cJSON *item, phi3_added_token *token)
{
    *token = (phi3_added_token){.id = -1, .special = true};
    if (cJSON_IsString(item)) {
        token->content = item->valuestring;
    } else if (cJSON_IsObject(item)) {
        PHI3_TRY(phi3_json_string(in->path, item, "content", &token->content, in->error));
        PHI3_TRY(phi3_json_bool(in->path, item, "special", &token->special, in->error));
        PHI3_TRY(phi3_json_bool(in->path, item, "lstrip", &token->lstrip, in->error));
        PHI3_TRY(phi3_json_bool(in->path, item, "rstrip", &token->rstrip, in->error));
        PHI3_TRY(phi3_json_bool(in->path, item, "single_word", &token->single_word, in->error));
        token->normalized = !token->special;
        PHI3_TRY(phi3_json_bool(in->path, item, "normalized", &token->normalized, in->error));
    } else if (item != NULL && !cJSON_IsNull(item)) {
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: \"%s\" is neither text nor an added token", in->path, item->string);
    }
    if (token->content != NULL && *token->content == '\0')
        token->content = NULL;
    return PHI3_OK;
}

/* The tokens that play a role; one that is not an added token yet becomes one. */
static phi3_status read_roles(const reader *in, const cJSON *root)
{
    for (size_t role = 0; role < N_ROLES; role++) {
        phi3_added_token token;
        if (in->tokenizer->special_ids[role] >= 0)
            continue;
        PHI3_TRY(read_token(in, cJSON_GetObjectItemCaseSensitive(root, role_keys[role]), &token));
        if (token.content == NULL)
            continue;
        token.special = true;
        token.normalized = false;
        const phi3_added_token *known = phi3_tokenizer_find_added(in->tokenizer, token.content);
        if (known == NULL) {
            PHI3_TRY(phi3_tokenizer_add_token(in->tokenizer, in->path, token, in->error));
            known = phi3_tokenizer_find_added(in->tokenizer, token.content);
        }
        in->tokenizer->special_ids[role] = known->id;
    }
    return PHI3_OK;
}

static bool has_role(const cJSON *root, const char *content)
{
    for (size_t role = 0; role < N_ROLES; role++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, role_keys[role]);
        if (cJSON_IsObject(item))
            item = cJSON_GetObjectItemCaseSensitive(item, "content");
        if (cJSON_IsString(item) && strcmp(item->valuestring, content) == 0)
            return true;
    }
    return false;
}

static bool same_flags(const phi3_added_token *a, const phi3_added_token *b)
{
    return a->special == b->special && a->lstrip == b->lstrip && a->rstrip == b->rstrip &&
           a->single_word == b->single_word && a->normalized == b->normalized;
}

/* "added_tokens_decoder": {"32000": {"content": ...}}. Its flags win over those of tokenizer.json.
 * */
static phi3_status read_added_tokens(const reader *in, const cJSON *root)
{
    const cJSON *decoder = cJSON_GetObjectItemCaseSensitive(root, "added_tokens_decoder");
    const cJSON *item;
    cJSON_ArrayForEach(item, decoder)
    {
        phi3_added_token token;
        PHI3_TRY(read_token(in, item, &token));
        char *end;
        long id = item->string != NULL ? strtol(item->string, &end, 10) : -1;
        if (token.content == NULL || id < 0 || id >= PHI3_MAX_TOKEN_ID || *end != '\0')
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                             "%s: \"added_tokens_decoder\" is not a table from ids to tokens",
                             in->path);
        const phi3_added_token *known = phi3_tokenizer_find_added(in->tokenizer, token.content);
        if (known != NULL && same_flags(known, &token))
            continue;
        token.special =
            token.special || (known != NULL && known->special) || has_role(root, token.content);
        bool in_vocabulary = phi3_vocabulary_find(&in->tokenizer->vocabulary, token.content,
                                                  strlen(token.content)) >= 0;
        token.id = in_vocabulary ? -1 : (int32_t)id;
        PHI3_TRY(phi3_tokenizer_add_token(in->tokenizer, in->path, token, in->error));
    }
    return PHI3_OK;
}

/* ---- Length and chat template --------------------------------------------------------------- */

/* transformers writes 1e30 for "not known". */
static phi3_status read_max_length(const reader *in, const cJSON *root)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "model_max_length");
    if (item == NULL || cJSON_IsNull(item))
        return PHI3_OK;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: \"model_max_length\" is not a length",
                         in->path);
    if (item->valuedouble < 0x1p53)
        in->tokenizer->model_max_length = (size_t)item->valuedouble;
    return PHI3_OK;
}

phi3_status phi3_tokenizer_keep_template(phi3_tokenizer *tokenizer, const char *file,
                                         const char *text, size_t size, phi3_error *error)
{
    size_t step = 0;
    for (size_t i = 0; i < size; i += step) {
        step = phi3_utf8_character(text + i, size - i);
        if (step == 0 || text[i] == '\0')
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: the chat template is not UTF-8 text at its byte %zu", file, i);
    }
    tokenizer->chat_template = phi3_vocabulary_keep(&tokenizer->vocabulary, text, size);
    if (tokenizer->chat_template == NULL)
        return phi3_fail_memory(error, "a chat template");
    return PHI3_OK;
}

/* A text, or a list of {"name": ..., "template": ...} of which "default" is taken. */
static phi3_status read_template(const reader *in, const cJSON *root)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "chat_template");
    const char *found = cJSON_IsString(item) ? item->valuestring : NULL;
    if (cJSON_IsArray(item)) {
        const cJSON *entry;
        cJSON_ArrayForEach(entry, item)
        {
            const char *name = "", *text = NULL;
            if (!cJSON_IsObject(entry))
                continue;
            PHI3_TRY(phi3_json_string(in->path, entry, "name", &name, in->error));
            PHI3_TRY(phi3_json_string(in->path, entry, "template", &text, in->error));
            if (strcmp(name, "default") == 0)
                found = text;
        }
    } else if (found == NULL && item != NULL && !cJSON_IsNull(item)) {
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: \"chat_template\" is neither text nor a list", in->path);
    }
    if (found == NULL)
        return PHI3_OK;
    return phi3_tokenizer_keep_template(in->tokenizer, in->path, found, strlen(found), in->error);
}

/* ---- The files ------------------------------------------------------------------------------ */

static phi3_status read_config(const reader *in, const cJSON *root)
{
    PHI3_TRY(read_added_tokens(in, root));
    PHI3_TRY(read_roles(in, root));
    PHI3_TRY(read_max_length(in, root));
    return read_template(in, root);
}

typedef phi3_status file_reader(const reader *in, const cJSON *root);

/* Reads directory/name if it is there. */
static phi3_status read_json(phi3_tokenizer *tokenizer, const char *directory, const char *name,
                             file_reader *read, phi3_error *error)
{
    char *path = phi3_path_join(directory, name);
    if (path == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_status status = PHI3_OK;
    cJSON *root = NULL;
    if (phi3_path_is_file(path))
        status = phi3_json_load(path, MAX_FILE_SIZE, &root, error);
    if (status == PHI3_OK && root != NULL && !cJSON_IsObject(root))
        status = phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: not a JSON object", path);
    if (status == PHI3_OK && root != NULL)
        status = read(&(reader){tokenizer, path, error}, root);
    cJSON_Delete(root);
    free(path);
    return status;
}

static phi3_status read_jinja(phi3_tokenizer *tokenizer, const char *directory, phi3_error *error)
{
    char *path = phi3_path_join(directory, "chat_template.jinja");
    if (path == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_file file = {0};
    phi3_status status = PHI3_OK;
    if (phi3_path_is_file(path)) {
        status = phi3_file_open(path, &file, error);
        if (status == PHI3_OK)
            status = phi3_tokenizer_keep_template(tokenizer, path, (const char *)file.data,
                                                  file.size, error);
    }
    phi3_file_close(&file);
    free(path);
    return status;
}

phi3_status phi3_tokenizer_load_settings(phi3_tokenizer *tokenizer, const char *directory,
                                         phi3_error *error)
{
    PHI3_TRY(read_json(tokenizer, directory, "tokenizer_config.json", read_config, error));
    PHI3_TRY(read_json(tokenizer, directory, "special_tokens_map.json", read_roles, error));
    return read_jinja(tokenizer, directory, error);
}
