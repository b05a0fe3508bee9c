/*
 * engine_parts.h - what the files of the engine share.
 *
 *   engine.c           the handle: create, free, submit, statistics
 *   engine_list.c      its requests, and how long they and it live
 *   engine_thread.c    the thread's loop: one step for all slots, and again
 *   engine_slots.c     requests into slots and out of them
 *   engine_request.c   a request, as the thread fills it
 *   engine_caller.c    a request, as its caller uses it
 *   engine_socket.c    waking: the thread when there is work, the callers when there is news
 *
 * Who may touch what: the caller's threads and the engine's meet only under the mutex. The thread
 * alone changes slots and destroys requests, so that it may look at both without the mutex.
 */
#ifndef PHI3_INTERNAL_ENGINE_PARTS_H
#define PHI3_INTERNAL_ENGINE_PARTS_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "candidates.h"
#include "phi3.h"
#include "text/stop_text.h"

typedef struct phi3_ids {
    int32_t *ids; /* [count] */
    size_t count;
    size_t capacity;
} phi3_ids;

struct phi3_request {
    phi3_engine *engine;
    uint64_t id;
    phi3_request *previous, *next; /* in the engine's list of all; under the mutex */

    /* What to do. Constant. */
    phi3_bytes prompt_text; /* bytes NULL: prompt_ids hold the prompt */
    bool add_special_tokens;
    phi3_generation_config config; /* our copy */
    uint64_t seed;

    /* The thread's. */
    phi3_ids prompt_ids;
    phi3_stream_decoder *decoder;
    phi3_stop_text stop;
    phi3_bytes step_text; /* what the newest token adds */

    atomic_bool cancelled;
    atomic_bool freed; /* the caller has let go */

    /* Under the mutex. */
    phi3_request_info info;
    phi3_status status; /* of a request that has ended */
    phi3_error error;
    phi3_bytes text; /* news: text and ids */
    phi3_ids ids;
    bool has_news;      /* since the last take */
    int waker;          /* gets a byte when there is news; -1: nobody has asked */
    bool is_connection; /* the waker was accepted from the engine's socket */
    double submitted, admitted, first_token; /* on phi3_clock_seconds' clock */

    /* The caller's. */
    phi3_bytes taken_text; /* what the last take lends */
    phi3_ids taken_ids;
    int descriptor; /* the other end of the waker; -1: nobody has asked */
};

/* A place in the batch. */
typedef struct phi3_slot {
    phi3_cache *cache;     /* what the slot's last request has left, or the running one's */
    phi3_request *request; /* NULL: the slot is free */
    phi3_generation *generation;
    phi3_random *random;
    double last_used;           /* on phi3_clock_seconds' clock */
    phi3_span span;             /* the slot's part of the step */
    phi3_candidates candidates; /* what it needs to see of the logits, and then does */
} phi3_slot;

/* Somebody who has connected and not yet said which request it is about. */
typedef struct phi3_stranger {
    int connection;
    char line[24];
    size_t size;
} phi3_stranger;

enum { PHI3_MAX_STRANGERS = 64 };

struct phi3_engine {
    const phi3_model *model;
    const phi3_tokenizer *tokenizer;
    phi3_engine_options options; /* nothing in it is 0, but perhaps n_threads */
    pthread_t thread;
    pid_t process; /* that the thread runs in */
    atomic_bool closing;

    /* The thread's. */
    phi3_slot *slots;            /* [n_slots] */
    phi3_slot **batch;           /* [n_slots] of the step: the oldest requests first */
    phi3_span *spans;            /* [n_slots] */
    float *logits;               /* [n_slots][vocab_size] */
    phi3_candidates *candidates; /* [n_slots] of the step, beside the logits */
    double row_seconds;          /* what a row of a prompt costs in a step; 0: not measured yet */
    int listener;
    phi3_stranger strangers[PHI3_MAX_STRANGERS];
    size_t n_strangers;
    struct pollfd *polled;          /* [2 + PHI3_MAX_STRANGERS + n_slots + n_queue] */
    phi3_request **polled_requests; /* [n_slots + n_queue] whose connections are polled */

    int doorbell;         /* eventfd: there is something to do */
    int socket_file;      /* O_PATH descriptor of the listener's file, which has no name any more */
    char socket_path[32]; /* what opens it in this process */

    pthread_mutex_t mutex;
    phi3_request *first, *last; /* all requests, the oldest first */
    size_t n_references;        /* the handle and the requests */
    bool has_thread;
    uint64_t n_ids; /* given to requests */
    phi3_engine_stats stats;
};

/* ---- engine_list.c -------------------------------------------------------------------------------- */

/* Takes the request into the list, if the queue has room. The mutex is held. */
phi3_status phi3_engine_enqueue(phi3_engine *engine, phi3_request *request, phi3_error *error);

/* Destroys the requests that have ended and that their callers have let go. The mutex is held; only
 * the thread may call this while there is one. */
void phi3_engine_sweep(phi3_engine *engine);

/* Gives one reference up. The mutex is held; afterwards it is free, or gone with the last one. */
void phi3_engine_release(phi3_engine *engine);

/* ---- engine_thread.c --------------------------------------------------------------------------- */

void *phi3_engine_run(void *engine);

/* ---- engine_slots.c ------------------------------------------------------------------------------- */

/* Requests that wait into the slots that are free. */
void phi3_engine_fill_slots(phi3_engine *engine);

/* Ends the slot's request. One that did not come to its end leaves an empty cache. */
void phi3_engine_leave_slot(phi3_engine *engine, phi3_slot *slot, phi3_finish_reason finish,
                            phi3_status status, const phi3_error *error);

/* Ends what was cancelled, in the queue and in slots, and destroys what nobody wants. */
void phi3_engine_clear_out(phi3_engine *engine);

/* What the slots' caches hold, for the statistics. The mutex is held. */
void phi3_engine_count_kv_bytes(phi3_engine *engine);

/* ---- engine_request.c -------------------------------------------------------------------------- */

phi3_status phi3_request_create(phi3_engine *engine, const phi3_request_options *options,
                                phi3_request **request, phi3_error *error);

/* Frees a request that is in no list. */
void phi3_request_destroy(phi3_request *request);

/* The newest token: text and ids for the caller. Sets *stopped when a stop string has come. */
phi3_status phi3_request_put(phi3_request *request, int32_t token, bool *stopped,
                             phi3_error *error);

/* No token will follow: the text that was held back, which may hold a stop string. */
phi3_status phi3_request_flush(phi3_request *request, bool *stopped, phi3_error *error);

/* Ends a request, well or not, and counts it. The mutex is held. */
void phi3_request_end(phi3_request *request, phi3_finish_reason finish, phi3_status status,
                      const phi3_error *error);

/* ---- engine_socket.c --------------------------------------------------------------------------- */

phi3_status phi3_engine_open_socket(phi3_engine *engine, phi3_error *error);
void phi3_engine_close_socket(phi3_engine *engine);

/* Wakes the thread. */
void phi3_engine_ring(phi3_engine *engine);

/* Accepts connections, hears which request they are about, and cancels those whose connection was
 * closed. `wait`: until there is something, or the doorbell rings. */
void phi3_engine_serve_socket(phi3_engine *engine, bool wait);

/* Who is to be woken. The mutex is held. */
void phi3_request_set_waker(phi3_request *request, int waker, bool is_connection);

/* There is news: wakes the caller, unless it has been woken since its last take. The mutex is held. */
void phi3_request_announce(phi3_request *request);

#endif
