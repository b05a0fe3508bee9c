/* registry.c - the backends, best first, and how a device's name finds one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "core/base/error.h"
#include "cuda_library.h"

/* ---- What there is --------------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const phi3_backend *backends[PHI3_MAX_CUDA_DEVICES + 2];
static size_t n_backends, n_cuda_devices; /* those come first; 1 when CUDA is there without any */

static void collect(void)
{
    const char *detail;
    const phi3_backend *cuda;
    while (n_backends < PHI3_MAX_CUDA_DEVICES &&
           (cuda = phi3_cuda_library((int)n_backends, &detail)) != NULL)
        backends[n_backends++] = cuda;
    n_cuda_devices = n_backends;
    backends[n_backends++] = &phi3_backend_cpu;
    backends[n_backends++] = &phi3_backend_reference;
}

const phi3_backend *const *phi3_backend_list(size_t *count)
{
    pthread_once(&once, collect);
    *count = n_backends;
    return backends;
}

/* Why there is no CUDA device at all; false: there are some. */
static bool lacks_cuda(char *detail, size_t size)
{
    const char *why;
    size_t count;
    const phi3_backend *const *list = phi3_backend_list(&count);
    if (n_cuda_devices == 1)
        return !list[0]->available(detail, size);
    if (n_cuda_devices > 1)
        return false;
    (void)phi3_cuda_library(0, &why);
    snprintf(detail, size, "%s", why);
    return true;
}

/* Without a CUDA device there is an entry "cuda" that says why. */
size_t phi3_backends(phi3_backend_info *infos, size_t capacity)
{
    phi3_backend_info missing = {.name = "cuda", .available = false};
    size_t count, n_infos = 0;
    const phi3_backend *const *list = phi3_backend_list(&count);
    bool lacks = lacks_cuda(missing.detail, sizeof missing.detail);
    if (lacks && n_infos++ < capacity)
        infos[0] = missing;
    for (size_t i = lacks ? n_cuda_devices : 0; i < count; i++, n_infos++) {
        if (n_infos >= capacity)
            continue;
        phi3_backend_info *info = &infos[n_infos];
        info->name = list[i]->name;
        info->available = list[i]->available(info->detail, sizeof info->detail);
    }
    return n_infos;
}

/* ---- By name --------------------------------------------------------------------------------- */

/* "cuda", "cuda:N", "N": the number of a CUDA device, which may not be there. */
static bool is_cuda(const char *device, size_t *number)
{
    char *end;
    *number = 0;
    if (strcmp(device, "cuda") == 0)
        return true;
    if (strncmp(device, "cuda:", 5) == 0)
        device += 5;
    if (*device < '0' || *device > '9')
        return false;
    *number = strtoul(device, &end, 10);
    return *end == '\0';
}

static phi3_status find_cuda(const char *device, size_t number, const phi3_backend **backend,
                             phi3_error *error)
{
    char detail[256] = "";
    size_t count;
    const phi3_backend *const *list = phi3_backend_list(&count);
    if (lacks_cuda(detail, sizeof detail))
        return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, detail);
    if (number >= n_cuda_devices)
        return phi3_fail(error, PHI3_ERROR_DEVICE,
                         "device \"%s\": there %s %zu CUDA device%s, and counting starts at 0",
                         device, n_cuda_devices == 1 ? "is" : "are", n_cuda_devices,
                         n_cuda_devices == 1 ? "" : "s");
    if (!list[number]->available(detail, sizeof detail))
        return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, detail);
    *backend = list[number];
    return PHI3_OK;
}

static phi3_status find_host(const char *device, const phi3_backend **backend, phi3_error *error)
{
    char detail[256] = "";
    const phi3_backend *found = NULL;
    if (strcmp(device, "cpu") == 0 || strcmp(device, "-1") == 0)
        found = &phi3_backend_cpu;
    else if (strcmp(device, "reference") == 0)
        found = &phi3_backend_reference;
    if (found == NULL)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "unknown device \"%.100s\": known are \"auto\", \"cpu\", \"cuda\", "
                         "\"cuda:N\" and \"reference\"",
                         device);
    if (!found->available(detail, sizeof detail))
        return phi3_fail(error, PHI3_ERROR_DEVICE, "device \"%s\": %s", device, detail);
    *backend = found;
    return PHI3_OK;
}

phi3_status phi3_backend_find(const char *device, const phi3_backend **backend, phi3_error *error)
{
    size_t number;
    if (is_cuda(device, &number))
        return find_cuda(device, number, backend, error);
    return find_host(device, backend, error);
}
