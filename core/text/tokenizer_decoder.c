/*
 * tokenizer_decoder.c - the decoder of a tokenizer, as far as it works on single tokens. In: the
 * steps of a file. Out: for every token the bytes that it adds to a text (phi3_token.bytes), so
 * that tokenizer_decode.c only has to join them.
 */
#include "characters.h"
#include "tokenizer_parts.h"

enum { MAX_STEPS = 16, MAX_DECODED_SIZE = 1 << 16 };

/* ---- Steps ---------------------------------------------------------------------------------- */

static const char *keep(phi3_tokenizer *tokenizer, const char *text)
{
    return phi3_vocabulary_keep(&tokenizer->vocabulary, text, strlen(text));
}

static phi3_status add_step(phi3_tokenizer *tokenizer, const char *file, phi3_decoder_step step,
                            phi3_error *error)
{
    phi3_decoder *decoder = &tokenizer->decoder;
    if (decoder->n_steps == MAX_STEPS)
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED, "%s: a decoder of more than %d steps", file,
                         MAX_STEPS);
    phi3_decoder_step *steps = realloc(decoder->steps, (decoder->n_steps + 1) * sizeof *steps);
    if (steps != NULL)
        decoder->steps = steps;
    if (steps == NULL || step.pattern == NULL || step.content == NULL)
        return phi3_fail_memory(error, "a decoder");
    step.pattern_size = strlen(step.pattern);
    step.content_size = strlen(step.content);
    steps[decoder->n_steps++] = step;
    return PHI3_OK;
}

phi3_status phi3_decoder_replace(phi3_tokenizer *tokenizer, const char *file, const char *pattern,
                                 const char *content, phi3_error *error)
{
    phi3_decoder_step step = {.pattern = keep(tokenizer, pattern),
                              .content = keep(tokenizer, content)};
    return add_step(tokenizer, file, step, error);
}

phi3_status phi3_decoder_strip_tokens(phi3_tokenizer *tokenizer, const char *file,
                                      const char *content, size_t count, phi3_error *error)
{
    phi3_decoder_step step = {
        .strip = true, .pattern = keep(tokenizer, content), .content = "", .count = count};
    return add_step(tokenizer, file, step, error);
}

phi3_status phi3_decoder_strip_text(phi3_tokenizer *tokenizer, const char *content, size_t count,
                                    phi3_error *error)
{
    phi3_decoder *decoder = &tokenizer->decoder;
    decoder->strip = count;
    decoder->strip_content = keep(tokenizer, content);
    decoder->strip_content_size = strlen(content);
    return decoder->strip_content != NULL ? PHI3_OK : phi3_fail_memory(error, "a decoder");
}

/* ---- What each token adds ------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "<0xE2>" -> 0xE2; -1 for other text. */
static int16_t byte_of(const char *text, size_t size)
{
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : (int16_t)(high * 16 + low);
}

/* Byte-level spelling -> bytes; text with a character outside the alphabet stays as it is. */
static bool spell_bytes(const char *text, size_t size, phi3_bytes *out)
{
    out->size = 0;
    for (size_t i = 0; i < size; i += phi3_character_size(text + i)) {
        int byte = phi3_character_to_byte(phi3_character_at(text + i));
        if (byte < 0) {
            out->size = 0;
            return phi3_bytes_append(out, text, size);
        }
        char as_char = (char)byte;
        if (!phi3_bytes_append(out, &as_char, 1))
            return false;
    }
    return true;
}

static bool begins_with(const phi3_bytes *in, size_t at, const phi3_decoder_step *step)
{
    return in->size - at >= step->pattern_size &&
           memcmp(in->bytes + at, step->pattern, step->pattern_size) == 0;
}

static bool apply_step(const phi3_decoder_step *step, const phi3_bytes *in, phi3_bytes *out)
{
    out->size = 0;
    size_t at = 0;
    if (step->strip) {
        for (size_t n = 0; n < step->count && begins_with(in, at, step); n++)
            at += step->pattern_size;
        return phi3_bytes_append(out, in->bytes + at, in->size - at);
    }
    bool enough_memory = phi3_bytes_append(out, "", 0);
    while (enough_memory && at < in->size && out->size <= MAX_DECODED_SIZE) {
        bool found = begins_with(in, at, step);
        enough_memory = found ? phi3_bytes_append(out, step->content, step->content_size)
                              : phi3_bytes_append(out, in->bytes + at, 1);
        at += found ? step->pattern_size : 1;
    }
    return enough_memory;
}

/* Runs the steps over one token; *text is then one of the texts. */
static bool apply_steps(const phi3_decoder *decoder, const phi3_token *token, phi3_bytes texts[2],
                        phi3_bytes **text)
{
    /* An added token that is normalized has its bytes already. */
    const char *source = token->bytes != NULL ? token->bytes : token->text;
    size_t size = token->bytes != NULL ? token->bytes_size : token->text_size;
    *text = &texts[0];
    texts[0].size = 0;
    if (decoder->byte_level ? !spell_bytes(source, size, *text)
                            : !phi3_bytes_append(*text, source, size))
        return false;
    for (size_t i = 0; i < decoder->n_steps; i++) {
        phi3_bytes *next = *text == &texts[0] ? &texts[1] : &texts[0];
        if (!apply_step(&decoder->steps[i], *text, next))
            return false;
        *text = next;
    }
    return true;
}

static phi3_status prepare_token(phi3_tokenizer *tokenizer, const char *file, int32_t id,
                                 phi3_bytes texts[2], phi3_error *error)
{
    phi3_token *token = &tokenizer->vocabulary.tokens[id];
    phi3_bytes *text;
    if (!apply_steps(&tokenizer->decoder, token, texts, &text))
        return phi3_fail_memory(error, "a vocabulary");
    if (text->size > MAX_DECODED_SIZE)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: token %d becomes too long when decoded",
                         file, (int)id);
    if (tokenizer->decoder.byte_fallback)
        token->byte = byte_of(text->bytes, text->size);
    if (token->byte >= 0) {
        text->bytes[0] = (char)token->byte;
        text->size = 1;
    }
    bool is_spelling =
        text->size == token->text_size && memcmp(text->bytes, token->text, text->size) == 0;
    token->bytes = is_spelling
                       ? token->text
                       : phi3_vocabulary_keep(&tokenizer->vocabulary, text->bytes, text->size);
    token->bytes_size = (uint32_t)text->size;
    return token->bytes != NULL ? PHI3_OK : phi3_fail_memory(error, "a vocabulary");
}

phi3_status phi3_decoder_prepare(phi3_tokenizer *tokenizer, const char *file, phi3_error *error)
{
    phi3_bytes texts[2] = {{0}, {0}};
    phi3_status status = PHI3_OK;
    for (size_t id = 0; status == PHI3_OK && id < tokenizer->vocabulary.count; id++) {
        if (tokenizer->vocabulary.tokens[id].text != NULL)
            status = prepare_token(tokenizer, file, (int32_t)id, texts, error);
    }
    free(texts[0].bytes);
    free(texts[1].bytes);
    return status;
}
