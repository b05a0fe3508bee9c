/*
 * tokenizer_json.c - a tokenizer from the tokenizer.json of Hugging Face tokenizers. In: the file.
 * Out: a filled phi3_tokenizer. This file reads the model (BPE) and the added tokens; the other
 * parts are read by tokenizer_json_parts.c.
 *
 * cJSON finds a key by walking the list of its siblings, so the large objects are walked once.
 */
#include "base/json.h"
#include "tokenizer_parts.h"

static const size_t MAX_FILE_SIZE = (size_t)256 << 20;

typedef struct reader {
    phi3_tokenizer *tokenizer;
    const char *path;
    phi3_error *error;
} reader;

/* ---- The model ------------------------------------------------------------------------------ */

static phi3_status read_vocabulary(const reader *in, const cJSON *vocab)
{
    if (!cJSON_IsObject(vocab))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: \"model.vocab\" is not an object",
                         in->path);
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab)
    {
        size_t size = strlen(item->string);
        double id = item->valuedouble;
        if (!cJSON_IsNumber(item) || !(id >= -0x1p53 && id <= 0x1p53) || id != (double)(int64_t)id)
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                             "%s: the id of token \"%.*s\" is not an integer", in->path,
                             phi3_shown(size), item->string);
        PHI3_TRY(phi3_vocabulary_add(&in->tokenizer->vocabulary, in->path, (int64_t)id,
                                     item->string, size, in->error));
    }
    in->tokenizer->vocab_size = in->tokenizer->vocabulary.n_tokens;
    return PHI3_OK;
}

/* One merge: "a b" or ["a", "b"]. False when it is neither. */
static bool split_merge(const cJSON *merge, const char **left, size_t *left_size,
                        const char **right)
{
    if (cJSON_IsString(merge)) {
        const char *space = strchr(merge->valuestring, ' ');
        if (space == NULL || strchr(space + 1, ' ') != NULL)
            return false;
        *left = merge->valuestring;
        *left_size = (size_t)(space - merge->valuestring);
        *right = space + 1;
        return true;
    }
    const cJSON *first = cJSON_IsArray(merge) ? merge->child : NULL;
    const cJSON *second = first != NULL ? first->next : NULL;
    if (!cJSON_IsString(first) || !cJSON_IsString(second) || second->next != NULL)
        return false;
    *left = first->valuestring;
    *left_size = strlen(first->valuestring);
    *right = second->valuestring;
    return true;
}

static phi3_status read_merges(const reader *in, const cJSON *merges)
{
    if (!cJSON_IsArray(merges))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: \"model.merges\" is not a list",
                         in->path);
    size_t rank = 0;
    const cJSON *merge;
    cJSON_ArrayForEach(merge, merges)
    {
        const char *left = NULL, *right = NULL;
        size_t left_size = 0;
        if (cJSON_IsString(merge) && strncmp(merge->valuestring, "#version", 8) == 0)
            continue; /* the first line of an old merges.txt */
        if (!split_merge(merge, &left, &left_size, &right))
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                             "%s: merge %zu is not a pair of tokens", in->path, rank);
        PHI3_TRY(phi3_merges_add(&in->tokenizer->merges, &in->tokenizer->vocabulary, in->path, rank,
                                 left, left_size, right, strlen(right), in->error));
        rank++;
    }
    return PHI3_OK;
}

/* Features of the BPE model that no tokenizer of the family uses. */
static phi3_status refuse_others(const reader *in, const cJSON *model)
{
    const char *type = "BPE", *prefix = "", *suffix = "";
    float dropout = 0;
    PHI3_TRY(phi3_json_string(in->path, model, "type", &type, in->error));
    PHI3_TRY(phi3_json_string(in->path, model, "continuing_subword_prefix", &prefix, in->error));
    PHI3_TRY(phi3_json_string(in->path, model, "end_of_word_suffix", &suffix, in->error));
    PHI3_TRY(phi3_json_float(in->path, model, "dropout", &dropout, in->error));
    if (strcmp(type, "BPE") != 0)
        return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED,
                         "%s: model %.60s is not supported, only BPE is", in->path, type);
    const char *feature = *prefix != '\0'   ? "continuing_subword_prefix"
                          : *suffix != '\0' ? "end_of_word_suffix"
                          : dropout != 0    ? "dropout"
                                            : NULL;
    if (feature != NULL)
        return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED, "%s: %s is not supported", in->path,
                         feature);
    return PHI3_OK;
}

static phi3_status read_model(const reader *in, const cJSON *root)
{
    phi3_tokenizer *tokenizer = in->tokenizer;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    if (!cJSON_IsObject(model))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: \"model\" is not an object",
                         in->path);
    PHI3_TRY(refuse_others(in, model));
    PHI3_TRY(read_vocabulary(in, cJSON_GetObjectItemCaseSensitive(model, "vocab")));
    PHI3_TRY(read_merges(in, cJSON_GetObjectItemCaseSensitive(model, "merges")));
    PHI3_TRY(
        phi3_json_bool(in->path, model, "byte_fallback", &tokenizer->byte_fallback, in->error));
    PHI3_TRY(phi3_json_bool(in->path, model, "fuse_unk", &tokenizer->fuse_unk, in->error));
    PHI3_TRY(
        phi3_json_bool(in->path, model, "ignore_merges", &tokenizer->ignore_merges, in->error));
    const char *unk = NULL;
    PHI3_TRY(phi3_json_string(in->path, model, "unk_token", &unk, in->error));
    if (unk == NULL)
        return PHI3_OK;
    tokenizer->unk_id = phi3_vocabulary_find(&tokenizer->vocabulary, unk, strlen(unk));
    if (tokenizer->unk_id < 0)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: the unk_token \"%.*s\" is not in the vocabulary", in->path,
                         phi3_shown(strlen(unk)), unk);
    return PHI3_OK;
}

/* ---- Added tokens --------------------------------------------------------------------------- */

static phi3_status read_added_token(const reader *in, const cJSON *item)
{
    const char *content = NULL;
    size_t id = SIZE_MAX;
    phi3_added_token token = {0};
    PHI3_TRY(phi3_json_string(in->path, item, "content", &content, in->error));
    PHI3_TRY(phi3_json_size(in->path, item, "id", &id, in->error));
    PHI3_TRY(phi3_json_bool(in->path, item, "special", &token.special, in->error));
    token.normalized = !token.special;
    PHI3_TRY(phi3_json_bool(in->path, item, "normalized", &token.normalized, in->error));
    PHI3_TRY(phi3_json_bool(in->path, item, "lstrip", &token.lstrip, in->error));
    PHI3_TRY(phi3_json_bool(in->path, item, "rstrip", &token.rstrip, in->error));
    PHI3_TRY(phi3_json_bool(in->path, item, "single_word", &token.single_word, in->error));
    if (content == NULL || id >= PHI3_MAX_TOKEN_ID)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: an added token needs a content and an id below %d", in->path,
                         PHI3_MAX_TOKEN_ID);
    if (*content == '\0')
        return PHI3_OK; /* tokenizers ignores it too */
    token.content = content;
    token.id = (int32_t)id;
    return phi3_tokenizer_add_token(in->tokenizer, in->path, token, in->error);
}

static phi3_status read_added_tokens(const reader *in, const cJSON *root)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    if (list == NULL || cJSON_IsNull(list))
        return PHI3_OK;
    const cJSON *item = NULL;
    if (cJSON_IsArray(list)) {
        cJSON_ArrayForEach(item, list)
        {
            if (!cJSON_IsObject(item))
                break;
            PHI3_TRY(read_added_token(in, item));
        }
    }
    if (!cJSON_IsArray(list) || item != NULL)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                         "%s: \"added_tokens\" is not a list of objects", in->path);
    return PHI3_OK;
}

/* ---- The file ------------------------------------------------------------------------------- */

phi3_status phi3_tokenizer_load_json(phi3_tokenizer *tokenizer, const char *path, phi3_error *error)
{
    reader in = {tokenizer, path, error};
    cJSON *root = NULL;
    PHI3_TRY(phi3_json_load(path, MAX_FILE_SIZE, &root, error));
    phi3_status status = PHI3_OK;
    if (!cJSON_IsObject(root))
        status = phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: not a JSON object", path);
    if (status == PHI3_OK)
        status = read_model(&in, root);
    if (status == PHI3_OK)
        status = read_added_tokens(&in, root);
    if (status == PHI3_OK)
        status = phi3_tokenizer_load_parts(tokenizer, path, root, error);
    cJSON_Delete(root);
    return status;
}
