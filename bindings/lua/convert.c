/*
 * convert.c - ids, messages and names between Lua and the library.
 *
 * Tables are read raw: no metamethod runs in between. A value of the wrong type is misuse and raises
 * an error; a number that cannot be a token id is a failure like those of the library.
 */
#include <stdio.h>
#include <string.h>

#include "binding.h"

/* ---- Ids ----------------------------------------------------------------------------------------- */

static bool store_id(long long value, int32_t *id, phi3_error *error)
{
    if (value < 0 || value > INT32_MAX) {
        error->code = PHI3_ERROR_INVALID_ARGUMENT;
        snprintf(error->message, sizeof error->message, "%lld is not a token id", value);
        return false;
    }
    *id = (int32_t)value;
    return true;
}

bool phi3_lua_to_ids(lua_State *L, int index, const int32_t **ids, size_t *count, phi3_error *error)
{
    index = phi3_lua_absolute(L, index);
    if (!lua_istable(L, index))
        phi3_lua_misuse(L, "token ids must be a table of integers, not %s",
                        luaL_typename(L, index));
    size_t length = phi3_lua_length(L, index);
    int32_t *values = phi3_lua_scratch(L, (length + 1) * sizeof *values, NULL);
    for (size_t i = 0; i < length; i++) {
        long long value;
        lua_rawgeti(L, index, (int)i + 1);
        if (!phi3_lua_is_integer(L, -1, &value))
            phi3_lua_misuse(L, "token ids must be integers, but number %d is a %s", (int)i + 1,
                            lua_type(L, -1) == LUA_TNUMBER ? "fraction" : luaL_typename(L, -1));
        lua_pop(L, 1);
        if (!store_id(value, &values[i], error))
            return false;
    }
    *ids = values;
    *count = length;
    return true;
}

void phi3_lua_push_ids(lua_State *L, const int32_t *ids, size_t count)
{
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_pushinteger(L, ids[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

/* ---- Names ---------------------------------------------------------------------------------------- */

const char *phi3_lua_check_name(lua_State *L, int argument)
{
    size_t size;
    luaL_checktype(L, argument, LUA_TSTRING);
    const char *name = lua_tolstring(L, argument, &size);
    if (strlen(name) != size)
        luaL_argerror(L, argument, "the string holds a NUL character");
    return name;
}

/* How many letters must be changed, added, dropped or swapped to make b of a. */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 48 };
    int rows[3][LONGEST + 1];
    int n = (int)strlen(b);
    if (n > LONGEST || strlen(a) > LONGEST)
        return LONGEST;
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= n; j++)
        last[j] = before[j] = j;
    for (int i = 1; a[i - 1] != '\0'; i++) {
        now[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = before[j - 2] + 1 < best ? before[j - 2] + 1 : best;
            now[j] = best;
        }
        int *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[n];
}

const char *phi3_lua_closest(const char *name, const char *const *names)
{
    const char *closest = NULL;
    int least = 1 + (int)strlen(name) / 3;
    for (; *names != NULL; names++) {
        int changes = distance(name, *names);
        if (changes <= least && (closest == NULL || changes < least)) {
            closest = *names;
            least = changes;
        }
    }
    return closest;
}

/* ---- Messages ------------------------------------------------------------------------------------- */

static bool refuse(phi3_error *error, phi3_status status, const char *format, const char *key,
                   const char *type)
{
    error->code = status;
    snprintf(error->message, sizeof error->message, format, key, type);
    return false;
}

/* The string `key` of the message at the top of the stack, which keeps it; NULL when there is none
 * and none has to be. */
static bool text_field(lua_State *L, const char *key, bool required, const char **text,
                       size_t *size, phi3_error *error)
{
    lua_pushstring(L, key);
    lua_rawget(L, -2);
    *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, size) : NULL;
    const char *type = luaL_typename(L, -1);
    bool absent = phi3_lua_is_absent(L, -1);
    lua_pop(L, 1);
    if (*text != NULL || (absent && !required))
        return true;
    if (absent)
        return refuse(error, PHI3_ERROR_INVALID_ARGUMENT, "a chat message has no '%s'%s", key, "");
    return refuse(error, PHI3_ERROR_TYPE, "the %s of a chat message must be a string, not a %s",
                  key, type);
}

static bool read_message(lua_State *L, phi3_message *message, phi3_error *error)
{
    size_t role_size, tools_size = 0;
    if (!lua_istable(L, -1))
        return refuse(error, PHI3_ERROR_TYPE, "a chat message must be a table, not a %s%s",
                      luaL_typename(L, -1), "");
    if (!text_field(L, "role", true, &message->role, &role_size, error) ||
        !text_field(L, "content", true, &message->content, &message->content_size, error) ||
        !text_field(L, "tools", false, &message->tools, &tools_size, error))
        return false;
    if (strlen(message->role) != role_size ||
        (message->tools != NULL && strlen(message->tools) != tools_size))
        return refuse(error, PHI3_ERROR_INVALID_ARGUMENT, "a chat message's %s holds a NUL%s",
                      "role or tools", "");
    return true;
}

bool phi3_lua_to_messages(lua_State *L, int index, const phi3_message **messages, size_t *count,
                          phi3_error *error)
{
    index = phi3_lua_absolute(L, index);
    if (!lua_istable(L, index))
        phi3_lua_misuse(L, "messages must be a table of messages, not %s", luaL_typename(L, index));
    size_t length = phi3_lua_length(L, index);
    phi3_message *values = phi3_lua_scratch(L, (length + 1) * sizeof *values, NULL);
    for (size_t i = 0; i < length; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        bool ok = read_message(L, &values[i], error);
        lua_pop(L, 1);
        if (!ok)
            return false;
    }
    *messages = values;
    *count = length;
    return true;
}
