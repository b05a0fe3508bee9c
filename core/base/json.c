/*
 * json.c - JSON text to cJSON trees, and typed look-ups in them.
 *
 * cJSON is lenient where a stranger's file must not be trusted: it cuts strings at a NUL, takes any
 * bytes for text and recurses a thousand levels deep. One pass over the text refuses these first.
 */
#include "json.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "error.h"
#include "file.h"
#include "text/utf8.h"

enum { MAX_NESTING = 128 };

/* ---- Parsing --------------------------------------------------------------------------------- */

static size_t line_of(const char *text, const char *place)
{
    size_t line = 1;
    for (; text < place; text++)
        line += *text == '\n';
    return line;
}

static phi3_status fail_at(const char *name, const char *text, const char *place, const char *what,
                           phi3_error *error)
{
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: line %zu: %s", name, line_of(text, place),
                     what);
}

/* Refuses what cJSON would take: NULs, bytes that are not UTF-8, deep nesting. */
static phi3_status check_text(const char *name, const char *text, size_t size, phi3_error *error)
{
    bool in_string = false;
    size_t depth = 0;
    for (size_t i = 0; i < size;) {
        const char *at = text + i;
        size_t length = phi3_utf8_character(at, size - i);
        if (length == 0)
            return fail_at(name, text, at, "not UTF-8", error);
        if (*at == '\0')
            return fail_at(name, text, at, "a NUL byte", error);
        if (in_string && *at == '\\') {
            if (size - i >= 6 && memcmp(at, "\\u0000", 6) == 0)
                return fail_at(name, text, at, "a NUL character in a string", error);
            bool skip_next = size - i >= 2 && (at[1] == '\\' || at[1] == '"');
            length = skip_next ? 2 : 1;
        } else if (*at == '"') {
            in_string = !in_string;
        } else if (!in_string && (*at == '{' || *at == '[')) {
            if (++depth > MAX_NESTING)
                return fail_at(name, text, at, "nested too deeply", error);
        } else if (!in_string && (*at == '}' || *at == ']') && depth > 0) {
            depth--;
        }
        i += length;
    }
    return PHI3_OK;
}

phi3_status phi3_json_parse(const char *name, const char *text, size_t size, cJSON **root,
                            phi3_error *error)
{
    /* cJSON keeps the place of the last error in a global variable. */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    PHI3_TRY(check_text(name, text, size, error));
    const char *end = text;
    pthread_mutex_lock(&lock);
    cJSON *tree = cJSON_ParseWithLengthOpts(text, size, &end, false);
    pthread_mutex_unlock(&lock);
    if (tree == NULL)
        return fail_at(name, text, end, "not valid JSON", error);
    while (end < text + size && strchr(" \t\r\n", *end) != NULL)
        end++;
    if (end < text + size) {
        cJSON_Delete(tree);
        return fail_at(name, text, end, "text after the end of the JSON value", error);
    }
    *root = tree;
    return PHI3_OK;
}

phi3_status phi3_json_load(const char *path, size_t max_size, cJSON **root, phi3_error *error)
{
    phi3_file file;
    PHI3_TRY(phi3_file_open(path, &file, error));
    phi3_status status;
    if (file.size > max_size)
        status = phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: %zu bytes, more than the %zu expected",
                           path, file.size, max_size);
    else if (file.size == 0)
        status = phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: an empty file", path);
    else
        status = phi3_json_parse(path, (const char *)file.data, file.size, root, error);
    phi3_file_close(&file);
    return status;
}

/* ---- Look-ups -------------------------------------------------------------------------------- */

/* The value of a key; NULL when it is absent or null. */
static const cJSON *find(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

static phi3_status fail_key(const char *path, const char *key, const char *expected,
                            phi3_error *error)
{
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: \"%s\" is not %s", path, key, expected);
}

phi3_status phi3_json_size(const char *path, const cJSON *object, const char *key, size_t *out,
                           phi3_error *error)
{
    const cJSON *item = find(object, key);
    if (item == NULL)
        return PHI3_OK;
    double value = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(value >= 0 && value <= 0x1p53) || value != floor(value))
        return fail_key(path, key, "a non-negative integer", error);
    *out = (size_t)value;
    return PHI3_OK;
}

phi3_status phi3_json_float(const char *path, const cJSON *object, const char *key, float *out,
                            phi3_error *error)
{
    const cJSON *item = find(object, key);
    if (item == NULL)
        return PHI3_OK;
    if (!cJSON_IsNumber(item) || !isfinite((float)item->valuedouble))
        return fail_key(path, key, "a finite number", error);
    *out = (float)item->valuedouble;
    return PHI3_OK;
}

phi3_status phi3_json_bool(const char *path, const cJSON *object, const char *key, bool *out,
                           phi3_error *error)
{
    const cJSON *item = find(object, key);
    if (item == NULL)
        return PHI3_OK;
    if (!cJSON_IsBool(item))
        return fail_key(path, key, "true or false", error);
    *out = cJSON_IsTrue(item);
    return PHI3_OK;
}

phi3_status phi3_json_string(const char *path, const cJSON *object, const char *key,
                             const char **out, phi3_error *error)
{
    const cJSON *item = find(object, key);
    if (item == NULL)
        return PHI3_OK;
    if (!cJSON_IsString(item))
        return fail_key(path, key, "a string", error);
    *out = item->valuestring;
    return PHI3_OK;
}
