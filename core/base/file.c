/* file.c - maps files for reading. In: a path. Out: the bytes, or an error that names the path. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

static phi3_status fail_errno(phi3_error *error, const char *path, const char *verb)
{
    char reason[128];
    phi3_status code = errno == ENOENT || errno == ENOTDIR ? PHI3_ERROR_NOT_FOUND : PHI3_ERROR_IO;
    return phi3_fail(error, code, "%s: cannot %s: %s", path, verb,
                     strerror_r(errno, reason, sizeof reason));
}

/* Maps an open file. The descriptor stays the caller's. */
static phi3_status map_descriptor(const char *path, int descriptor, phi3_file *file,
                                  phi3_error *error)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0)
        return fail_errno(error, path, "read");
    if (!S_ISREG(status.st_mode))
        return phi3_fail(error, PHI3_ERROR_IO, "%s: %s", path,
                         S_ISDIR(status.st_mode) ? "is a directory, not a file"
                                                 : "is not a regular file");
    void *data = NULL;
    if (status.st_size > 0) {
        data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED)
            return fail_errno(error, path, "map");
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        if (data != NULL)
            munmap(data, (size_t)status.st_size);
        return phi3_fail_memory(error, "the name of a file");
    }
    *file = (phi3_file){.path = copy,
                        .data = data,
                        .size = (size_t)status.st_size,
                        .modified =
                            (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec};
    return PHI3_OK;
}

phi3_status phi3_file_open(const char *path, phi3_file *file, phi3_error *error)
{
    /* O_NONBLOCK: a pipe must be refused, not waited for. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return fail_errno(error, path, "open");
    phi3_status status = map_descriptor(path, descriptor, file, error);
    close(descriptor);
    return status;
}

void phi3_file_close(phi3_file *file)
{
    if (file->data != NULL)
        munmap((void *)(uintptr_t)file->data, file->size);
    free(file->path);
    *file = (phi3_file){0};
}

/* Advice about all pages that hold some of the bytes. That it may come to nothing does no harm. */
static void advise(const void *data, size_t size, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)data / page * page;
    madvise((void *)start, (uintptr_t)data + size - start, advice);
}

void phi3_file_expect(const void *data, size_t size)
{
    advise(data, size, MADV_WILLNEED);
}

void phi3_file_release(const void *data, size_t size)
{
    advise(data, size, MADV_DONTNEED);
}

char *phi3_path_join(const char *directory, const char *name)
{
    size_t length = strlen(directory), name_size = strlen(name) + 1;
    bool slash = length > 0 && directory[length - 1] != '/';
    char *path = malloc(length + slash + name_size);
    if (path == NULL)
        return NULL;
    memcpy(path, directory, length);
    if (slash)
        path[length] = '/';
    memcpy(path + length + slash, name, name_size);
    return path;
}

bool phi3_path_is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool phi3_path_is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}
