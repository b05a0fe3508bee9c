/*
 * json.h - reading JSON files with cJSON, with errors that name the file and the key.
 *
 * Lookups take a parsed object and a key; a key of the wrong type is PHI3_ERROR_BAD_FILE, an absent
 * (or null) one leaves *out as it was.
 */
#ifndef PHI3_INTERNAL_JSON_H
#define PHI3_INTERNAL_JSON_H

#include <cjson/cJSON.h>

#include "phi3.h"

/* Parses a whole file, at most `max_size` bytes. `path` stays the caller's and is only used for
 * messages afterwards. *root is freed with cJSON_Delete. */
phi3_status phi3_json_load(const char *path, size_t max_size, cJSON **root, phi3_error *error);

/* The same for text in memory; `name` stands for the file in messages. */
phi3_status phi3_json_parse(const char *name, const char *text, size_t size, cJSON **root,
                            phi3_error *error);

phi3_status phi3_json_size(const char *path, const cJSON *object, const char *key, size_t *out,
                           phi3_error *error); /* an integer in [0, 2^53] */
phi3_status phi3_json_float(const char *path, const cJSON *object, const char *key, float *out,
                            phi3_error *error); /* finite */
phi3_status phi3_json_bool(const char *path, const cJSON *object, const char *key, bool *out,
                           phi3_error *error);
phi3_status phi3_json_string(const char *path, const cJSON *object, const char *key,
                             const char **out, phi3_error *error); /* borrowed from the object */

#endif
