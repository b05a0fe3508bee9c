/*
 * planes.h - how stored weights lie in device memory.
 *
 * A GGUF block mixes codes and scales of odd sizes, so that its fields stand at odd addresses. On the
 * device each field of a format is a plane of its own:
 *     plane f of a matrix: [n_rows][n_blocks][size of field f]     at a multiple of 256 bytes
 * so that codes are read 16 bytes at a time and neighbouring lanes read neighbouring bytes. The bytes
 * of a field are those of the file; float types are one plane.
 */
#ifndef PHI3_CUDA_PLANES_H
#define PHI3_CUDA_PLANES_H

#include <stddef.h>
#include <stdint.h>

enum { PHI3_MAX_PLANES = 4 };

/* A field of a block: where it stands in the file's block, and how long it is. */
typedef struct phi3_field {
    uint16_t offset, size;
} phi3_field;

/* What a kernel gets: the planes of one part of a matrix. */
typedef struct phi3_planes {
    const uint8_t *plane[PHI3_MAX_PLANES];
    int n_blocks; /* in a row */
} phi3_planes;

#endif
