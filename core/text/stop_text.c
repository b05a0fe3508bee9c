/*
 * stop_text.c - stop strings in a stream of text. In: pieces. Out: the text before the first stop
 * string; a piece's end that may be the beginning of one waits for the next piece.
 */
#include "stop_text.h"

#include <string.h>

#include "base/error.h"

/* Where the first stop string begins in the text that is held, or the size of it. Of two that end at
 * different places the one that begins first counts, as if the text had been searched as a whole. */
static size_t find(const phi3_stop_text *stop)
{
    size_t first = stop->held.size;
    for (size_t i = 0; i < stop->n_strings; i++) {
        const char *string = stop->strings[i];
        const char *found = memmem(stop->held.bytes, stop->held.size, string, strlen(string));
        if (found != NULL && (size_t)(found - stop->held.bytes) < first)
            first = (size_t)(found - stop->held.bytes);
    }
    return first;
}

/* Whether the text from `start` on is the beginning of a stop string. */
static bool may_begin(const phi3_stop_text *stop, size_t start)
{
    size_t size = stop->held.size - start;
    for (size_t i = 0; i < stop->n_strings; i++) {
        if (strncmp(stop->strings[i], stop->held.bytes + start, size) == 0)
            return true;
    }
    return false;
}

static phi3_status give(phi3_stop_text *stop, size_t size, phi3_bytes *out, phi3_error *error)
{
    phi3_bytes *held = &stop->held;
    if (size == 0)
        return PHI3_OK;
    if (!phi3_bytes_append(out, held->bytes, size))
        return phi3_fail_memory(error, "a text");
    memmove(held->bytes, held->bytes + size, held->size - size);
    held->size -= size;
    return PHI3_OK;
}

phi3_status phi3_stop_text_put(phi3_stop_text *stop, const char *text, size_t size, phi3_bytes *out,
                               bool *stopped, phi3_error *error)
{
    if (!phi3_bytes_append(&stop->held, text, size))
        return phi3_fail_memory(error, "a text");
    size_t end = find(stop);
    *stopped = end < stop->held.size;
    if (*stopped) {
        PHI3_TRY(give(stop, end, out, error));
        stop->held.size = 0;
        return PHI3_OK;
    }
    size_t certain = 0;
    while (certain < stop->held.size && !may_begin(stop, certain))
        certain++;
    return give(stop, certain, out, error);
}

phi3_status phi3_stop_text_end(phi3_stop_text *stop, phi3_bytes *out, phi3_error *error)
{
    return give(stop, stop->held.size, out, error);
}
