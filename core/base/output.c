/*
 * output.c - writes a file so that its name never stands for half of it.
 *
 * In: bytes, in order. Out: a file that replaces what was there in one step, or an error that names
 * the path, with everything as it was before.
 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

enum { MAX_ATTEMPTS = 1000 };

struct phi3_output {
    char *path;
    char *directory; /* of path, with its slash; "./" when there is none */
    char *temporary;
    int descriptor;
    bool overwrite;
};

static phi3_status fail_errno(phi3_error *error, const char *path, const char *verb)
{
    char reason[128];
    phi3_status code = errno == ENOENT || errno == ENOTDIR ? PHI3_ERROR_NOT_FOUND : PHI3_ERROR_IO;
    return phi3_fail(error, code, "%s: cannot %s: %s", path, verb,
                     strerror_r(errno, reason, sizeof reason));
}

/* ---- Creating ------------------------------------------------------------------------------- */

/* A link is replaced, not followed: what it points to may be somebody's store. */
static phi3_status check_target(const char *path, bool overwrite, phi3_error *error)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno == ENOENT ? PHI3_OK : fail_errno(error, path, "write");
    if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode))
        return phi3_fail(error, PHI3_ERROR_IO, "%s: is %s, and is not replaced by a file", path,
                         S_ISDIR(status.st_mode) ? "a directory" : "no regular file");
    if (!overwrite)
        return phi3_fail(error, PHI3_ERROR_IO, "%s: exists already, and is not to be overwritten",
                         path);
    return PHI3_OK;
}

static phi3_status create_temporary(phi3_output *output, phi3_error *error)
{
    for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        if (asprintf(&output->temporary, "%s.phi3-%ld-%d.partial", output->directory,
                     (long)getpid(), attempt) < 0) {
            output->temporary = NULL;
            return phi3_fail_memory(error, "the name of a file");
        }
        output->descriptor = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (output->descriptor >= 0)
            return PHI3_OK;
        free(output->temporary);
        output->temporary = NULL;
        if (errno != EEXIST)
            break;
    }
    return fail_errno(error, output->path, "write");
}

/* A write beyond the process's limit would raise a signal, which ends it. */
static bool is_within_limit(uint64_t size)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
           size <= limit.rlim_cur;
}

bool phi3_disk_reserve(int descriptor, uint64_t size)
{
    if (!is_within_limit(size)) {
        errno = EFBIG;
        return false;
    }
    int result;
    do
        result = fallocate(descriptor, 0, 0, (off_t)size);
    while (result != 0 && errno == EINTR);
    return result == 0 || errno == EOPNOTSUPP || errno == ENOSYS;
}

static phi3_status reserve(const phi3_output *output, uint64_t size, phi3_error *error)
{
    if (phi3_disk_reserve(output->descriptor, size))
        return PHI3_OK;
    char verb[64];
    snprintf(verb, sizeof verb, "write %llu bytes", (unsigned long long)size);
    return fail_errno(error, output->path, verb);
}

phi3_status phi3_output_open(const char *path, uint64_t size, bool overwrite, phi3_output **output,
                             phi3_error *error)
{
    PHI3_TRY(check_target(path, overwrite, error));
    phi3_output *made = calloc(1, sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a file");
    const char *slash = strrchr(path, '/');
    made->descriptor = -1;
    made->overwrite = overwrite;
    made->path = strdup(path);
    made->directory = slash == NULL ? strdup("./") : strndup(path, (size_t)(slash - path) + 1);
    phi3_status status = made->path != NULL && made->directory != NULL
                             ? create_temporary(made, error)
                             : phi3_fail_memory(error, "the name of a file");
    if (status == PHI3_OK)
        status = reserve(made, size, error);
    if (status != PHI3_OK)
        phi3_output_discard(made);
    else
        *output = made;
    return status;
}

/* ---- Writing -------------------------------------------------------------------------------- */

phi3_status phi3_output_write(phi3_output *output, const void *data, size_t size, phi3_error *error)
{
    const char *rest = data;
    while (size > 0) {
        ssize_t written = write(output->descriptor, rest, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail_errno(error, output->path, "write");
        rest += written;
        size -= (size_t)written;
    }
    return PHI3_OK;
}

/* ---- The end -------------------------------------------------------------------------------- */

static bool give_name(const phi3_output *output)
{
    if (output->overwrite)
        return rename(output->temporary, output->path) == 0;
    if (renameat2(AT_FDCWD, output->temporary, AT_FDCWD, output->path, RENAME_NOREPLACE) == 0)
        return true;
    /* Not every filesystem can. */
    return (errno == EINVAL || errno == ENOSYS) && access(output->path, F_OK) != 0 &&
           rename(output->temporary, output->path) == 0;
}

/* The name is on the disk when the directory is. A failure here loses nothing that was there. */
static void sync_directory(const phi3_output *output)
{
    int descriptor = open(output->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    fsync(descriptor);
    close(descriptor);
}

phi3_status phi3_output_commit(phi3_output *output, phi3_error *error)
{
    bool written = fsync(output->descriptor) == 0;
    int reason = errno;
    if (close(output->descriptor) != 0 && written) {
        written = false;
        reason = errno;
    }
    output->descriptor = -1;
    if (written && !give_name(output)) {
        written = false;
        reason = errno;
    }
    phi3_status status = PHI3_OK;
    if (written) {
        sync_directory(output);
        free(output->temporary);
        output->temporary = NULL;
    } else {
        errno = reason;
        status = fail_errno(error, output->path, "write");
    }
    phi3_output_discard(output);
    return status;
}

void phi3_output_discard(phi3_output *output)
{
    if (output == NULL)
        return;
    if (output->descriptor >= 0)
        close(output->descriptor);
    if (output->temporary != NULL)
        unlink(output->temporary);
    free(output->temporary);
    free(output->directory);
    free(output->path);
    free(output);
}
