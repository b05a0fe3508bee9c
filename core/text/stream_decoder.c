/*
 * stream_decoder.c - text from a stream of ids. In: one id at a time. Out: the text that is certain
 * by now, in whole characters; what is not waits for the next id or the end. The decoding itself is
 * that of tokenizer_decode.c.
 */
#include <stdatomic.h>

#include "tokenizer_parts.h"

struct phi3_stream_decoder {
    phi3_decoding decoding;
    atomic_flag in_use; /* by a call that runs now */
};

phi3_status phi3_stream_decoder_create(const phi3_tokenizer *tokenizer, bool skip_special_tokens,
                                       phi3_stream_decoder **decoder, phi3_error *error)
{
    phi3_stream_decoder *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a stream decoder");
    atomic_flag_clear(&made->in_use);
    phi3_decoding_begin(&made->decoding, tokenizer, skip_special_tokens);
    *decoder = made;
    return PHI3_OK;
}

void phi3_stream_decoder_free(phi3_stream_decoder *decoder)
{
    if (decoder == NULL)
        return;
    phi3_decoding_free(&decoder->decoding);
    free(decoder);
}

static phi3_status begin_use(phi3_stream_decoder *decoder, phi3_error *error)
{
    if (atomic_flag_test_and_set(&decoder->in_use))
        return phi3_fail(error, PHI3_ERROR_BUSY, "the stream decoder is in use by another thread");
    decoder->decoding.out.size = 0;
    return PHI3_OK;
}

/* Lends what was decoded and ends the use. */
static phi3_status end_use(phi3_stream_decoder *decoder, phi3_status status, const char **text,
                           size_t *size, phi3_error *error)
{
    phi3_bytes *out = &decoder->decoding.out;
    if (status == PHI3_OK && !phi3_bytes_append(out, "", 0))
        status = phi3_fail_memory(error, "a decoded text");
    if (status == PHI3_OK) {
        *text = out->bytes;
        *size = out->size;
    }
    atomic_flag_clear(&decoder->in_use);
    return status;
}

phi3_status phi3_stream_decoder_put(phi3_stream_decoder *decoder, int32_t id, const char **text,
                                    size_t *size, phi3_error *error)
{
    PHI3_TRY(begin_use(decoder, error));
    return end_use(decoder, phi3_decoding_put(&decoder->decoding, id, error), text, size, error);
}

phi3_status phi3_stream_decoder_end(phi3_stream_decoder *decoder, const char **text, size_t *size,
                                    phi3_error *error)
{
    PHI3_TRY(begin_use(decoder, error));
    return end_use(decoder, phi3_decoding_end(&decoder->decoding, error), text, size, error);
}
