/*
 * packed_file.h - packed weights in a file.
 *
 *     header, NUL-padded to a multiple of 4096 bytes:
 *         "phi3 packed weights 1\n" "checksum " 16 hexadecimal digits "\n" and the key, a text
 *     data
 *
 * The key names all that the data depend on: a file with another key is stale. A file is written
 * under another name, locked, and gets its own name when it is whole: whoever finds it may map it.
 * It is never changed afterwards, only replaced; those who have mapped it keep what they have.
 */
#ifndef PHI3_INTERNAL_PACKED_FILE_H
#define PHI3_INTERNAL_PACKED_FILE_H

#include "packed_memory.h"

/* A file, and what is to be in it. packed_key.h begins one. */
typedef struct phi3_packed_file {
    char *path;    /* the finished file */
    char *partial; /* the one that is being written */
    char *key;
    size_t data_size;
    int descriptor;  /* of the partial file, locked; -1: none */
    bool has_failed; /* a write has failed: the file cannot be finished */
} phi3_packed_file;

void phi3_packed_file_close(phi3_packed_file *file);

typedef enum phi3_packed_state {
    PHI3_PACKED_FOUND,       /* *packed is mapped, *checksum is what its data should sum up to */
    PHI3_PACKED_OURS,        /* it is missing or stale, and this process is to write it */
    PHI3_PACKED_ELSEWHERE,   /* somebody is writing it: try again */
    PHI3_PACKED_UNAVAILABLE, /* it can be neither read nor written: a warning was logged */
} phi3_packed_state;

phi3_packed_state phi3_packed_file_open(phi3_packed_file *file, phi3_packed *packed,
                                        uint64_t *checksum);

/* Removes a file whose data turned out to be damaged. False when that is not possible. */
bool phi3_packed_file_discard(const phi3_packed_file *file);

/* Writes a part of the data; after a failure, which is logged, nothing more. */
void phi3_packed_file_write(phi3_packed_file *file, size_t offset, const void *data, size_t size);

/* Either gives the file its name and maps it, or (also when that fails: false) leaves no trace. */
bool phi3_packed_file_finish(phi3_packed_file *file, uint64_t checksum, phi3_packed *packed);
void phi3_packed_file_abandon(phi3_packed_file *file);

#endif
