/*
 * tokenizer_split.c - the pre-tokenizer: cuts a section into the pieces that merging never crosses.
 * In: a section and the steps of the tokenizer. Out: spans of the section, in order.
 *
 * Each step takes the list of pieces and makes the next one. Most split the pieces by a pattern; a
 * step of the Metaspace kind rewrites their text, which makes a new section.
 */
#include "characters.h"
#include "tokenizer_parts.h"

void phi3_pieces_free(phi3_pieces *pieces)
{
    free(pieces->spans);
    free(pieces->next);
    free(pieces->is_match);
    phi3_aligned_free(&pieces->text[0]);
    phi3_aligned_free(&pieces->text[1]);
    *pieces = (phi3_pieces){0};
}

static void swap_lists(phi3_pieces *pieces)
{
    phi3_range *spans = pieces->spans;
    size_t capacity = pieces->capacity;
    pieces->spans = pieces->next;
    pieces->count = pieces->next_count;
    pieces->capacity = pieces->next_capacity;
    pieces->next = spans;
    pieces->next_capacity = capacity;
    pieces->next_count = 0;
}

static bool add_next(phi3_pieces *pieces, size_t start, size_t end, bool is_match)
{
    size_t needed = pieces->next_count + 1;
    if (!phi3_reserve(&pieces->next, &pieces->next_capacity, needed, sizeof *pieces->next) ||
        !phi3_reserve(&pieces->is_match, &pieces->is_match_capacity, needed, sizeof(bool)))
        return false;
    pieces->next[pieces->next_count] = (phi3_range){(uint32_t)start, (uint32_t)end};
    pieces->is_match[pieces->next_count] = is_match;
    pieces->next_count++;
    return true;
}

/* ---- Splitting by a pattern ----------------------------------------------------------------- */

/* Adds the matches within one piece and what lies between them: together they cover the piece. */
static phi3_status find_matches(const phi3_split_step *step, phi3_matcher *matcher,
                                const char *subject, phi3_range piece, phi3_pieces *pieces,
                                phi3_error *error)
{
    const char *text = subject + piece.start;
    size_t size = piece.end - piece.start;
    size_t from = 0, done = 0;
    bool any = false;
    while (from <= size) {
        bool found = false;
        phi3_range match = {0, 0};
        PHI3_TRY(
            phi3_pattern_search(step->pattern, matcher, text, size, from, &found, &match, error));
        if (!found)
            break;
        if (match.start == match.end && any && match.end == done) {
            /* An empty match right behind the last one: look further. */
            from += from < size ? phi3_character_size(text + from) : 1;
            continue;
        }
        bool enough_memory = true;
        if (done < match.start)
            enough_memory =
                add_next(pieces, piece.start + done, piece.start + match.start, step->invert);
        if (!enough_memory ||
            !add_next(pieces, piece.start + match.start, piece.start + match.end, !step->invert))
            return phi3_fail_memory(error, "the pieces of a text");
        any = true;
        from = done = match.end;
    }
    if (done < size && !add_next(pieces, piece.start + done, piece.end, step->invert))
        return phi3_fail_memory(error, "the pieces of a text");
    return PHI3_OK;
}

/* Joins entries [first, next_count) as the behaviour says, in place. */
static void join_matches(phi3_split_behavior behavior, phi3_pieces *pieces, size_t first)
{
    phi3_range *span = pieces->next;
    bool previous_match = false;
    size_t kept = first;
    for (size_t i = first; i < pieces->next_count; i++) {
        bool is_match = pieces->is_match[i];
        bool joins = behavior == PHI3_SPLIT_CONTIGUOUS ? is_match == previous_match
                                                       : is_match && !previous_match;
        if (joins && kept > first)
            span[kept - 1].end = span[i].end;
        else
            span[kept++] = span[i];
        previous_match = is_match;
    }
    pieces->next_count = kept;
}

/* The same from the right: a match joins the piece after it. */
static void join_with_next(phi3_pieces *pieces, size_t first)
{
    phi3_range *span = pieces->next;
    bool previous_match = false;
    size_t end = pieces->next_count, kept = end;
    for (size_t i = end; i-- > first;) {
        bool is_match = pieces->is_match[i];
        if (is_match && !previous_match && kept < end)
            span[kept].start = span[i].start;
        else
            span[--kept] = span[i];
        previous_match = is_match;
    }
    memmove(span + first, span + kept, (end - kept) * sizeof *span);
    pieces->next_count = first + (end - kept);
}

static void drop(phi3_pieces *pieces, size_t first, bool matches)
{
    size_t kept = first;
    for (size_t i = first; i < pieces->next_count; i++) {
        bool is_empty = pieces->next[i].start == pieces->next[i].end;
        if (!is_empty && !(matches && pieces->is_match[i]))
            pieces->next[kept++] = pieces->next[i];
    }
    pieces->next_count = kept;
}

static phi3_status split_by_pattern(const phi3_split_step *step, phi3_matcher *matcher,
                                    const phi3_section *section, phi3_pieces *pieces,
                                    phi3_error *error)
{
    const char *subject = phi3_matcher_subject(matcher, section->bytes, section->size);
    if (step->literal)
        subject = section->bytes;
    if (subject == NULL)
        return phi3_fail_memory(error, "a text");
    for (size_t i = 0; i < pieces->count; i++) {
        size_t first = pieces->next_count;
        PHI3_TRY(find_matches(step, matcher, subject, pieces->spans[i], pieces, error));
        if (step->behavior == PHI3_SPLIT_MERGED_WITH_NEXT)
            join_with_next(pieces, first);
        else if (step->behavior != PHI3_SPLIT_ISOLATED && step->behavior != PHI3_SPLIT_REMOVED)
            join_matches(step->behavior, pieces, first);
        drop(pieces, first, step->behavior == PHI3_SPLIT_REMOVED);
    }
    swap_lists(pieces);
    return PHI3_OK;
}

/* ---- Writing marks -------------------------------------------------------------------------- */

static bool begins_with(const char *text, size_t size, const char *mark, size_t mark_size)
{
    return size >= mark_size && memcmp(text, mark, mark_size) == 0;
}

/* Whether a piece gets a mark in front; a space counts as one, since it becomes one. */
static bool needs_mark(const phi3_split_step *step, const phi3_section *section, phi3_range piece)
{
    const char *text = section->bytes + piece.start;
    size_t size = piece.end - piece.start;
    if (step->scheme == PHI3_PREPEND_NEVER || *text == ' ' ||
        begins_with(text, size, step->mark, step->mark_size))
        return false;
    return step->scheme == PHI3_PREPEND_ALWAYS ||
           phi3_section_origin(section, piece.start, piece.start + 1).start == 0;
}

static phi3_status write_marks(const phi3_split_step *step, phi3_section *section,
                               phi3_pieces *pieces, phi3_error *error)
{
    phi3_aligned *text = &pieces->text[pieces->texts_used++ % 2]; /* the other holds *section */
    text->size = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        phi3_range piece = pieces->spans[i];
        size_t start = text->size;
        bool enough_memory = true;
        if (needs_mark(step, section, piece))
            enough_memory =
                phi3_aligned_append(text, step->mark, step->mark_size,
                                    phi3_section_origin(section, piece.start, piece.start + 1));
        if (!enough_memory ||
            !phi3_aligned_replace(text, section, piece, " ", 1, step->mark, step->mark_size))
            return phi3_fail_memory(error, "a text");
        pieces->spans[i] = (phi3_range){(uint32_t)start, (uint32_t)text->size};
    }
    *section = phi3_aligned_section(text);
    return PHI3_OK;
}

/* ---- All steps ------------------------------------------------------------------------------ */

phi3_status phi3_split(const phi3_split_steps *steps, phi3_matcher *matcher, phi3_section *section,
                       phi3_range part, phi3_pieces *pieces, phi3_error *error)
{
    pieces->count = pieces->next_count = 0;
    pieces->texts_used = 0;
    if (part.start == part.end)
        return PHI3_OK;
    if (!add_next(pieces, part.start, part.end, false))
        return phi3_fail_memory(error, "the pieces of a text");
    swap_lists(pieces);
    for (size_t i = 0; i < steps->count; i++) {
        const phi3_split_step *step = &steps->step[i];
        if (step->pattern != NULL)
            PHI3_TRY(split_by_pattern(step, matcher, section, pieces, error));
        else
            PHI3_TRY(write_marks(step, section, pieces, error));
    }
    return PHI3_OK;
}

/* ---- Filling -------------------------------------------------------------------------------- */

const char phi3_gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* tokenizers asks Rust's library here, whose tables are Unicode 17: two runs of digits more. */
const char phi3_digit_pattern[] = "[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]";

/* Takes over the step's pattern. */
static phi3_status add_step(phi3_tokenizer *tokenizer, const char *file, phi3_split_step step,
                            phi3_error *error)
{
    phi3_split_steps *steps = &tokenizer->pre_tokenizer;
    if (steps->count == PHI3_MAX_PRE_TOKENIZER_STEPS) {
        phi3_pattern_free(step.pattern);
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED, "%s: a pre-tokenizer of more than %d steps",
                         file, PHI3_MAX_PRE_TOKENIZER_STEPS);
    }
    steps->step[steps->count++] = step;
    return PHI3_OK;
}

phi3_status phi3_tokenizer_add_split(phi3_tokenizer *tokenizer, const char *file,
                                     const char *pattern, size_t size, bool literal,
                                     phi3_split_behavior behavior, bool invert, phi3_error *error)
{
    phi3_split_step step = {.literal = literal, .behavior = behavior, .invert = invert};
    step.source = phi3_vocabulary_keep(&tokenizer->vocabulary, pattern, size);
    if (step.source == NULL)
        return phi3_fail_memory(error, "a tokenizer");
    PHI3_TRY(phi3_pattern_compile(file, pattern, size, literal, &step.pattern, error));
    return add_step(tokenizer, file, step, error);
}

phi3_status phi3_tokenizer_add_mark(phi3_tokenizer *tokenizer, const char *file, const char *mark,
                                    phi3_prepend_scheme scheme, phi3_error *error)
{
    phi3_split_step step = {.mark_size = strlen(mark), .scheme = scheme};
    step.mark = phi3_vocabulary_keep(&tokenizer->vocabulary, mark, step.mark_size);
    if (step.mark == NULL)
        return phi3_fail_memory(error, "a tokenizer");
    return add_step(tokenizer, file, step, error);
}
