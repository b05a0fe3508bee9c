/*
 * engine_slots.c - requests into slots and out of them.
 *
 * In: the engine's list of requests. Out: slots with a generation each, which begins with what some
 * slot has computed of the request's prompt; and requests that have ended.
 */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine_parts.h"

/* ---- Requests into slots ----------------------------------------------------------------------- */

static phi3_status encode_prompt(phi3_engine *e, phi3_request *r, phi3_error *error)
{
    if (r->prompt_text.bytes == NULL)
        return PHI3_OK;
    phi3_encode_options options = {.add_special_tokens = r->add_special_tokens};
    phi3_encoding encoding;
    PHI3_TRY(phi3_tokenizer_encode(e->tokenizer, r->prompt_text.bytes, r->prompt_text.size,
                                   &options, &encoding, error));
    bool reserved = phi3_reserve(&r->prompt_ids.ids, &r->prompt_ids.capacity, encoding.count,
                                 sizeof *r->prompt_ids.ids);
    if (reserved && encoding.count > 0)
        memcpy(r->prompt_ids.ids, encoding.ids, encoding.count * sizeof *encoding.ids);
    r->prompt_ids.count = encoding.count;
    phi3_encoding_free(&encoding);
    return reserved ? PHI3_OK : phi3_fail_memory(error, "a prompt");
}

/* The request's generation config, with the room that the engine gives. Stop strings are looked for
 * in the text, by the request. */
static phi3_status limit_config(const phi3_engine *e, const phi3_request *r,
                                phi3_generation_config *config, phi3_error *error)
{
    size_t count = r->prompt_ids.count;
    if (count >= e->options.max_length)
        return phi3_fail(
            error, PHI3_ERROR_INVALID_ARGUMENT,
            "a prompt of %zu tokens is too long: prompt and answer can have %zu tokens "
            "together",
            count, e->options.max_length);
    int64_t room = (int64_t)(e->options.max_length - count);
    *config = r->config;
    config->n_stop_strings = 0;
    config->output_logits = false;
    if (config->max_new_tokens > room)
        config->max_new_tokens = room;
    if (config->max_length > (int64_t)e->options.max_length)
        config->max_length = (int64_t)e->options.max_length;
    return PHI3_OK;
}

static size_t common_prefix(const phi3_request *r, const phi3_cache *cache)
{
    size_t length, common = 0;
    const int32_t *ids = phi3_cache_ids(cache, &length);
    while (common < length && common < r->prompt_ids.count &&
           ids[common] == r->prompt_ids.ids[common])
        common++;
    return common;
}

/*
 * The free slot for a request, with the longest beginning of its prompt that any slot has. A slot
 * that the request continues to the end is taken as it is; else the one that has been idle longest
 * is, and it shares the pages of the other.
 */
static phi3_status choose_slot(phi3_engine *e, const phi3_request *r, phi3_slot **chosen,
                               phi3_error *error)
{
    phi3_slot *source = NULL, *idlest = NULL;
    size_t longest = 0, length;
    for (size_t i = 0; i < e->options.n_slots; i++) {
        phi3_slot *slot = &e->slots[i];
        size_t common = common_prefix(r, slot->cache);
        bool is_better = common > longest || (common == longest && source != NULL &&
                                              source->request != NULL && slot->request == NULL);
        if (common > 0 && is_better) {
            source = slot;
            longest = common;
        }
        if (slot->request == NULL && (idlest == NULL || slot->last_used < idlest->last_used))
            idlest = slot;
    }
    *chosen = idlest;
    if (source == NULL || source == idlest)
        return PHI3_OK;
    phi3_cache_ids(source->cache, &length);
    if (source->request == NULL && longest == length) {
        *chosen = source;
        return PHI3_OK;
    }
    phi3_cache *copy;
    PHI3_TRY(phi3_cache_fork(source->cache, &copy, error));
    phi3_cache_free(idlest->cache);
    idlest->cache = copy;
    return phi3_cache_truncate(copy, longest, error);
}

/* Gives the request a slot and makes its generation. */
static phi3_status start_request(phi3_engine *e, phi3_request *r, phi3_slot **slot,
                                 phi3_error *error)
{
    phi3_generation_config config;
    PHI3_TRY(encode_prompt(e, r, error));
    PHI3_TRY(limit_config(e, r, &config, error));
    PHI3_TRY(choose_slot(e, r, slot, error));
    PHI3_TRY(phi3_random_create(r->seed, &(*slot)->random, error));
    phi3_prompt prompt = {
        .ids = r->prompt_ids.ids, .count = r->prompt_ids.count, .cache = (*slot)->cache};
    return phi3_generation_create(e->model, e->tokenizer, &config, (*slot)->random, &prompt, 1,
                                  &(*slot)->generation, error);
}

static void end_use(phi3_slot *slot)
{
    phi3_generation_free(slot->generation);
    phi3_random_free(slot->random);
    slot->generation = NULL;
    slot->random = NULL;
    slot->request = NULL;
    slot->last_used = phi3_clock_seconds();
}

/* The mutex is held. */
static void count_start(phi3_engine *e, phi3_request *r, const phi3_slot *slot)
{
    phi3_timings timings = phi3_generation_timings(slot->generation);
    r->info.state = PHI3_REQUEST_RUNNING;
    r->info.prompt_tokens = timings.prompt_tokens;
    r->info.reused_tokens = timings.reused_tokens;
    e->stats.n_waiting--;
    e->stats.n_running++;
    e->stats.prompt_tokens += timings.prompt_tokens;
    e->stats.reused_tokens += timings.reused_tokens;
}

static phi3_request *next_waiting(phi3_engine *e)
{
    pthread_mutex_lock(&e->mutex);
    phi3_request *r = e->first;
    while (r != NULL && r->info.state != PHI3_REQUEST_WAITING)
        r = r->next;
    if (r != NULL) {
        r->admitted = phi3_clock_seconds();
        r->info.queue_seconds = r->admitted - r->submitted;
    }
    pthread_mutex_unlock(&e->mutex);
    return r;
}

static bool has_free_slot(const phi3_engine *e)
{
    for (size_t i = 0; i < e->options.n_slots; i++) {
        if (e->slots[i].request == NULL)
            return true;
    }
    return false;
}

void phi3_engine_fill_slots(phi3_engine *e)
{
    phi3_request *r;
    while (!atomic_load(&e->closing) && has_free_slot(e) && (r = next_waiting(e)) != NULL) {
        phi3_slot *slot = NULL;
        phi3_error error;
        phi3_status status = start_request(e, r, &slot, &error);
        pthread_mutex_lock(&e->mutex);
        if (status == PHI3_OK) {
            slot->request = r;
            count_start(e, r, slot);
        } else {
            phi3_request_end(r, PHI3_FINISH_NONE, status, &error);
        }
        pthread_mutex_unlock(&e->mutex);
        if (status != PHI3_OK && slot != NULL)
            end_use(slot);
    }
}

/* ---- Requests out of slots --------------------------------------------------------------------- */

void phi3_engine_count_kv_bytes(phi3_engine *e)
{
    e->stats.kv_bytes = 0;
    for (size_t i = 0; i < e->options.n_slots; i++)
        e->stats.kv_bytes += phi3_cache_bytes(e->slots[i].cache);
}

void phi3_engine_leave_slot(phi3_engine *e, phi3_slot *slot, phi3_finish_reason finish,
                            phi3_status status, const phi3_error *error)
{
    phi3_request *r = slot->request;
    end_use(slot);
    if (status != PHI3_OK)
        phi3_cache_reset(slot->cache, NULL);
    pthread_mutex_lock(&e->mutex);
    phi3_request_end(r, finish, status, error);
    phi3_engine_count_kv_bytes(e);
    pthread_mutex_unlock(&e->mutex);
}

void phi3_engine_clear_out(phi3_engine *e)
{
    const phi3_error cancelled = {PHI3_ERROR_INTERRUPTED, "the request was cancelled"};
    const phi3_error closed = {PHI3_ERROR_INTERRUPTED, "the engine was closed"};
    bool closing = atomic_load(&e->closing);
    const phi3_error *error = closing ? &closed : &cancelled;
    for (size_t i = 0; i < e->options.n_slots; i++) {
        phi3_slot *slot = &e->slots[i];
        if (slot->request != NULL && (closing || atomic_load(&slot->request->cancelled)))
            phi3_engine_leave_slot(e, slot, PHI3_FINISH_NONE, PHI3_ERROR_INTERRUPTED, error);
    }
    pthread_mutex_lock(&e->mutex);
    for (phi3_request *r = e->first; r != NULL; r = r->next) {
        if (r->info.state == PHI3_REQUEST_WAITING && (closing || atomic_load(&r->cancelled)))
            phi3_request_end(r, PHI3_FINISH_NONE, PHI3_ERROR_INTERRUPTED, error);
    }
    phi3_engine_sweep(e);
    pthread_mutex_unlock(&e->mutex);
}
