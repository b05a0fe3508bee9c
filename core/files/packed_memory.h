/* packed_memory.h - the memory that packed weights are in: the process's own, or a file that is mapped. */
#ifndef PHI3_INTERNAL_PACKED_MEMORY_H
#define PHI3_INTERNAL_PACKED_MEMORY_H

#include "phi3.h"

/* Lives as long as the matrices that read it. */
typedef struct phi3_packed {
    const uint8_t *data; /* 64-byte aligned; NULL when nothing is packed */
    void *mapping;       /* [mapping_size] what munmap gets: data is inside */
    size_t mapping_size;
} phi3_packed;

/* Maps memory to pack into. */
phi3_status phi3_packed_map(size_t size, phi3_packed *packed, phi3_error *error);

/*
 * Touches the first huge page of what is to go to [offset, offset + size), and gives huge pages up for
 * the rest of the memory when they are slow. *n_slow_pages, of one mapping, is 0 at the first call.
 */
void phi3_packed_touch(const phi3_packed *packed, size_t offset, size_t size, int *n_slow_pages);

void phi3_packed_free(phi3_packed *packed);

#endif
