/* available.cu - whether a device can be used here; if not, what is missing, in words for a user. */
#include <stdio.h>
#include <stdlib.h>

#include "cuda.h"

/* The first driver that runs this build: NVIDIA numbers its CUDA and its drivers apart. */
#define NEEDED_CUDA (CUDART_VERSION / 1000 * 1000)
#define NEEDED_DRIVER "580"

static const int NEEDED_CAPABILITY = 8; /* bfloat16, and copies beside computing */

/* Puts what `failed` says into `detail`, so that no later call finds it. */
static bool explain(cudaError_t failed, char *detail, size_t size)
{
    (void)cudaGetLastError();
    snprintf(detail, size, "CUDA does not run here: %s", cudaGetErrorString(failed));
    return false;
}

static bool has_driver(char *detail, size_t size)
{
    int version = 0; /* 1000 * major + 10 * minor; stays 0 without a driver */
    cudaError_t failed = cudaDriverGetVersion(&version);
    if (failed != cudaSuccess)
        return explain(failed, detail, size);
    if (version == 0)
        snprintf(detail, size,
                 "there is no NVIDIA driver (libcuda.so.1); CUDA %d.%d needs driver " NEEDED_DRIVER
                 " or newer",
                 NEEDED_CUDA / 1000, NEEDED_CUDA % 1000 / 10);
    else if (version < NEEDED_CUDA)
        snprintf(
            detail, size,
            "the NVIDIA driver is too old: it runs CUDA %d.%d, and %d.%d (driver " NEEDED_DRIVER
            " or newer) is needed",
            version / 1000, version % 1000 / 10, NEEDED_CUDA / 1000, NEEDED_CUDA % 1000 / 10);
    return version >= NEEDED_CUDA;
}

static bool has_device(int device, char *detail, size_t size)
{
    int n_devices = 0;
    cudaError_t failed = cudaGetDeviceCount(&n_devices);
    if (failed != cudaSuccess && failed != cudaErrorNoDevice)
        return explain(failed, detail, size);
    (void)cudaGetLastError();
    if (device >= n_devices)
        snprintf(detail, size, "the NVIDIA driver finds %d CUDA devices%s", n_devices,
                 getenv("CUDA_VISIBLE_DEVICES") ? " (CUDA_VISIBLE_DEVICES is set)" : "");
    return device < n_devices;
}

/* Works without a context on the device, which would take its memory. */
bool phi3_cuda_available(int device, char *detail, size_t size)
{
    if (!has_driver(detail, size) || !has_device(device, detail, size))
        return false;
    cudaDeviceProp properties;
    cudaError_t failed = cudaGetDeviceProperties(&properties, device);
    if (failed != cudaSuccess)
        return explain(failed, detail, size);
    if (properties.major < NEEDED_CAPABILITY) {
        snprintf(detail, size, "%s has compute capability %d.%d, and %d.0 is needed",
                 properties.name, properties.major, properties.minor, NEEDED_CAPABILITY);
        return false;
    }
    snprintf(detail, size, "%s, compute capability %d.%d, %zu MiB", properties.name,
             properties.major, properties.minor, properties.totalGlobalMem >> 20);
    return true;
}
