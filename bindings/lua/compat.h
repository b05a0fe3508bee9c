/*
 * compat.h - one C source for two ABIs: Lua 5.4, and Lua 5.1 as LuaJIT and OpenResty have it.
 *
 * What the two name differently has one name of ours here; the rest of the binding knows no version.
 */
#ifndef PHI3_LUA_COMPAT_H
#define PHI3_LUA_COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* A userdata that can keep one Lua value alive. */
static inline void *phi3_lua_new_userdata(lua_State *L, size_t size)
{
#if LUA_VERSION_NUM >= 504
    return lua_newuserdatauv(L, size, 1);
#else
    return lua_newuserdata(L, size);
#endif
}

/* Makes the userdata at `index` keep the value at the top of the stack, which is popped. */
static inline void phi3_lua_keep(lua_State *L, int index)
{
#if LUA_VERSION_NUM >= 504
    lua_setiuservalue(L, index, 1);
#else
    lua_createtable(L, 1, 0);
    lua_insert(L, -2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, index);
#endif
}

/* Pushes what the userdata at `index` keeps. */
static inline void phi3_lua_push_kept(lua_State *L, int index)
{
#if LUA_VERSION_NUM >= 504
    lua_getiuservalue(L, index, 1);
#else
    lua_getfenv(L, index);
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
#endif
}

/* nil, nothing, or the null of phi3, lua-cjson and OpenResty, which is a light userdata of NULL. */
static inline bool phi3_lua_is_absent(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) ||
           (lua_islightuserdata(L, index) && lua_touserdata(L, index) == NULL);
}

/* Whether the value is a number without a fraction that fits; a string of digits is none. */
static inline bool phi3_lua_is_integer(lua_State *L, int index, long long *value)
{
    *value = 0;
    if (lua_type(L, index) != LUA_TNUMBER)
        return false;
#if LUA_VERSION_NUM >= 504
    int is_integer;
    *value = lua_tointegerx(L, index, &is_integer);
    return is_integer;
#else
    double number = lua_tonumber(L, index);
    if (!(number >= -0x1p53 && number <= 0x1p53)) /* what a double holds exactly; no NaN either */
        return false;
    *value = (long long)number;
    return (double)*value == number;
#endif
}

static inline int phi3_lua_absolute(lua_State *L, int index)
{
    return index > 0 || index <= LUA_REGISTRYINDEX ? index : lua_gettop(L) + index + 1;
}

static inline size_t phi3_lua_length(lua_State *L, int index)
{
#if LUA_VERSION_NUM >= 502
    return (size_t)lua_rawlen(L, index);
#else
    return lua_objlen(L, index);
#endif
}

/* Adds functions to the table at the top of the stack. */
static inline void phi3_lua_set_functions(lua_State *L, const luaL_Reg *functions)
{
    for (; functions->name != NULL; functions++) {
        lua_pushcfunction(L, functions->func);
        lua_setfield(L, -2, functions->name);
    }
}

#endif
