/*
 * host_memory.c - memory of the backends that compute on the host, 64-byte aligned.
 *
 * Large blocks (pages of the KV cache, activations) ask the system for huge pages: a walk through
 * megabytes would otherwise wait for an address translation every 4096 bytes.
 */
#include "host_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

void *phi3_host_allocate(size_t size)
{
    size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    if (size > SIZE_MAX - alignment)
        return NULL;
    size_t whole = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, whole ? whole : ALIGNMENT) != 0)
        return NULL;
    if (alignment == HUGE_PAGE) /* only whole huge pages, so that no more is taken than asked for */
        madvise(memory, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return memory;
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
