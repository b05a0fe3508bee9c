/*
 * resolve_places.c - what the places of phi3_resolve share: the list of those tried, and what a
 * directory holds.
 */
#include "resolve.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

void phi3_places_add(phi3_places *places, const char *format, ...)
{
    size_t length = strlen(places->text), left = sizeof places->text - length;
    if (length > 0)
        length += (size_t)snprintf(places->text + length, left, "; ");
    if (length >= sizeof places->text)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(places->text + length, sizeof places->text - length, format, arguments);
    va_end(arguments);
}

char *phi3_format(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int size = vasprintf(&text, format, arguments);
    va_end(arguments);
    return size < 0 ? NULL : text;
}

const char *phi3_environment(const char *variable)
{
    const char *value = getenv(variable);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

bool phi3_has_suffix(const char *name, const char *suffix)
{
    size_t size = strlen(name), suffix_size = strlen(suffix);
    return size > suffix_size && strcmp(name + size - suffix_size, suffix) == 0;
}

phi3_status phi3_fail_unreadable(phi3_error *error, const char *path)
{
    char reason[128];
    return phi3_fail(error, PHI3_ERROR_IO, "%s: cannot read: %s", path,
                     strerror_r(errno, reason, sizeof reason));
}

/* ---- Directories ------------------------------------------------------------------------------- */

static void note_file(phi3_directory_contents *contents, const char *name)
{
    if (strcmp(name, "config.json") == 0)
        contents->config = true;
    else if (strcmp(name, "model.safetensors.index.json") == 0)
        contents->index = true;
    else if (phi3_has_suffix(name, ".safetensors"))
        contents->safetensors = true;
    else if (phi3_has_suffix(name, ".gguf")) {
        if (contents->ggufs == 0 || strcmp(name, contents->gguf) < 0)
            snprintf(contents->gguf, sizeof contents->gguf, "%s", name);
        contents->ggufs++;
    }
}

phi3_status phi3_directory_read(const char *directory, phi3_directory_contents *contents,
                                phi3_error *error)
{
    *contents = (phi3_directory_contents){0};
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return phi3_fail_unreadable(error, directory);
    phi3_status status = PHI3_OK;
    for (struct dirent *entry; status == PHI3_OK && (entry = readdir(stream)) != NULL;) {
        char *path = phi3_path_join(directory, entry->d_name);
        if (path == NULL)
            status = phi3_fail_memory(error, "a path");
        else if (phi3_path_is_file(path))
            note_file(contents, entry->d_name);
        free(path);
    }
    closedir(stream);
    return status;
}

phi3_status phi3_directory_choose(const char *directory, const phi3_directory_contents *contents,
                                  char **path, phi3_error *error)
{
    if (contents->safetensors || contents->ggufs == 0)
        *path = strdup(directory);
    else if (contents->ggufs == 1)
        *path = phi3_path_join(directory, contents->gguf);
    else
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "%s: holds %zu GGUF files. Choose one by adding its name: /%s", directory,
                         contents->ggufs, contents->gguf);
    return *path == NULL ? phi3_fail_memory(error, "a path") : PHI3_OK;
}
