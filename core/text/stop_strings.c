/*
 * stop_strings.c - the StopStringCriteria of transformers: bytes against bytes, token by token.
 *
 * In: the ids of a sequence. Out: whether its last token completes a stop string. Comparing goes
 * backwards from every place in the last token, and nearly always ends at the first byte.
 */
#include "stop_strings.h"

#include <string.h>

#include "tokenizer.h"

/* True when the text of ids[0 .. last], of whose last token only `end` bytes count, ends in `stop`. */
static bool ends_with(const phi3_tokenizer *tokenizer, const int32_t *ids, size_t last, size_t end,
                      const char *stop)
{
    size_t left = strlen(stop), size = 0;
    const char *bytes = phi3_tokenizer_token_bytes(tokenizer, ids[last], &size);
    for (;;) {
        size_t common = left < end ? left : end;
        if (bytes == NULL || memcmp(bytes + end - common, stop + left - common, common) != 0)
            return false;
        left -= common;
        if (left == 0)
            return true;
        if (last == 0)
            return false;
        bytes = phi3_tokenizer_token_bytes(tokenizer, ids[--last], &end);
    }
}

bool phi3_stop_strings_match(const phi3_tokenizer *tokenizer, const char *const *strings,
                             size_t n_strings, const int32_t *ids, size_t n_ids)
{
    if (n_strings == 0 || n_ids == 0)
        return false;
    size_t size = 0;
    if (phi3_tokenizer_token_bytes(tokenizer, ids[n_ids - 1], &size) == NULL)
        return false;
    for (size_t i = 0; i < n_strings; i++) {
        for (size_t end = 1; end <= size; end++) {
            if (ends_with(tokenizer, ids, n_ids - 1, end, strings[i]))
                return true;
        }
    }
    return false;
}
