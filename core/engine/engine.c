/*
 * engine.c - the engine as a handle: create, submit, statistics, free.
 *
 * In: a model, a tokenizer and requests from any thread. Out: requests that the engine's thread (see
 * engine_thread.c) works on.
 */
#include "engine_parts.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"
#include "generation_config.h"

static const double first_token_bounds[PHI3_FIRST_TOKEN_BUCKETS] = {
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250};

/* ---- Create ------------------------------------------------------------------------------------ */

static phi3_engine_options with_defaults(const phi3_model *model, const phi3_engine_options *given)
{
    phi3_engine_options options = given == NULL ? (phi3_engine_options){0} : *given;
    size_t n_positions = phi3_model_config(model)->max_position_embeddings;
    if (options.n_slots == 0)
        options.n_slots = 4;
    if (options.n_queue == 0)
        options.n_queue = 64;
    if (options.max_length == 0 || options.max_length > n_positions)
        options.max_length = n_positions;
    return options;
}

static phi3_status check_options(const phi3_engine_options *options, phi3_error *error)
{
    enum { MOST = 4096 };
    if (options->n_slots > MOST || options->n_queue > MOST)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "n_slots and n_queue can be at most %d, but are %zu and %zu", MOST,
                         options->n_slots, options->n_queue);
    if (options->max_length < 2)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "max_length must be at least 2: a prompt and an answer");
    if (options->n_threads < 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "n_threads must not be negative");
    return PHI3_OK;
}

static phi3_status allocate(phi3_engine *e, phi3_error *error)
{
    size_t n_slots = e->options.n_slots, n_requests = n_slots + e->options.n_queue;
    e->slots = calloc(n_slots, sizeof *e->slots);
    e->batch = calloc(n_slots, sizeof(*e->batch));
    e->spans = calloc(n_slots, sizeof *e->spans);
    e->logits = calloc(n_slots, phi3_model_config(e->model)->vocab_size * sizeof(float));
    e->candidates = calloc(n_slots, sizeof *e->candidates);
    e->polled = calloc(2 + PHI3_MAX_STRANGERS + n_requests, sizeof *e->polled);
    e->polled_requests = calloc(n_requests, sizeof(*e->polled_requests));
    if (e->slots == NULL || e->batch == NULL || e->spans == NULL || e->logits == NULL ||
        e->candidates == NULL || e->polled == NULL || e->polled_requests == NULL)
        return phi3_fail_memory(error, "an engine");
    for (size_t i = 0; i < n_slots; i++)
        PHI3_TRY(phi3_cache_create(e->model, &e->slots[i].cache, error));
    return PHI3_OK;
}

/* The thread must not be interrupted by signals that are meant for the program. */
static phi3_status start_thread(phi3_engine *e, phi3_error *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&e->thread, NULL, phi3_engine_run, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return phi3_fail(error, PHI3_ERROR_OUT_OF_MEMORY, "the engine's thread did not start: %s",
                         strerror(failed));
    e->has_thread = true;
    return PHI3_OK;
}

static phi3_status start(phi3_engine *e, phi3_error *error)
{
    PHI3_TRY(phi3_process_begin_work(error));
    PHI3_TRY(check_options(&e->options, error));
    PHI3_TRY(allocate(e, error));
    PHI3_TRY(phi3_engine_open_socket(e, error));
    return start_thread(e, error);
}

phi3_status phi3_engine_create(const phi3_model *model, const phi3_tokenizer *tokenizer,
                               const phi3_engine_options *options, phi3_engine **engine,
                               phi3_error *error)
{
    phi3_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return phi3_fail_memory(error, "an engine");
    e->model = model;
    e->tokenizer = tokenizer;
    e->options = with_defaults(model, options);
    e->process = getpid();
    e->listener = e->doorbell = e->socket_file = -1;
    e->n_references = 1;
    pthread_mutex_init(&e->mutex, NULL);
    e->stats.n_slots = e->options.n_slots;
    e->stats.n_queue = e->options.n_queue;
    memcpy(e->stats.first_token_bounds, first_token_bounds, sizeof first_token_bounds);
    phi3_status status = start(e, error);
    if (status != PHI3_OK) {
        phi3_engine_free(e);
        return status;
    }
    *engine = e;
    return PHI3_OK;
}

/* ---- Free -------------------------------------------------------------------------------------- */

static void free_slots(phi3_engine *e)
{
    for (size_t i = 0; e->slots != NULL && i < e->options.n_slots; i++) {
        phi3_generation_free(e->slots[i].generation);
        phi3_random_free(e->slots[i].random);
        phi3_cache_free(e->slots[i].cache);
    }
    free(e->slots);
    free(e->batch);
    free(e->spans);
    free(e->logits);
    free(e->candidates);
    free(e->polled);
    free(e->polled_requests);
}

void phi3_engine_free(phi3_engine *e)
{
    if (e == NULL)
        return;
    if (e->process != getpid()) {
        /* A child: the thread, perhaps with the mutex in its hand, is not. */
        phi3_engine_close_socket(e);
        return;
    }
    if (e->has_thread) {
        atomic_store(&e->closing, true);
        phi3_engine_ring(e);
        pthread_join(e->thread, NULL);
    }
    free_slots(e);
    pthread_mutex_lock(&e->mutex);
    e->has_thread = false;
    phi3_engine_close_socket(e);
    phi3_engine_sweep(e);
    phi3_engine_release(e);
}

/* ---- Submit ------------------------------------------------------------------------------------ */

static phi3_status check_request(const phi3_engine *e, const phi3_request_options *options,
                                 phi3_error *error)
{
    size_t vocab_size = phi3_model_config(e->model)->vocab_size;
    if (options->config == NULL || (options->text == NULL && options->ids == NULL))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a request needs a prompt and a generation config");
    if (options->config->num_return_sequences > 1)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "a request has one sequence, but num_return_sequences is %zu",
                         options->config->num_return_sequences);
    for (size_t i = 0; options->text == NULL && i < options->count; i++) {
        if (options->ids[i] < 0 || (size_t)options->ids[i] >= vocab_size)
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                             "token id %d is not in the vocabulary of %zu", options->ids[i],
                             vocab_size);
    }
    return phi3_generation_config_check(options->config, error);
}

phi3_status phi3_engine_submit(phi3_engine *e, const phi3_request_options *options,
                               phi3_request **request, phi3_error *error)
{
    phi3_request *made;
    PHI3_TRY(phi3_process_begin_work(error));
    PHI3_TRY(check_request(e, options, error));
    PHI3_TRY(phi3_request_create(e, options, &made, error));
    pthread_mutex_lock(&e->mutex);
    phi3_status status = phi3_engine_enqueue(e, made, error);
    pthread_mutex_unlock(&e->mutex);
    if (status != PHI3_OK) {
        phi3_request_destroy(made);
        return status;
    }
    phi3_engine_ring(e);
    *request = made;
    return PHI3_OK;
}

/* ---- What it has come to ----------------------------------------------------------------------- */

phi3_engine_stats phi3_engine_get_stats(const phi3_engine *engine)
{
    phi3_engine *e = (phi3_engine *)engine; /* only its mutex changes */
    pthread_mutex_lock(&e->mutex);
    phi3_engine_stats stats = e->stats;
    pthread_mutex_unlock(&e->mutex);
    return stats;
}

const char *phi3_engine_socket_path(const phi3_engine *e)
{
    return e->socket_path;
}
