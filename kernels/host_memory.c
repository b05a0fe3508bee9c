/* host_memory.c - memory of the backends that compute on the host, 64-byte aligned. */
#include "host_memory.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

void *phi3_host_allocate(size_t size)
{
    if (size > SIZE_MAX - ALIGNMENT)
        return NULL;
    size_t whole = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return aligned_alloc(ALIGNMENT, whole ? whole : ALIGNMENT);
}

void phi3_host_release(void *memory)
{
    free(memory);
}

phi3_status phi3_host_copy(void *to, const void *from, size_t size)
{
    if (size)
        memcpy(to, from, size);
    return PHI3_OK;
}
