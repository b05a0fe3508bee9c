/*
 * engine_thread.c - what the engine's thread does, over and over: requests into free slots
 * (engine_slots.c), one step for all slots, tokens out to the callers.
 *
 * A step is one forward. Every slot whose prompt is computed takes part with its newest token; those
 * that still have prompt to go share a number of rows, the oldest request first, that is chosen so
 * that the others' tokens are held up for PROMPT_SECONDS at most.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine_parts.h"
#include "forward.h"
#include "generate.h"

enum {
    MIN_PROMPT_ROWS = 8,  /* a step's share for prompts while others decode ... */
    MAX_PROMPT_ROWS = 256 /* ... and when nobody does */
};
static const double PROMPT_SECONDS = 0.1;

/* ---- What a step computes ---------------------------------------------------------------------- */

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
            phi3_engine_leave_slot(e, slot, PHI3_FINISH_NONE, status, &error);
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

/* ---- The step ---------------------------------------------------------------------------------- */

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
        phi3_engine_leave_slot(
            e, slot, stopped ? PHI3_FINISH_STOP : phi3_generation_finish(slot->generation, 0),
            status, &error);
}

/* Runs the model over the slots' parts. When that fails for want of memory, say, each slot is tried
 * alone: the others shall not suffer. */
static void run_slots(phi3_engine *e, phi3_slot **slots, size_t n_slots)
{
    /* Who comes with a request must not matter to it. */
    phi3_run_options options = {.interrupt = is_unwanted,
                                .interrupt_data = e,
                                .n_threads = e->options.n_threads,
                                .batch_invariant = true};
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
        phi3_engine_leave_slot(e, slots[0], PHI3_FINISH_NONE, status, &error);
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
    phi3_engine_count_kv_bytes(e);
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

/* ---- The loop ---------------------------------------------------------------------------------- */

void *phi3_engine_run(void *engine)
{
    phi3_engine *e = engine;
    bool is_idle = false;
    while (!atomic_load(&e->closing)) {
        phi3_engine_serve_socket(e, is_idle);
        phi3_engine_clear_out(e);
        phi3_engine_fill_slots(e);
        is_idle = !run_step(e);
    }
    phi3_engine_clear_out(e);
    return NULL;
}
