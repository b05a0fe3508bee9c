/* error.h - how the library reports failure to itself: fill the caller's phi3_error, return the code. */
#ifndef PHI3_INTERNAL_ERROR_H
#define PHI3_INTERNAL_ERROR_H

#include "phi3.h"

/* Writes the code and the formatted message into error (when not NULL) and returns the code. A
 * message that does not fit is cut at a character's edge and bytes that are not UTF-8 become '?'. */
phi3_status phi3_fail(phi3_error *error, phi3_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "out of memory", with what it was for. */
phi3_status phi3_fail_memory(phi3_error *error, const char *what);

/* Hands a failure on to the caller. */
#define PHI3_TRY(call)                   \
    do {                                 \
        phi3_status try_status = (call); \
        if (try_status != PHI3_OK)       \
            return try_status;           \
    } while (0)

/* Sends a formatted line to the log callback, if there is one. */
void phi3_log(phi3_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* UINTs of files: true when a*b or a+b overflows size_t, else the result in *out. */
static inline bool phi3_multiply_overflows(size_t a, size_t b, size_t *out)
{
    return __builtin_mul_overflow(a, b, out);
}
static inline bool phi3_add_overflows(size_t a, size_t b, size_t *out)
{
    return __builtin_add_overflow(a, b, out);
}

#endif
