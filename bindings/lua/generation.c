/*
 * generation.c - the type Generation: prompts and settings in, tokens out, one step at a time or all
 * of them at once.
 *
 * The object keeps everything alive that the library's generation uses, so the caches, the model and
 * the tokenizer may be closed before it.
 */
#include <stdlib.h>
#include <string.h>

#include "binding.h"

typedef struct generation {
    phi3_generation *generation;
    size_t vocab_size;
    int n_threads;
    bool done;
} generation;

static phi3_lua_object *object_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_generation_type);
}

static generation *generation_of(lua_State *L)
{
    return object_of(L)->handle;
}

static void release(void *handle)
{
    phi3_generation_free(((generation *)handle)->generation);
    free(handle);
}

/* ---- Creating -------------------------------------------------------------------------------------- */

/* The object of that name in the fourth argument, a table; NULL when it has none. */
static phi3_lua_object *optional_object(lua_State *L, const char *name, const phi3_lua_type *type)
{
    phi3_lua_object *object = NULL;
    lua_getfield(L, 4, name);
    if (!phi3_lua_is_absent(L, -1)) {
        object = phi3_lua_test(L, -1, type);
        if (object == NULL)
            phi3_lua_misuse(L, "generation(): %s must be a %s", name, type->name);
    }
    lua_pop(L, 1);
    return object;
}

/* The cache of row `row` in the table at the top of the stack, or NULL. */
static phi3_lua_object *cache_of_row(lua_State *L, size_t row)
{
    phi3_lua_object *cache = NULL;
    if (!lua_istable(L, -1))
        return NULL;
    lua_rawgeti(L, -1, (int)row + 1);
    if (!phi3_lua_is_absent(L, -1)) {
        cache = phi3_lua_test(L, -1, &phi3_lua_cache_type);
        if (cache == NULL)
            phi3_lua_misuse(L, "caches must be phi3.Cache objects");
    }
    lua_pop(L, 1);
    return cache;
}

/* Reads the prompts, the second argument, leaving the memory of their ids on the stack. */
static bool read_prompts(lua_State *L, phi3_prompt *prompts, size_t n_prompts, phi3_error *error)
{
    for (size_t i = 0; i < n_prompts; i++) {
        luaL_checkstack(L, LUA_MINSTACK, "too many prompts");
        lua_rawgeti(L, 2, (int)i + 1);
        if (!phi3_lua_to_ids(L, -1, &prompts[i].ids, &prompts[i].count, error))
            return false;
        lua_remove(L, -2);
    }
    return true;
}

/* What a generation is made of. */
typedef struct parts {
    phi3_lua_object *model, *tokenizer, *random; /* the last two may be NULL */
    phi3_generation_config config;
    phi3_prompt *prompts; /* [n_prompts] */
    size_t n_prompts;
} parts;

/* Pushes the userdata, which needs what the library will use. */
static phi3_lua_object *push_generation(lua_State *L, const parts *p)
{
    phi3_lua_collect(L);
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_generation_type, 3 + p->n_prompts);
    phi3_lua_need(object, p->model);
    if (p->tokenizer != NULL)
        phi3_lua_need(object, p->tokenizer);
    if (p->random != NULL)
        phi3_lua_need(object, p->random);
    lua_getfield(L, 4, "caches");
    for (size_t i = 0; i < p->n_prompts; i++) {
        phi3_lua_object *cache = cache_of_row(L, i);
        if (cache != NULL) {
            p->prompts[i].cache = cache->handle;
            phi3_lua_need(object, cache);
        }
    }
    lua_pop(L, 1);
    generation *self = object->handle = calloc(1, sizeof *self);
    if (self == NULL)
        luaL_error(L, "not enough memory");
    self->vocab_size = phi3_model_config(p->model->handle)->vocab_size;
    lua_getfield(L, 4, "n_threads");
    self->n_threads = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return object;
}

/* generation(model, prompts, config, {caches = , tokenizer = , random = , n_threads = }) */
int phi3_lua_generation_new(lua_State *L)
{
    phi3_error error;
    parts p = {.config = phi3_generation_default_config()};
    p.model = phi3_lua_check(L, 1, &phi3_lua_model_type);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TTABLE);
    p.tokenizer = optional_object(L, "tokenizer", &phi3_lua_tokenizer_type);
    p.random = optional_object(L, "random", &phi3_lua_random_type);
    p.n_prompts = phi3_lua_length(L, 2);
    p.prompts = phi3_lua_scratch(L, (p.n_prompts + 1) * sizeof *p.prompts, NULL);
    if (!phi3_lua_read_generation_config(L, 3, "generate()", &p.config, &error) ||
        !read_prompts(L, p.prompts, p.n_prompts, &error))
        return phi3_lua_fail(L, error.code, &error);
    generation *self = push_generation(L, &p)->handle;
    phi3_status status =
        phi3_generation_create(p.model->handle, p.tokenizer == NULL ? NULL : p.tokenizer->handle,
                               &p.config, p.random == NULL ? NULL : p.random->handle, p.prompts,
                               p.n_prompts, &self->generation, &error);
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

/* ---- Steps ------------------------------------------------------------------------------------------ */

/* The stack index of the interrupt function in argument 2, or 0. */
static int interrupt_function(lua_State *L)
{
    if (phi3_lua_is_absent(L, 2))
        return 0;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    return 2;
}

/* generation:step(interrupt) -> tokens, done */
static int step(lua_State *L)
{
    phi3_error error;
    phi3_lua_object *object = object_of(L);
    generation *self = object->handle;
    size_t rows = phi3_generation_rows(self->generation);
    phi3_lua_call call = phi3_lua_call_begin(L, interrupt_function(L));
    phi3_run_options options = {
        .interrupt = phi3_lua_interrupt, .interrupt_data = &call, .n_threads = self->n_threads};
    int32_t *tokens = phi3_lua_scratch(L, rows * sizeof *tokens, NULL);
    bool done = false;
    phi3_lua_hold(object);
    phi3_status status = phi3_generation_step(self->generation, &options, tokens, &done, &error);
    self->done = self->done || done;
    phi3_lua_let_go(object);
    phi3_lua_call_end(&call);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    phi3_lua_push_ids(L, tokens, rows);
    lua_pushboolean(L, done);
    return 2;
}

/* What a run has made. */
typedef struct run {
    int32_t *tokens; /* [n_steps][rows] */
    size_t n_steps;
} run;

static void free_run(void *memory)
{
    phi3_free(((run *)memory)->tokens);
}

/* [rows][n_steps] as nested tables. */
static void push_run(lua_State *L, const run *r, size_t rows)
{
    lua_createtable(L, (int)rows, 0);
    for (size_t row = 0; row < rows; row++) {
        lua_createtable(L, (int)r->n_steps, 0);
        for (size_t i = 0; i < r->n_steps; i++) {
            lua_pushinteger(L, r->tokens[i * rows + row]);
            lua_rawseti(L, -2, (int)i + 1);
        }
        lua_rawseti(L, -2, (int)row + 1);
    }
}

/* generation:run(interrupt) -> rows of new tokens */
static int run_all(lua_State *L)
{
    phi3_error error;
    phi3_lua_object *object = object_of(L);
    generation *self = object->handle;
    phi3_lua_call call = phi3_lua_call_begin(L, interrupt_function(L));
    phi3_run_options options = {
        .interrupt = phi3_lua_interrupt, .interrupt_data = &call, .n_threads = self->n_threads};
    run *r = phi3_lua_scratch(L, sizeof *r, free_run);
    phi3_status status = PHI3_OK;
    phi3_lua_hold(object);
    if (!self->done)
        status = phi3_generation_run(self->generation, &options, &r->tokens, &r->n_steps, &error);
    self->done = self->done || status == PHI3_OK;
    phi3_lua_let_go(object);
    phi3_lua_call_end(&call);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    push_run(L, r, phi3_generation_rows(self->generation));
    return 1;
}

/* ---- Looking inside ------------------------------------------------------------------------------- */

/* Pushes what `row_values` lends for each row as Logits, [rows][vocab]. */
static int push_rows(lua_State *L, const float *(*row_values)(const phi3_generation *, size_t))
{
    const generation *self = generation_of(L);
    size_t rows = phi3_generation_rows(self->generation), vocab = self->vocab_size;
    if (row_values(self->generation, 0) == NULL) {
        const phi3_error error = {PHI3_ERROR_INVALID_ARGUMENT,
                                  "logits and scores are there after the first step, of a "
                                  "generation with output_logits"};
        return phi3_lua_fail(L, error.code, &error);
    }
    float *values = phi3_lua_push_logits(L, 2, (size_t[]){rows, vocab});
    for (size_t row = 0; row < rows; row++)
        memcpy(values + row * vocab, row_values(self->generation, row), vocab * sizeof *values);
    return 1;
}

static int logits(lua_State *L)
{
    return push_rows(L, phi3_generation_logits);
}

static int scores(lua_State *L)
{
    return push_rows(L, phi3_generation_scores);
}

static int done(lua_State *L)
{
    lua_pushboolean(L, generation_of(L)->done);
    return 1;
}

/* "eos", "stop", "length" for each row; false while it runs. */
static int finish_reasons(lua_State *L)
{
    static const char *const names[] = {NULL, "eos", "stop", "length"};
    const phi3_generation *running = generation_of(L)->generation;
    size_t rows = phi3_generation_rows(running);
    lua_createtable(L, (int)rows, 0);
    for (size_t row = 0; row < rows; row++) {
        const char *name = names[phi3_generation_finish(running, row)];
        if (name == NULL)
            lua_pushboolean(L, false);
        else
            lua_pushstring(L, name);
        lua_rawseti(L, -2, (int)row + 1);
    }
    return 1;
}

static const phi3_lua_field timing_fields[] = {
    {"prompt_tokens", PHI3_LUA_SIZE, offsetof(phi3_timings, prompt_tokens), 0},
    {"reused_tokens", PHI3_LUA_SIZE, offsetof(phi3_timings, reused_tokens), 0},
    {"computed_tokens", PHI3_LUA_SIZE, offsetof(phi3_timings, computed_tokens), 0},
    {"new_tokens", PHI3_LUA_SIZE, offsetof(phi3_timings, new_tokens), 0},
    {"prompt_seconds", PHI3_LUA_NUMBER, offsetof(phi3_timings, prompt_seconds), 0},
    {"decode_seconds", PHI3_LUA_NUMBER, offsetof(phi3_timings, decode_seconds), 0},
    {"first_token_seconds", PHI3_LUA_NUMBER, offsetof(phi3_timings, first_token_seconds), 0},
    {"prompt_tokens_per_second", PHI3_LUA_NUMBER, offsetof(phi3_timings, prompt_tokens_per_second),
     0},
    {"decode_tokens_per_second", PHI3_LUA_NUMBER, offsetof(phi3_timings, decode_tokens_per_second),
     0},
    {NULL, 0, 0, 0},
};

static int timings(lua_State *L)
{
    phi3_timings found = phi3_generation_timings(generation_of(L)->generation);
    phi3_lua_push_fields(L, timing_fields, &found);
    return 1;
}

static const luaL_Reg methods[] = {
    {"step", step},       {"run", run_all}, {"logits", logits},
    {"scores", scores},   {"done", done},   {"finish_reasons", finish_reasons},
    {"timings", timings}, {NULL, NULL},
};

const phi3_lua_type phi3_lua_generation_type = {"phi3.Generation", release, methods, NULL};
