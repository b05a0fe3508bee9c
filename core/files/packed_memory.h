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
 * Before a matrix is packed to [offset, offset + size): tries huge pages and small ones there, and asks
 * for those that are quicker from there on. *next_trial, of one mapping, is 0 at the first call.
 */
void phi3_packed_choose_pages(const phi3_packed *packed, size_t offset, size_t size,
                              size_t *next_trial);

void phi3_packed_free(phi3_packed *packed);

#endif
