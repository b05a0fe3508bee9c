/*
 * tokenizer_added.c - added tokens: tokens such as "<|end|>" that are cut from the text before all
 * else. In: the added tokens of a file. Out: search trees, and with them the next token in a text:
 * the leftmost, and of those that begin there the longest.
 */
#include "characters.h"
#include "tokenizer_parts.h"

/* ---- Search trees --------------------------------------------------------------------------- */

static bool new_node(phi3_trie *trie, uint8_t byte, uint32_t *node)
{
    if (trie->count == 0)
        trie->count = 1; /* node 0 means none */
    if (!phi3_reserve(&trie->nodes, &trie->capacity, trie->count + 1, sizeof *trie->nodes))
        return false;
    *node = (uint32_t)trie->count++;
    trie->nodes[*node] = (phi3_trie_node){.token = -1, .byte = byte};
    return true;
}

static uint32_t find_sibling(const phi3_trie *trie, uint32_t node, uint8_t byte)
{
    while (node != 0 && trie->nodes[node].byte != byte)
        node = trie->nodes[node].sibling;
    return node;
}

/* `token` becomes what the tree finds for `text`. */
static bool trie_add(phi3_trie *trie, const char *text, size_t size, int32_t token)
{
    uint8_t first = (uint8_t)*text;
    if (trie->first[first] == 0 && !new_node(trie, first, &trie->first[first]))
        return false;
    uint32_t node = trie->first[first];
    for (size_t i = 1; i < size; i++) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t child = find_sibling(trie, trie->nodes[node].child, byte);
        if (child == 0) {
            if (!new_node(trie, byte, &child))
                return false;
            trie->nodes[child].sibling = trie->nodes[node].child;
            trie->nodes[node].child = child;
        }
        node = child;
    }
    trie->nodes[node].token = token;
    return true;
}

/* The longest entry that text begins with: its token and size; -1 for none. */
static int32_t trie_match(const phi3_trie *trie, const char *text, size_t size, size_t *length)
{
    int32_t token = -1;
    uint32_t node = trie->first[(uint8_t)*text];
    for (size_t i = 1; node != 0; i++) {
        if (trie->nodes[node].token >= 0) {
            token = trie->nodes[node].token;
            *length = i;
        }
        if (i >= size)
            break;
        node = find_sibling(trie, trie->nodes[node].child, (uint8_t)text[i]);
    }
    return token;
}

/* ---- White space and words ------------------------------------------------------------------ */

static size_t skip_space_after(const char *text, size_t size, size_t from)
{
    while (from < size && phi3_is_white_space(phi3_character_at(text + from)))
        from += phi3_character_size(text + from);
    return from;
}

static size_t previous_character(const char *text, size_t from)
{
    do
        from--;
    while (from > 0 && phi3_is_continuation(text[from]));
    return from;
}

static size_t skip_space_before(const char *text, size_t lowest, size_t from)
{
    while (from > lowest) {
        size_t before = previous_character(text, from);
        if (before < lowest || !phi3_is_white_space(phi3_character_at(text + before)))
            break;
        from = before;
    }
    return from;
}

/* Whether the character at `at` belongs to a word. */
static phi3_status is_word(const phi3_added_tokens *added, phi3_matcher *matcher, const char *text,
                           size_t at, bool *result, phi3_error *error)
{
    size_t size = phi3_character_size(text + at);
    const char *subject = phi3_matcher_subject(matcher, text + at, size);
    if (subject == NULL)
        return phi3_fail_memory(error, "a text");
    phi3_range range;
    return phi3_pattern_search(added->word, matcher, subject, size, 0, result, &range, error);
}

/* Whether [start, end) is no part of a longer word. */
static phi3_status stands_alone(const phi3_added_tokens *added, phi3_matcher *matcher,
                                const char *text, size_t size, size_t start, size_t end,
                                bool *result, phi3_error *error)
{
    bool before = false, after = false;
    if (start > 0)
        PHI3_TRY(is_word(added, matcher, text, previous_character(text, start), &before, error));
    if (end < size)
        PHI3_TRY(is_word(added, matcher, text, end, &after, error));
    *result = !before && !after;
    return PHI3_OK;
}

/* ---- Finding -------------------------------------------------------------------------------- */

phi3_status phi3_added_next(const phi3_added_tokens *added, const phi3_trie *trie,
                            phi3_matcher *matcher, const char *text, size_t size, size_t from,
                            bool skip_special, size_t *position, const phi3_added_token **token,
                            phi3_range *span, phi3_error *error)
{
    *token = NULL;
    size_t at = *position;
    while (at < size) {
        size_t length = 0;
        int32_t index = trie_match(trie, text + at, size - at, &length);
        if (index < 0) {
            at++;
            continue;
        }
        const phi3_added_token *found = &added->tokens[index];
        size_t start = at, end = at + length;
        at = end;
        bool counts = !(skip_special && found->special);
        if (counts && found->single_word)
            PHI3_TRY(stands_alone(added, matcher, text, size, start, end, &counts, error));
        if (!counts)
            continue;
        if (found->lstrip) /* white space that an earlier token took is gone */
            start = from < start ? skip_space_before(text, from, start) : from;
        if (found->rstrip)
            end = skip_space_after(text, size, end);
        *token = found;
        *span = (phi3_range){(uint32_t)start, (uint32_t)end};
        break;
    }
    *position = at;
    return PHI3_OK;
}

/* ---- Filling -------------------------------------------------------------------------------- */

const phi3_added_token *phi3_tokenizer_find_added(const phi3_tokenizer *tokenizer,
                                                  const char *content)
{
    const phi3_vocabulary *vocabulary = &tokenizer->vocabulary;
    int32_t id = phi3_vocabulary_find(vocabulary, content, strlen(content));
    if (id < 0 || vocabulary->tokens[id].added < 0)
        return NULL;
    return &tokenizer->added.tokens[vocabulary->tokens[id].added];
}

phi3_status phi3_tokenizer_add_token(phi3_tokenizer *tokenizer, const char *file,
                                     phi3_added_token token, phi3_error *error)
{
    phi3_vocabulary *vocabulary = &tokenizer->vocabulary;
    phi3_added_tokens *added = &tokenizer->added;
    size_t size = strlen(token.content);
    int32_t id = phi3_vocabulary_find(vocabulary, token.content, size);
    if (id >= 0 && token.id >= 0 && id != token.id)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: added token \"%.*s\" has the id %d, but the vocabulary gives it %d",
                         file, phi3_shown(size), token.content, (int)token.id, (int)id);
    if (id < 0) {
        id = token.id >= 0 ? token.id : (int32_t)vocabulary->count;
        PHI3_TRY(phi3_vocabulary_add(vocabulary, file, id, token.content, size, error));
    }
    phi3_token *entry = &vocabulary->tokens[id];
    if (entry->added < 0) {
        if (!phi3_reserve(&added->tokens, &added->capacity, added->count + 1,
                          sizeof *added->tokens))
            return phi3_fail_memory(error, "the added tokens of a tokenizer");
        entry->added = (int32_t)added->count++;
    }
    token.id = id;
    token.content = entry->text;
    added->tokens[entry->added] = token;
    return PHI3_OK;
}

static int by_id(const void *a, const void *b)
{
    const phi3_added_token *left = a, *right = b;
    return left->id < right->id ? -1 : left->id > right->id;
}

/* A token that is found in normalized text is itself normalized first, and so it is decoded. Then
 * tokenizers no longer knows it for special. */
static phi3_status normalize_token(phi3_tokenizer *tokenizer, phi3_token *entry,
                                   phi3_section *content, phi3_aligned texts[2], phi3_error *error)
{
    PHI3_TRY(phi3_normalize(tokenizer, content, texts, error));
    if (content->size == entry->text_size &&
        memcmp(content->bytes, entry->text, content->size) == 0)
        return PHI3_OK;
    entry->special = false;
    entry->bytes = phi3_vocabulary_keep(&tokenizer->vocabulary, content->bytes, content->size);
    entry->bytes_size = (uint32_t)content->size;
    return entry->bytes != NULL ? PHI3_OK : phi3_fail_memory(error, "an added token");
}

static phi3_status add_to_trees(phi3_tokenizer *tokenizer, int32_t index, phi3_aligned texts[2],
                                phi3_error *error)
{
    phi3_added_tokens *added = &tokenizer->added;
    const phi3_added_token *token = &added->tokens[index];
    phi3_token *entry = &tokenizer->vocabulary.tokens[token->id];
    phi3_section content = {.bytes = entry->text, .size = entry->text_size};
    if (token->normalized)
        PHI3_TRY(normalize_token(tokenizer, entry, &content, texts, error));
    phi3_trie *trie = token->normalized ? &added->normalized : &added->raw;
    if (content.size > 0 && !trie_add(trie, content.bytes, content.size, index))
        return phi3_fail_memory(error, "the added tokens of a tokenizer");
    return PHI3_OK;
}

phi3_status phi3_added_finish(phi3_tokenizer *tokenizer, const char *file, phi3_error *error)
{
    /* \w as tokenizers' regular expressions have it: Alphabetic (which is more than letters),
     * marks, decimal digits, connectors and joiners. */
    static const char word[] = "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}"
                               "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}"
                               "\\x{1F170}-\\x{1F189}]";
    phi3_added_tokens *added = &tokenizer->added;
    if (added->count > 0)
        qsort(added->tokens, added->count, sizeof *added->tokens, by_id);
    phi3_aligned texts[2] = {{0}, {0}};
    phi3_status status = PHI3_OK;
    for (size_t i = 0; status == PHI3_OK && i < added->count; i++) {
        phi3_token *entry = &tokenizer->vocabulary.tokens[added->tokens[i].id];
        entry->added = (int32_t)i;
        entry->special = added->tokens[i].special;
        if (added->tokens[i].single_word && added->word == NULL)
            status = phi3_pattern_compile(file, word, sizeof word - 1, false, &added->word, error);
        if (status == PHI3_OK)
            status = add_to_trees(tokenizer, (int32_t)i, texts, error);
    }
    phi3_aligned_free(&texts[0]);
    phi3_aligned_free(&texts[1]);
    return status;
}

void phi3_added_free(phi3_added_tokens *added)
{
    free(added->tokens);
    free(added->raw.nodes);
    free(added->normalized.nodes);
    phi3_pattern_free(added->word);
    *added = (phi3_added_tokens){0};
}
