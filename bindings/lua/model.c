/* model.c - the type Model: a directory or GGUF file in, its configuration and logits out. */
#include <string.h>

#include "binding.h"

static const phi3_model *model_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_model_type)->handle;
}

/* ---- Loading --------------------------------------------------------------------------------------- */

typedef struct load_options {
    phi3_model_options model;
    int progress;
} load_options;

static const phi3_lua_field load_fields[] = {
    {"device", PHI3_LUA_STRING, offsetof(load_options, model.device), 0},
    {"max_memory", PHI3_LUA_STRING, offsetof(load_options, model.max_memory), 0},
    {"compute_dtype", PHI3_LUA_STRING, offsetof(load_options, model.compute_dtype), 0},
    {"kv_cache_dtype", PHI3_LUA_STRING, offsetof(load_options, model.kv_cache_dtype), 0},
    {"n_threads", PHI3_LUA_INT, offsetof(load_options, model.n_threads), 0},
    {"packed_dir", PHI3_LUA_STRING, offsetof(load_options, model.packed_dir), 0},
    {"quantization", PHI3_LUA_STRING, offsetof(load_options, model.quantization), 0},
    {"progress", PHI3_LUA_FUNCTION, offsetof(load_options, progress), 0},
    {NULL, 0, 0, 0},
};

/* model(path, options) */
int phi3_lua_model_new(lua_State *L)
{
    phi3_error error;
    load_options options = {0};
    const char *path = phi3_lua_check_name(L, 1);
    if (!phi3_lua_read_options(L, 2, "model()", load_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    phi3_lua_call call = phi3_lua_call_begin(L, options.progress);
    options.model.progress = phi3_lua_progress;
    options.model.progress_data = &call;
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_model_type, 0);
    int result = lua_gettop(L);
    phi3_model *model = NULL;
    phi3_status status = phi3_model_load(path, &options.model, &model, &error);
    object->handle = model;
    phi3_lua_call_end(&call);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_settop(L, result);
    return 1;
}

static void release(void *handle)
{
    phi3_model_free(handle);
}

/* ---- Forward --------------------------------------------------------------------------------------- */

typedef struct forward_options {
    size_t keep;
    int n_threads;
    int interrupt;
} forward_options;

static const phi3_lua_field forward_fields[] = {
    {"keep", PHI3_LUA_SIZE, offsetof(forward_options, keep), 0},
    {"n_threads", PHI3_LUA_INT, offsetof(forward_options, n_threads), 0},
    {"interrupt", PHI3_LUA_FUNCTION, offsetof(forward_options, interrupt), 0},
    {NULL, 0, 0, 0},
};

/* A batch as it is read from Lua. */
typedef struct batch {
    phi3_span *spans;         /* [n_rows] */
    phi3_lua_object **caches; /* [n_rows] */
    size_t n_rows;
    size_t width; /* the most logits that a row wants */
} batch;

/* Reads row `row` of the tables at stack indices 2 and 3, leaving the memory of its ids. */
static bool read_row(lua_State *L, size_t row, size_t keep, batch *rows, phi3_error *error)
{
    phi3_span *span = &rows->spans[row];
    luaL_checkstack(L, LUA_MINSTACK, "too many rows");
    lua_rawgeti(L, 2, (int)row + 1);
    if (!phi3_lua_to_ids(L, -1, &span->ids, &span->count, error))
        return false;
    lua_remove(L, -2);
    lua_rawgeti(L, 3, (int)row + 1);
    rows->caches[row] = phi3_lua_test(L, -1, &phi3_lua_cache_type);
    if (rows->caches[row] == NULL)
        phi3_lua_misuse(L, "caches must be phi3.Cache objects, one for each row");
    lua_pop(L, 1);
    span->cache = rows->caches[row]->handle;
    span->n_logits = keep == 0 || keep > span->count ? span->count : keep;
    if (span->n_logits > rows->width)
        rows->width = span->n_logits;
    return true;
}

/* Moves packed rows to the right edge of [n_rows][width][vocab]; the left of short rows is zero. */
static void align_right(const batch *rows, size_t vocab, float *values)
{
    size_t packed = 0;
    for (size_t i = 0; i < rows->n_rows; i++)
        packed += rows->spans[i].n_logits;
    for (size_t i = rows->n_rows; i-- > 0;) {
        size_t count = rows->spans[i].n_logits, gap = rows->width - count;
        packed -= count;
        float *row = values + i * rows->width * vocab;
        memmove(row + gap * vocab, values + packed * vocab, count * vocab * sizeof *values);
        memset(row, 0, gap * vocab * sizeof *values);
    }
}

static phi3_status run(const phi3_model *model, const batch *rows, const phi3_run_options *options,
                       float *values, phi3_error *error)
{
    for (size_t i = 0; i < rows->n_rows; i++)
        phi3_lua_hold(rows->caches[i]);
    phi3_status status =
        phi3_model_forward(model, rows->spans, rows->n_rows, options, values, error);
    if (status == PHI3_OK)
        align_right(rows, phi3_model_config(model)->vocab_size, values);
    for (size_t i = 0; i < rows->n_rows; i++)
        phi3_lua_let_go(rows->caches[i]);
    return status;
}

/* model:forward(rows, caches, options) */
static int forward(lua_State *L)
{
    phi3_error error;
    batch rows = {0};
    forward_options options = {0};
    const phi3_model *model = model_of(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (!phi3_lua_read_options(L, 4, "forward()", forward_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    rows.n_rows = phi3_lua_length(L, 2);
    rows.spans = phi3_lua_scratch(L, (rows.n_rows + 1) * sizeof *rows.spans, NULL);
    rows.caches = phi3_lua_scratch(L, (rows.n_rows + 1) * sizeof(void *), NULL);
    for (size_t i = 0; i < rows.n_rows; i++) {
        if (!read_row(L, i, options.keep, &rows, &error))
            return phi3_lua_fail(L, error.code, &error);
    }
    size_t shape[3] = {rows.n_rows, rows.width, phi3_model_config(model)->vocab_size};
    phi3_lua_call call = phi3_lua_call_begin(L, options.interrupt);
    float *values = phi3_lua_push_logits(L, 3, shape);
    int result = lua_gettop(L);
    phi3_run_options run_options = {
        .interrupt = phi3_lua_interrupt, .interrupt_data = &call, .n_threads = options.n_threads};
    phi3_status status = run(model, &rows, &run_options, values, &error);
    phi3_lua_call_end(&call);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_settop(L, result);
    return 1;
}

/* ---- Attributes ------------------------------------------------------------------------------------ */

static int config(lua_State *L)
{
    phi3_lua_push_config(L, phi3_model_config(model_of(L)));
    return 1;
}

/* The ids that end a text and fill a batch, as the model's files name them. */
static int generation_config(lua_State *L)
{
    phi3_generation_config found = phi3_model_generation_config(model_of(L));
    lua_newtable(L);
    if (found.n_eos_token_ids > 0) {
        phi3_lua_push_ids(L, found.eos_token_ids, found.n_eos_token_ids);
        lua_setfield(L, -2, "eos_token_id");
    }
    if (found.pad_token_id >= 0) {
        lua_pushinteger(L, found.pad_token_id);
        lua_setfield(L, -2, "pad_token_id");
    }
    return 1;
}

static int device(lua_State *L)
{
    lua_pushstring(L, phi3_model_device(model_of(L)));
    return 1;
}

/* The places of modules, in the order of a forward: tables {module = , device = }. */
static int device_map(lua_State *L)
{
    const phi3_model *model = model_of(L);
    size_t count = phi3_model_device_map(model, NULL, 0);
    phi3_module_place *places = phi3_lua_scratch(L, count * sizeof *places, NULL);
    phi3_model_device_map(model, places, count);
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        lua_newtable(L);
        lua_pushstring(L, places[i].module);
        lua_setfield(L, -2, "module");
        lua_pushstring(L, places[i].device);
        lua_setfield(L, -2, "device");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int compute_dtype(lua_State *L)
{
    lua_pushstring(L, phi3_model_compute_dtype(model_of(L)));
    return 1;
}

static int kv_cache_dtype(lua_State *L)
{
    lua_pushstring(L, phi3_model_kv_cache_dtype(model_of(L)));
    return 1;
}

static const luaL_Reg methods[] = {
    {"forward", forward},
    {"save", phi3_lua_model_save},
    {"config", config},
    {"generation_config", generation_config},
    {"device", device},
    {"device_map", device_map},
    {"compute_dtype", compute_dtype},
    {"kv_cache_dtype", kv_cache_dtype},
    {NULL, NULL},
};

const phi3_lua_type phi3_lua_model_type = {"phi3.Model", release, methods, NULL};
