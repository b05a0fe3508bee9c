/*
 * device_map.c - the places of a model's parts by the names of transformers' modules.
 *
 * In: "model.embed_tokens=cpu,model.layers=0,model.norm=0,lm_head=0"; the most exact name of a part
 * counts, and "" names them all. Out: a backend for each unit; or an error that names what is wrong.
 * And back: the same names for a model that is loaded.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model.h"
#include "placement.h"

/* ---- Modules ------------------------------------------------------------------------------------ */

/* The modules of a unit that a user may name. The last norm goes where the head goes. */
static void name_unit(size_t unit, size_t n_units, char name[PHI3_MODULE_NAME_SIZE])
{
    if (unit == 0)
        snprintf(name, PHI3_MODULE_NAME_SIZE, "model.embed_tokens");
    else if (unit + 1 == n_units)
        snprintf(name, PHI3_MODULE_NAME_SIZE, "lm_head");
    else
        snprintf(name, PHI3_MODULE_NAME_SIZE, "model.layers.%zu", unit - 1);
}

/* As much of a key as a message shows. */
static int shown(size_t size)
{
    return size < 100 ? (int)size : 100;
}

/* Whether a key of a map is `name` or a module around it. */
static bool covers(const phi3_pair *pair, const char *name)
{
    return pair->key_size == 0 || (strncmp(pair->key, name, pair->key_size) == 0 &&
                                   (name[pair->key_size] == '\0' || name[pair->key_size] == '.'));
}

static bool is_key(const phi3_pair *pair, const char *key)
{
    return strlen(key) == pair->key_size && memcmp(pair->key, key, pair->key_size) == 0;
}

/* Modules without a place of their own: the norm is part of the head, angles have no weights. */
static bool is_without_place(const phi3_pair *pair)
{
    return is_key(pair, "model.norm") || is_key(pair, "model.rotary_emb");
}

/* ---- A map in ----------------------------------------------------------------------------------- */

static phi3_status place_pair(const phi3_pair *pair, const phi3_backend **place, size_t n_units,
                              phi3_error *error)
{
    const phi3_backend *backend;
    bool found = is_without_place(pair);
    if (!pair->value)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "device_map: \"%.*s\" has no device",
                         shown(pair->key_size), pair->key);
    PHI3_TRY(phi3_device_named(pair->value, pair->value_size, &backend, error));
    for (size_t unit = 0; unit < n_units; unit++) {
        char name[PHI3_MODULE_NAME_SIZE];
        name_unit(unit, n_units, name);
        if (covers(pair, name)) {
            place[unit] = backend;
            found = true;
        }
    }
    if (found)
        return PHI3_OK;
    return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                     "device_map: the model has no module \"%.*s\" that can be placed; it has "
                     "model.embed_tokens, model.layers.0 to %zu, model.norm and lm_head",
                     shown(pair->key_size), pair->key, n_units - 3);
}

static size_t longest_key(const char *map)
{
    phi3_pair pair;
    size_t longest = 0;
    while (phi3_next_pair(&map, &pair))
        longest = pair.key_size > longest ? pair.key_size : longest;
    return longest;
}

/* From the shortest keys to the longest, which are more exact. */
phi3_status phi3_place_by_map(const char *map, const phi3_backend **place, size_t n_units,
                              phi3_error *error)
{
    size_t longest = longest_key(map);
    memset(place, 0, n_units * sizeof(*place));
    for (size_t size = 0; size <= longest; size++) {
        const char *rest = map;
        phi3_pair pair;
        while (phi3_next_pair(&rest, &pair))
            if (pair.key_size == size)
                PHI3_TRY(place_pair(&pair, place, n_units, error));
    }
    for (size_t unit = 0; unit < n_units; unit++) {
        char name[PHI3_MODULE_NAME_SIZE];
        name_unit(unit, n_units, name);
        if (!place[unit])
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "device_map: %s has no place",
                             name);
    }
    return PHI3_OK;
}

/* ---- And out ------------------------------------------------------------------------------------ */

static void put(phi3_module_place *places, size_t capacity, size_t index, const char *module,
                const phi3_backend *backend)
{
    if (index >= capacity)
        return;
    snprintf(places[index].module, sizeof places[index].module, "%s", module);
    places[index].device = backend->name;
}

size_t phi3_model_device_map(const phi3_model *model, phi3_module_place *places, size_t capacity)
{
    const phi3_segment *first = model->segments, *last = first + model->n_segments - 1;
    size_t count = 0;
    if (model->n_segments == 1) {
        put(places, capacity, 0, "", first->backend);
        return 1;
    }
    put(places, capacity, count++, "model.embed_tokens", first->backend);
    for (const phi3_segment *segment = first; segment <= last; segment++) {
        for (size_t i = 0; i < segment->n_layers; i++) {
            char name[PHI3_MODULE_NAME_SIZE];
            snprintf(name, sizeof name, "model.layers.%zu", segment->first_layer + i);
            put(places, capacity, count++, name, segment->backend);
        }
    }
    put(places, capacity, count++, "model.norm", last->backend);
    put(places, capacity, count++, "lm_head", last->backend);
    return count;
}
