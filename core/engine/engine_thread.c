/*
 * engine_thread.c - what the engine's thread does, over and over: requests into free slots, one step
 * for all slots, tokens out to the callers.
 *
 * A step is one forward. Every slot whose prompt is computed takes part with its newest token; those
 * that still have prompt to go share a number of rows, the oldest request first, that is chosen so
 * that the others' tokens are held up for PROMPT_SECONDS at most.
 */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine.h"
#include "generate.h"
#include "model.h"

enum {
    MIN_PROMPT_ROWS = 8,  /* a step's share for prompts while others decode ... */
    MAX_PROMPT_ROWS = 256 /* ... and when nobody does */
};
static const double PROMPT_SECONDS = 0.1;

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

static void fill_slots(phi3_engine *e)
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

/* The mutex is held. */
static void count_kv_bytes(phi3_engine *e)
{
    e->stats.kv_bytes = 0;
    for (size_t i = 0; i < e->options.n_slots; i++)
        e->stats.kv_bytes += phi3_cache_bytes(e->slots[i].cache);
}

/* A slot whose request did not come to its end is emptied. */
static void leave_slot(phi3_engine *e, phi3_slot *slot, phi3_finish_reason finish,
                       phi3_status status, const phi3_error *error)
{
    phi3_request *r = slot->request;
    end_use(slot);
    if (status != PHI3_OK)
        phi3_cache_reset(slot->cache, NULL);
    pthread_mutex_lock(&e->mutex);
    phi3_request_end(r, finish, status, error);
    count_kv_bytes(e);
    pthread_mutex_unlock(&e->mutex);
}

/* Ends what was cancelled, in the queue and in slots, and destroys what nobody wants. */
static void clear_out(phi3_engine *e)
{
    const phi3_error cancelled = {PHI3_ERROR_INTERRUPTED, "the request was cancelled"};
    const phi3_error closed = {PHI3_ERROR_INTERRUPTED, "the engine was closed"};
    bool closing = atomic_load(&e->closing);
    const phi3_error *error = closing ? &closed : &cancelled;
    for (size_t i = 0; i < e->options.n_slots; i++) {
        phi3_slot *slot = &e->slots[i];
        if (slot->request != NULL && (closing || atomic_load(&slot->request->cancelled)))
            leave_slot(e, slot, PHI3_FINISH_NONE, PHI3_ERROR_INTERRUPTED, error);
    }
    pthread_mutex_lock(&e->mutex);
    for (phi3_request *r = e->first; r != NULL; r = r->next) {
        if (r->info.state == PHI3_REQUEST_WAITING && (closing || atomic_load(&r->cancelled)))
            phi3_request_end(r, PHI3_FINISH_NONE, PHI3_ERROR_INTERRUPTED, error);
    }
    phi3_engine_sweep(e);
    pthread_mutex_unlock(&e->mutex);
}

/* ---- One step ---------------------------------------------------------------------------------- */

/* The slots that are in use, the oldest request first. */
static size_t list_batch(phi3_engine *e)
{
    size_t count = 0;
    for (size_t i = 0; i < e->options.n_slots; i++) {
        phi3_slot *slot = &e->slots[i];
        if (slot->request == NULL)
            continue;
        size_t place = count++;
        for (; place > 0 && e->batch[place - 1]->request->id > slot->request->id; place--)
            e->batch[place] = e->batch[place - 1];
        e->batch[place] = slot;
    }
    return count;
}

/* Works out what each slot of the batch has to compute; one that cannot go on leaves. */
static size_t plan_batch(phi3_engine *e, size_t n_slots)
{
    size_t n_planned = 0;
    for (size_t i = 0; i < n_slots; i++) {
        phi3_slot *slot = e->batch[i];
        phi3_error error;
        phi3_status status =
            phi3_generation_plan(slot->generation, &slot->span, &slot->candidates, &error);
        if (status == PHI3_OK)
            e->batch[n_planned++] = slot;
        else
            leave_slot(e, slot, PHI3_FINISH_NONE, status, &error);
    }
    return n_planned;
}

/* Rows for prompts: few enough not to hold up those who decode. */
static size_t rows_for_prompts(const phi3_engine *e, size_t n_slots)
{
    bool somebody_decodes = false;
    for (size_t i = 0; i < n_slots; i++)
        somebody_decodes = somebody_decodes || e->batch[i]->span.count == 1;
    if (!somebody_decodes)
        return MAX_PROMPT_ROWS;
    double rows = e->row_seconds > 0 ? PROMPT_SECONDS / e->row_seconds : MIN_PROMPT_ROWS;
    return rows < MIN_PROMPT_ROWS   ? MIN_PROMPT_ROWS
           : rows > MAX_PROMPT_ROWS ? MAX_PROMPT_ROWS
                                    : (size_t)rows;
}

/* Shares the rows for prompts out; a slot that gets none sits the step out. *n_prompt_rows: how many
 * of the step's rows are of prompts. */
static size_t share_rows(phi3_engine *e, size_t n_slots, size_t *n_prompt_rows)
{
    size_t n_shared = 0, n_rows = rows_for_prompts(e, n_slots), n_left = n_rows;
    for (size_t i = 0; i < n_slots; i++) {
        phi3_slot *slot = e->batch[i];
        phi3_span *span = &slot->span;
        if (span->count > 1) {
            if (n_left == 0)
                continue;
            if (span->count > n_left) {
                span->count = n_left;
                span->n_logits = 0;
            }
            n_left -= span->count;
        }
        e->batch[n_shared++] = slot;
    }
    *n_prompt_rows = n_rows - n_left;
    return n_shared;
}

/* Stops a step that nobody waits for any more. */
static bool is_unwanted(void *data)
{
    const phi3_engine *e = data;
    if (atomic_load(&e->closing))
        return true;
    for (size_t i = 0; i < e->options.n_slots; i++) {
        const phi3_slot *slot = &e->slots[i];
        if (slot->request != NULL && !atomic_load(&slot->request->cancelled))
            return false;
    }
    return true;
}

/* Chooses the slot's next token and hands it over. */
static void advance(phi3_engine *e, phi3_slot *slot, const float *logits,
                    const phi3_candidates *candidates)
{
    phi3_request *r = slot->request;
    phi3_error error;
    int32_t token;
    bool done = false, stopped = false;
    phi3_status status =
        phi3_generation_choose(slot->generation, logits, candidates, &token, &done, &error);
    if (status == PHI3_OK)
        status = phi3_request_put(r, token, &stopped, &error);
    if (status == PHI3_OK && done && !stopped)
        status = phi3_request_flush(r, &stopped, &error);
    if (status != PHI3_OK || done || stopped)
        leave_slot(e, slot,
                   stopped ? PHI3_FINISH_STOP : phi3_generation_finish(slot->generation, 0), status,
                   &error);
}

/* Runs the model over the slots' parts. When that fails for want of memory, say, each slot is tried
 * alone: the others shall not suffer. */
static void run_slots(phi3_engine *e, phi3_slot **slots, size_t n_slots)
{
    phi3_run_options options = {
        .interrupt = is_unwanted, .interrupt_data = e, .n_threads = e->options.n_threads};
    phi3_error error;
    size_t n_logits = 0;
    for (size_t i = 0; i < n_slots; i++) {
        e->spans[i] = slots[i]->span;
        if (slots[i]->span.n_logits > 0)
            e->candidates[n_logits++] = slots[i]->candidates;
    }
    phi3_status status = phi3_model_forward_candidates(e->model, e->spans, n_slots, &options,
                                                       e->candidates, e->logits, &error);
    if (status == PHI3_ERROR_INTERRUPTED)
        return;
    if (status != PHI3_OK && n_slots == 1) {
        leave_slot(e, slots[0], PHI3_FINISH_NONE, status, &error);
        return;
    }
    const float *logits = e->logits;
    const phi3_candidates *candidates = e->candidates;
    for (size_t i = 0; i < n_slots; i++) {
        if (status != PHI3_OK) {
            run_slots(e, slots + i, 1);
        } else if (slots[i]->span.n_logits > 0) {
            advance(e, slots[i], logits, candidates++);
            logits += phi3_model_config(e->model)->vocab_size;
        }
    }
}

/* Remembers what the step has cost, in parts by rows. */
static void count_step(phi3_engine *e, size_t n_prompt_rows, size_t n_decode_rows, double seconds)
{
    double row_seconds = seconds / (double)(n_prompt_rows + n_decode_rows);
    if (n_prompt_rows > 0)
        e->row_seconds = e->row_seconds > 0 ? (e->row_seconds + row_seconds) / 2 : row_seconds;
    pthread_mutex_lock(&e->mutex);
    e->stats.n_steps++;
    e->stats.prompt_seconds += row_seconds * (double)n_prompt_rows;
    e->stats.decode_seconds += row_seconds * (double)n_decode_rows;
    count_kv_bytes(e);
    pthread_mutex_unlock(&e->mutex);
}

/* Returns whether any slot was in use. */
static bool run_step(phi3_engine *e)
{
    size_t n_used = list_batch(e), n_prompt_rows, n_rows = 0;
    size_t n_slots = share_rows(e, plan_batch(e, n_used), &n_prompt_rows);
    if (n_slots == 0)
        return n_used > 0;
    for (size_t i = 0; i < n_slots; i++)
        n_rows += e->batch[i]->span.count;
    double start = phi3_clock_seconds();
    run_slots(e, e->batch, n_slots);
    count_step(e, n_prompt_rows, n_rows - n_prompt_rows, phi3_clock_seconds() - start);
    return true;
}

void *phi3_engine_run(void *engine)
{
    phi3_engine *e = engine;
    bool is_idle = false;
    while (!atomic_load(&e->closing)) {
        phi3_engine_serve_socket(e, is_idle);
        clear_out(e);
        fill_slots(e);
        is_idle = !run_step(e);
    }
    clear_out(e);
    return NULL;
}
