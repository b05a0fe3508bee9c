/*
 * engine_list.c - the list of an engine's requests, and how long engine and requests live.
 *
 * In: requests, in the order in which they are submitted. Out: none that is both ended and let go; and
 * no engine when neither its handle nor a request is left.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine_parts.h"

phi3_status phi3_engine_enqueue(phi3_engine *e, phi3_request *request, phi3_error *error)
{
    if (e->stats.n_waiting >= e->options.n_queue) {
        e->stats.n_refused++;
        return phi3_fail(error, PHI3_ERROR_QUEUE_FULL,
                         "%zu requests are waiting already, as many as the queue takes",
                         e->stats.n_waiting);
    }
    request->id = ++e->n_ids;
    request->submitted = phi3_clock_seconds();
    request->previous = e->last;
    *(e->last == NULL ? &e->first : &e->last->next) = request;
    e->last = request;
    e->n_references++;
    e->stats.n_waiting++;
    e->stats.n_submitted++;
    return PHI3_OK;
}

void phi3_engine_sweep(phi3_engine *e)
{
    for (phi3_request *r = e->first, *next; r != NULL; r = next) {
        next = r->next;
        if (!atomic_load(&r->freed) || r->info.state != PHI3_REQUEST_ENDED)
            continue;
        *(r->previous == NULL ? &e->first : &r->previous->next) = r->next;
        *(r->next == NULL ? &e->last : &r->next->previous) = r->previous;
        e->n_references--;
        phi3_request_destroy(r);
    }
}

void phi3_engine_release(phi3_engine *e)
{
    bool is_last = --e->n_references == 0;
    pthread_mutex_unlock(&e->mutex);
    if (is_last) {
        pthread_mutex_destroy(&e->mutex);
        free(e);
    }
}
