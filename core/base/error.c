/*
 * error.c - what the library says about itself: its version, its failures and its log lines.
 *
 * Nothing here prints. Failures go into the caller's phi3_error, log lines to the callback that the
 * program has set.
 */
#include "error.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

enum { MESSAGE_SIZE = 1024 };
_Static_assert(sizeof(((phi3_error *)0)->message) == MESSAGE_SIZE, "one size of message");

const char *phi3_version(void)
{
    return PHI3_VERSION;
}

const char *phi3_status_name(phi3_status status)
{
    switch (status) {
    case PHI3_OK:
        return "ok";
    case PHI3_ERROR_INVALID_ARGUMENT:
        return "invalid argument";
    case PHI3_ERROR_TYPE:
        return "wrong type";
    case PHI3_ERROR_NOT_FOUND:
        return "not found";
    case PHI3_ERROR_IO:
        return "input/output error";
    case PHI3_ERROR_BAD_FILE:
        return "bad file";
    case PHI3_ERROR_UNSUPPORTED:
        return "unsupported";
    case PHI3_ERROR_OUT_OF_MEMORY:
        return "out of memory";
    case PHI3_ERROR_BUSY:
        return "busy";
    case PHI3_ERROR_QUEUE_FULL:
        return "queue full";
    case PHI3_ERROR_INTERRUPTED:
        return "interrupted";
    case PHI3_ERROR_FORKED:
        return "used after fork";
    case PHI3_ERROR_DEVICE:
        return "device error";
    case PHI3_ERROR_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}

void phi3_free(void *memory)
{
    free(memory);
}

/* ---- Failures ------------------------------------------------------------------------------- */

/* Drops a character that the end of the buffer has cut in two. */
static void drop_cut_character(char *text)
{
    size_t size = strlen(text), start = size;
    while (start > 0 && size - start < 3 && (text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start > 0 && phi3_utf8_character(text + start - 1, size - start + 1) == 0)
        text[start - 1] = '\0';
}

/* Formats into message: valid UTF-8 whatever the arguments hold, no newline at the end. */
static void format_message(char message[MESSAGE_SIZE], const char *format, va_list arguments)
{
    /* The arguments may point into message itself: a caller that adds context to it. */
    char text[MESSAGE_SIZE];
    if (vsnprintf(text, sizeof text, format, arguments) >= MESSAGE_SIZE)
        drop_cut_character(text);
    size_t size = strlen(text);
    while (size > 0 && text[size - 1] == '\n')
        text[--size] = '\0';
    for (size_t i = 0; i < size;) {
        size_t length = phi3_utf8_character(text + i, size - i);
        if (length == 0)
            text[i] = '?';
        i += length == 0 ? 1 : length;
    }
    memcpy(message, text, size + 1);
}

phi3_status phi3_fail(phi3_error *error, phi3_status code, const char *format, ...)
{
    if (error == NULL)
        return code;
    va_list arguments;
    va_start(arguments, format);
    format_message(error->message, format, arguments);
    va_end(arguments);
    error->code = code;
    return code;
}

phi3_status phi3_fail_memory(phi3_error *error, const char *what)
{
    return phi3_fail(error, PHI3_ERROR_OUT_OF_MEMORY, "out of memory for %s", what);
}

/* ---- Log ------------------------------------------------------------------------------------- */

/* The callback and its data change together, so one lock guards both. */
static struct {
    pthread_mutex_t lock;
    phi3_log_callback callback;
    void *user_data;
} log_target = {.lock = PTHREAD_MUTEX_INITIALIZER};

void phi3_set_log_callback(phi3_log_callback callback, void *user_data)
{
    pthread_mutex_lock(&log_target.lock);
    log_target.callback = callback;
    log_target.user_data = user_data;
    pthread_mutex_unlock(&log_target.lock);
}

void phi3_log(phi3_log_level level, const char *format, ...)
{
    pthread_mutex_lock(&log_target.lock);
    phi3_log_callback callback = log_target.callback;
    void *user_data = log_target.user_data;
    pthread_mutex_unlock(&log_target.lock);
    if (callback == NULL)
        return;

    /* The lock is not held here: the callback may log or set another one. */
    char message[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    format_message(message, format, arguments);
    va_end(arguments);
    callback(level, message, user_data);
}
