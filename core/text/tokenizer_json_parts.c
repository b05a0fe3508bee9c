/*
 * tokenizer_json_parts.c - what stands around the model in tokenizer.json: normalizer, pre-
 * tokenizer, post-processor and decoder. In: the parsed file. Out: the steps of a phi3_tokenizer.
 * Each part is null, one object with a "type", or a Sequence of such; a type that is not known is
 * refused by its name, for to leave it out would give other ids.
 */
#include "base/json.h"
#include "characters.h"
#include "tokenizer_parts.h"

typedef struct reader {
    phi3_tokenizer *tokenizer;
    const char *path;
    phi3_error *error;
    bool decoder_fuses;   /* a Fuse came: what follows works on the whole text */
    bool byte_level_last; /* ByteLevel came: no splitting may follow */
} reader;

static phi3_status bad(const reader *in, const char *what)
{
    return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: %s", in->path, what);
}

static phi3_status unsupported(const reader *in, const char *part, const char *type)
{
    return phi3_fail(in->error, PHI3_ERROR_UNSUPPORTED, "%s: %s %.60s is not supported", in->path,
                     part, type);
}

/* ---- Walking a part ------------------------------------------------------------------------- */

typedef phi3_status step_reader(reader *in, const cJSON *step, const char *type);

/* Gives `read` each step of a part; `list_key` is how a Sequence of this part calls its list. */
static phi3_status walk(reader *in, const cJSON *part, const char *name, const char *list_key,
                        step_reader *read)
{
    if (part == NULL || cJSON_IsNull(part))
        return PHI3_OK;
    const char *type = NULL;
    if (cJSON_IsObject(part))
        PHI3_TRY(phi3_json_string(in->path, part, "type", &type, in->error));
    if (type == NULL)
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: \"%s\" is not an object with a type",
                         in->path, name);
    if (strcmp(type, "Sequence") != 0)
        return read(in, part, type);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(part, list_key);
    if (!cJSON_IsArray(list))
        return phi3_fail(in->error, PHI3_ERROR_BAD_FILE, "%s: a Sequence of \"%s\" has no list",
                         in->path, name);
    const cJSON *step;
    cJSON_ArrayForEach(step, list)
    {
        PHI3_TRY(walk(in, step, name, list_key, read));
    }
    return PHI3_OK;
}

/* The text of {"String": text} or {"Regex": text}, of which Replace and Split have a pattern. */
static phi3_status read_pattern(const reader *in, const cJSON *step, const char **text,
                                bool *is_regex)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(step, "pattern");
    *text = NULL;
    *is_regex = false;
    if (cJSON_IsObject(pattern)) {
        PHI3_TRY(phi3_json_string(in->path, pattern, "String", text, in->error));
        if (*text == NULL) {
            PHI3_TRY(phi3_json_string(in->path, pattern, "Regex", text, in->error));
            *is_regex = *text != NULL;
        }
    }
    if (*text == NULL || **text == '\0')
        return bad(in, "a pattern is neither a String nor a Regex, or empty");
    return PHI3_OK;
}

/* ---- Normalizer ----------------------------------------------------------------------------- */

static phi3_status read_normalizer(reader *in, const cJSON *step, const char *type)
{
    const char *content = NULL, *pattern = NULL;
    if (strcmp(type, "Prepend") == 0) {
        PHI3_TRY(phi3_json_string(in->path, step, "prepend", &content, in->error));
        if (content == NULL)
            return bad(in, "the normalizer Prepend has nothing to prepend");
        return phi3_normalizer_add(in->tokenizer, NULL, content, in->error);
    }
    if (strcmp(type, "Replace") == 0) {
        bool is_regex = false;
        PHI3_TRY(read_pattern(in, step, &pattern, &is_regex));
        PHI3_TRY(phi3_json_string(in->path, step, "content", &content, in->error));
        if (is_regex)
            return unsupported(in, "normalizer", "Replace with a Regex");
        if (content == NULL)
            return bad(in, "the normalizer Replace has no content");
        return phi3_normalizer_add(in->tokenizer, pattern, content, in->error);
    }
    return unsupported(in, "normalizer", type);
}

/* ---- Pre-tokenizer -------------------------------------------------------------------------- */

static phi3_status read_behavior(const reader *in, const cJSON *step, phi3_split_behavior *out)
{
    static const char *const names[] = {[PHI3_SPLIT_REMOVED] = "Removed",
                                        [PHI3_SPLIT_ISOLATED] = "Isolated",
                                        [PHI3_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [PHI3_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                        [PHI3_SPLIT_CONTIGUOUS] = "Contiguous"};
    const char *name = NULL;
    PHI3_TRY(phi3_json_string(in->path, step, "behavior", &name, in->error));
    for (size_t i = 0; name != NULL && i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (phi3_split_behavior)i;
            return PHI3_OK;
        }
    }
    return bad(in, "a Split has no known behavior");
}

static phi3_status read_byte_level(reader *in, const cJSON *step)
{
    bool add_prefix_space = true, use_regex = true;
    PHI3_TRY(phi3_json_bool(in->path, step, "add_prefix_space", &add_prefix_space, in->error));
    PHI3_TRY(phi3_json_bool(in->path, step, "use_regex", &use_regex, in->error));
    in->tokenizer->byte_level = true;
    in->byte_level_last = true;
    if (add_prefix_space)
        PHI3_TRY(
            phi3_tokenizer_add_mark(in->tokenizer, in->path, " ", PHI3_PREPEND_ALWAYS, in->error));
    if (use_regex)
        PHI3_TRY(phi3_tokenizer_add_split(in->tokenizer, in->path, phi3_gpt2_pattern,
                                          strlen(phi3_gpt2_pattern), false, PHI3_SPLIT_ISOLATED,
                                          false, in->error));
    return PHI3_OK;
}

/* What pre-tokenizer and decoder of this type have in common. */
static phi3_status read_metaspace(const reader *in, const cJSON *step, const char **mark,
                                  phi3_prepend_scheme *scheme)
{
    const char *name = NULL;
    bool add_prefix_space = true; /* the old spelling of the scheme */
    *mark = "\xE2\x96\x81";
    PHI3_TRY(phi3_json_string(in->path, step, "replacement", mark, in->error));
    PHI3_TRY(phi3_json_string(in->path, step, "prepend_scheme", &name, in->error));
    PHI3_TRY(phi3_json_bool(in->path, step, "add_prefix_space", &add_prefix_space, in->error));
    if (**mark == '\0' || phi3_character_size(*mark) != strlen(*mark))
        return bad(in, "the replacement of Metaspace is not one character");
    if (name == NULL)
        name = add_prefix_space ? "always" : "never";
    if (strcmp(name, "always") == 0)
        *scheme = PHI3_PREPEND_ALWAYS;
    else if (strcmp(name, "first") == 0)
        *scheme = PHI3_PREPEND_FIRST;
    else if (strcmp(name, "never") == 0)
        *scheme = PHI3_PREPEND_NEVER;
    else
        return unsupported(in, "prepend_scheme", name);
    return PHI3_OK;
}

static phi3_status read_metaspace_splitter(reader *in, const cJSON *step)
{
    const char *mark = NULL;
    phi3_prepend_scheme scheme = PHI3_PREPEND_ALWAYS;
    bool split = true;
    PHI3_TRY(read_metaspace(in, step, &mark, &scheme));
    PHI3_TRY(phi3_json_bool(in->path, step, "split", &split, in->error));
    PHI3_TRY(phi3_tokenizer_add_mark(in->tokenizer, in->path, mark, scheme, in->error));
    if (!split)
        return PHI3_OK;
    return phi3_tokenizer_add_split(in->tokenizer, in->path, mark, strlen(mark), true,
                                    PHI3_SPLIT_MERGED_WITH_NEXT, false, in->error);
}

static phi3_status read_pre_tokenizer(reader *in, const cJSON *step, const char *type)
{
    if (in->byte_level_last)
        return unsupported(in, "pre-tokenizer step after ByteLevel:", type);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(in, step);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace_splitter(in, step);
    if (strcmp(type, "Digits") == 0) {
        bool individual = false;
        PHI3_TRY(phi3_json_bool(in->path, step, "individual_digits", &individual, in->error));
        return phi3_tokenizer_add_split(
            in->tokenizer, in->path, phi3_digit_pattern, strlen(phi3_digit_pattern), false,
            individual ? PHI3_SPLIT_ISOLATED : PHI3_SPLIT_CONTIGUOUS, false, in->error);
    }
    if (strcmp(type, "Split") == 0) {
        const char *pattern = NULL;
        bool is_regex = false, invert = false;
        phi3_split_behavior behavior = PHI3_SPLIT_ISOLATED;
        PHI3_TRY(read_pattern(in, step, &pattern, &is_regex));
        PHI3_TRY(read_behavior(in, step, &behavior));
        PHI3_TRY(phi3_json_bool(in->path, step, "invert", &invert, in->error));
        return phi3_tokenizer_add_split(in->tokenizer, in->path, pattern, strlen(pattern),
                                        !is_regex, behavior, invert, in->error);
    }
    return unsupported(in, "pre-tokenizer", type);
}

/* ---- Post-processor ------------------------------------------------------------------------- */

/* Adds the ids of special_tokens[name] to the end of a list. */
static phi3_status add_special(reader *in, const cJSON *specials, const char *name, int32_t **list,
                               size_t *count)
{
    const cJSON *special = cJSON_GetObjectItemCaseSensitive(specials, name);
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(special, "ids");
    if (!cJSON_IsArray(ids))
        return bad(in, "the post-processor names a special token without ids");
    const cJSON *id;
    cJSON_ArrayForEach(id, ids)
    {
        double value = id->valuedouble;
        bool is_id = cJSON_IsNumber(id) && value >= 0 && value < PHI3_MAX_TOKEN_ID;
        if (!is_id || phi3_vocabulary_token(&in->tokenizer->vocabulary, (int32_t)value) == NULL)
            return bad(in, "the post-processor uses an id that the vocabulary lacks");
        int32_t *grown = realloc(*list, (*count + 1) * sizeof **list);
        if (grown == NULL)
            return phi3_fail_memory(in->error, "a tokenizer");
        *list = grown;
        grown[(*count)++] = (int32_t)value;
    }
    return PHI3_OK;
}

/* "single": a list of {"SpecialToken": {"id": ...}} with one {"Sequence": ...} for the text. */
static phi3_status read_template(reader *in, const cJSON *step)
{
    phi3_tokenizer *tokenizer = in->tokenizer;
    const cJSON *specials = cJSON_GetObjectItemCaseSensitive(step, "special_tokens");
    const cJSON *single = cJSON_GetObjectItemCaseSensitive(step, "single");
    if (!cJSON_IsArray(single))
        return bad(in, "TemplateProcessing has no list \"single\"");
    size_t texts = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, single)
    {
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(item, "SpecialToken");
        const char *name = NULL;
        if (cJSON_GetObjectItemCaseSensitive(item, "Sequence") != NULL) {
            texts++;
            continue;
        }
        if (cJSON_IsObject(special))
            PHI3_TRY(phi3_json_string(in->path, special, "id", &name, in->error));
        if (name == NULL)
            return bad(in, "TemplateProcessing has an entry that is no token and no text");
        if (texts == 0)
            PHI3_TRY(add_special(in, specials, name, &tokenizer->prefix, &tokenizer->prefix_count));
        else
            PHI3_TRY(add_special(in, specials, name, &tokenizer->suffix, &tokenizer->suffix_count));
    }
    return texts == 1 ? PHI3_OK : unsupported(in, "post-processor", "template without one text");
}

static phi3_status read_post_processor(reader *in, const cJSON *step, const char *type)
{
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(in, step);
    if (strcmp(type, "ByteLevel") != 0)
        return unsupported(in, "post-processor", type);
    phi3_tokenizer *tokenizer = in->tokenizer;
    tokenizer->trim_offsets = tokenizer->trim_keeps_prefix = true;
    PHI3_TRY(phi3_json_bool(in->path, step, "trim_offsets", &tokenizer->trim_offsets, in->error));
    return phi3_json_bool(in->path, step, "add_prefix_space", &tokenizer->trim_keeps_prefix,
                          in->error);
}

/* ---- Decoder -------------------------------------------------------------------------------- */

static phi3_status read_strip(reader *in, const cJSON *step)
{
    const char *content = " ";
    size_t start = 0, stop = 0;
    PHI3_TRY(phi3_json_string(in->path, step, "content", &content, in->error));
    PHI3_TRY(phi3_json_size(in->path, step, "start", &start, in->error));
    PHI3_TRY(phi3_json_size(in->path, step, "stop", &stop, in->error));
    if (stop != 0 || *content == '\0')
        return unsupported(in, "decoder", "Strip of the end, or of nothing,");
    if (!in->decoder_fuses)
        return phi3_decoder_strip_tokens(in->tokenizer, in->path, content, start, in->error);
    if (in->tokenizer->decoder.strip > 0)
        return unsupported(in, "decoder", "Strip twice");
    return phi3_decoder_strip_text(in->tokenizer, content, start, in->error);
}

/* Steps for single tokens come first, then ByteFallback, then Fuse, then steps for the whole text.
 * */
static phi3_status read_decoder(reader *in, const cJSON *step, const char *type)
{
    phi3_decoder *decoder = &in->tokenizer->decoder;
    bool is_strip = strcmp(type, "Strip") == 0;
    bool only_fuse = decoder->byte_fallback && !in->decoder_fuses;
    if (decoder->byte_level || decoder->mark != NULL || (only_fuse && strcmp(type, "Fuse") != 0) ||
        (in->decoder_fuses && !is_strip))
        return unsupported(in, "decoder step in this order:", type);
    if (is_strip)
        return read_strip(in, step);
    if (strcmp(type, "Fuse") == 0) {
        in->decoder_fuses = true;
        return PHI3_OK;
    }
    if (strcmp(type, "ByteFallback") == 0) {
        decoder->byte_fallback = true;
        return PHI3_OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        decoder->byte_level = true;
        return decoder->n_steps == 0 ? PHI3_OK : unsupported(in, "decoder step before", type);
    }
    const char *pattern = NULL, *content = NULL;
    if (strcmp(type, "Replace") == 0) {
        bool is_regex = false;
        PHI3_TRY(read_pattern(in, step, &pattern, &is_regex));
        PHI3_TRY(phi3_json_string(in->path, step, "content", &content, in->error));
        if (is_regex)
            return unsupported(in, "decoder", "Replace with a Regex");
        return phi3_decoder_replace(in->tokenizer, in->path, pattern,
                                    content != NULL ? content : "", in->error);
    }
    if (strcmp(type, "Metaspace") == 0) {
        phi3_prepend_scheme scheme = PHI3_PREPEND_ALWAYS;
        PHI3_TRY(read_metaspace(in, step, &pattern, &scheme));
        PHI3_TRY(phi3_decoder_replace(in->tokenizer, in->path, pattern, " ", in->error));
        if (scheme != PHI3_PREPEND_NEVER) {
            const phi3_decoder_step *last = &decoder->steps[decoder->n_steps - 1];
            decoder->mark = last->pattern;
            decoder->mark_size = last->pattern_size;
        }
        return decoder->n_steps == 1 ? PHI3_OK : unsupported(in, "decoder step before", type);
    }
    return unsupported(in, "decoder", type);
}

/* ---- All parts ------------------------------------------------------------------------------ */

phi3_status phi3_tokenizer_load_parts(phi3_tokenizer *tokenizer, const char *path,
                                      const cJSON *root, phi3_error *error)
{
    reader in = {.tokenizer = tokenizer, .path = path, .error = error};
    const cJSON *normalizer = cJSON_GetObjectItemCaseSensitive(root, "normalizer");
    const cJSON *pre_tokenizer = cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer");
    const cJSON *post_processor = cJSON_GetObjectItemCaseSensitive(root, "post_processor");
    const cJSON *decoder = cJSON_GetObjectItemCaseSensitive(root, "decoder");
    PHI3_TRY(walk(&in, normalizer, "normalizer", "normalizers", read_normalizer));
    PHI3_TRY(walk(&in, pre_tokenizer, "pre_tokenizer", "pretokenizers", read_pre_tokenizer));
    PHI3_TRY(walk(&in, post_processor, "post_processor", "processors", read_post_processor));
    tokenizer->decoder.join_with_spaces = decoder == NULL || cJSON_IsNull(decoder);
    return walk(&in, decoder, "decoder", "decoders", read_decoder);
}
