/*
 * resolve_hub.c - finds a model in the Hugging Face cache.
 *
 * In: [ORGANISATION/]NAME or ORGANISATION/NAME/FILE.gguf, and a revision. Out: the path of a
 * snapshot or of a GGUF file in it.
 *
 *     models--ORGANISATION--NAME/refs/REVISION     the commit that a branch or tag stands at
 *     models--ORGANISATION--NAME/snapshots/COMMIT  its files, as links; partly there when a
 *                                                  download was cut off
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "resolve.h"

enum { MAX_NAME = 96, MAX_REVISION = 255, MAX_COMMAND = 400, MAX_INDEX = 64 << 20 };

/* ---- Names ------------------------------------------------------------------------------------ */

/* One side of ORGANISATION/NAME, as the hub allows it. "--" stands for '/' in the cache. */
static bool is_repository_part(const char *part, size_t size)
{
    if (size == 0 || size > MAX_NAME || strchr("-.", part[0]) != NULL ||
        strchr("-.", part[size - 1]) != NULL)
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = part[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool twice = i > 0 && (c == '-' || c == '.') && part[i - 1] == c;
        if ((!word && strchr("-._", c) == NULL) || twice)
            return false;
    }
    return true;
}

/* Whether a relative path stays below where it starts: no part of it is "", "." or "..". */
static bool stays_below(const char *path)
{
    for (;;) {
        size_t size = strcspn(path, "/");
        if (size == 0 || (size == 1 && path[0] == '.') || (size == 2 && memcmp(path, "..", 2) == 0))
            return false;
        if (path[size] == '\0')
            return true;
        path += size + 1;
    }
}

/* The file that a name selects, which stands behind its second slash; NULL: none. */
static const char *file_of(const char *name)
{
    const char *slash = strchr(name, '/');
    slash = slash == NULL ? NULL : strchr(slash + 1, '/');
    return slash == NULL ? NULL : slash + 1;
}

bool phi3_hub_accepts(const char *name)
{
    const char *file = file_of(name);
    size_t first = strcspn(name, "/");
    if (!is_repository_part(name, first))
        return false;
    if (name[first] == '/' && !is_repository_part(name + first + 1, strcspn(name + first + 1, "/")))
        return false;
    return file == NULL || (stays_below(file) && phi3_has_suffix(file, ".gguf"));
}

/* "hf download ORGANISATION/NAME [FILE] [--revision REVISION]". */
static void download_command(const char *name, const char *revision, char *command, size_t size)
{
    const char *file = file_of(name);
    size_t repository = file != NULL ? (size_t)(file - name) - 1 : strlen(name);
    snprintf(command, size, "hf download %.*s%s%.60s%s%.60s", (int)repository, name,
             file != NULL ? " " : "", file != NULL ? file : "",
             revision != NULL ? " --revision " : "", revision != NULL ? revision : "");
}

void phi3_hub_advise(const char *name, const char *revision, char *advice, size_t size)
{
    char command[MAX_COMMAND];
    download_command(name, revision, command, sizeof command);
    snprintf(advice, size,
             "`%.180s` fetches it; in Python, `pip install phi3[hub]` lets phi3 fetch it.",
             command);
}

/* "CACHE/models--ORGANISATION--NAME" in new memory; NULL when memory runs out. */
static char *repository_path(const char *cache, const char *name)
{
    size_t first = strcspn(name, "/");
    if (name[first] == '\0')
        return phi3_format("%s/models--%s", cache, name);
    const char *second = name + first + 1;
    return phi3_format("%s/models--%.*s--%.*s", cache, (int)first, name, (int)strcspn(second, "/"),
                       second);
}

/* ---- The cache -------------------------------------------------------------------------------- */

/* A directory named by a variable, with `below` added; "~/" is the home directory, as the hub's own
 * library has it. NULL when memory runs out. */
static char *expanded(const char *directory, const char *below)
{
    const char *home = phi3_environment("HOME");
    if (home != NULL && strncmp(directory, "~/", 2) == 0)
        return phi3_format("%s%s%s", home, directory + 1, below);
    return phi3_format("%s%s", directory, below);
}

static char *cache_path(void)
{
    static const struct {
        const char *variable, *below;
    } places[] = {
        {"HF_HUB_CACHE", ""},
        {"HUGGINGFACE_HUB_CACHE", ""},
        {"HF_HOME", "/hub"},
        {"XDG_CACHE_HOME", "/huggingface/hub"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *directory = phi3_environment(places[i].variable);
        if (directory != NULL)
            return expanded(directory, places[i].below);
    }
    return expanded("~/.cache/huggingface/hub", "");
}

/* Reads the commit that refs/REVISION names; "" when there is no such file. */
static phi3_status read_reference(const char *repository, const char *revision,
                                  char commit[MAX_REVISION + 1], phi3_error *error)
{
    commit[0] = '\0';
    char *path = phi3_format("%s/refs/%s", repository, revision);
    if (path == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_status status = PHI3_OK;
    if (phi3_path_is_file(path)) {
        FILE *stream = fopen(path, "r");
        if (stream != NULL) {
            commit[fread(commit, 1, MAX_REVISION, stream)] = '\0';
            fclose(stream);
            commit[strcspn(commit, " \r\n")] = '\0';
        }
        if (!stays_below(commit) || strchr(commit, '/') != NULL)
            status = phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: does not hold a commit", path);
    }
    free(path);
    return status;
}

/* Gives the snapshot directory of a revision; leaves *snapshot NULL when it is not there. */
static phi3_status find_snapshot(const char *repository, const char *revision, char **snapshot,
                                 phi3_places *places, phi3_error *error)
{
    char commit[MAX_REVISION + 1];
    PHI3_TRY(read_reference(repository, revision, commit, error));
    if (commit[0] == '\0')
        phi3_places_add(places, "%s/refs/%s", repository, revision);
    /* What is neither a branch nor a tag may be the commit itself. */
    char *path = phi3_format("%s/snapshots/%s", repository, commit[0] ? commit : revision);
    if (path == NULL)
        return phi3_fail_memory(error, "a path");
    if (phi3_path_is_directory(path)) {
        *snapshot = path;
        return PHI3_OK;
    }
    phi3_places_add(places, "%s", path);
    free(path);
    return PHI3_OK;
}

/* ---- Snapshots -------------------------------------------------------------------------------- */

/* A snapshot directory and what was asked for. */
typedef struct found_snapshot {
    char *path;
    const char *name, *revision; /* revision may be NULL */
} found_snapshot;

static phi3_status fail_incomplete(const found_snapshot *found, const char *missing,
                                   phi3_error *error)
{
    char command[MAX_COMMAND];
    download_command(found->name, found->revision, command, sizeof command);
    return phi3_fail(error, PHI3_ERROR_NOT_FOUND,
                     "%.500s: an incomplete download, without %.100s. `%.300s` completes it.",
                     found->path, missing, command);
}

/* Every shard that the index names must be there. */
static phi3_status check_shards(const found_snapshot *found, phi3_error *error)
{
    char *path = phi3_path_join(found->path, "model.safetensors.index.json");
    if (path == NULL)
        return phi3_fail_memory(error, "a path");
    cJSON *index = NULL;
    phi3_status status = phi3_json_load(path, MAX_INDEX, &index, error);
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map"), *entry;
    const char *last = "";
    cJSON_ArrayForEach(entry, map)
    {
        const char *shard = cJSON_GetStringValue(entry);
        /* Shards come in runs: the tensors are sorted. What is no name, the loader will refuse. */
        if (status != PHI3_OK || shard == NULL || !stays_below(shard) || strcmp(shard, last) == 0)
            continue;
        last = shard;
        char *file = phi3_path_join(found->path, shard);
        if (file == NULL)
            status = phi3_fail_memory(error, "a path");
        else if (!phi3_path_is_file(file))
            status = fail_incomplete(found, shard, error);
        free(file);
    }
    cJSON_Delete(index);
    free(path);
    return status;
}

static phi3_status choose_file(const found_snapshot *found, const char *file, char **path,
                               phi3_places *places, phi3_error *error)
{
    char *full = phi3_path_join(found->path, file);
    if (full == NULL)
        return phi3_fail_memory(error, "a path");
    if (phi3_path_is_file(full)) {
        *path = full;
        return PHI3_OK;
    }
    phi3_places_add(places, "%s", full);
    free(full);
    return PHI3_OK;
}

static phi3_status choose(const found_snapshot *found, char **path, phi3_places *places,
                          phi3_error *error)
{
    const char *file = file_of(found->name);
    if (file != NULL)
        return choose_file(found, file, path, places, error);
    phi3_directory_contents contents;
    PHI3_TRY(phi3_directory_read(found->path, &contents, error));
    if (!contents.safetensors && contents.ggufs == 0)
        return fail_incomplete(found, "weights (*.safetensors or *.gguf)", error);
    if (contents.safetensors && !contents.config)
        return fail_incomplete(found, "config.json", error);
    if (contents.safetensors && contents.index)
        PHI3_TRY(check_shards(found, error));
    return phi3_directory_choose(found->path, &contents, path, error);
}

phi3_status phi3_resolve_hub(const char *name, const char *revision, char **path,
                             phi3_places *places, phi3_error *error)
{
    found_snapshot found = {.name = name, .revision = revision};
    if (revision == NULL)
        revision = "main";
    if (strlen(revision) > MAX_REVISION || !stays_below(revision))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "\"%.100s\" is not a branch, tag or commit", revision);
    char *cache = cache_path(), *repository = cache == NULL ? NULL : repository_path(cache, name);
    free(cache);
    if (repository == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_status status = find_snapshot(repository, revision, &found.path, places, error);
    if (status == PHI3_OK && found.path != NULL)
        status = choose(&found, path, places, error);
    free(found.path);
    free(repository);
    return status;
}
