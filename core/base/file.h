/* file.h - a file mapped for reading. */
#ifndef PHI3_INTERNAL_FILE_H
#define PHI3_INTERNAL_FILE_H

#include "phi3.h"

typedef struct phi3_file {
    char *path;          /* as opened, for messages */
    const uint8_t *data; /* [size], read-only, page-aligned; NULL when size is 0 */
    size_t size;
    int64_t modified; /* nanoseconds since 1970 */
} phi3_file;

/* Maps a regular file. A directory, a pipe or a device is PHI3_ERROR_IO. */
phi3_status phi3_file_open(const char *path, phi3_file *file, phi3_error *error);

/* Unmaps; a zeroed or closed file is fine. */
void phi3_file_close(phi3_file *file);

/* Of bytes inside a mapped file: they will be read soon; they need no memory now, and come back from
 * the file when they are read again. */
void phi3_file_expect(const void *data, size_t size);
void phi3_file_release(const void *data, size_t size);

/* "directory/name" in new memory (freed with free), or NULL when memory runs out. */
char *phi3_path_join(const char *directory, const char *name);

bool phi3_path_is_file(const char *path);
bool phi3_path_is_directory(const char *path);

#endif
