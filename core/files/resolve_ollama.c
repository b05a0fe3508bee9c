/*
 * resolve_ollama.c - finds the GGUF file of a model in Ollama's store.
 *
 * In: [HOST/][NAMESPACE/]MODEL[:TAG]. Out: the path of a blob. The store belongs to another program:
 * it is only read, and nothing in it is trusted.
 *
 *     manifests/HOST/NAMESPACE/MODEL/TAG   JSON: {"layers": [{"mediaType": ..., "digest": ...}]}
 *     blobs/sha256-HEX                     the layer of digest sha256:HEX
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "resolve.h"

#define MODEL_LAYER "application/vnd.ollama.image.model"
#define ADAPTER_LAYER "application/vnd.ollama.image.adapter"

enum { MAX_MANIFEST = 1 << 20, DIGEST_DIGITS = 64 };

static const char digest_prefix[] = "sha256:";

/* ---- Names ------------------------------------------------------------------------------------ */

typedef struct ollama_name {
    char *text; /* owns the four parts */
    const char *host, *namespace, *model, *tag;
} ollama_name;

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* A part begins with a letter, a digit or '_', so it is neither "..", empty nor an absolute path. */
static bool is_part(const char *part, const char *punctuation)
{
    if (!is_word(part[0]))
        return false;
    for (; *part != '\0'; part++) {
        if (!is_word(*part) && strchr(punctuation, *part) == NULL)
            return false;
    }
    return true;
}

/* Cuts what stands behind the last `separator` from text; NULL when there is none. */
static char *cut_last(char *text, char separator)
{
    char *place = strrchr(text, separator);
    if (place == NULL)
        return NULL;
    *place = '\0';
    return place + 1;
}

static phi3_status parse_name(const char *text, ollama_name *name, phi3_error *error)
{
    *name = (ollama_name){.text = strdup(text),
                          .host = "registry.ollama.ai",
                          .namespace = "library",
                          .tag = "latest"};
    if (name->text == NULL)
        return phi3_fail_memory(error, "a model's name");
    char *colon = strrchr(name->text, ':');
    if (colon != NULL && strchr(colon, '/') == NULL)
        name->tag = cut_last(name->text, ':');
    const char *model = cut_last(name->text, '/');
    name->model = model != NULL ? model : name->text;
    if (model != NULL) {
        const char *namespace = cut_last(name->text, '/');
        name->namespace = namespace != NULL ? namespace : name->text;
        if (namespace != NULL)
            name->host = name->text;
    }
    if (is_part(name->host, "-.:") && is_part(name->namespace, "-") && is_part(name->model, "-.") &&
        is_part(name->tag, "-."))
        return PHI3_OK;
    free(name->text);
    return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                     "\"ollama://%.200s\" is not a name of Ollama's: "
                     "ollama://[HOST/][NAMESPACE/]MODEL[:TAG]",
                     text);
}

/* ---- Manifests -------------------------------------------------------------------------------- */

/* Finds the digest of the layer that holds the model. Borrowed from the manifest. */
static phi3_status find_model(const char *manifest_path, const cJSON *manifest, const char **digest,
                              phi3_error *error)
{
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(manifest, "layers"), *layer;
    if (!cJSON_IsArray(layers))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: has no list \"layers\"", manifest_path);
    *digest = NULL;
    cJSON_ArrayForEach(layer, layers)
    {
        const char *type = "";
        PHI3_TRY(phi3_json_string(manifest_path, layer, "mediaType", &type, error));
        if (strcmp(type, ADAPTER_LAYER) == 0)
            return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                             "%s: the model has an adapter (LoRA), which is not supported",
                             manifest_path);
        if (*digest == NULL && strcmp(type, MODEL_LAYER) == 0)
            PHI3_TRY(phi3_json_string(manifest_path, layer, "digest", digest, error));
    }
    if (*digest == NULL)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: names no layer of type " MODEL_LAYER,
                         manifest_path);
    return PHI3_OK;
}

static bool is_digest(const char *digest)
{
    const size_t prefix = sizeof digest_prefix - 1;
    return strncmp(digest, digest_prefix, prefix) == 0 &&
           strlen(digest) == prefix + DIGEST_DIGITS &&
           strspn(digest + prefix, "0123456789abcdef") == DIGEST_DIGITS;
}

static phi3_status find_blob(const char *store, const char *manifest_path, const cJSON *manifest,
                             char **path, phi3_error *error)
{
    const char *digest;
    PHI3_TRY(find_model(manifest_path, manifest, &digest, error));
    if (!is_digest(digest))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: \"%.100s\" is no SHA-256 digest",
                         manifest_path, digest);
    char *blob = phi3_format("%s/blobs/sha256-%s", store, digest + sizeof digest_prefix - 1);
    if (blob == NULL)
        return phi3_fail_memory(error, "a path");
    if (!phi3_path_is_file(blob)) {
        phi3_status status =
            phi3_fail(error, PHI3_ERROR_NOT_FOUND,
                      "%.400s: named by %.400s, but not there. Try `ollama pull` again.", blob,
                      manifest_path);
        free(blob);
        return status;
    }
    *path = blob;
    return PHI3_OK;
}

/* ---- Stores ----------------------------------------------------------------------------------- */

static phi3_status look_into(const char *store, const ollama_name *name, char **path,
                             phi3_places *places, phi3_error *error)
{
    char *manifest_path = phi3_format("%s/manifests/%s/%s/%s/%s", store, name->host,
                                      name->namespace, name->model, name->tag);
    if (manifest_path == NULL)
        return phi3_fail_memory(error, "a path");
    phi3_status status = PHI3_OK;
    if (phi3_path_is_file(manifest_path)) {
        cJSON *manifest = NULL;
        status = phi3_json_load(manifest_path, MAX_MANIFEST, &manifest, error);
        if (status == PHI3_OK)
            status = find_blob(store, manifest_path, manifest, path, error);
        cJSON_Delete(manifest);
    } else {
        phi3_places_add(places, "%s", manifest_path);
    }
    free(manifest_path);
    return status;
}

phi3_status phi3_resolve_ollama(const char *text, char **path, phi3_places *places,
                                phi3_error *error)
{
    ollama_name name;
    PHI3_TRY(parse_name(text, &name, error));
    const char *chosen = phi3_environment("OLLAMA_MODELS"), *home = phi3_environment("HOME");
    char *own = phi3_format("%s/.ollama/models", home != NULL ? home : "~");
    phi3_status status = own == NULL ? phi3_fail_memory(error, "a path") : PHI3_OK;
    const char *stores[] = {chosen != NULL ? chosen : own,
                            chosen != NULL ? NULL : "/usr/share/ollama/.ollama/models"};
    for (size_t i = 0; i < 2 && status == PHI3_OK && *path == NULL && stores[i] != NULL; i++)
        status = look_into(stores[i], &name, path, places, error);
    free(own);
    free(name.text);
    return status;
}
