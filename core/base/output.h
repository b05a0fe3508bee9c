/* output.h - a file that appears under its name when it is complete, and not before. */
#ifndef PHI3_INTERNAL_OUTPUT_H
#define PHI3_INTERNAL_OUTPUT_H

#include "phi3.h"

typedef struct phi3_output phi3_output;

/*
 * Creates a temporary file beside `path` and takes `size` bytes of the disk for it, so that a disk
 * that is too full is found out at once. PHI3_ERROR_IO when there is a file already and it may not be
 * overwritten, or what is there is no file.
 */
phi3_status phi3_output_open(const char *path, uint64_t size, bool overwrite, phi3_output **output,
                             phi3_error *error);
phi3_status phi3_output_write(phi3_output *output, const void *data, size_t size,
                              phi3_error *error);

/* Brings the bytes to the disk and gives the file its name. The output is gone afterwards, whether
 * that succeeded or not. */
phi3_status phi3_output_commit(phi3_output *output, phi3_error *error);

/* Removes the temporary file; NULL is fine. */
void phi3_output_discard(phi3_output *output);

/* Takes the first `size` bytes of a file on the disk, at least 1, where the file system can do so
 * beforehand. False, with errno: there is no room, or the process may not write so much. */
bool phi3_disk_reserve(int descriptor, uint64_t size);

#endif
