/*
 * tokenizer_decode.c - ids to text. In: ids, one by one. Out: text, as soon as it is decided; bytes
 * that may still become a character wait. phi3_tokenizer_decode and the stream decoder both run on
 * this, so that a stream joins to what decode gives.
 *
 * What a token adds to the text is computed at load (tokenizer_decoder.c). Left to do here are
 * the things that depend on the neighbours:
 *   byte_fallback  a run of byte tokens is text when all of it is UTF-8; if not, each of its bytes
 *                  becomes U+FFFD
 *   byte_level     the bytes of all tokens are one text; what is not UTF-8 becomes U+FFFD
 *   strip          the text loses spaces at its very beginning
 */
#include "characters.h"
#include "tokenizer_parts.h"
#include "utf8.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* ---- Text that is decided ------------------------------------------------------------------- */

/* Appends whole characters, less what is stripped from the beginning of the text. */
static bool write_text(phi3_decoding *decoding, const char *text, size_t size)
{
    const phi3_decoder *decoder = &decoding->tokenizer->decoder;
    while (decoding->strip_left > 0 && size > 0) {
        size_t step = decoder->strip_content_size;
        if (size < step || memcmp(text, decoder->strip_content, step) != 0) {
            decoding->strip_left = 0;
            break;
        }
        decoding->strip_left--;
        text += step;
        size -= step;
    }
    return phi3_bytes_append(&decoding->out, text, size);
}

/* A run of byte tokens is over. */
static bool end_run(phi3_decoding *decoding)
{
    phi3_bytes *run = &decoding->pending;
    if (run->size == 0)
        return true;
    size_t valid = 0, step;
    while (valid < run->size &&
           (step = phi3_utf8_character(run->bytes + valid, run->size - valid)) > 0)
        valid += step;
    bool enough_memory = true;
    if (valid == run->size) {
        enough_memory = write_text(decoding, run->bytes, run->size);
    } else {
        for (size_t i = 0; enough_memory && i < run->size; i++)
            enough_memory = write_text(decoding, REPLACEMENT, 3);
    }
    run->size = 0;
    return enough_memory;
}

/* How many bytes at `text`, where no whole character stands, begin one: 0 to 3. */
static size_t beginning_size(const char *text, size_t size)
{
    if ((uint8_t)*text < 0xC2 || (uint8_t)*text > 0xF4)
        return 0;
    size_t whole = phi3_character_size(text);
    char completed[4] = {text[0], size > 1 ? text[1] : '\0', '\x80', '\x80'};
    if (phi3_utf8_character(completed, sizeof completed) != whole)
        return 1; /* the lead allows not every second byte */
    size_t length = 2;
    while (length < whole && length < size && phi3_is_continuation(text[length]))
        length++;
    return length;
}

/* Decides as much of the pending bytes as can be. */
static bool write_bytes(phi3_decoding *decoding, bool last)
{
    phi3_bytes *pending = &decoding->pending;
    size_t done = 0;
    bool enough_memory = true;
    while (enough_memory && done < pending->size) {
        const char *text = pending->bytes + done;
        size_t left = pending->size - done;
        size_t valid = 0, step;
        while ((step = phi3_utf8_character(text + valid, left - valid)) > 0)
            valid += step;
        enough_memory = write_text(decoding, text, valid);
        done += valid;
        text += valid;
        left -= valid;
        if (left == 0)
            break;
        size_t begun = beginning_size(text, left);
        if (begun == left && !last)
            break; /* the next token may complete it */
        enough_memory = enough_memory && write_text(decoding, REPLACEMENT, 3);
        done += begun > 0 ? begun : 1;
    }
    pending->size -= done;
    if (pending->size > 0)
        memmove(pending->bytes, pending->bytes + done, pending->size);
    return enough_memory;
}

/* ---- Token by token ------------------------------------------------------------------------- */

void phi3_decoding_begin(phi3_decoding *decoding, const phi3_tokenizer *tokenizer,
                         bool skip_special_tokens)
{
    *decoding = (phi3_decoding){.tokenizer = tokenizer,
                                .skip_special_tokens = skip_special_tokens,
                                .strip_left = tokenizer->decoder.strip};
}

/* Metaspace's first token: its marks become nothing. */
static bool write_without_marks(phi3_decoding *decoding, const phi3_token *token)
{
    const phi3_decoder *decoder = &decoding->tokenizer->decoder;
    bool enough_memory = true;
    for (size_t i = 0; enough_memory && i < token->text_size;) {
        size_t step = phi3_character_size(token->text + i);
        if (step != decoder->mark_size || memcmp(token->text + i, decoder->mark, step) != 0)
            enough_memory = write_text(decoding, token->text + i, step);
        i += step;
    }
    return enough_memory;
}

static bool put_token(phi3_decoding *decoding, const phi3_token *token)
{
    const phi3_decoder *decoder = &decoding->tokenizer->decoder;
    bool is_first = !decoding->begun;
    decoding->begun = true;
    if (decoder->byte_level)
        return phi3_bytes_append(&decoding->pending, token->bytes, token->bytes_size) &&
               write_bytes(decoding, false);
    if (decoder->byte_fallback) {
        if (token->byte >= 0)
            return phi3_bytes_append(&decoding->pending, token->bytes, 1);
        if (!end_run(decoding))
            return false;
    }
    if (is_first && decoder->mark != NULL)
        return write_without_marks(decoding, token);
    if (!is_first && decoder->join_with_spaces && !write_text(decoding, " ", 1))
        return false;
    return write_text(decoding, token->bytes, token->bytes_size);
}

phi3_status phi3_decoding_put(phi3_decoding *decoding, int32_t id, phi3_error *error)
{
    const phi3_token *token = phi3_vocabulary_token(&decoding->tokenizer->vocabulary, id);
    if (token == NULL || (token->special && decoding->skip_special_tokens))
        return PHI3_OK;
    if (!put_token(decoding, token))
        return phi3_fail_memory(error, "a decoded text");
    return PHI3_OK;
}

phi3_status phi3_decoding_end(phi3_decoding *decoding, phi3_error *error)
{
    bool enough_memory =
        decoding->tokenizer->decoder.byte_level ? write_bytes(decoding, true) : end_run(decoding);
    decoding->pending.size = 0;
    decoding->strip_left = decoding->tokenizer->decoder.strip;
    decoding->begun = false;
    return enough_memory ? PHI3_OK : phi3_fail_memory(error, "a decoded text");
}

void phi3_decoding_free(phi3_decoding *decoding)
{
    free(decoding->out.bytes);
    free(decoding->pending.bytes);
    *decoding = (phi3_decoding){0};
}

/* ---- All at once ---------------------------------------------------------------------------- */

phi3_status phi3_tokenizer_decode(const phi3_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                  bool skip_special_tokens, char **text, size_t *size,
                                  phi3_error *error)
{
    phi3_decoding decoding;
    phi3_decoding_begin(&decoding, tokenizer, skip_special_tokens);
    phi3_status status = PHI3_OK;
    for (size_t i = 0; status == PHI3_OK && i < count; i++)
        status = phi3_decoding_put(&decoding, ids[i], error);
    if (status == PHI3_OK)
        status = phi3_decoding_end(&decoding, error);
    if (status == PHI3_OK && !phi3_bytes_append(&decoding.out, "", 0))
        status = phi3_fail_memory(error, "a decoded text");
    if (status == PHI3_OK) {
        *text = decoding.out.bytes;
        *size = decoding.out.size;
        decoding.out.bytes = NULL;
    }
    phi3_decoding_free(&decoding);
    return status;
}
