/*
 * module.c - phi3.core: the C library as Lua sees it. Registers the types and the functions that
 * belong to none. What users get from `require "phi3"` is written in Lua on top of it.
 */
#include "binding.h"

/* ---- Functions ------------------------------------------------------------------------------------- */

static const phi3_lua_field resolve_fields[] = {
    {"revision", PHI3_LUA_STRING, offsetof(phi3_resolve_options, revision), 0},
    {"search_path", PHI3_LUA_STRING, offsetof(phi3_resolve_options, search_path), 0},
    {NULL, 0, 0, 0},
};

static void free_text(void *memory)
{
    phi3_free(*(char **)memory);
}

/* resolve(name, options) -> path */
static int resolve(lua_State *L)
{
    phi3_error error;
    phi3_resolve_options options = {0};
    const char *name = phi3_lua_check_name(L, 1);
    if (!phi3_lua_read_options(L, 2, "resolve()", resolve_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    char **path = phi3_lua_scratch(L, sizeof *path, free_text);
    phi3_status status = phi3_resolve(name, &options, path, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushstring(L, *path);
    return 1;
}

static int backends(lua_State *L)
{
    enum { MAX_BACKENDS = 32 };
    phi3_backend_info infos[MAX_BACKENDS];
    size_t count = phi3_backends(infos, MAX_BACKENDS);
    lua_newtable(L);
    for (size_t i = 0; i < count && i < MAX_BACKENDS; i++) {
        lua_newtable(L);
        lua_pushstring(L, infos[i].name);
        lua_setfield(L, -2, "name");
        lua_pushboolean(L, infos[i].available);
        lua_setfield(L, -2, "available");
        lua_pushstring(L, infos[i].detail);
        lua_setfield(L, -2, "detail");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int cpu_isa(lua_State *L)
{
    lua_pushstring(L, phi3_cpu_isa());
    return 1;
}

static int default_threads(lua_State *L)
{
    lua_pushinteger(L, phi3_default_threads());
    return 1;
}

static const phi3_lua_field peaks_fields[] = {
    {"n_threads", PHI3_LUA_INT, offsetof(phi3_peaks, n_threads), 0},
    {"read", PHI3_LUA_NUMBER, offsetof(phi3_peaks, read), 0},
    {"product_f32", PHI3_LUA_NUMBER, offsetof(phi3_peaks, product_f32), 0},
    {"product_bf16", PHI3_LUA_NUMBER, offsetof(phi3_peaks, product_bf16), 0},
    {"product_int8", PHI3_LUA_NUMBER, offsetof(phi3_peaks, product_int8), 0},
    {"units_f32", PHI3_LUA_NUMBER, offsetof(phi3_peaks, units_f32), 0},
    {"units_bf16", PHI3_LUA_NUMBER, offsetof(phi3_peaks, units_bf16), 0},
    {"units_int8", PHI3_LUA_NUMBER, offsetof(phi3_peaks, units_int8), 0},
    {NULL, 0, 0, 0},
};

typedef struct measure_options {
    const char *device;
    int n_threads;
} measure_options;

static const phi3_lua_field measure_fields[] = {
    {"device", PHI3_LUA_STRING, offsetof(measure_options, device), 0},
    {"n_threads", PHI3_LUA_INT, offsetof(measure_options, n_threads), 0},
    {NULL, 0, 0, 0},
};

/* measure_peaks(options) -> the fields of phi3_peaks */
static int measure_peaks(lua_State *L)
{
    phi3_error error;
    phi3_peaks peaks;
    measure_options given = {.device = "cpu"};
    if (!phi3_lua_read_options(L, 1, "measure_peaks()", measure_fields, &given, &error))
        return phi3_lua_fail(L, error.code, &error);
    phi3_lua_call call = phi3_lua_call_begin(L, 0);
    phi3_run_options options = {
        .interrupt = phi3_lua_interrupt, .interrupt_data = &call, .n_threads = given.n_threads};
    phi3_status status = phi3_measure_device_peaks(given.device, &options, &peaks, &error);
    phi3_lua_call_end(&call);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    phi3_lua_push_fields(L, peaks_fields, &peaks);
    return 1;
}

/* closest(name, names) -> the one of `names` that `name` may have been meant for, or nil */
static int closest(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t count = phi3_lua_length(L, 2);
    const char **names = phi3_lua_scratch(L, (count + 1) * sizeof *names, NULL);
    for (size_t i = 0, n = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1); /* the table keeps the string */
        if (lua_type(L, -1) == LUA_TSTRING)
            names[n++] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    lua_pushstring(L, phi3_lua_closest(name, names));
    return 1;
}

static const luaL_Reg functions[] = {
    {"model", phi3_lua_model_new},
    {"tokenizer", phi3_lua_tokenizer_new},
    {"cache", phi3_lua_cache_new},
    {"generation", phi3_lua_generation_new},
    {"random", phi3_lua_random_new},
    {"stream_decoder", phi3_lua_stream_decoder_new},
    {"engine", phi3_lua_engine_new},
    {"resolve", resolve},
    {"backends", backends},
    {"cpu_isa", cpu_isa},
    {"default_threads", default_threads},
    {"measure_peaks", measure_peaks},
    {"quantize", phi3_lua_quantize},
    {"make_directory", phi3_lua_make_directory},
    {"closest", closest},
    {NULL, NULL},
};

/* ---- The module -------------------------------------------------------------------------------------- */

/* The entry point, which is all that the shared object shows. */
__attribute__((visibility("default"))) int luaopen_phi3_core(lua_State *L);

int luaopen_phi3_core(lua_State *L)
{
    static const phi3_lua_type *const types[] = {
        &phi3_lua_model_type,      &phi3_lua_tokenizer_type, &phi3_lua_cache_type,
        &phi3_lua_generation_type, &phi3_lua_random_type,    &phi3_lua_stream_decoder_type,
        &phi3_lua_engine_type,     &phi3_lua_request_type,
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        phi3_lua_add_type(L, types[i]);
    phi3_lua_add_scratch(L);
    lua_newtable(L);
    phi3_lua_set_functions(L, functions);
    phi3_lua_add_logits(L);
    phi3_lua_add_json(L);
    phi3_lua_add_log(L);
    lua_pushstring(L, phi3_version());
    lua_setfield(L, -2, "version");
    return 1;
}
