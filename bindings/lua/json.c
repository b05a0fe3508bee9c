/*
 * json.c - the JSON that stands beside a model's weights: a file's name in, Lua values out.
 *
 * null becomes phi3.null, so that a list keeps its length and a key its place.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"

/* A file on its way to Lua. */
typedef struct document {
    FILE *file;
    char *text;
    cJSON *root;
} document;

static void free_document(void *memory)
{
    document *d = memory;
    if (d->file != NULL)
        fclose(d->file);
    free(d->text);
    cJSON_Delete(d->root);
}

static void push_value(lua_State *L, const cJSON *value)
{
    luaL_checkstack(L, LUA_MINSTACK, "JSON is nested too deeply");
    if (cJSON_IsString(value)) {
        lua_pushstring(L, value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        long long integer = (long long)value->valuedouble;
        if (value->valuedouble >= -0x1p53 && value->valuedouble <= 0x1p53 &&
            (double)integer == value->valuedouble)
            lua_pushinteger(L, (lua_Integer)integer);
        else
            lua_pushnumber(L, value->valuedouble);
    } else if (cJSON_IsBool(value)) {
        lua_pushboolean(L, cJSON_IsTrue(value));
    } else if (cJSON_IsArray(value) || cJSON_IsObject(value)) {
        lua_newtable(L);
        int place = 0;
        for (const cJSON *item = value->child; item != NULL; item = item->next) {
            push_value(L, item);
            if (cJSON_IsArray(value))
                lua_rawseti(L, -2, ++place);
            else
                lua_setfield(L, -2, item->string);
        }
    } else {
        lua_pushlightuserdata(L, NULL);
    }
}

/* Reads the whole file into d->text. */
static bool read_text(document *d, size_t *size)
{
    if (fseek(d->file, 0, SEEK_END) != 0)
        return false;
    long end = ftell(d->file);
    if (end < 0 || fseek(d->file, 0, SEEK_SET) != 0)
        return false;
    *size = (size_t)end;
    d->text = malloc(*size + 1);
    return d->text != NULL && fread(d->text, 1, *size, d->file) == *size;
}

/* read_json(path) -> value; nil when there is no such file */
static int read_json(lua_State *L)
{
    const char *path = phi3_lua_check_name(L, 1);
    document *d = phi3_lua_scratch(L, sizeof *d, free_document);
    size_t size;
    d->file = fopen(path, "rb");
    if (d->file == NULL && (errno == ENOENT || errno == ENOTDIR)) {
        lua_pushnil(L);
        return 1;
    }
    if (d->file == NULL || !read_text(d, &size))
        return phi3_lua_fail_message(L, PHI3_ERROR_IO, "%s: cannot read: %s", path,
                                     strerror(errno));
    d->root = cJSON_ParseWithLength(d->text, size);
    if (d->root == NULL)
        return phi3_lua_fail_message(L, PHI3_ERROR_BAD_FILE, "%s: not valid JSON", path);
    push_value(L, d->root);
    return 1;
}

void phi3_lua_add_json(lua_State *L)
{
    lua_pushcfunction(L, read_json);
    lua_setfield(L, -2, "read_json");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
}
