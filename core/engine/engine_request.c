/*
 * engine_request.c - a request as the engine sees it: what the caller wants, and what has come of it.
 *
 * In: the caller's options, and tokens from the engine's thread. Out: text and ids, and whether a stop
 * string has come, for the caller to take (engine_caller.c).
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine_parts.h"
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

/* ---- From the thread ---------------------------------------------------------------------------- */

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
