/* registry.c - the backends of this build, best first, and how a device name finds one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "error.h"

static const char no_cuda[] = "this build of phi3 has no CUDA backend";

static const phi3_backend *const backends[] = {&phi3_backend_cpu, &phi3_backend_reference};
enum { N_BACKENDS = sizeof backends / sizeof backends[0] };

const phi3_backend *const *phi3_backend_list(size_t *count)
{
    *count = N_BACKENDS;
    return backends;
}

size_t phi3_backends(phi3_backend_info *infos, size_t capacity)
{
    for (size_t i = 0; i < capacity && i <= N_BACKENDS; i++) {
        phi3_backend_info *info = &infos[i];
        if (i == 0) {
            info->name = "cuda";
            info->available = false;
            snprintf(info->detail, sizeof info->detail, "%s", no_cuda);
        } else {
            info->name = backends[i - 1]->name;
            info->available = backends[i - 1]->available(info->detail, sizeof info->detail);
        }
    }
    return N_BACKENDS + 1;
}

/* The reference is never chosen unasked: it would look like a very slow CPU backend. */
static phi3_status find_best(const phi3_backend **backend, phi3_error *error)
{
    char detail[256] = "";
    for (size_t i = 0; i < N_BACKENDS; i++) {
        if (backends[i] == &phi3_backend_reference)
            continue;
        if (backends[i]->available(detail, sizeof detail)) {
            *backend = backends[i];
            return PHI3_OK;
        }
    }
    return phi3_fail(error, PHI3_ERROR_DEVICE, "no backend can run here: %s", detail);
}

phi3_status phi3_backend_find(const char *device, const phi3_backend **backend, phi3_error *error)
{
    if (!device || !strcmp(device, "auto"))
        device = getenv("PHI3_DEVICE");
    if (!device || !*device || !strcmp(device, "auto"))
        return find_best(backend, error);
    if (!strcmp(device, "cuda") || !strncmp(device, "cuda:", 5))
        return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, no_cuda);
    for (size_t i = 0; i < N_BACKENDS; i++) {
        if (strcmp(device, backends[i]->name))
            continue;
        char detail[256] = "";
        if (!backends[i]->available(detail, sizeof detail))
            return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, detail);
        *backend = backends[i];
        return PHI3_OK;
    }
    return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                     "unknown device \"%s\": known are auto, cpu, cuda and reference", device);
}
