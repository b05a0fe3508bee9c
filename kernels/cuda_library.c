/*
 * cuda_library.c - finds and opens the CUDA backend when somebody asks what there is.
 *
 * Nothing here needs CUDA: where there is no driver, opening fails and everything else works.
 */
#include "cuda_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const phi3_backend *(*get_backend)(int device);
static char reason[256];

/* The file to open: false when this build came without one. */
static bool find_file(char *path, size_t size)
{
    static const char name[] = "libphi3_cuda.so";
    const char *chosen = getenv("PHI3_CUDA_LIBRARY");
    if (chosen != NULL && *chosen != '\0')
        return (size_t)snprintf(path, size, "%s", chosen) < size;
    Dl_info self;
    if (dladdr((void *)&once, &self) == 0 || self.dli_fname == NULL)
        return false;
    const char *slash = strrchr(self.dli_fname, '/');
    int directory = slash == NULL ? 0 : (int)(slash + 1 - self.dli_fname);
    if ((size_t)snprintf(path, size, "%.*s%s", directory, self.dli_fname, name) >= size)
        return false;
    return access(path, R_OK) == 0;
}

/* Most often it is cuBLAS that is not there. */
static void explain(const char *failure)
{
    if (strstr(failure, "libcublas") != NULL)
        snprintf(reason, sizeof reason,
                 "cuBLAS 13 was not found: pip install \"nvidia-cublas==13.0.*\" (%.160s)",
                 failure);
    else
        snprintf(reason, sizeof reason, "the CUDA backend cannot be opened: %s", failure);
}

static void open_library(void)
{
    char path[4096];
    if (!find_file(path, sizeof path)) {
        snprintf(reason, sizeof reason,
                 "this phi3 was built without its CUDA backend: that takes nvcc 13 and cuBLAS");
        return;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        explain(dlerror());
        return;
    }
    *(void **)&get_backend = dlsym(library, "phi3_cuda_backend");
    if (get_backend == NULL)
        snprintf(reason, sizeof reason, "%.200s is no CUDA backend of phi3", path);
}

const phi3_backend *phi3_cuda_library(int device, const char **detail)
{
    pthread_once(&once, open_library);
    *detail = reason;
    return get_backend == NULL ? NULL : get_backend(device);
}
