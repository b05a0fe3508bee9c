/*
 * engine_socket.c - how the engine's thread is woken, and how it wakes others.
 *
 * The thread sleeps in poll() on a doorbell (an eventfd), on a listening socket and on what has
 * connected to it. A connection names a request in its first line and gets a byte for every piece of
 * news; when its other end closes, nobody waits for the request any more and it is cancelled.
 *
 * The socket's file lives for a moment in a directory of mode 0700 and is then unlinked. It is
 * reached through /proc/self/fd, so that nothing stays behind, however the process ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "engine_parts.h"

/* ---- Open and close ---------------------------------------------------------------------------- */

/* Binds the listener to a file and keeps only a descriptor of that file. */
static bool bind_listener(phi3_engine *e, const char *directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
    if (size < 0 || (size_t)size >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    e->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (e->listener < 0 ||
        bind(e->listener, (const struct sockaddr *)&address, sizeof address) != 0)
        return false;
    e->socket_file = open(address.sun_path, O_PATH | O_CLOEXEC);
    unlink(address.sun_path);
    return e->socket_file >= 0 && listen(e->listener, SOMAXCONN) == 0;
}

phi3_status phi3_engine_open_socket(phi3_engine *e, phi3_error *error)
{
    char directory[80];
    const char *parent = getenv("TMPDIR");
    int size = snprintf(directory, sizeof directory, "%s/phi3-XXXXXX",
                        parent != NULL && strlen(parent) < 60 ? parent : "/tmp");
    if (size < 0 || mkdtemp(directory) == NULL)
        return phi3_fail(error, PHI3_ERROR_IO, "no directory %s for the engine's socket: %s",
                         directory, strerror(errno));
    bool bound = bind_listener(e, directory);
    int reason = errno;
    rmdir(directory);
    if (!bound)
        return phi3_fail(error, PHI3_ERROR_IO, "no socket for the engine in %s: %s", directory,
                         strerror(reason));
    snprintf(e->socket_path, sizeof e->socket_path, "/proc/self/fd/%d", e->socket_file);
    e->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (e->doorbell < 0)
        return phi3_fail(error, PHI3_ERROR_IO, "no eventfd for the engine: %s", strerror(errno));
    return PHI3_OK;
}

static void close_if_open(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

void phi3_engine_close_socket(phi3_engine *e)
{
    for (size_t i = 0; i < e->n_strangers; i++)
        close(e->strangers[i].connection);
    e->n_strangers = 0;
    close_if_open(&e->listener);
    close_if_open(&e->socket_file);
    close_if_open(&e->doorbell);
}

/* ---- Waking others ----------------------------------------------------------------------------- */

void phi3_engine_ring(phi3_engine *e)
{
    eventfd_write(e->doorbell, 1);
}

/* A byte that does not fit joins many that are there already; a closed end is noticed by poll. */
static void wake(const phi3_request *r)
{
    if (r->waker >= 0)
        (void)!send(r->waker, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void phi3_request_announce(phi3_request *r)
{
    if (!r->has_news)
        wake(r);
    r->has_news = true;
}

void phi3_request_set_waker(phi3_request *r, int waker, bool is_connection)
{
    r->waker = waker;
    r->is_connection = is_connection;
    if (r->has_news)
        wake(r);
}

/* ---- Connections ------------------------------------------------------------------------------- */

static phi3_request *find_request(const phi3_engine *e, uint64_t id)
{
    phi3_request *r = e->first;
    while (r != NULL && r->id != id)
        r = r->next;
    return r;
}

/* Gives the connection to the request that its line names. False: there is no such request, or
 * somebody else waits for it. */
static bool introduce(phi3_engine *e, const phi3_stranger *stranger)
{
    char *end;
    uint64_t id = strtoull(stranger->line, &end, 10);
    pthread_mutex_lock(&e->mutex);
    phi3_request *r = *end == '\n' ? find_request(e, id) : NULL;
    bool welcome = r != NULL && r->waker < 0 && !atomic_load(&r->freed);
    if (welcome)
        phi3_request_set_waker(r, stranger->connection, true);
    pthread_mutex_unlock(&e->mutex);
    return welcome;
}

/* Reads on. Returns whether the connection is still that of a stranger. */
static bool hear(phi3_engine *e, phi3_stranger *stranger)
{
    size_t room = sizeof stranger->line - 1 - stranger->size;
    ssize_t size = recv(stranger->connection, stranger->line + stranger->size, room, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    stranger->size += size > 0 ? (size_t)size : 0;
    stranger->line[stranger->size] = '\0';
    bool is_line = strchr(stranger->line, '\n') != NULL;
    if (size > 0 && !is_line && stranger->size < sizeof stranger->line - 1)
        return true;
    if (!is_line || !introduce(e, stranger))
        close(stranger->connection);
    return false;
}

static void accept_strangers(phi3_engine *e)
{
    while (e->n_strangers < PHI3_MAX_STRANGERS) {
        int connection = accept4(e->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (connection < 0)
            return;
        phi3_stranger *stranger = &e->strangers[e->n_strangers];
        *stranger = (phi3_stranger){.connection = connection};
        if (hear(e, stranger))
            e->n_strangers++;
    }
}

static void hear_strangers(phi3_engine *e)
{
    size_t n_left = 0;
    for (size_t i = 0; i < e->n_strangers; i++) {
        if (hear(e, &e->strangers[i]))
            e->strangers[n_left++] = e->strangers[i];
    }
    e->n_strangers = n_left;
}

/* ---- The thread's poll ------------------------------------------------------------------------- */

/* Lists the requests that wait or run and have a connection. */
static size_t list_connections(phi3_engine *e)
{
    size_t count = 0;
    pthread_mutex_lock(&e->mutex);
    for (phi3_request *r = e->first; r != NULL; r = r->next) {
        if (r->is_connection && r->info.state != PHI3_REQUEST_ENDED)
            e->polled_requests[count++] = r;
    }
    pthread_mutex_unlock(&e->mutex);
    return count;
}

void phi3_engine_serve_socket(phi3_engine *e, bool wait)
{
    struct pollfd *polled = e->polled;
    size_t n = 0, n_requests = list_connections(e);
    polled[n++] = (struct pollfd){.fd = e->doorbell, .events = POLLIN};
    if (e->n_strangers < PHI3_MAX_STRANGERS)
        polled[n++] = (struct pollfd){.fd = e->listener, .events = POLLIN};
    for (size_t i = 0; i < e->n_strangers; i++)
        polled[n++] = (struct pollfd){.fd = e->strangers[i].connection, .events = POLLIN};
    size_t first = n;
    for (size_t i = 0; i < n_requests; i++)
        polled[n++] = (struct pollfd){.fd = e->polled_requests[i]->waker, .events = POLLRDHUP};
    if (poll(polled, n, wait ? -1 : 0) <= 0)
        return;
    if (polled[0].revents != 0) {
        eventfd_t count;
        eventfd_read(e->doorbell, &count);
    }
    for (size_t i = 0; i < n_requests; i++) {
        if (polled[first + i].revents & (POLLRDHUP | POLLHUP | POLLERR))
            atomic_store(&e->polled_requests[i]->cancelled, true);
    }
    hear_strangers(e);
    accept_strangers(e);
}
