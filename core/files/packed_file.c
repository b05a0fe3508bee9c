/*
 * packed_file.c - packed weights in a file: found and mapped, or written by one process at a time.
 *
 * In: a path and a key. Out: a read-only mapping. Whatever goes wrong is a line in the log.
 *
 * The lock (flock) on the partial file ends with its process, so a file that was left half written
 * keeps nobody waiting: the next writer takes it over. Nothing is synchronised with the disk: a file
 * that a power cut has damaged fails its checksum, and is made again.
 */
#include "packed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/output.h"

enum { HEADER_UNIT = 4096, SUM_DIGITS = 16 };

static const char magic[] = "phi3 packed weights 1\nchecksum ";

static void warn(const char *path, const char *what)
{
    char reason[128];
    phi3_log(PHI3_LOG_WARNING, "%s: %s: %s; the weights are packed into memory", path, what,
             strerror_r(errno, reason, sizeof reason));
}

/* ---- The header ------------------------------------------------------------------------------ */

static size_t header_size(const phi3_packed_file *file)
{
    size_t size = sizeof magic - 1 + SUM_DIGITS + 1 + strlen(file->key) + 1;
    return (size + HEADER_UNIT - 1) / HEADER_UNIT * HEADER_UNIT;
}

/* [header_size] in new memory, or NULL. */
static char *make_header(const phi3_packed_file *file, uint64_t checksum)
{
    size_t size = header_size(file);
    char *header = calloc(1, size);
    if (header)
        snprintf(header, size, "%s%016" PRIx64 "\n%s", magic, checksum, file->key);
    return header;
}

/* Compares all but the checksum, which it reads. */
static bool header_matches(const phi3_packed_file *file, const char *header, uint64_t *checksum)
{
    char digits[SUM_DIGITS + 1] = "";
    memcpy(digits, header + sizeof magic - 1, SUM_DIGITS);
    *checksum = strtoull(digits, NULL, 16);
    char *expected = make_header(file, *checksum);
    bool same = expected && memcmp(header, expected, header_size(file)) == 0;
    free(expected);
    return same;
}

/* ---- Finding --------------------------------------------------------------------------------- */

/* Only what nobody else could have written or may change is believed. */
static bool is_trusted(const struct stat *status)
{
    return S_ISREG(status->st_mode) && (status->st_uid == geteuid() || status->st_uid == 0) &&
           (status->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static bool map(const phi3_packed_file *file, int descriptor, phi3_packed *packed)
{
    size_t size = header_size(file) + file->data_size;
    void *mapping = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapping == MAP_FAILED)
        return false;
    packed->mapping = mapping;
    packed->mapping_size = size;
    packed->data = (const uint8_t *)mapping + header_size(file);
    return true;
}

static bool map_if_valid(const phi3_packed_file *file, int descriptor, phi3_packed *packed,
                         uint64_t *checksum)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0)
        return false;
    if (!is_trusted(&status)) {
        phi3_log(PHI3_LOG_WARNING, "%s: not used: others may write to it", file->path);
        return false;
    }
    if ((uint64_t)status.st_size != header_size(file) + file->data_size ||
        !map(file, descriptor, packed))
        return false;
    if (header_matches(file, packed->mapping, checksum))
        return true;
    phi3_packed_free(packed);
    return false;
}

static bool find(const phi3_packed_file *file, phi3_packed *packed, uint64_t *checksum)
{
    /* O_NONBLOCK: a pipe must be refused, not waited for. */
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0)
        return false;
    bool valid = map_if_valid(file, descriptor, packed, checksum);
    if (!valid)
        phi3_log(PHI3_LOG_INFO, "%s: stale or damaged: to be made again", file->path);
    close(descriptor);
    return valid;
}

/* ---- The right to write ---------------------------------------------------------------------- */

/* mkdir -p for the directory that is to hold a file. Errors show when the file is opened. */
static void make_directories(const char *path)
{
    char *copy = strdup(path);
    for (char *slash = copy ? strchr(copy + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0700);
        *slash = '/';
    }
    free(copy);
}

/* The lock counts only while the file still has the name by which it was opened. */
static bool is_named(int descriptor, const char *path, struct stat *status)
{
    struct stat named;
    return fstat(descriptor, status) == 0 && lstat(path, &named) == 0 &&
           named.st_dev == status->st_dev && named.st_ino == status->st_ino;
}

/* Ends the lock, also for children that have inherited it. */
static void unlock(phi3_packed_file *file)
{
    if (file->descriptor < 0)
        return;
    flock(file->descriptor, LOCK_UN);
    close(file->descriptor);
    file->descriptor = -1;
}

/* Opens and locks the partial file, and takes room for it. */
static phi3_packed_state begin(phi3_packed_file *file)
{
    make_directories(file->path);
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int descriptor = open(file->partial, flags, 0600);
    if (descriptor < 0) {
        warn(file->partial, "cannot be made");
        return PHI3_PACKED_UNAVAILABLE;
    }
    struct stat status;
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        bool locked = errno == EWOULDBLOCK;
        if (!locked)
            warn(file->partial, "cannot be locked");
        close(descriptor);
        return locked ? PHI3_PACKED_ELSEWHERE : PHI3_PACKED_UNAVAILABLE;
    }
    file->descriptor = descriptor;
    if (!is_named(descriptor, file->partial, &status)) {
        unlock(file);
        return PHI3_PACKED_ELSEWHERE;
    }
    errno = EPERM;
    if (!is_trusted(&status) || status.st_nlink != 1 || ftruncate(descriptor, 0) != 0 ||
        !phi3_disk_reserve(descriptor, header_size(file) + file->data_size)) {
        warn(file->partial, "cannot be filled");
        phi3_packed_file_abandon(file);
        return PHI3_PACKED_UNAVAILABLE;
    }
    return PHI3_PACKED_OURS;
}

phi3_packed_state phi3_packed_file_open(phi3_packed_file *file, phi3_packed *packed,
                                        uint64_t *checksum)
{
    if (find(file, packed, checksum))
        return PHI3_PACKED_FOUND;
    phi3_packed_state state = begin(file);
    /* Between the look and the lock another process may have finished. */
    if (state == PHI3_PACKED_OURS && find(file, packed, checksum)) {
        phi3_packed_file_abandon(file);
        return PHI3_PACKED_FOUND;
    }
    return state;
}

bool phi3_packed_file_discard(const phi3_packed_file *file)
{
    phi3_log(PHI3_LOG_WARNING, "%s: its checksum is wrong: to be made again", file->path);
    return unlink(file->path) == 0 || errno == ENOENT;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static bool write_at(int descriptor, size_t offset, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = pwrite(descriptor, data, size, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        data += written;
        offset += (size_t)written;
        size -= (size_t)written;
    }
    return true;
}

void phi3_packed_file_write(phi3_packed_file *file, size_t offset, const void *data, size_t size)
{
    if (file->has_failed || write_at(file->descriptor, header_size(file) + offset, data, size))
        return;
    warn(file->partial, "cannot be written");
    file->has_failed = true;
}

bool phi3_packed_file_finish(phi3_packed_file *file, uint64_t checksum, phi3_packed *packed)
{
    char *header = make_header(file, checksum);
    bool finished = !file->has_failed && header &&
                    write_at(file->descriptor, 0, header, header_size(file)) &&
                    map(file, file->descriptor, packed);
    free(header);
    if (finished && rename(file->partial, file->path) != 0) {
        phi3_packed_free(packed);
        finished = false;
    }
    if (finished) {
        phi3_log(PHI3_LOG_INFO, "%s: packed weights are kept here", file->path);
        unlock(file);
    } else {
        if (!file->has_failed)
            warn(file->path, "cannot be finished");
        phi3_packed_file_abandon(file);
    }
    return finished;
}

void phi3_packed_file_abandon(phi3_packed_file *file)
{
    if (file->descriptor >= 0)
        unlink(file->partial);
    unlock(file);
}

void phi3_packed_file_close(phi3_packed_file *file)
{
    unlock(file);
    free(file->path);
    free(file->partial);
    free(file->key);
    *file = (phi3_packed_file){.descriptor = -1};
}
