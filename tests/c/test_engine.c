/*
 * test_engine.c - many callers of one engine: each gets what it would get alone, whatever the others
 * do, and what it leaves behind is nothing.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tiny_tokenizer.h"

static phi3_model *model, *endless_model; /* the second has room for a million tokens */
static phi3_tokenizer *tokenizer;
static phi3_error error;

/* ---- Helpers ----------------------------------------------------------------------------------- */

static int load(void **state)
{
    (void)state;
    model = tiny_model_load(tiny_config, "cpu");
    endless_model = tiny_model_load(tiny_endless_config, "cpu");
    tokenizer = tiny_tokenizer_load();
    return model == NULL || endless_model == NULL || tokenizer == NULL;
}

static int unload(void **state)
{
    (void)state;
    phi3_tokenizer_free(tokenizer);
    phi3_model_free(endless_model);
    phi3_model_free(model);
    return 0;
}

static phi3_engine *engine_for(const phi3_model *its_model, phi3_engine_options options)
{
    phi3_engine *engine;
    assert_int_equal(phi3_engine_create(its_model, tokenizer, &options, &engine, &error), PHI3_OK);
    return engine;
}

static phi3_engine *new_engine(phi3_engine_options options)
{
    return engine_for(model, options);
}

/* For requests that are not to end by themselves, however fast the machine is. */
static phi3_engine *endless_engine(phi3_engine_options options)
{
    return engine_for(endless_model, options);
}

/* A prompt of `size` characters, which are as many ids. */
static void fill_text(unsigned seed, char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        text[i] = (char)('!' + (seed >> 16) % ('~' - '!'));
    }
    text[size] = '\0';
}

static phi3_generation_config sampling(int64_t max_new)
{
    phi3_generation_config config = phi3_generation_default_config();
    config.max_new_tokens = max_new;
    config.do_sample = true;
    config.temperature = 1.5;
    return config;
}

static phi3_request *submit(phi3_engine *engine, const char *text,
                            const phi3_generation_config *config, uint64_t seed)
{
    phi3_request *request = NULL;
    phi3_request_options options = {
        .text = text, .size = strlen(text), .config = config, .seed = seed};
    if (phi3_engine_submit(engine, &options, &request, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    return request;
}

/* What came out of a request; of an endless one, as much as there is room for. */
typedef struct result {
    int32_t ids[TINY_POSITIONS];
    size_t n_ids;
    char text[4 * TINY_POSITIONS];
    size_t size;
    phi3_status status;
    phi3_error error;
    phi3_request_info info;
} result;

static void wait_for_news(phi3_request *request)
{
    struct pollfd polled = {.events = POLLIN};
    if (phi3_request_descriptor(request, &polled.fd, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    if (poll(&polled, 1, 60000) != 1)
        fail_msg("no news for a minute");
}

/* Takes what there is. Returns whether there is more to come. */
static bool take(phi3_request *request, result *r)
{
    phi3_news news;
    r->status = phi3_request_take(request, &news, &r->error);
    r->info = phi3_request_get_info(request);
    if (r->status != PHI3_OK)
        return false;
    if (r->n_ids + news.n_ids > TINY_POSITIONS || r->size + news.size >= sizeof r->text)
        return !news.finished;
    if (news.n_ids > 0)
        memcpy(r->ids + r->n_ids, news.ids, news.n_ids * sizeof *news.ids);
    r->n_ids += news.n_ids;
    memcpy(r->text + r->size, news.text, news.size + 1);
    r->size += news.size;
    return !news.finished;
}

static result *finish(phi3_request *request)
{
    result *r = calloc(1, sizeof *r);
    do
        wait_for_news(request);
    while (take(request, r));
    phi3_request_free(request);
    return r;
}

/* The same from a generation that is alone. */
static result *alone_with(const phi3_model *its_model, const char *text,
                          phi3_generation_config config, uint64_t seed)
{
    result *r = calloc(1, sizeof *r);
    phi3_random *random;
    phi3_encoding encoding;
    phi3_generation *generation;
    assert_int_equal(phi3_random_create(seed, &random, &error), PHI3_OK);
    assert_int_equal(phi3_tokenizer_encode(tokenizer, text, strlen(text), NULL, &encoding, &error),
                     PHI3_OK);
    phi3_prompt prompt = {.ids = encoding.ids, .count = encoding.count};
    config.n_stop_strings = 0;
    assert_int_equal(
        phi3_generation_create(its_model, NULL, &config, random, &prompt, 1, &generation, &error),
        PHI3_OK);
    for (bool done = false; !done; r->n_ids++)
        assert_int_equal(phi3_generation_step(generation, NULL, &r->ids[r->n_ids], &done, &error),
                         PHI3_OK);
    char *decoded;
    assert_int_equal(
        phi3_tokenizer_decode(tokenizer, r->ids, r->n_ids, true, &decoded, &r->size, &error),
        PHI3_OK);
    memcpy(r->text, decoded, r->size + 1);
    r->info.finish = phi3_generation_finish(generation, 0);
    r->info.prompt_tokens = encoding.count;
    phi3_free(decoded);
    phi3_generation_free(generation);
    phi3_encoding_free(&encoding);
    phi3_random_free(random);
    return r;
}

static result *alone(const char *text, phi3_generation_config config, uint64_t seed)
{
    return alone_with(model, text, config, seed);
}

static void assert_same(result *given, result *wanted)
{
    if (given->status != PHI3_OK)
        fail_msg("%s", given->error.message);
    assert_int_equal(given->n_ids, wanted->n_ids);
    assert_memory_equal(given->ids, wanted->ids, given->n_ids * sizeof *given->ids);
    assert_int_equal(given->size, wanted->size);
    assert_memory_equal(given->text, wanted->text, given->size);
    assert_int_equal(given->info.finish, wanted->info.finish);
    assert_int_equal(given->info.prompt_tokens, wanted->info.prompt_tokens);
    assert_int_equal(given->info.new_tokens, wanted->n_ids);
    free(given);
    free(wanted);
}

/* Waits until the engine has `n` requests in slots and none in the queue. */
static phi3_engine_stats wait_for_running(const phi3_engine *engine, size_t n)
{
    for (int i = 0; i < 6000; i++) {
        phi3_engine_stats stats = phi3_engine_get_stats(engine);
        if (stats.n_running == n && stats.n_waiting == 0)
            return stats;
        poll(NULL, 0, 10);
    }
    fail_msg("the slots did not come to %zu for a minute", n);
    return (phi3_engine_stats){0};
}

/* ---- Company changes nothing ------------------------------------------------------------------- */

enum { N_THREADS = 8, N_EACH = 6 };

typedef struct caller {
    phi3_engine *engine;
    unsigned number;
    result *results[N_EACH];
} caller;

/* Prompts of 1 to 400 characters: in one part and in many, on both sides of LongRoPE's boundary, and
 * some that cross it while they grow. */
static size_t prompt_size(unsigned seed)
{
    const size_t sizes[] = {1, 7, 30, 60, 66, 69, 70, 71, 150, 400};
    return sizes[seed % 10];
}

static phi3_generation_config config_for(unsigned seed)
{
    phi3_generation_config config = sampling(20 + seed % 7);
    config.do_sample = seed % 3 != 0;
    config.repetition_penalty = seed % 4 == 0 ? 1.3 : 1.0;
    return config;
}

static void *call(void *data)
{
    caller *c = data;
    for (unsigned i = 0; i < N_EACH; i++) {
        unsigned seed = c->number * N_EACH + i;
        char text[TINY_POSITIONS];
        phi3_generation_config config = config_for(seed);
        fill_text(seed, text, prompt_size(seed));
        c->results[i] = finish(submit(c->engine, text, &config, seed));
    }
    return NULL;
}

static void test_every_caller_gets_what_it_would_get_alone(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){.n_slots = 5});
    pthread_t threads[N_THREADS];
    caller callers[N_THREADS];
    for (unsigned i = 0; i < N_THREADS; i++) {
        callers[i] = (caller){.engine = engine, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned seed = 0; seed < N_THREADS * N_EACH; seed++) {
        char text[TINY_POSITIONS];
        fill_text(seed, text, prompt_size(seed));
        assert_same(callers[seed / N_EACH].results[seed % N_EACH],
                    alone(text, config_for(seed), seed));
    }
    phi3_engine_stats stats = phi3_engine_get_stats(engine);
    assert_int_equal(stats.n_submitted, N_THREADS * N_EACH);
    assert_int_equal(stats.n_finished, N_THREADS * N_EACH);
    assert_int_equal(stats.n_first_tokens, N_THREADS * N_EACH);
    assert_int_equal(stats.n_running + stats.n_waiting, 0);
    assert_true(stats.n_steps < stats.new_tokens); /* they did go together */
    phi3_engine_free(engine);
}

static void test_ids_are_a_prompt_too(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){0});
    phi3_generation_config config = sampling(9);
    const int32_t ids[] = {'A' - '!' + 2, 'B' - '!' + 2, 'C' - '!' + 2};
    phi3_request_options options = {.ids = ids, .count = 3, .config = &config, .seed = 4};
    phi3_request *request;
    assert_int_equal(phi3_engine_submit(engine, &options, &request, &error), PHI3_OK);
    assert_same(finish(request), alone("ABC", config, 4));
    const int32_t bad[] = {5, TINY_VOCAB};
    options.ids = bad;
    options.count = 2;
    assert_int_equal(phi3_engine_submit(engine, &options, &request, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    phi3_engine_free(engine);
}

static void test_text_ends_before_a_stop_string(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){0});
    phi3_generation_config config = sampling(40);
    result *whole = alone("STOP", config, 12);
    char stop[3] = {whole->text[20], whole->text[21], '\0'};
    size_t wanted = (size_t)(strstr(whole->text, stop) - whole->text);
    const char *strings[] = {"never said", stop};
    config.stop_strings = strings;
    config.n_stop_strings = 2;
    result *given = finish(submit(engine, "STOP", &config, 12));
    assert_int_equal(given->info.finish, PHI3_FINISH_STOP);
    assert_int_equal(given->size, wanted);
    assert_memory_equal(given->text, whole->text, wanted);
    assert_memory_equal(given->ids, whole->ids, given->n_ids * sizeof *given->ids);
    free(given);
    free(whole);
    phi3_engine_free(engine);
}

/* A conversation goes on in the slot that has its beginning, and the system prompt that others share
 * is not computed again either. */
static void test_slots_remember_what_they_have_seen(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){.n_slots = 3});
    phi3_generation_config config = sampling(10);
    char first[200], second[400], other[200];
    fill_text(1, first, 30);
    result *r = finish(submit(engine, first, &config, 1));
    assert_int_equal(r->info.reused_tokens, 0);
    snprintf(second, sizeof second, "%s%.30s AND", first, r->text);
    free(r);
    r = finish(submit(engine, second, &config, 2));
    assert_int_equal(r->info.reused_tokens, 30 + 9); /* the last token was never run */
    assert_same(r, alone(second, config, 2));
    snprintf(other, sizeof other, "%.20sOTHER", first);
    r = finish(submit(engine, other, &config, 3));
    assert_int_equal(r->info.reused_tokens, 20);
    assert_same(r, alone(other, config, 3));
    r = finish(submit(engine, second, &config, 2)); /* is still there */
    assert_int_equal(r->info.reused_tokens, strlen(second) - 1);
    assert_same(r, alone(second, config, 2));
    phi3_engine_free(engine);
}

/* ---- What goes wrong --------------------------------------------------------------------------- */

static void expect_error(result *r, phi3_status status, const char *part)
{
    assert_int_equal(r->status, status);
    assert_non_null(strstr(r->error.message, part));
    assert_int_equal(r->info.state, PHI3_REQUEST_ENDED);
    free(r);
}

static void test_bad_requests_hurt_nobody_else(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){.max_length = 50});
    phi3_generation_config config = sampling(200);
    phi3_request *good = submit(engine, "GOOD", &config, 3), *refused;
    char longer[51];
    fill_text(0, longer, 50);
    expect_error(finish(submit(engine, "\xFF\xFE", &config, 0)), PHI3_ERROR_TYPE, "UTF-8");
    expect_error(finish(submit(engine, "", &config, 0)), PHI3_ERROR_INVALID_ARGUMENT, "empty");
    expect_error(finish(submit(engine, longer, &config, 0)), PHI3_ERROR_INVALID_ARGUMENT,
                 "a prompt of 50 tokens is too long");

    phi3_generation_config bad = config;
    bad.temperature = -1;
    phi3_request_options options = {.text = "A", .size = 1, .config = &bad};
    assert_int_equal(phi3_engine_submit(engine, &options, &refused, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    bad = config;
    bad.num_return_sequences = 2;
    assert_int_equal(phi3_engine_submit(engine, &options, &refused, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    options.config = NULL;
    assert_int_equal(phi3_engine_submit(engine, &options, &refused, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);

    config.max_new_tokens = 46; /* as many as there is room for */
    assert_same(finish(good), alone("GOOD", config, 3));
    phi3_engine_stats stats = phi3_engine_get_stats(engine);
    assert_int_equal(stats.n_failed, 3);
    assert_int_equal(stats.n_finished, 1);
    phi3_engine_free(engine);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    const phi3_engine_options bad[] = {
        {.n_slots = 1 << 20}, {.n_queue = 1 << 20}, {.max_length = 1}, {.n_threads = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        phi3_engine *engine;
        assert_int_equal(phi3_engine_create(model, tokenizer, &bad[i], &engine, &error),
                         PHI3_ERROR_INVALID_ARGUMENT);
    }
    phi3_engine_free(NULL);
    phi3_request_free(NULL);
}

/* Of an endless engine: does not end by itself in a test that is about something else. */
static phi3_generation_config endless(void)
{
    return sampling(1000000);
}

static void test_full_queue_is_refused(void **state)
{
    (void)state;
    phi3_engine *engine = endless_engine((phi3_engine_options){.n_slots = 1, .n_queue = 2});
    phi3_generation_config config = endless();
    phi3_request *requests[3], *refused;
    requests[0] = submit(engine, "A", &config, 0);
    wait_for_running(engine, 1);
    requests[1] = submit(engine, "B", &config, 1);
    requests[2] = submit(engine, "C", &config, 2);
    phi3_request_options options = {.text = "D", .size = 1, .config = &config};
    phi3_status status = phi3_engine_submit(engine, &options, &refused, &error);
    assert_int_equal(status, PHI3_ERROR_QUEUE_FULL);
    assert_string_equal(phi3_status_name(status), "queue full");
    assert_int_equal(phi3_engine_get_stats(engine).n_refused, 1);
    for (size_t i = 0; i < 3; i++)
        phi3_request_free(requests[i]);
    wait_for_running(engine, 0);
    phi3_engine_free(engine);
}

static void test_cancel_frees_slot_and_cache(void **state)
{
    (void)state;
    phi3_engine *engine = endless_engine((phi3_engine_options){.n_slots = 4});
    phi3_generation_config config = endless(), brief = sampling(30);
    phi3_request *gone[3], *stays = submit(engine, "STAYS", &brief, 8);
    for (unsigned i = 0; i < 3; i++) {
        char text[400];
        fill_text(i, text, 300);
        gone[i] = submit(engine, text, &config, i);
    }
    wait_for_news(gone[0]);
    for (unsigned i = 0; i < 3; i++)
        phi3_request_cancel(gone[i]);
    for (unsigned i = 0; i < 3; i++)
        expect_error(finish(gone[i]), PHI3_ERROR_INTERRUPTED, "cancelled");
    assert_same(finish(stays), alone_with(endless_model, "STAYS", brief, 8));
    phi3_engine_stats stats = wait_for_running(engine, 0);
    assert_int_equal(stats.n_cancelled, 3);
    assert_int_equal(stats.kv_bytes, 64 * phi3_model_kv_token_bytes(model)); /* the page of STAYS */
    phi3_engine_free(engine);
}

static void test_free_while_busy(void **state)
{
    (void)state;
    phi3_engine *engine = endless_engine((phi3_engine_options){.n_slots = 2});
    phi3_generation_config config = endless();
    phi3_request *requests[5];
    for (unsigned i = 0; i < 5; i++)
        requests[i] = submit(engine, "BUSY", &config, i);
    wait_for_news(requests[0]);
    phi3_request_free(requests[4]);
    phi3_engine_free(engine);
    for (unsigned i = 0; i < 4; i++)
        expect_error(finish(requests[i]), PHI3_ERROR_INTERRUPTED, "the engine was closed");
}

/* ---- The socket -------------------------------------------------------------------------------- */

static int connect_to(const phi3_engine *engine)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", phi3_engine_socket_path(engine));
    assert_int_equal(connect(connection, (struct sockaddr *)&address, sizeof address), 0);
    return connection;
}

static void send_text(int connection, const char *text)
{
    assert_int_equal(send(connection, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static int connect_for(const phi3_engine *engine, const phi3_request *request)
{
    char line[32];
    int connection = connect_to(engine);
    snprintf(line, sizeof line, "%llu\n", (unsigned long long)phi3_request_id(request));
    send_text(connection, line);
    return connection;
}

static void test_socket_wakes_and_its_end_cancels(void **state)
{
    (void)state;
    phi3_engine *engine = endless_engine((phi3_engine_options){.n_slots = 2});
    phi3_generation_config brief = sampling(30), config = endless();
    phi3_request *request = submit(engine, "NEWS", &brief, 5);
    int connection = connect_for(engine, request), descriptor;
    result *r = calloc(1, sizeof *r);
    char byte;
    do
        assert_int_equal(recv(connection, &byte, 1, 0), 1);
    while (take(request, r));
    assert_same(r, alone_with(endless_model, "NEWS", brief, 5));
    assert_int_equal(phi3_request_descriptor(request, &descriptor, &error),
                     PHI3_ERROR_INVALID_ARGUMENT);
    phi3_request_free(request);
    while (recv(connection, &byte, 1, 0) == 1)
        continue;
    close(connection);

    request = submit(engine, "GONE", &config, 6);
    connection = connect_for(engine, request);
    assert_int_equal(recv(connection, &byte, 1, 0), 1);
    close(connection);
    phi3_engine_stats stats = wait_for_running(engine, 0);
    assert_int_equal(stats.n_cancelled, 1);
    phi3_request_free(request);
    phi3_engine_free(engine);
}

static void test_strangers_are_sent_away(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){0});
    const char *lines[] = {"999\n", "\n", "one\n", "-1\n", "1234567890123456789012345678901234\n"};
    char byte;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        int connection = connect_to(engine);
        send_text(connection, lines[i]);
        assert_true(recv(connection, &byte, 1, 0) <= 0);
        close(connection);
    }
    int silent[70];
    for (size_t i = 0; i < 70; i++)
        silent[i] = connect_to(engine); /* more than are listened to at a time */
    phi3_generation_config brief = sampling(5);
    assert_same(finish(submit(engine, "STILL", &brief, 5)), alone("STILL", brief, 5));
    for (size_t i = 0; i < 70; i++)
        close(silent[i]);
    phi3_request *request = submit(engine, "HERE", &brief, 5);
    int connection = connect_for(engine, request);
    assert_int_equal(recv(connection, &byte, 1, 0), 1);
    close(connection);
    phi3_request_free(request);
    phi3_engine_free(engine);
}

static void test_child_of_a_fork_is_told(void **state)
{
    (void)state;
    phi3_engine *engine = new_engine((phi3_engine_options){0});
    phi3_generation_config brief = sampling(5);
    free(finish(submit(engine, "A", &brief, 5)));
    pid_t child = fork();
    if (child == 0) {
        phi3_request *request;
        phi3_request_options options = {.text = "A", .size = 1, .config = &brief};
        phi3_status status = phi3_engine_submit(engine, &options, &request, &error);
        phi3_engine_free(engine);
        _exit(status == PHI3_ERROR_FORKED ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_same(finish(submit(engine, "B", &brief, 5)), alone("B", brief, 5));
    phi3_engine_free(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_caller_gets_what_it_would_get_alone),
        cmocka_unit_test(test_ids_are_a_prompt_too),
        cmocka_unit_test(test_text_ends_before_a_stop_string),
        cmocka_unit_test(test_slots_remember_what_they_have_seen),
        cmocka_unit_test(test_bad_requests_hurt_nobody_else),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_full_queue_is_refused),
        cmocka_unit_test(test_cancel_frees_slot_and_cache),
        cmocka_unit_test(test_free_while_busy),
        cmocka_unit_test(test_socket_wakes_and_its_end_cancels),
        cmocka_unit_test(test_strangers_are_sent_away),
        cmocka_unit_test(test_child_of_a_fork_is_told),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
