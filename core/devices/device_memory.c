/* device_memory.c - the words for memory that a device does not have. */
#include "device_memory.h"

#include <stdio.h>

#include "base/error.h"

phi3_size_text phi3_show_size(size_t bytes)
{
    phi3_size_text shown;
    double kib = (double)bytes / 1024;
    bool is_small = kib < 1024;
    snprintf(shown.text, sizeof shown.text, "%.1f %s", is_small ? kib : kib / 1024,
             is_small ? "KiB" : "MiB");
    return shown;
}

phi3_status phi3_fail_backend_memory(const phi3_backend *backend, const char *what,
                                     phi3_error *error)
{
    size_t available, total;
    if (!backend->memory || !backend->memory(&available, &total))
        return phi3_fail_memory(error, what);
    return phi3_fail(error, PHI3_ERROR_OUT_OF_MEMORY, "%s is out of memory (%s of %s are free): %s",
                     backend->name, phi3_show_size(available).text, phi3_show_size(total).text,
                     what);
}
