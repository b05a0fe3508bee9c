/*
 * engine_request.c - a request: what the caller wants, what has come of it, and how it is taken.
 *
 * The engine's thread puts tokens in; the caller takes text and ids out. What was taken is lent from
 * a second pair of buffers, which the two swap under the mutex.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine.h"
#include "generation_config.h"

/* ---- Create and destroy ------------------------------------------------------------------------ */

static bool append_ids(phi3_ids *to, const int32_t *ids, size_t count)
{
    if (!phi3_reserve(&to->ids, &to->capacity, to->count + count, sizeof *ids))
        return false;
    if (count > 0)
        memcpy(to->ids + to->count, ids, count * sizeof *ids);
    to->count += count;
    return true;
}

static phi3_status copy_options(phi3_request *r, const phi3_request_options *options,
                                phi3_error *error)
{
    bool copied = options->text != NULL
                      ? phi3_bytes_append(&r->prompt_text, options->text, options->size)
                      : append_ids(&r->prompt_ids, options->ids, options->count);
    if (!copied)
        return phi3_fail_memory(error, "a prompt");
    r->add_special_tokens = options->add_special_tokens;
    r->seed = options->seed;
    PHI3_TRY(phi3_generation_config_copy(options->config, &r->config, error));
    r->stop.strings = r->config.stop_strings;
    r->stop.n_strings = r->config.n_stop_strings;
    return phi3_stream_decoder_create(r->engine->tokenizer, true, &r->decoder, error);
}

phi3_status phi3_request_create(phi3_engine *engine, const phi3_request_options *options,
                                phi3_request **request, phi3_error *error)
{
    phi3_request *r = calloc(1, sizeof *r);
    if (r == NULL)
        return phi3_fail_memory(error, "a request");
    r->engine = engine;
    r->waker = r->descriptor = -1;
    phi3_status status = copy_options(r, options, error);
    if (status != PHI3_OK) {
        phi3_request_destroy(r);
        return status;
    }
    *request = r;
    return PHI3_OK;
}

void phi3_request_destroy(phi3_request *r)
{
    if (r->waker >= 0)
        close(r->waker);
    if (r->descriptor >= 0)
        close(r->descriptor);
    phi3_stream_decoder_free(r->decoder);
    phi3_generation_config_free(&r->config);
    free(r->prompt_text.bytes);
    free(r->prompt_ids.ids);
    free(r->stop.held.bytes);
    free(r->step_text.bytes);
    free(r->text.bytes);
    free(r->ids.ids);
    free(r->taken_text.bytes);
    free(r->taken_ids.ids);
    free(r);
}

/* ---- The thread's side ------------------------------------------------------------------------- */

/* Hands what was appended to step_text, and the token if there is one, over to the caller. */
static phi3_status publish(phi3_request *r, const int32_t *token, phi3_error *error)
{
    phi3_engine *e = r->engine;
    pthread_mutex_lock(&e->mutex);
    bool published = append_ids(&r->ids, token, token == NULL ? 0 : 1) &&
                     phi3_bytes_append(&r->text, r->step_text.bytes, r->step_text.size);
    if (published && token != NULL && r->info.new_tokens++ == 0) {
        r->first_token = phi3_clock_seconds();
        r->info.first_token_seconds = r->first_token - r->submitted;
        r->info.prompt_seconds = r->first_token - r->admitted;
        e->stats.n_first_tokens++;
        e->stats.first_token_seconds += r->info.first_token_seconds;
        for (size_t i = 0; i < PHI3_FIRST_TOKEN_BUCKETS; i++)
            e->stats.first_token_buckets[i] +=
                r->info.first_token_seconds <= e->stats.first_token_bounds[i];
    }
    e->stats.new_tokens += published && token != NULL;
    phi3_request_announce(r);
    pthread_mutex_unlock(&e->mutex);
    r->step_text.size = 0;
    return published ? PHI3_OK : phi3_fail_memory(error, "the text of a request");
}

phi3_status phi3_request_put(phi3_request *r, int32_t token, bool *stopped, phi3_error *error)
{
    const char *text;
    size_t size;
    PHI3_TRY(phi3_stream_decoder_put(r->decoder, token, &text, &size, error));
    PHI3_TRY(phi3_stop_text_put(&r->stop, text, size, &r->step_text, stopped, error));
    return publish(r, &token, error);
}

phi3_status phi3_request_flush(phi3_request *r, bool *stopped, phi3_error *error)
{
    const char *text;
    size_t size;
    PHI3_TRY(phi3_stream_decoder_end(r->decoder, &text, &size, error));
    PHI3_TRY(phi3_stop_text_put(&r->stop, text, size, &r->step_text, stopped, error));
    if (!*stopped)
        PHI3_TRY(phi3_stop_text_end(&r->stop, &r->step_text, error));
    return publish(r, NULL, error);
}

void phi3_request_end(phi3_request *r, phi3_finish_reason finish, phi3_status status,
                      const phi3_error *error)
{
    phi3_engine_stats *stats = &r->engine->stats;
    double now = phi3_clock_seconds();
    *(r->info.state == PHI3_REQUEST_WAITING ? &stats->n_waiting : &stats->n_running) -= 1;
    if (r->info.state == PHI3_REQUEST_WAITING)
        r->info.queue_seconds = now - r->submitted;
    if (r->info.new_tokens > 0)
        r->info.decode_seconds = now - r->first_token;
    r->info.state = PHI3_REQUEST_ENDED;
    r->info.finish = finish;
    r->status = status;
    if (status != PHI3_OK)
        r->error = *error;
    *(status == PHI3_OK                  ? &stats->n_finished
      : status == PHI3_ERROR_INTERRUPTED ? &stats->n_cancelled
                                         : &stats->n_failed) += 1;
    phi3_request_announce(r);
}

/* ---- The caller's side ------------------------------------------------------------------------- */

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
