/* bytes.c - memory that grows by doubling, so that appending n times costs n. */
#include "bytes.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

bool phi3_reserve(void *memory, size_t *capacity, size_t needed, size_t element_size)
{
    if (needed <= *capacity)
        return true;
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    while (wanted < needed) {
        if (phi3_multiply_overflows(wanted, 2, &wanted))
            return false;
    }
    size_t size;
    if (phi3_multiply_overflows(wanted, element_size, &size))
        return false;
    void *old;
    memcpy(&old, memory, sizeof old);
    void *grown = realloc(old, size);
    if (grown == NULL)
        return false;
    memcpy(memory, &grown, sizeof grown);
    *capacity = wanted;
    return true;
}

bool phi3_bytes_append(phi3_bytes *out, const char *bytes, size_t size)
{
    if (!phi3_reserve(&out->bytes, &out->capacity, out->size + size + 1, 1))
        return false;
    if (size > 0)
        memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
    out->bytes[out->size] = '\0';
    return true;
}
