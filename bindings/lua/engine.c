/*
 * engine.c - the types Engine and Request: prompts in, text as it comes, without waiting for it.
 *
 * A request keeps its engine alive, and that the model and the tokenizer.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "binding.h"

/* ---- Engine ------------------------------------------------------------------------------------------ */

static const phi3_lua_field engine_fields[] = {
    {"n_slots", PHI3_LUA_SIZE, offsetof(phi3_engine_options, n_slots), 0},
    {"n_queue", PHI3_LUA_SIZE, offsetof(phi3_engine_options, n_queue), 0},
    {"max_length", PHI3_LUA_SIZE, offsetof(phi3_engine_options, max_length), 0},
    {"n_threads", PHI3_LUA_INT, offsetof(phi3_engine_options, n_threads), 0},
    {NULL, 0, 0, 0},
};

/* engine(model, tokenizer, options) */
int phi3_lua_engine_new(lua_State *L)
{
    phi3_error error;
    phi3_engine_options options = {0};
    phi3_lua_object *model = phi3_lua_check(L, 1, &phi3_lua_model_type);
    phi3_lua_object *tokenizer = phi3_lua_check(L, 2, &phi3_lua_tokenizer_type);
    if (!phi3_lua_read_options(L, 3, "engine()", engine_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_engine_type, 2);
    phi3_lua_need(object, model);
    phi3_lua_need(object, tokenizer);
    phi3_engine *engine = NULL;
    phi3_status status =
        phi3_engine_create(model->handle, tokenizer->handle, &options, &engine, &error);
    object->handle = engine;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

static void release_engine(void *handle)
{
    phi3_engine_free(handle);
}

static phi3_engine *engine_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_engine_type)->handle;
}

static int socket_path(lua_State *L)
{
    lua_pushstring(L, phi3_engine_socket_path(engine_of(L)));
    return 1;
}

static const phi3_lua_field stats_fields[] = {
    {"n_slots", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_slots), 0},
    {"n_running", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_running), 0},
    {"n_queue", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_queue), 0},
    {"n_waiting", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_waiting), 0},
    {"kv_bytes", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, kv_bytes), 0},
    {"n_submitted", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_submitted), 0},
    {"n_refused", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_refused), 0},
    {"n_finished", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_finished), 0},
    {"n_cancelled", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_cancelled), 0},
    {"n_failed", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_failed), 0},
    {"n_steps", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_steps), 0},
    {"prompt_tokens", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, prompt_tokens), 0},
    {"reused_tokens", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, reused_tokens), 0},
    {"new_tokens", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, new_tokens), 0},
    {"prompt_seconds", PHI3_LUA_NUMBER, offsetof(phi3_engine_stats, prompt_seconds), 0},
    {"decode_seconds", PHI3_LUA_NUMBER, offsetof(phi3_engine_stats, decode_seconds), 0},
    {"n_first_tokens", PHI3_LUA_SIZE, offsetof(phi3_engine_stats, n_first_tokens), 0},
    {"first_token_seconds", PHI3_LUA_NUMBER, offsetof(phi3_engine_stats, first_token_seconds), 0},
    {NULL, 0, 0, 0},
};

/* engine:stats(): the fields of phi3_engine_stats; first_token_buckets as {{bound, count}, ...} */
static int stats(lua_State *L)
{
    phi3_engine_stats found = phi3_engine_get_stats(engine_of(L));
    phi3_lua_push_fields(L, stats_fields, &found);
    lua_createtable(L, PHI3_FIRST_TOKEN_BUCKETS, 0);
    for (int i = 0; i < PHI3_FIRST_TOKEN_BUCKETS; i++) {
        lua_createtable(L, 2, 0);
        lua_pushnumber(L, found.first_token_bounds[i]);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, (lua_Integer)found.first_token_buckets[i]);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "first_token_buckets");
    return 1;
}

/* ---- Submitting --------------------------------------------------------------------------------------- */

typedef struct submit_options {
    bool add_special_tokens;
    int64_t seed;
} submit_options;

static const phi3_lua_field submit_fields[] = {
    {"add_special_tokens", PHI3_LUA_BOOLEAN, offsetof(submit_options, add_special_tokens), 0},
    {"seed", PHI3_LUA_INT64, offsetof(submit_options, seed), 0},
    {NULL, 0, 0, 0},
};

/* engine:submit(prompt, generation config, {seed = , add_special_tokens = }) -> request
 * The prompt is a text or a table of ids. */
static int submit(lua_State *L)
{
    phi3_error error;
    submit_options given = {.add_special_tokens = true};
    phi3_lua_object *engine = phi3_lua_check(L, 1, &phi3_lua_engine_type);
    phi3_generation_config config = phi3_generation_default_config();
    phi3_request_options options = {.config = &config};
    lua_settop(L, 4);
    if (lua_type(L, 2) == LUA_TSTRING)
        options.text = lua_tolstring(L, 2, &options.size);
    else if (!phi3_lua_to_ids(L, 2, &options.ids, &options.count, &error))
        return phi3_lua_fail(L, error.code, &error);
    if (!phi3_lua_read_generation_config(L, 3, "submit()", &config, &error) ||
        !phi3_lua_read_options(L, 4, "submit()", submit_fields, &given, &error))
        return phi3_lua_fail(L, error.code, &error);
    options.add_special_tokens = given.add_special_tokens;
    options.seed = (uint64_t)given.seed;
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_request_type, 1);
    phi3_lua_need(object, engine);
    phi3_request *request = NULL;
    phi3_status status = phi3_engine_submit(engine->handle, &options, &request, &error);
    object->handle = request;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

/* ---- Request ------------------------------------------------------------------------------------------ */

static phi3_request *request_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_request_type)->handle;
}

static void release_request(void *handle)
{
    phi3_request_free(handle);
}

static const char *const finish_names[] = {NULL, "eos", "stop", "length"};

/* request:take() -> text, finish reason (nil while there is more to come), ids */
static int take(lua_State *L)
{
    phi3_error error;
    phi3_news news;
    phi3_request *request = request_of(L);
    phi3_status status = phi3_request_take(request, &news, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushlstring(L, news.text, news.size);
    lua_pushstring(L, news.finished ? finish_names[phi3_request_get_info(request).finish] : NULL);
    phi3_lua_push_ids(L, news.ids, news.n_ids);
    return 3;
}

static int cancel(lua_State *L)
{
    phi3_request_cancel(request_of(L));
    return 0;
}

/* What to send to the engine's socket. */
static int id(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)phi3_request_id(request_of(L)));
    return 1;
}

static int descriptor(lua_State *L)
{
    phi3_error error;
    int found;
    phi3_status status = phi3_request_descriptor(request_of(L), &found, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushinteger(L, found);
    return 1;
}

/* request:wait(): blocks until there is news, or a signal has come. */
static int wait_for_news(lua_State *L)
{
    phi3_error error;
    struct pollfd polled = {.events = POLLIN};
    phi3_status status = phi3_request_descriptor(request_of(L), &polled.fd, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    if (poll(&polled, 1, -1) < 0 && errno != EINTR)
        return phi3_lua_fail_message(L, PHI3_ERROR_IO, "poll failed: %s", strerror(errno));
    lua_pushboolean(L, true);
    return 1;
}

static const phi3_lua_field info_fields[] = {
    {"prompt_tokens", PHI3_LUA_SIZE, offsetof(phi3_request_info, prompt_tokens), 0},
    {"reused_tokens", PHI3_LUA_SIZE, offsetof(phi3_request_info, reused_tokens), 0},
    {"new_tokens", PHI3_LUA_SIZE, offsetof(phi3_request_info, new_tokens), 0},
    {"queue_seconds", PHI3_LUA_NUMBER, offsetof(phi3_request_info, queue_seconds), 0},
    {"prompt_seconds", PHI3_LUA_NUMBER, offsetof(phi3_request_info, prompt_seconds), 0},
    {"decode_seconds", PHI3_LUA_NUMBER, offsetof(phi3_request_info, decode_seconds), 0},
    {"first_token_seconds", PHI3_LUA_NUMBER, offsetof(phi3_request_info, first_token_seconds), 0},
    {NULL, 0, 0, 0},
};

/* request:info(): the fields of phi3_request_info */
static int info(lua_State *L)
{
    static const char *const states[] = {"waiting", "running", "ended"};
    phi3_request_info found = phi3_request_get_info(request_of(L));
    phi3_lua_push_fields(L, info_fields, &found);
    lua_pushstring(L, states[found.state]);
    lua_setfield(L, -2, "state");
    lua_pushstring(L, finish_names[found.finish]);
    lua_setfield(L, -2, "finish_reason");
    return 1;
}

static const luaL_Reg engine_methods[] = {
    {"submit", submit},
    {"stats", stats},
    {"socket_path", socket_path},
    {NULL, NULL},
};

static const luaL_Reg request_methods[] = {
    {"take", take},          {"cancel", cancel}, {"id", id},   {"descriptor", descriptor},
    {"wait", wait_for_news}, {"info", info},     {NULL, NULL},
};

const phi3_lua_type phi3_lua_engine_type = {"phi3.Engine", release_engine, engine_methods, NULL};
const phi3_lua_type phi3_lua_request_type = {"phi3.Request", release_request, request_methods,
                                             NULL};
