/*
 * engine_caller.c - a request as its caller uses it: news are taken, it is cancelled and let go.
 *
 * In: what engine_request.c has put there. Out: text and ids. What was taken is lent from a second
 * pair of buffers, which the two swap under the mutex.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "engine_parts.h"

/* Makes the descriptor quiet: the byte that announced what is taken now. */
static void quiet(phi3_request *r)
{
    char byte[16];
    while (r->descriptor >= 0 && read(r->descriptor, byte, sizeof byte) > 0)
        continue;
    r->has_news = false;
}

phi3_status phi3_request_take(phi3_request *r, phi3_news *news, phi3_error *error)
{
    phi3_engine *e = r->engine;
    pthread_mutex_lock(&e->mutex);
    phi3_bytes text = r->text;
    r->text = r->taken_text;
    r->taken_text = text;
    phi3_ids ids = r->ids;
    r->ids = r->taken_ids;
    r->taken_ids = ids;
    r->text.size = r->ids.count = 0;
    quiet(r);
    bool ended = r->info.state == PHI3_REQUEST_ENDED;
    phi3_status status = ended && ids.count == 0 && text.size == 0 ? r->status : PHI3_OK;
    bool finished = ended && r->status == PHI3_OK;
    if (ended && r->status != PHI3_OK && status == PHI3_OK)
        phi3_request_announce(r); /* the error is still to be taken */
    pthread_mutex_unlock(&e->mutex);

    if (status != PHI3_OK)
        return phi3_fail(error, status, "%s", r->error.message);
    *news = (phi3_news){
        .text = text.size == 0 ? "" : text.bytes,
        .size = text.size,
        .ids = ids.ids,
        .n_ids = ids.count,
        .finished = finished,
    };
    return PHI3_OK;
}

/* The mutex is held. */
static void ring(phi3_engine *e)
{
    if (e->has_thread)
        phi3_engine_ring(e);
}

void phi3_request_cancel(phi3_request *r)
{
    phi3_engine *e = r->engine;
    pthread_mutex_lock(&e->mutex);
    atomic_store(&r->cancelled, true);
    ring(e);
    pthread_mutex_unlock(&e->mutex);
}

void phi3_request_free(phi3_request *r)
{
    if (r == NULL)
        return;
    phi3_engine *e = r->engine;
    pthread_mutex_lock(&e->mutex);
    e->n_references++; /* ours, until the end of this call */
    atomic_store(&r->cancelled, true);
    atomic_store(&r->freed, true);
    ring(e);
    if (!e->has_thread)
        phi3_engine_sweep(e);
    phi3_engine_release(e);
}

phi3_status phi3_request_descriptor(phi3_request *r, int *descriptor, phi3_error *error)
{
    phi3_engine *e = r->engine;
    int ends[2], failed = 0;
    pthread_mutex_lock(&e->mutex);
    bool is_connection = r->is_connection;
    if (!is_connection && r->descriptor < 0) {
        failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends);
        if (failed == 0) {
            r->descriptor = ends[0];
            phi3_request_set_waker(r, ends[1], false);
        }
    }
    pthread_mutex_unlock(&e->mutex);
    if (is_connection)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "the request already wakes a connection to the engine's socket");
    if (failed != 0)
        return phi3_fail(error, PHI3_ERROR_IO, "no descriptor for a request: %s", strerror(errno));
    *descriptor = r->descriptor;
    return PHI3_OK;
}

phi3_request_info phi3_request_get_info(const phi3_request *r)
{
    pthread_mutex_lock(&r->engine->mutex);
    phi3_request_info info = r->info;
    pthread_mutex_unlock(&r->engine->mutex);
    return info;
}

uint64_t phi3_request_id(const phi3_request *r)
{
    return r->id;
}
