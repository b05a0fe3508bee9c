/* registry.c - the backends, best first, and how a device name finds one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "core/base/error.h"
#include "cuda_library.h"

/* ---- What there is --------------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const phi3_backend *backends[3];
static size_t n_backends;

static void collect(void)
{
    const char *detail;
    const phi3_backend *cuda = phi3_cuda_library(&detail);
    if (cuda != NULL)
        backends[n_backends++] = cuda;
    backends[n_backends++] = &phi3_backend_cpu;
    backends[n_backends++] = &phi3_backend_reference;
}

const phi3_backend *const *phi3_backend_list(size_t *count)
{
    pthread_once(&once, collect);
    *count = n_backends;
    return backends;
}

/* "cuda" is named even when it cannot be opened: with the reason. */
size_t phi3_backends(phi3_backend_info *infos, size_t capacity)
{
    const char *detail;
    size_t count, n_infos = 0;
    const phi3_backend *const *list = phi3_backend_list(&count);
    if (phi3_cuda_library(&detail) == NULL) {
        if (capacity > 0) {
            infos[0].name = "cuda";
            infos[0].available = false;
            snprintf(infos[0].detail, sizeof infos[0].detail, "%s", detail);
        }
        n_infos = 1;
    }
    for (size_t i = 0; i < count; i++, n_infos++) {
        if (n_infos >= capacity)
            continue;
        phi3_backend_info *info = &infos[n_infos];
        info->name = list[i]->name;
        info->available = list[i]->available(info->detail, sizeof info->detail);
    }
    return n_infos;
}

/* ---- By name --------------------------------------------------------------------------------- */

/* The reference is never chosen unasked: it would look like a very slow CPU backend. */
static phi3_status find_best(const phi3_backend **backend, phi3_error *error)
{
    char detail[256] = "";
    size_t count;
    const phi3_backend *const *list = phi3_backend_list(&count);
    for (size_t i = 0; i < count; i++) {
        if (list[i] == &phi3_backend_reference)
            continue;
        if (list[i]->available(detail, sizeof detail)) {
            *backend = list[i];
            return PHI3_OK;
        }
    }
    return phi3_fail(error, PHI3_ERROR_DEVICE, "no backend can run here: %s", detail);
}

static phi3_status find_named(const char *device, const char *name, const phi3_backend **backend,
                              phi3_error *error)
{
    char detail[256] = "";
    size_t count;
    const phi3_backend *const *list = phi3_backend_list(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]->name) != 0)
            continue;
        if (!list[i]->available(detail, sizeof detail))
            return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, detail);
        *backend = list[i];
        return PHI3_OK;
    }
    if (strcmp(name, "cuda") == 0) {
        const char *why;
        (void)phi3_cuda_library(&why);
        return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, why);
    }
    return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                     "unknown device \"%s\": known are auto, cpu, cuda and reference", device);
}

phi3_status phi3_backend_find(const char *device, const phi3_backend **backend, phi3_error *error)
{
    if (!device || !strcmp(device, "auto"))
        device = getenv("PHI3_DEVICE");
    if (!device || !*device || !strcmp(device, "auto"))
        return find_best(backend, error);
    if (!strncmp(device, "cuda:", 5) && strcmp(device, "cuda:0") != 0)
        return phi3_fail(error, PHI3_ERROR_DEVICE,
                         "device \"%s\": CUDA's first device is the one in use; "
                         "CUDA_VISIBLE_DEVICES chooses which that is",
                         device);
    return find_named(device, strcmp(device, "cuda:0") == 0 ? "cuda" : device, backend, error);
}
