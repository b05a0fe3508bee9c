/*
 * tokenizer_gguf.c - a tokenizer from the metadata of a GGUF file. In: the file. Out: a filled
 * phi3_tokenizer that gives the ids of the tokenizer.json that the file was made from.
 *
 * tokenizer.ggml.model "llama" is SentencePiece's BPE: scores instead of merges, a mark for spaces,
 * byte tokens. "gpt2" is byte-level BPE: merges, and tokenizer.ggml.pre names the pattern.
 */
#include "tokenizer_gguf.h"

#include <math.h>

#include "files/gguf.h"
#include "tokenizer_parts.h"

typedef struct reader {
    phi3_tokenizer *tokenizer;
    const phi3_gguf *gguf;
    const char *path;
    phi3_error *error;
    phi3_gguf_array tokens; /* strings */
    phi3_gguf_array types;  /* count 0: all are normal */
    bool trims_controls;    /* see is_trimmed */
} reader;

/* ---- Patterns by name ----------------------------------------------------------------------- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char cl100k_pattern[] =
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL;
static const char qwen2_pattern[] =
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL;
static const char o200k_pattern[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
    "+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" CONTRACTIONS
    "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL;

enum { MAX_STEPS = 4 };

typedef struct pre_tokenizer {
    const char *name; /* tokenizer.ggml.pre */
    const char *patterns[MAX_STEPS];
    bool ignore_merges;
    bool add_bos; /* unless the file says otherwise */
} pre_tokenizer;

static const pre_tokenizer pre_tokenizers[] = {
    {"default",
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", phi3_gpt2_pattern, "\\p{N}+", "[0-9][0-9][0-9]"},
     false,
     false},
    {"gpt-2", {phi3_gpt2_pattern}, false, false},
    {"smollm", {phi3_digit_pattern, phi3_gpt2_pattern}, false, false},
    {"dbrx", {cl100k_pattern}, false, false},
    {"llama-bpe", {cl100k_pattern}, true, true},
    {"llama3", {cl100k_pattern}, true, true},
    {"llama-v3", {cl100k_pattern}, true, true},
    {"gpt-4o", {o200k_pattern}, false, false},
    {"qwen2", {qwen2_pattern}, false, false},
};

static phi3_status find_pre_tokenizer(const reader *in, const pre_tokenizer **found)
{
    phi3_gguf_string name = {"default", 7};
    PHI3_TRY(phi3_gguf_text(in->gguf, "tokenizer.ggml.pre", &name, in->error));
    char known[256] = "";
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++) {
        const char *candidate = pre_tokenizers[i].name;
        if (strlen(candidate) == name.size && memcmp(candidate, name.text, name.size) == 0) {
            *found = &pre_tokenizers[i];
            return PHI3_OK;
        }
        strncat(known, i > 0 ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, candidate, sizeof known - strlen(known) - 1);
    }
    return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED,
                     "%s: the pre-tokenizer \"%.*s\" is not supported; known are %s", in->path,
                     phi3_shown(name.size), name.text, known);
}

/* A step that gives the pieces of an isolating split by this pattern, which covers every text. */
static bool is_step(const phi3_split_step *step, const char *pattern)
{
    bool keeps_matches = step->behavior == PHI3_SPLIT_ISOLATED ||
                         (step->behavior == PHI3_SPLIT_REMOVED && step->invert);
    return step->source != NULL && !step->literal && keeps_matches &&
           strcmp(step->source, pattern) == 0;
}

static bool has_steps(const phi3_split_steps *steps, const pre_tokenizer *pre)
{
    size_t count = 0;
    while (count < MAX_STEPS && pre->patterns[count] != NULL) {
        if (count >= steps->count || !is_step(&steps->step[count], pre->patterns[count]))
            return false;
        count++;
    }
    return count == steps->count;
}

const char *phi3_pre_tokenizer_name(const phi3_tokenizer *tokenizer)
{
    const char *name = NULL;
    for (size_t i = 0; i < sizeof pre_tokenizers / sizeof *pre_tokenizers; i++) {
        const pre_tokenizer *pre = &pre_tokenizers[i];
        if (!has_steps(&tokenizer->pre_tokenizer, pre))
            continue;
        if (pre->ignore_merges == tokenizer->ignore_merges)
            return pre->name;
        if (name == NULL) /* the same pieces; where merges build every token, the same ids */
            name = pre->name;
    }
    return name;
}

/* ---- Tokens --------------------------------------------------------------------------------- */

static phi3_status read_list(const reader *in, const char *key, bool strings, bool required,
                             phi3_gguf_array *list)
{
    *list = (phi3_gguf_array){0};
    PHI3_TRY(phi3_gguf_list(in->gguf, key, list, in->error));
    bool present = phi3_gguf_has(in->gguf, key);
    if (!present && required)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: the list %s is missing", in->path,
                         key);
    if (present && (list->type == PHI3_GGUF_STRING) != strings)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: %s is not a list of %s", in->path,
                         key, strings ? "strings" : "numbers");
    return PHI3_OK;
}

static phi3_status check_count(const reader *in, const char *key, size_t count)
{
    if (count == in->tokens.count)
        return PHI3_OK;
    return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: %s has %zu entries for %zu tokens",
                     in->path, key, count, in->tokens.count);
}

static int64_t type_of(const reader *in, size_t id)
{
    return in->types.count == 0 ? PHI3_TOKEN_TYPE_NORMAL : phi3_gguf_array_integer(&in->types, id);
}

/*
 * Phi-3's tokenizer.json lets "</s>" and its own control tokens swallow the white space after them.
 * The GGUF format has no flag for that; llama.cpp restores it by the same rule.
 */
static bool is_trimmed(const reader *in, const char *content)
{
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(content, others[i]) == 0)
            return false;
    }
    return in->trims_controls && (strncmp(content, "<|", 2) == 0 || strcmp(content, "</s>") == 0);
}

static phi3_status add_token(const reader *in, size_t id)
{
    phi3_gguf_string text = in->tokens.strings[id];
    int64_t type = type_of(in, id);
    if (type < PHI3_TOKEN_TYPE_NORMAL || type > PHI3_TOKEN_TYPE_BYTE)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: token %zu has the unknown type %lld",
                         in->path, id, (long long)type);
    if (type == PHI3_TOKEN_TYPE_UNUSED || text.size == 0)
        return PHI3_OK;
    phi3_vocabulary *vocabulary = &in->tokenizer->vocabulary;
    PHI3_TRY(
        phi3_vocabulary_add(vocabulary, in->path, (int64_t)id, text.text, text.size, in->error));
    if (type == PHI3_TOKEN_TYPE_NORMAL || type == PHI3_TOKEN_TYPE_BYTE)
        return PHI3_OK;
    const char *content = vocabulary->tokens[id].text;
    phi3_added_token token = {.id = (int32_t)id,
                              .content = content,
                              .special = type != PHI3_TOKEN_TYPE_USER_DEFINED,
                              .rstrip = is_trimmed(in, content)};
    return phi3_tokenizer_add_token(in->tokenizer, in->path, token, in->error);
}

static phi3_status read_tokens(reader *in)
{
    PHI3_TRY(read_list(in, "tokenizer.ggml.tokens", true, true, &in->tokens));
    PHI3_TRY(read_list(in, "tokenizer.ggml.token_type", false, false, &in->types));
    if (in->types.count > 0)
        PHI3_TRY(check_count(in, "tokenizer.ggml.token_type", in->types.count));
    size_t base = 0; /* added tokens stand behind the base vocabulary */
    for (size_t id = 0; id < in->tokens.count; id++) {
        PHI3_TRY(add_token(in, id));
        if (type_of(in, id) == PHI3_TOKEN_TYPE_NORMAL || type_of(in, id) == PHI3_TOKEN_TYPE_BYTE)
            base = id + 1;
    }
    in->tokenizer->vocab_size = base;
    return PHI3_OK;
}

/* ---- The two models ------------------------------------------------------------------------- */

static phi3_status read_scores(const reader *in)
{
    phi3_tokenizer *tokenizer = in->tokenizer;
    phi3_gguf_array list;
    PHI3_TRY(read_list(in, "tokenizer.ggml.scores", false, true, &list));
    PHI3_TRY(check_count(in, "tokenizer.ggml.scores", list.count));
    float *scores = malloc((list.count + 1) * sizeof *scores);
    if (scores == NULL)
        return phi3_fail_memory(in->error, "the scores of a tokenizer");
    phi3_status status = PHI3_OK;
    for (size_t id = 0; status == PHI3_OK && id < tokenizer->vocabulary.count; id++) {
        scores[id] = phi3_gguf_array_float(&list, id);
        if (isnan(scores[id]))
            status = phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: token %zu has no score (NaN)",
                               in->path, id);
        else if (type_of(in, id) != PHI3_TOKEN_TYPE_NORMAL)
            scores[id] = NAN; /* takes no part in merging */
    }
    if (status == PHI3_OK)
        status =
            phi3_merges_from_scores(&tokenizer->merges, &tokenizer->vocabulary, scores, in->error);
    free(scores);
    return status;
}

static phi3_status read_llama(const reader *in)
{
    phi3_tokenizer *tokenizer = in->tokenizer;
    bool add_space_prefix = true;
    PHI3_TRY(
        phi3_gguf_bool(in->gguf, "tokenizer.ggml.add_space_prefix", &add_space_prefix, in->error));
    PHI3_TRY(read_scores(in));
    tokenizer->byte_fallback = tokenizer->fuse_unk = true;
    if (add_space_prefix)
        PHI3_TRY(phi3_normalizer_add(tokenizer, NULL, PHI3_SPACE_MARK, in->error));
    PHI3_TRY(phi3_normalizer_add(tokenizer, " ", PHI3_SPACE_MARK, in->error));
    PHI3_TRY(phi3_decoder_replace(tokenizer, in->path, PHI3_SPACE_MARK, " ", in->error));
    tokenizer->decoder.byte_fallback = true;
    return add_space_prefix ? phi3_decoder_strip_text(tokenizer, " ", 1, in->error) : PHI3_OK;
}

static phi3_status read_merges(const reader *in)
{
    phi3_gguf_array list;
    PHI3_TRY(read_list(in, "tokenizer.ggml.merges", true, true, &list));
    for (size_t rank = 0; rank < list.count; rank++) {
        phi3_gguf_string merge = list.strings[rank];
        const char *space = merge.size < 3 ? NULL : memchr(merge.text + 1, ' ', merge.size - 2);
        if (space == NULL)
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE,
                             "%s: merge %zu is not a pair of tokens", in->path, rank);
        size_t left_size = (size_t)(space - merge.text);
        PHI3_TRY(phi3_merges_add(&in->tokenizer->merges, &in->tokenizer->vocabulary, in->path, rank,
                                 merge.text, left_size, space + 1, merge.size - left_size - 1,
                                 in->error));
    }
    return PHI3_OK;
}

static phi3_status read_gpt2(const reader *in, const pre_tokenizer *pre)
{
    phi3_tokenizer *tokenizer = in->tokenizer;
    PHI3_TRY(read_merges(in));
    for (size_t i = 0; i < MAX_STEPS && pre->patterns[i] != NULL; i++)
        PHI3_TRY(phi3_tokenizer_add_split(tokenizer, in->path, pre->patterns[i],
                                          strlen(pre->patterns[i]), false, PHI3_SPLIT_ISOLATED,
                                          false, in->error));
    tokenizer->byte_level = tokenizer->decoder.byte_level = true;
    tokenizer->ignore_merges = pre->ignore_merges;
    return PHI3_OK;
}

/* ---- Roles, length and chat template -------------------------------------------------------- */

static phi3_status read_roles(const reader *in)
{
    static const char *const keys[] = {[PHI3_TOKEN_BOS] = "tokenizer.ggml.bos_token_id",
                                       [PHI3_TOKEN_EOS] = "tokenizer.ggml.eos_token_id",
                                       [PHI3_TOKEN_UNK] = "tokenizer.ggml.unknown_token_id",
                                       [PHI3_TOKEN_PAD] = "tokenizer.ggml.padding_token_id"};
    for (size_t role = 0; role < sizeof keys / sizeof *keys; role++) {
        size_t id = SIZE_MAX;
        PHI3_TRY(phi3_gguf_size(in->gguf, keys[role], &id, in->error));
        if (id == SIZE_MAX)
            continue;
        if (id >= in->tokens.count)
            return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: %s is %zu of %zu tokens",
                             in->path, keys[role], id, in->tokens.count);
        in->tokenizer->special_ids[role] = (int32_t)id;
    }
    return PHI3_OK;
}

/* What add_bos_token and add_eos_token put around a text: one id, or none. */
static phi3_status read_outer_token(const reader *in, const char *key, bool wanted, int32_t id,
                                    int32_t **list, size_t *count)
{
    PHI3_TRY(phi3_gguf_bool(in->gguf, key, &wanted, in->error));
    if (!wanted || id < 0)
        return PHI3_OK;
    *list = malloc(sizeof **list);
    if (*list == NULL)
        return phi3_fail_memory(in->error, "a tokenizer");
    **list = id;
    *count = 1;
    return PHI3_OK;
}

static phi3_status read_length(const reader *in)
{
    phi3_gguf_string architecture = {"", 0};
    PHI3_TRY(phi3_gguf_text(in->gguf, "general.architecture", &architecture, in->error));
    phi3_bytes key = {0};
    bool enough_memory = phi3_bytes_append(&key, architecture.text, architecture.size) &&
                         phi3_bytes_append(&key, ".context_length", 15);
    phi3_status status = enough_memory ? phi3_gguf_size(in->gguf, key.bytes,
                                                        &in->tokenizer->model_max_length, in->error)
                                       : phi3_fail_memory(in->error, "a tokenizer");
    free(key.bytes);
    return status;
}

static phi3_status read_template(const reader *in)
{
    phi3_gguf_string text = {NULL, 0};
    PHI3_TRY(phi3_gguf_text(in->gguf, "tokenizer.chat_template", &text, in->error));
    if (text.text == NULL)
        return PHI3_OK;
    return phi3_tokenizer_keep_template(in->tokenizer, in->path, text.text, text.size, in->error);
}

/* ---- The file ------------------------------------------------------------------------------- */

static bool is_text(phi3_gguf_string string, const char *text)
{
    return string.size == strlen(text) && memcmp(string.text, text, string.size) == 0;
}

static phi3_status read_file(reader *in)
{
    phi3_tokenizer *tokenizer = in->tokenizer;
    phi3_gguf_string model = {"", 0}, architecture = {"", 0};
    PHI3_TRY(phi3_gguf_text(in->gguf, "tokenizer.ggml.model", &model, in->error));
    PHI3_TRY(phi3_gguf_text(in->gguf, "general.architecture", &architecture, in->error));
    bool is_llama = is_text(model, "llama");
    if (!is_llama && !is_text(model, "gpt2"))
        return phi3_fail(in->error, model.size == 0 ? PHI3_ERROR_BAD_FILE : PHI3_ERROR_UNSUPPORTED,
                         "%s: the tokenizer model \"%.*s\" is not supported; known are llama, gpt2",
                         in->path, phi3_shown(model.size), model.text);
    const pre_tokenizer *pre = NULL;
    if (!is_llama)
        PHI3_TRY(find_pre_tokenizer(in, &pre));
    in->trims_controls = is_llama && is_text(architecture, "phi3");
    PHI3_TRY(read_tokens(in));
    PHI3_TRY(read_roles(in));
    tokenizer->unk_id = is_llama ? tokenizer->special_ids[PHI3_TOKEN_UNK] : -1;
    PHI3_TRY(is_llama ? read_llama(in) : read_gpt2(in, pre));
    PHI3_TRY(read_outer_token(in, "tokenizer.ggml.add_bos_token", is_llama || pre->add_bos,
                              tokenizer->special_ids[PHI3_TOKEN_BOS], &tokenizer->prefix,
                              &tokenizer->prefix_count));
    PHI3_TRY(read_outer_token(in, "tokenizer.ggml.add_eos_token", false,
                              tokenizer->special_ids[PHI3_TOKEN_EOS], &tokenizer->suffix,
                              &tokenizer->suffix_count));
    PHI3_TRY(read_length(in));
    return read_template(in);
}

phi3_status phi3_tokenizer_load_gguf(phi3_tokenizer *tokenizer, const char *path, phi3_error *error)
{
    phi3_gguf *gguf = NULL;
    PHI3_TRY(phi3_gguf_open(path, &gguf, error));
    reader in = {.tokenizer = tokenizer, .gguf = gguf, .path = path, .error = error};
    phi3_status status = read_file(&in);
    phi3_gguf_close(gguf);
    return status;
}
