/*
 * device_choice.c - the words for devices and their memory.
 *
 * In: "auto", "cuda:1", "model.layers=0,lm_head=cpu"; "6GiB", "0=6GiB,cpu=30GiB". Out: backends, in
 * the order in which a model fills them, and limits in bytes; or an error that names the word.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "placement.h"

/* ---- Pairs ------------------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void trim(const char **text, size_t *size)
{
    for (; *size > 0 && is_space(**text); ++*text)
        --*size;
    while (*size > 0 && is_space((*text)[*size - 1]))
        --*size;
}

bool phi3_next_pair(const char **text, phi3_pair *pair)
{
    if (**text == '\0')
        return false;
    size_t size = strcspn(*text, ",");
    const char *equals = memchr(*text, '=', size);
    *pair = (phi3_pair){.key = *text, .key_size = equals ? (size_t)(equals - *text) : size};
    if (equals) {
        pair->value = equals + 1;
        pair->value_size = size - pair->key_size - 1;
        trim(&pair->value, &pair->value_size);
    }
    trim(&pair->key, &pair->key_size);
    *text += (*text)[size] == ',' ? size + 1 : size;
    return true;
}

phi3_status phi3_device_named(const char *name, size_t size, const phi3_backend **backend,
                              phi3_error *error)
{
    char device[64];
    if (size == 0 || size >= sizeof device)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "\"%.*s\" is not the name of a device",
                         size < 100 ? (int)size : 100, name);
    memcpy(device, name, size);
    device[size] = '\0';
    return phi3_backend_find(device, backend, error);
}

/* ---- Sizes ------------------------------------------------------------------------------------ */

typedef struct unit {
    const char *name;
    uint64_t bytes;
} unit;

static const unit units[] = {{"", 1},
                             {"KB", 1000},
                             {"MB", 1000000},
                             {"GB", 1000000000},
                             {"TB", 1000000000000},
                             {"KiB", 1 << 10},
                             {"MiB", 1 << 20},
                             {"GiB", 1 << 30},
                             {"TiB", (uint64_t)1 << 40}};

/* NULL: there is no such unit. */
static const unit *find_unit(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i].name) == size && memcmp(units[i].name, name, size) == 0)
            return &units[i];
    return NULL;
}

/* "6442450944", "6GiB", "1.5 GB". Not by strtod, which reads what the locale writes. */
static bool read_size(const char *text, size_t size, size_t *bytes)
{
    double value = 0, place = 1;
    size_t i = 0, n_digits = 0;
    bool fraction = false;
    for (; i < size && (text[i] == '.' ? !fraction : text[i] >= '0' && text[i] <= '9'); i++) {
        if (text[i] == '.') {
            fraction = true;
            continue;
        }
        value = 10 * value + (text[i] - '0');
        place *= fraction ? 10 : 1;
        n_digits++;
    }
    text += i;
    size -= i;
    trim(&text, &size);
    const unit *found = find_unit(text, size);
    if (n_digits == 0 || !found || (fraction && found->bytes == 1))
        return false;
    value = value / place * (double)found->bytes;
    if (value >= 0x1p63)
        return false;
    *bytes = (size_t)value;
    return true;
}

/* ---- Limits ------------------------------------------------------------------------------------ */

static phi3_status add_limit(phi3_device_choice *choice, const phi3_backend *backend, size_t bytes,
                             phi3_error *error)
{
    for (size_t i = 0; i < choice->n_limits; i++)
        if (choice->limits[i].backend == backend)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "max_memory names %s twice",
                             backend->name);
    if (choice->n_limits == PHI3_MAX_DEVICES)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "max_memory names too many devices");
    choice->limits[choice->n_limits++] = (phi3_memory_limit){backend, bytes};
    return PHI3_OK;
}

/* Limits of devices that are not there are left out when the devices were left to us. */
static phi3_status read_limit(phi3_device_choice *choice, const phi3_pair *pair, bool is_auto,
                              phi3_error *error)
{
    const char *size_text = pair->value ? pair->value : pair->key;
    size_t bytes, size = pair->value ? pair->value_size : pair->key_size;
    if (!read_size(size_text, size, &bytes))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "max_memory: \"%.*s\" is not a size: a number of bytes, or one with KB, "
                         "MB, GB, TB, KiB, MiB, GiB or TiB",
                         size < 100 ? (int)size : 100, size_text);
    if (!pair->value) {
        for (size_t i = 0; i < choice->n_devices; i++)
            PHI3_TRY(add_limit(choice, choice->devices[i], bytes, error));
        return PHI3_OK;
    }
    const phi3_backend *backend;
    phi3_error missing;
    phi3_status status = phi3_device_named(pair->key, pair->key_size, &backend, &missing);
    if (status == PHI3_ERROR_DEVICE && is_auto) {
        phi3_log(PHI3_LOG_WARNING, "max_memory: %s", missing.message);
        return PHI3_OK;
    }
    if (status != PHI3_OK)
        return phi3_fail(error, status, "max_memory: %s", missing.message);
    return add_limit(choice, backend, bytes, error);
}

size_t phi3_memory_limit_of(const phi3_device_choice *choice, const phi3_backend *backend)
{
    for (size_t i = 0; i < choice->n_limits; i++)
        if (choice->limits[i].backend == backend)
            return choice->limits[i].bytes;
    return SIZE_MAX;
}

static bool is_limited(const phi3_device_choice *choice, const phi3_backend *backend)
{
    return phi3_memory_limit_of(choice, backend) != SIZE_MAX;
}

static phi3_status read_limits(phi3_device_choice *choice, const char *max_memory, bool is_auto,
                               phi3_error *error)
{
    phi3_pair pair;
    while (phi3_next_pair(&max_memory, &pair))
        PHI3_TRY(read_limit(choice, &pair, is_auto, error));
    for (size_t i = 0; i < choice->n_limits && !choice->map; i++) {
        const phi3_backend *limited = choice->limits[i].backend;
        bool is_filled = is_auto ? limited->memory != NULL : limited == choice->devices[0];
        if (limited != &phi3_backend_cpu && !is_filled)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                             "max_memory names %s, but the model goes to %s", limited->name,
                             is_auto ? "CUDA devices and the CPU" : choice->devices[0]->name);
    }
    return PHI3_OK;
}

/* ---- Devices ------------------------------------------------------------------------------------ */

static bool is_automatic(const char *device)
{
    static const char *const names[] = {"", "auto", "balanced", "balanced_low_0", "sequential"};
    for (size_t i = 0; device && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(device, names[i]) == 0)
            return true;
    return !device;
}

/* Every device that can run, without those for which limits were given to others only. */
static void choose_all(phi3_device_choice *choice)
{
    char detail[256];
    size_t count;
    const phi3_backend *const *list = phi3_backend_list(&count);
    for (size_t i = 0; i < count && choice->n_devices < PHI3_MAX_DEVICES; i++)
        if (list[i]->memory && list[i]->available(detail, sizeof detail))
            choice->devices[choice->n_devices++] = list[i];
}

static void keep_limited(phi3_device_choice *choice)
{
    size_t n_kept = 0;
    for (size_t i = 0; i < choice->n_devices; i++)
        if (choice->n_limits == 0 || is_limited(choice, choice->devices[i]))
            choice->devices[n_kept++] = choice->devices[i];
    choice->n_devices = n_kept;
}

phi3_status phi3_device_choice_read(const char *device, const char *max_memory,
                                    phi3_device_choice *choice, phi3_error *error)
{
    *choice = (phi3_device_choice){0};
    if (is_automatic(device))
        device = getenv("PHI3_DEVICE");
    bool is_auto = is_automatic(device);
    if (is_auto)
        choose_all(choice);
    else if (strchr(device, '='))
        choice->map = device;
    else
        PHI3_TRY(phi3_device_named(device, strlen(device), &choice->devices[choice->n_devices++],
                                   error));
    if (max_memory)
        PHI3_TRY(read_limits(choice, max_memory, is_auto, error));
    if (is_auto)
        keep_limited(choice);
    if (choice->n_devices == 0)
        choice->devices[choice->n_devices++] = &phi3_backend_cpu;
    choice->spills = is_auto || is_limited(choice, choice->devices[0]);
    return PHI3_OK;
}
