/* cache.c - the type Cache: what one sequence has been shown. Truncate, fork and reset it. */
#include "binding.h"

static phi3_lua_object *object_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_cache_type);
}

static phi3_cache *cache_of(lua_State *L)
{
    return object_of(L)->handle;
}

/* Pushes a new cache that keeps its model alive. */
static phi3_lua_object *push_cache(lua_State *L, phi3_lua_object *model)
{
    phi3_lua_collect(L);
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_cache_type, 1);
    phi3_lua_need(object, model);
    return object;
}

/* cache(model) */
int phi3_lua_cache_new(lua_State *L)
{
    phi3_error error;
    phi3_cache *cache = NULL;
    phi3_lua_object *model = phi3_lua_check(L, 1, &phi3_lua_model_type);
    phi3_lua_object *object = push_cache(L, model);
    phi3_status status = phi3_cache_create(model->handle, &cache, &error);
    object->handle = cache;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

static void release(void *handle)
{
    phi3_cache_free(handle);
}

static int fork_cache(lua_State *L)
{
    phi3_error error;
    phi3_cache *cache = NULL;
    phi3_lua_object *source = object_of(L);
    phi3_lua_object *object = push_cache(L, source->needs[0]);
    phi3_status status = phi3_cache_fork(source->handle, &cache, &error);
    object->handle = cache;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

/* What a change that went well returns: the cache itself. */
static int changed(lua_State *L, phi3_status status, const phi3_error *error)
{
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, error);
    lua_settop(L, 1);
    return 1;
}

static int truncate_cache(lua_State *L)
{
    phi3_error error;
    phi3_cache *cache = cache_of(L);
    long long length;
    if (!phi3_lua_is_integer(L, 2, &length))
        luaL_argerror(L, 2, "the length to keep must be an integer");
    if (length < 0)
        return phi3_lua_fail_message(L, PHI3_ERROR_INVALID_ARGUMENT,
                                     "the length to keep is negative: %d", (int)length);
    return changed(L, phi3_cache_truncate(cache, (size_t)length, &error), &error);
}

static int reset(lua_State *L)
{
    phi3_error error;
    return changed(L, phi3_cache_reset(cache_of(L), &error), &error);
}

static int length_of(lua_State *L)
{
    size_t length;
    phi3_cache_ids(cache_of(L), &length);
    lua_pushinteger(L, (lua_Integer)length);
    return 1;
}

static int ids(lua_State *L)
{
    size_t length;
    const int32_t *seen = phi3_cache_ids(cache_of(L), &length);
    phi3_lua_push_ids(L, seen, length);
    return 1;
}

static int nbytes(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)phi3_cache_bytes(cache_of(L)));
    return 1;
}

static const luaL_Reg methods[] = {
    {"fork", fork_cache}, {"truncate", truncate_cache},
    {"reset", reset},     {"get_seq_length", length_of},
    {"ids", ids},         {"nbytes", nbytes},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__len", length_of},
    {NULL, NULL},
};

const phi3_lua_type phi3_lua_cache_type = {"phi3.Cache", release, methods, metamethods};
