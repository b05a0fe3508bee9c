/*
 * tokenizer_pattern.c - the regular expressions of pre-tokenizers, run by PCRE2. In: an expression
 * in Oniguruma's syntax, which Hugging Face tokenizers uses. Out: matches, equal to Oniguruma's.
 *
 * The two libraries agree on what such expressions need: sets, properties, lookaheads, alternatives
 * in order. Where they differ (the meaning of \w, or of a set within a set), the expression is
 * refused; where their Unicode tables differ, the text is adapted (tokenizer_unicode.c).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "characters.h"
#include "tokenizer_pattern.h"
#include "tokenizer_unicode.h"
#include "tokenizer_vocabulary.h"

enum {
    MAX_SOURCE_SIZE = 1 << 16,
    BASE_MATCH_LIMIT = 1000000, /* steps of backtracking that any text may take, */
    MATCH_LIMIT_PER_BYTE = 16,  /* and more for long ones: a run is backed over byte by byte */
    HEAP_LIMIT_KIB = 256 << 10,
    MAX_JIT_STACK_SIZE = 8 << 20
};

struct phi3_pattern {
    pcre2_code *code;
    char name[64]; /* the beginning of the source, for messages */
};

struct phi3_matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *jit_stack; /* made when a match first needs a large one */
    phi3_bytes subject;
};

/* ---- Compiling ------------------------------------------------------------------------------ */

/* What may follow "(?". Other options and groups have other meanings in Oniguruma. */
static bool is_known_group(const char *at, size_t size)
{
    static const char *const known[] = {":", "=", "!", "<=", "<!", ">", "i:"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (size >= strlen(known[i]) && memcmp(at, known[i], strlen(known[i])) == 0)
            return true;
    }
    return false;
}

/* What may follow a backslash: classes and characters that both libraries read alike. */
static bool is_known_escape(const char *at, size_t size)
{
    if (size == 0)
        return false;
    if (*at == 'x')
        return size > 1 && at[1] == '{';
    bool is_letter_or_digit =
        (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') || (*at >= 'a' && *at <= 'z');
    return !is_letter_or_digit || strchr("sSdDpPrntAz", *at) != NULL;
}

/* The place of something that PCRE2 would not read as Oniguruma does; `size` when there is none. */
static size_t find_ambiguous(const char *source, size_t size)
{
    bool in_set = false;
    for (size_t i = 0; i < size; i++) {
        const char *rest = source + i + 1;
        size_t left = size - i - 1;
        char next = left > 0 ? *rest : '\0';
        switch (source[i]) {
        case '\\':
            if (!is_known_escape(rest, left))
                return i;
            i++;
            break;
        case '[':
            if (in_set)
                return i;
            in_set = true;
            if (next == '^')
                i++;
            break;
        case ']':
            in_set = false;
            break;
        case '&':
            if (in_set && next == '&')
                return i;
            break;
        case '(':
            if (!in_set && next == '?' && !is_known_group(rest + 1, left - 1))
                return i;
            if (!in_set && next == '*')
                return i;
            break;
        case '{':
            if (!in_set && next == ',')
                return i;
            break;
        case '}': /* "{1,3}+" repeats in one library and is possessive in the other */
            if (!in_set && next == '+' && i > 0 && source[i - 1] >= '0' && source[i - 1] <= '9')
                return i;
            break;
        default:
            break;
        }
    }
    return size;
}

static phi3_status compile(const char *file, const char *source, size_t size, uint32_t options,
                           pcre2_code **code, phi3_error *error)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return phi3_fail_memory(error, "a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int number;
    PCRE2_SIZE place;
    *code = pcre2_compile((PCRE2_SPTR)source, size, options, &number, &place, context);
    pcre2_compile_context_free(context);
    if (*code == NULL) {
        char reason[128] = "";
        pcre2_get_error_message(number, (PCRE2_UCHAR *)reason, sizeof reason);
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: pattern \"%.*s\", character %zu: %s",
                         file, phi3_shown(size), source, (size_t)place, reason);
    }
    /* Without a just-in-time compiler on this machine the same code is interpreted. */
    pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);
    return PHI3_OK;
}

phi3_status phi3_pattern_compile(const char *file, const char *source, size_t size, bool literal,
                                 phi3_pattern **pattern, phi3_error *error)
{
    if (size == 0 || size > MAX_SOURCE_SIZE)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: a pattern of %zu bytes", file, size);
    size_t ambiguous = literal ? size : find_ambiguous(source, size);
    if (ambiguous < size)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: pattern \"%.*s\" is not supported: \"%.*s\" at its byte %zu", file,
                         phi3_shown(size), source,
                         (int)(size - ambiguous < 4 ? size - ambiguous : 4), source + ambiguous,
                         ambiguous);
    phi3_pattern *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a pattern");
    memcpy(made->name, source, (size_t)phi3_shown(size));
    uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
    options |= literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE;
    phi3_status status = compile(file, source, size, options, &made->code, error);
    if (status != PHI3_OK) {
        free(made);
        return status;
    }
    *pattern = made;
    return PHI3_OK;
}

void phi3_pattern_free(phi3_pattern *pattern)
{
    if (pattern == NULL)
        return;
    pcre2_code_free(pattern->code);
    free(pattern);
}

/* ---- Matching ------------------------------------------------------------------------------- */

phi3_matcher *phi3_matcher_create(void)
{
    phi3_matcher *matcher = calloc(1, sizeof *matcher);
    if (matcher == NULL)
        return NULL;
    matcher->data = pcre2_match_data_create(1, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    if (matcher->data == NULL || matcher->context == NULL) {
        phi3_matcher_free(matcher);
        return NULL;
    }
    pcre2_set_heap_limit(matcher->context, HEAP_LIMIT_KIB);
    return matcher;
}

void phi3_matcher_free(phi3_matcher *matcher)
{
    if (matcher == NULL)
        return;
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
    pcre2_jit_stack_free(matcher->jit_stack);
    free(matcher->subject.bytes);
    free(matcher);
}

const char *phi3_matcher_subject(phi3_matcher *matcher, const char *bytes, size_t size)
{
    uint64_t limit = BASE_MATCH_LIMIT + (uint64_t)size * MATCH_LIMIT_PER_BYTE;
    pcre2_set_match_limit(matcher->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);

    char *adapted = NULL; /* a copy, once a character needs a stand-in */
    for (size_t i = 0; i < size; i += phi3_character_size(bytes + i)) {
        if ((uint8_t)bytes[i] < 0xE0) /* all that need one have three bytes or four */
            continue;
        uint32_t character = phi3_character_at(bytes + i);
        uint32_t stand_in = phi3_unicode_stand_in(character);
        if (stand_in == character)
            continue;
        if (adapted == NULL) {
            matcher->subject.size = 0;
            if (!phi3_bytes_append(&matcher->subject, bytes, size))
                return NULL;
            adapted = matcher->subject.bytes;
        }
        phi3_character_write(stand_in, adapted + i);
    }
    return adapted != NULL ? adapted : bytes;
}

static int match(const phi3_pattern *pattern, phi3_matcher *matcher, const char *subject,
                 size_t size, size_t from)
{
    int result = pcre2_match(pattern->code, (PCRE2_SPTR)subject, size, from, PCRE2_NO_UTF_CHECK,
                             matcher->data, matcher->context);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && matcher->jit_stack == NULL) {
        matcher->jit_stack = pcre2_jit_stack_create(32 << 10, MAX_JIT_STACK_SIZE, NULL);
        pcre2_jit_stack_assign(matcher->context, NULL, matcher->jit_stack);
        result = pcre2_match(pattern->code, (PCRE2_SPTR)subject, size, from, PCRE2_NO_UTF_CHECK,
                             matcher->data, matcher->context);
    }
    return result;
}

phi3_status phi3_pattern_search(const phi3_pattern *pattern, phi3_matcher *matcher,
                                const char *subject, size_t size, size_t from, bool *found,
                                phi3_range *range, phi3_error *error)
{
    int result = match(pattern, matcher, subject, size, from);
    if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
        char reason[128] = "";
        pcre2_get_error_message(result, (PCRE2_UCHAR *)reason, sizeof reason);
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "the tokenizer's pattern \"%s\" gave up on this text: %s", pattern->name,
                         reason);
    }
    *found = result >= 0;
    if (*found) {
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(matcher->data);
        *range = (phi3_range){(uint32_t)place[0], (uint32_t)place[1]};
    }
    return PHI3_OK;
}
