/*
 * tokenizer_encode.c - phi3_tokenizer_encode: the road from text to ids, in the order in which the
 * parts come. In: UTF-8. Out: ids and the places in the text that they stand for.
 */
#include "characters.h"
#include "tokenizer_parts.h"
#include "utf8.h"

/* One call's state. */
typedef struct encoder {
    const phi3_tokenizer *tokenizer;
    phi3_encode_options options;
    phi3_encoding out;
    size_t ids_capacity, offsets_capacity;
    phi3_matcher *matcher;
    phi3_aligned normalized[2];
    phi3_pieces pieces;
    phi3_merger merger;
    phi3_section section; /* that the merger's symbols come from, */
    size_t position;      /* how many of its bytes they have covered, */
    size_t inside;        /* and how much of the spelling of the byte there */
    phi3_error *error;
} encoder;

static phi3_status add_id(encoder *state, int32_t id, phi3_offset offset)
{
    phi3_encoding *out = &state->out;
    if (!phi3_reserve(&out->ids, &state->ids_capacity, out->count + 1, sizeof *out->ids) ||
        !phi3_reserve(&out->offsets, &state->offsets_capacity, out->count + 1,
                      sizeof *out->offsets))
        return phi3_fail_memory(state->error, "the ids of a text");
    out->ids[out->count] = id;
    out->offsets[out->count++] = offset;
    return PHI3_OK;
}

/* tokenizers measures byte-level symbols by their spelling. That matters where the vocabulary lacks
 * a byte, as SmolLM2's does: it is dropped, and the places of later symbols are counted without it.
 * */
static phi3_status add_symbol(void *target, phi3_symbol symbol)
{
    encoder *state = target;
    size_t start = state->position;
    if (!state->tokenizer->byte_level)
        state->position += symbol.size;
    for (size_t left = state->tokenizer->byte_level ? symbol.size : 0; left > 0;) {
        size_t rest = phi3_spelled_size(state->section.bytes[state->position]) - state->inside;
        bool whole = left >= rest;
        state->position += whole;
        state->inside = whole ? 0 : state->inside + left;
        left -= whole ? rest : left;
    }
    return add_id(
        state, symbol.id,
        phi3_section_origin(&state->section, start, state->position + (state->inside > 0)));
}

/* ---- Sections ------------------------------------------------------------------------------- */

/* A part of a section without added tokens: pieces, then ids. */
static phi3_status encode_part(encoder *state, const phi3_section *section, phi3_range part)
{
    state->section = *section;
    PHI3_TRY(phi3_split(&state->tokenizer->pre_tokenizer, state->matcher, &state->section, part,
                        &state->pieces, state->error));
    for (size_t i = 0; i < state->pieces.count; i++) {
        phi3_range piece = state->pieces.spans[i];
        state->position = piece.start;
        state->inside = 0;
        PHI3_TRY(phi3_bpe_encode(state->tokenizer, &state->merger,
                                 state->section.bytes + piece.start, piece.end - piece.start,
                                 state->error));
    }
    return PHI3_OK;
}

typedef phi3_status part_encoder(encoder *state, const phi3_section *section, phi3_range part);

/* Cuts the tree's added tokens out and gives what lies between them to `encode_rest`. */
static phi3_status cut_added(encoder *state, const phi3_trie *trie, const phi3_section *section,
                             part_encoder *encode_rest)
{
    size_t done = 0, position = 0;
    for (;;) {
        const phi3_added_token *token;
        phi3_range span;
        PHI3_TRY(phi3_added_next(&state->tokenizer->added, trie, state->matcher, section->bytes,
                                 section->size, done, state->options.split_special_tokens,
                                 &position, &token, &span, state->error));
        if (token == NULL)
            break;
        if (done < span.start)
            PHI3_TRY(encode_rest(state, section, (phi3_range){(uint32_t)done, span.start}));
        PHI3_TRY(add_id(state, token->id, phi3_section_origin(section, span.start, span.end)));
        done = span.end;
    }
    if (done < section->size)
        return encode_rest(state, section, (phi3_range){(uint32_t)done, (uint32_t)section->size});
    return PHI3_OK;
}

/* A part of the caller's text without (raw) added tokens. */
static phi3_status encode_raw(encoder *state, const phi3_section *text, phi3_range part)
{
    phi3_section section = {
        .bytes = text->bytes + part.start, .size = part.end - part.start, .base = part.start};
    PHI3_TRY(phi3_normalize(state->tokenizer, &section, state->normalized, state->error));
    return cut_added(state, &state->tokenizer->added.normalized, &section, encode_part);
}

/* ---- The post-processor --------------------------------------------------------------------- */

static bool is_outer_space(const char *text)
{
    uint32_t character = phi3_character_at(text);
    return character == phi3_byte_to_character(' ') || phi3_is_white_space(character);
}

static size_t last_character(const char *text, size_t size)
{
    do
        size--;
    while (phi3_is_continuation(text[size]));
    return size;
}

/* Leaves the spaces that a token begins and ends with out of its span. They are counted in its
 * spelling; an added token's is the text that it took, with the white space that it swallowed. */
static void trim_offset(const encoder *state, const char *text, size_t index, bool is_first)
{
    const phi3_token *token = &state->tokenizer->vocabulary.tokens[state->out.ids[index]];
    phi3_offset *offset = &state->out.offsets[index];
    const char *spelling = token->added < 0 ? token->text : text + offset->start;
    size_t size = token->added < 0 ? token->text_size : offset->end - offset->start;
    size_t leading = 0, trailing = 0;
    for (size_t i = 0; i < size && is_outer_space(spelling + i); leading++)
        i += phi3_character_size(spelling + i);
    while (size > 0 && is_outer_space(spelling + (size = last_character(spelling, size))))
        trailing++;
    if (leading == 1 && state->tokenizer->trim_keeps_prefix && (is_first || offset->start == 0))
        leading = 0; /* add_prefix_space may have put it there */
    for (; leading > 0 && offset->start < offset->end; leading--)
        offset->start += phi3_character_size(text + offset->start);
    for (; trailing > 0 && offset->end > offset->start; trailing--)
        offset->end = last_character(text, offset->end);
}

static phi3_status add_specials(encoder *state, const int32_t *ids, size_t count)
{
    for (size_t i = 0; state->options.add_special_tokens && i < count; i++)
        PHI3_TRY(add_id(state, ids[i], (phi3_offset){0, 0}));
    return PHI3_OK;
}

/* ---- The whole text ------------------------------------------------------------------------- */

static phi3_status check_text(const char *text, size_t size, phi3_error *error)
{
    if (size > PHI3_MAX_ENCODED_SIZE)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a text of %zu bytes: at most %d can be encoded at once", size,
                         PHI3_MAX_ENCODED_SIZE);
    size_t step = 0;
    for (size_t i = 0; i < size; i += step) {
        step = phi3_utf8_character(text + i, size - i);
        if (step == 0)
            return phi3_fail(error, PHI3_ERROR_TYPE,
                             "the text is not UTF-8: no character begins with 0x%02X at byte %zu",
                             (unsigned)(uint8_t)text[i], i);
    }
    return PHI3_OK;
}

static phi3_status encode(encoder *state, const char *text, size_t size)
{
    const phi3_tokenizer *tokenizer = state->tokenizer;
    phi3_section section = {.bytes = text, .size = size};
    PHI3_TRY(add_specials(state, tokenizer->prefix, tokenizer->prefix_count));
    size_t first = state->out.count;
    PHI3_TRY(cut_added(state, &tokenizer->added.raw, &section, encode_raw));
    for (size_t i = first; tokenizer->trim_offsets && i < state->out.count; i++)
        trim_offset(state, text, i, i == first);
    return add_specials(state, tokenizer->suffix, tokenizer->suffix_count);
}

phi3_status phi3_tokenizer_encode(const phi3_tokenizer *tokenizer, const char *text, size_t size,
                                  const phi3_encode_options *options, phi3_encoding *encoding,
                                  phi3_error *error)
{
    PHI3_TRY(check_text(text, size, error));
    encoder state = {.tokenizer = tokenizer,
                     .options = options != NULL ? *options
                                                : (phi3_encode_options){.add_special_tokens = true},
                     .matcher = phi3_matcher_create(),
                     .error = error};
    state.merger.emit = add_symbol;
    state.merger.target = &state;
    phi3_status status = state.matcher != NULL ? encode(&state, text, size)
                                               : phi3_fail_memory(error, "the encoding of a text");
    phi3_matcher_free(state.matcher);
    phi3_aligned_free(&state.normalized[0]);
    phi3_aligned_free(&state.normalized[1]);
    phi3_pieces_free(&state.pieces);
    phi3_merger_free(&state.merger);
    if (status == PHI3_OK)
        *encoding = state.out;
    else
        phi3_encoding_free(&state.out);
    return status;
}

void phi3_encoding_free(phi3_encoding *encoding)
{
    if (encoding == NULL)
        return;
    free(encoding->ids);
    free(encoding->offsets);
    *encoding = (phi3_encoding){0};
}
