/* device_memory.h - the words for memory that a device does not have. */
#ifndef PHI3_INTERNAL_DEVICE_MEMORY_H
#define PHI3_INTERNAL_DEVICE_MEMORY_H

#include "kernels/backend.h"

/* A size as messages show it: "7640.0 MiB", "12.5 KiB". */
typedef struct phi3_size_text {
    char text[32];
} phi3_size_text;

phi3_size_text phi3_show_size(size_t bytes);

/* PHI3_ERROR_OUT_OF_MEMORY for something that was to be in a backend's memory. */
phi3_status phi3_fail_backend_memory(const phi3_backend *backend, const char *what,
                                     phi3_error *error);

#endif
