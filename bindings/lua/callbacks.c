/*
 * callbacks.c - letting Lua in while the library computes.
 *
 * The library asks often whether to go on; Lua is asked at once, then every 20 ms. Where the caller gave no
 * function an empty one is called all the same: with it Lua's hooks run, and the `lua` program
 * answers Ctrl-C by one. What a function raises is kept until the library has returned.
 */
#include <time.h>

#include "binding.h"

#define CHECK_INTERVAL 20000000 /* nanoseconds */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int do_nothing(lua_State *L)
{
    (void)L;
    return 0;
}

phi3_lua_call phi3_lua_call_begin(lua_State *L, int function)
{
    luaL_checkstack(L, LUA_MINSTACK, "no room for a callback");
    phi3_lua_call call = {.L = L, .function = function, .last_check = now() - CHECK_INTERVAL};
    if (function == 0) { /* now, because pushing one may fail */
        lua_pushcfunction(L, do_nothing);
        call.function = lua_gettop(L);
        call.is_idle = true;
    }
    return call;
}

void phi3_lua_call_end(phi3_lua_call *call)
{
    if (call->raised)
        lua_error(call->L);
}

/* Calls the function with what has been pushed after it. Returns whether to stop. */
static bool ask(phi3_lua_call *call, int n_arguments)
{
    lua_State *L = call->L;
    call->raised = lua_pcall(L, n_arguments, 1, 0) != 0;
    if (call->raised)
        return true; /* the error stays where it is */
    bool stop = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return stop;
}

bool phi3_lua_interrupt(void *user_data)
{
    phi3_lua_call *call = user_data;
    if (call->raised || now() - call->last_check < CHECK_INTERVAL)
        return call->raised;
    lua_pushvalue(call->L, call->function);
    bool stop = ask(call, 0);
    call->last_check = now();
    return stop;
}

bool phi3_lua_progress(float done, void *user_data)
{
    phi3_lua_call *call = user_data;
    if (call->is_idle || call->raised)
        return phi3_lua_interrupt(call);
    lua_pushvalue(call->L, call->function);
    lua_pushnumber(call->L, done);
    return ask(call, 1);
}
