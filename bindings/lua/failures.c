/* failures.c - a phi3_status and its message in; nil, message, code out. And misuse: an error. */
#include <stdarg.h>

#include "binding.h"

static int push_failure(lua_State *L, phi3_status status)
{
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushstring(L, phi3_status_name(status));
    return 3;
}

int phi3_lua_fail(lua_State *L, phi3_status status, const phi3_error *error)
{
    lua_pushstring(L, error->message);
    return push_failure(L, status);
}

int phi3_lua_fail_message(lua_State *L, phi3_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    lua_pushvfstring(L, format, arguments);
    va_end(arguments);
    return push_failure(L, status);
}

int phi3_lua_misuse(lua_State *L, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    lua_pushvfstring(L, format, arguments);
    va_end(arguments);
    return lua_error(L);
}
