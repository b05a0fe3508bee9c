/* bytes.h - memory that grows: arrays, and texts that are put together. */
#ifndef PHI3_INTERNAL_BYTES_H
#define PHI3_INTERNAL_BYTES_H

#include <stdbool.h>
#include <stddef.h>

/* Makes room for `needed` elements in *memory, doubling. False when there is no memory. */
bool phi3_reserve(void *memory, size_t *capacity, size_t needed, size_t element_size);

typedef struct phi3_bytes {
    char *bytes; /* [size]; a NUL follows after phi3_bytes_append */
    size_t size;
    size_t capacity;
} phi3_bytes;

bool phi3_bytes_append(phi3_bytes *out, const char *bytes, size_t size);

#endif
