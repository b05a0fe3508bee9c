/*
 * logits.c - the type Logits: float32 values of up to three dimensions, [batch][n_tokens][vocab].
 *
 * Indexing counts from 1, as everywhere in Lua, and drops a dimension: logits[1][2][id + 1] is the
 * logit of a token id after the second token of the first row. What an index gives is a view of the
 * same memory, which belongs to Lua.
 */
#include <string.h>

#include "binding.h"

#define NAME "phi3.Logits"
#define MAX_DIMS 3

typedef struct logits {
    float *values; /* in this userdata, or in the one that a view keeps */
    int n_dims;
    size_t shape[MAX_DIMS];
    float memory[];
} logits;

static logits *new_logits(lua_State *L, int n_dims, const size_t *shape, size_t count)
{
    logits *self = phi3_lua_new_userdata(L, sizeof *self + count * sizeof(float));
    memset(self, 0, sizeof *self + count * sizeof(float));
    self->values = self->memory;
    self->n_dims = n_dims;
    memcpy(self->shape, shape, (size_t)n_dims * sizeof *shape);
    luaL_getmetatable(L, NAME);
    lua_setmetatable(L, -2);
    return self;
}

float *phi3_lua_push_logits(lua_State *L, int n_dims, const size_t *shape)
{
    size_t count = 1;
    for (int i = 0; i < n_dims; i++) {
        if (__builtin_mul_overflow(count, shape[i], &count) || count > SIZE_MAX / 8)
            luaL_error(L, "not enough memory");
    }
    return new_logits(L, n_dims, shape, count)->values;
}

static logits *check_logits(lua_State *L)
{
    return luaL_checkudata(L, 1, NAME);
}

/* The values of one index of the first dimension. */
static size_t stride_of(const logits *self)
{
    size_t stride = 1;
    for (int i = 1; i < self->n_dims; i++)
        stride *= self->shape[i];
    return stride;
}

static void push_at(lua_State *L, const logits *self, size_t index)
{
    const float *values = self->values + index * stride_of(self);
    if (self->n_dims == 1) {
        lua_pushnumber(L, *values);
        return;
    }
    logits *view = new_logits(L, self->n_dims - 1, self->shape + 1, 0);
    view->values = (float *)values;
    lua_pushvalue(L, 1);
    phi3_lua_keep(L, -2);
}

static int push_table(lua_State *L, const float *values, int n_dims, const size_t *shape)
{
    luaL_checkstack(L, LUA_MINSTACK, "too many dimensions");
    if (n_dims == 0) {
        lua_pushnumber(L, *values);
        return 1;
    }
    size_t stride = 1;
    for (int i = 1; i < n_dims; i++)
        stride *= shape[i];
    lua_createtable(L, (int)shape[0], 0);
    for (size_t i = 0; i < shape[0]; i++) {
        push_table(L, values + i * stride, n_dims - 1, shape + 1);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int to_list(lua_State *L)
{
    const logits *self = check_logits(L);
    return push_table(L, self->values, self->n_dims, self->shape);
}

static int shape_of(lua_State *L)
{
    const logits *self = check_logits(L);
    lua_createtable(L, self->n_dims, 0);
    for (int i = 0; i < self->n_dims; i++) {
        lua_pushinteger(L, (lua_Integer)self->shape[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg methods[] = {
    {"tolist", to_list},
    {"shape", shape_of},
    {NULL, NULL},
};

/* logits[i], and the methods, which are in the first upvalue. */
static int index_of(lua_State *L)
{
    long long index;
    const logits *self = check_logits(L);
    if (!phi3_lua_is_integer(L, 2, &index)) {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
    } else if (index < 1 || (unsigned long long)index > self->shape[0]) {
        lua_pushnil(L);
    } else {
        push_at(L, self, (size_t)index - 1);
    }
    return 1;
}

static int length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_logits(L)->shape[0]);
    return 1;
}

static int to_string(lua_State *L)
{
    const logits *self = check_logits(L);
    lua_pushliteral(L, NAME " [");
    for (int i = 0; i < self->n_dims; i++) {
        lua_pushfstring(L, i == 0 ? "%d" : ", %d", (int)self->shape[i]);
        lua_concat(L, 2);
    }
    lua_pushliteral(L, "]");
    lua_concat(L, 2);
    return 1;
}

void phi3_lua_add_logits(lua_State *L)
{
    static const luaL_Reg metamethods[] = {
        {"__len", length},
        {"__tostring", to_string},
        {NULL, NULL},
    };
    if (luaL_newmetatable(L, NAME)) {
        lua_pushliteral(L, NAME);
        lua_setfield(L, -2, "__name");
        lua_pushliteral(L, "phi3");
        lua_setfield(L, -2, "__metatable");
        phi3_lua_set_functions(L, metamethods);
        lua_newtable(L);
        phi3_lua_set_functions(L, methods);
        lua_pushcclosure(L, index_of, 1);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}
