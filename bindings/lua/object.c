/*
 * object.c - userdata around the library's handles, and scratch memory.
 *
 * A userdata is born closed and gets its handle when everything that could fail has gone well. After
 * close() every use is an error, but a second close() is not.
 */
#include <stdlib.h>
#include <string.h>

#include "binding.h"

/* What a userdata of ours is: a pointer to its object, NULL once it is closed. */
typedef phi3_lua_object *slot;

void phi3_lua_hold(phi3_lua_object *object)
{
    object->n_references++;
}

void phi3_lua_let_go(phi3_lua_object *object)
{
    if (--object->n_references > 0)
        return;
    if (object->handle != NULL)
        object->type->release(object->handle);
    for (size_t i = 0; i < object->n_needs; i++)
        phi3_lua_let_go(object->needs[i]);
    free(object);
}

void phi3_lua_need(phi3_lua_object *object, phi3_lua_object *needed)
{
    phi3_lua_hold(needed);
    object->needs[object->n_needs++] = needed;
}

phi3_lua_object *phi3_lua_new(lua_State *L, const phi3_lua_type *type, size_t max_needs)
{
    slot *userdata = phi3_lua_new_userdata(L, sizeof *userdata);
    *userdata = NULL;
    luaL_getmetatable(L, type->name);
    lua_setmetatable(L, -2);
    phi3_lua_object *object = calloc(1, sizeof *object + max_needs * sizeof object->needs[0]);
    if (object == NULL)
        luaL_error(L, "not enough memory");
    object->type = type;
    object->n_references = 1;
    *userdata = object;
    return object;
}

/* ---- From the stack --------------------------------------------------------------------------- */

static slot *test_slot(lua_State *L, int index, const char *name)
{
    slot *userdata = lua_touserdata(L, index);
    if (userdata == NULL || !lua_getmetatable(L, index))
        return NULL;
    luaL_getmetatable(L, name);
    bool equal = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return equal ? userdata : NULL;
}

/* What an error message calls a value. */
static const char *name_of(lua_State *L, int index)
{
    if (lua_isuserdata(L, index) && luaL_getmetafield(L, index, "__name")) {
        if (lua_type(L, -1) == LUA_TSTRING)
            return lua_tostring(L, -1);
    }
    return luaL_typename(L, index);
}

phi3_lua_object *phi3_lua_test(lua_State *L, int index, const phi3_lua_type *type)
{
    slot *userdata = test_slot(L, index, type->name);
    if (userdata == NULL)
        return NULL;
    if (*userdata == NULL || (*userdata)->handle == NULL)
        phi3_lua_misuse(L, "attempt to use a closed %s", type->name);
    return *userdata;
}

phi3_lua_object *phi3_lua_check(lua_State *L, int argument, const phi3_lua_type *type)
{
    phi3_lua_object *object = phi3_lua_test(L, argument, type);
    if (object == NULL)
        luaL_argerror(L, argument,
                      lua_pushfstring(L, "%s expected, got %s", type->name, name_of(L, argument)));
    return object;
}

/* ---- Metatables: the type is the first upvalue of what all types share ------------------------- */

static slot *checked_slot(lua_State *L)
{
    const phi3_lua_type *type = lua_touserdata(L, lua_upvalueindex(1));
    slot *userdata = test_slot(L, 1, type->name);
    if (userdata == NULL)
        luaL_argerror(L, 1, lua_pushfstring(L, "%s expected, got %s", type->name, name_of(L, 1)));
    return userdata;
}

static int close(lua_State *L)
{
    slot *userdata = checked_slot(L);
    phi3_lua_object *object = *userdata;
    *userdata = NULL;
    if (object != NULL)
        phi3_lua_let_go(object);
    return 0;
}

static int to_string(lua_State *L)
{
    slot *userdata = checked_slot(L);
    const phi3_lua_type *type = lua_touserdata(L, lua_upvalueindex(1));
    if (*userdata == NULL)
        lua_pushfstring(L, "%s (closed)", type->name);
    else
        lua_pushfstring(L, "%s (%p)", type->name, (*userdata)->handle);
    return 1;
}

static void set_shared(lua_State *L, const phi3_lua_type *type, lua_CFunction function,
                       const char *name)
{
    lua_pushlightuserdata(L, (void *)type);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

void phi3_lua_add_type(lua_State *L, const phi3_lua_type *type)
{
    if (!luaL_newmetatable(L, type->name)) { /* the module was loaded before in this state */
        lua_pop(L, 1);
        return;
    }
    lua_pushstring(L, type->name);
    lua_setfield(L, -2, "__name");
    set_shared(L, type, close, "__gc");
    set_shared(L, type, close, "__close");
    set_shared(L, type, to_string, "__tostring");
    lua_pushliteral(L, "phi3"); /* getmetatable() gives this: nobody else changes it */
    lua_setfield(L, -2, "__metatable");
    if (type->metamethods != NULL)
        phi3_lua_set_functions(L, type->metamethods);
    lua_newtable(L);
    if (type->methods != NULL)
        phi3_lua_set_functions(L, type->methods);
    set_shared(L, type, close, "close");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void phi3_lua_collect(lua_State *L)
{
    enum { STEP = 256 }; /* kilobytes that the collector is to think have been asked for */
    lua_gc(L, LUA_GCSTEP, STEP);
}

/* ---- Scratch memory ---------------------------------------------------------------------------- */

#define SCRATCH "phi3.scratch"

typedef struct scratch {
    void (*release)(void *memory);
    int64_t memory[]; /* as aligned as LuaJIT's userdata are */
} scratch;

void *phi3_lua_scratch(lua_State *L, size_t size, void (*release)(void *memory))
{
    scratch *userdata = phi3_lua_new_userdata(L, sizeof *userdata + size);
    memset(userdata, 0, sizeof *userdata + size);
    userdata->release = release;
    luaL_getmetatable(L, SCRATCH);
    lua_setmetatable(L, -2);
    return userdata->memory;
}

static int scratch_gc(lua_State *L)
{
    scratch *userdata = lua_touserdata(L, 1);
    if (userdata->release != NULL)
        userdata->release(userdata->memory);
    userdata->release = NULL;
    return 0;
}

void phi3_lua_add_scratch(lua_State *L)
{
    if (luaL_newmetatable(L, SCRATCH)) {
        lua_pushcfunction(L, scratch_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "phi3");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}
