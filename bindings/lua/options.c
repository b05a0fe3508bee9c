/*
 * options.c - a table of options in, the fields of a struct out.
 *
 * An option that does not exist is refused by name, with the name that may have been meant; one of
 * the wrong type by what it should have been.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "binding.h"

/* ---- Values ---------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {
    [PHI3_LUA_BOOLEAN] = "a boolean",
    [PHI3_LUA_INT] = "an integer",
    [PHI3_LUA_INT32] = "an integer",
    [PHI3_LUA_INT64] = "an integer",
    [PHI3_LUA_SIZE] = "an integer",
    [PHI3_LUA_NUMBER] = "a number",
    [PHI3_LUA_FLOAT] = "a number",
    [PHI3_LUA_STRING] = "a string",
    [PHI3_LUA_FUNCTION] = "a function",
    [PHI3_LUA_IDS] = "a table of integers",
    [PHI3_LUA_STRINGS] = "a string or a table of strings",
};

static int wrong_type(lua_State *L, const char *function, const phi3_lua_field *field)
{
    const char *given = luaL_typename(L, -1);
    if (lua_type(L, -1) == LUA_TNUMBER && field->kind != PHI3_LUA_STRING)
        given = lua_pushfstring(L, "%f", lua_tonumber(L, -1));
    return phi3_lua_misuse(L, "%s: `%s` must be %s, not %s", function, field->name,
                           kind_names[field->kind], given);
}

static bool out_of_range(const phi3_lua_field *field, long long value, phi3_error *error)
{
    error->code = PHI3_ERROR_INVALID_ARGUMENT;
    snprintf(error->message, sizeof error->message, "`%s` is out of range: %lld", field->name,
             value);
    return false;
}

static bool read_integer(lua_State *L, const char *function, const phi3_lua_field *field,
                         void *place, phi3_error *error)
{
    long long value;
    if (!phi3_lua_is_integer(L, -1, &value))
        wrong_type(L, function, field);
    bool fits = true;
    if (field->kind == PHI3_LUA_INT64) {
        *(int64_t *)place = value;
    } else if (field->kind == PHI3_LUA_SIZE) {
        fits = value >= 0;
        *(size_t *)place = (size_t)value;
    } else { /* int and int32_t are the same size on every machine this runs on */
        _Static_assert(sizeof(int) == sizeof(int32_t), "int has 32 bits");
        fits = value >= INT_MIN && value <= INT_MAX;
        *(int *)place = (int)value;
    }
    return fits || out_of_range(field, value, error);
}

/* A string without a NUL, or an error. */
static const char *read_string(lua_State *L, const char *function, const phi3_lua_field *field)
{
    size_t size;
    if (lua_type(L, -1) != LUA_TSTRING)
        wrong_type(L, function, field);
    const char *text = lua_tolstring(L, -1, &size);
    if (strlen(text) != size)
        phi3_lua_misuse(L, "%s: `%s` holds a NUL character", function, field->name);
    return text;
}

/* One string, or a table of them, as an array that borrows from them. */
static void read_strings(lua_State *L, const char *function, const phi3_lua_field *field,
                         char *target)
{
    int index = lua_gettop(L);
    bool single = lua_type(L, index) == LUA_TSTRING;
    if (!single && !lua_istable(L, index))
        wrong_type(L, function, field);
    size_t count = single ? 1 : phi3_lua_length(L, index);
    const char **strings = phi3_lua_scratch(L, (count + 1) * sizeof *strings, NULL);
    for (size_t i = 0; i < count; i++) {
        if (single)
            lua_pushvalue(L, index);
        else
            lua_rawgeti(L, index, (int)i + 1);
        strings[i] = read_string(L, function, field);
        lua_pop(L, 1);
    }
    *(const char *const **)(target + field->offset) = strings;
    *(size_t *)(target + field->count_offset) = count;
}

/* The value at the top of the stack, which stays there, as what it borrows from does. */
static bool read_value(lua_State *L, const char *function, const phi3_lua_field *field,
                       char *target, phi3_error *error)
{
    void *place = target + field->offset;
    switch (field->kind) {
    case PHI3_LUA_BOOLEAN:
        if (!lua_isboolean(L, -1))
            wrong_type(L, function, field);
        *(bool *)place = lua_toboolean(L, -1);
        return true;
    case PHI3_LUA_NUMBER:
        if (lua_type(L, -1) != LUA_TNUMBER)
            wrong_type(L, function, field);
        *(double *)place = lua_tonumber(L, -1);
        return true;
    case PHI3_LUA_FLOAT:
        if (lua_type(L, -1) != LUA_TNUMBER)
            wrong_type(L, function, field);
        *(float *)place = (float)lua_tonumber(L, -1);
        return true;
    case PHI3_LUA_STRING:
        *(const char **)place = read_string(L, function, field);
        return true;
    case PHI3_LUA_FUNCTION:
        if (!lua_isfunction(L, -1))
            wrong_type(L, function, field);
        *(int *)place = lua_gettop(L);
        return true;
    case PHI3_LUA_IDS:
        if (!lua_istable(L, -1))
            wrong_type(L, function, field);
        return phi3_lua_to_ids(L, -1, place, (size_t *)(target + field->count_offset), error);
    case PHI3_LUA_STRINGS:
        read_strings(L, function, field, target);
        return true;
    default:
        return read_integer(L, function, field, place, error);
    }
}

/* ---- Names ----------------------------------------------------------------------------------------- */

static const phi3_lua_field *field_named(const phi3_lua_field *fields, const char *name)
{
    for (; fields->name != NULL; fields++) {
        if (strcmp(fields->name, name) == 0)
            return fields;
    }
    return NULL;
}

static void refuse_name(lua_State *L, const char *function, const phi3_lua_field *fields,
                        const char *name)
{
    size_t count = 0;
    while (fields[count].name != NULL)
        count++;
    const char **names = phi3_lua_scratch(L, (count + 1) * sizeof *names, NULL);
    for (size_t i = 0; i < count; i++)
        names[i] = fields[i].name;
    const char *closest = phi3_lua_closest(name, names);
    if (closest != NULL)
        phi3_lua_misuse(L, "%s does not take '%s' (did you mean '%s'?)", function, name, closest);
    phi3_lua_misuse(L, "%s does not take '%s'", function, name);
}

static void refuse_unknown(lua_State *L, int index, const char *function,
                           const phi3_lua_field *fields)
{
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            phi3_lua_misuse(L, "%s: options are named by strings, not by a %s", function,
                            luaL_typename(L, -2));
        if (field_named(fields, lua_tostring(L, -2)) == NULL)
            refuse_name(L, function, fields, lua_tostring(L, -2));
    }
}

bool phi3_lua_read_options(lua_State *L, int index, const char *function,
                           const phi3_lua_field *fields, void *target, phi3_error *error)
{
    if (phi3_lua_is_absent(L, index))
        return true;
    index = phi3_lua_absolute(L, index);
    if (!lua_istable(L, index))
        phi3_lua_misuse(L, "%s: options must be a table, not %s", function,
                        luaL_typename(L, index));
    refuse_unknown(L, index, function, fields);
    for (; fields->name != NULL; fields++) {
        luaL_checkstack(L, LUA_MINSTACK, "too many options");
        lua_pushstring(L, fields->name);
        lua_rawget(L, index);
        if (phi3_lua_is_absent(L, -1))
            lua_pop(L, 1);
        else if (!read_value(L, function, fields, target, error))
            return false;
    }
    return true;
}

/* ---- From a struct ----------------------------------------------------------------------------------- */

static void push_value(lua_State *L, const phi3_lua_field *field, const char *source)
{
    const void *place = source + field->offset;
    switch (field->kind) {
    case PHI3_LUA_BOOLEAN:
        lua_pushboolean(L, *(const bool *)place);
        break;
    case PHI3_LUA_INT:
    case PHI3_LUA_INT32:
        lua_pushinteger(L, *(const int *)place);
        break;
    case PHI3_LUA_INT64:
        lua_pushinteger(L, (lua_Integer) * (const int64_t *)place);
        break;
    case PHI3_LUA_SIZE:
        lua_pushinteger(L, (lua_Integer) * (const size_t *)place);
        break;
    case PHI3_LUA_NUMBER:
        lua_pushnumber(L, *(const double *)place);
        break;
    case PHI3_LUA_FLOAT:
        lua_pushnumber(L, *(const float *)place);
        break;
    case PHI3_LUA_STRING:
        lua_pushstring(L, *(const char *const *)place);
        break;
    default:
        lua_pushnil(L); /* functions and lists do not come back */
    }
}

void phi3_lua_push_fields(lua_State *L, const phi3_lua_field *fields, const void *source)
{
    lua_newtable(L);
    for (; fields->name != NULL; fields++) {
        push_value(L, fields, source);
        lua_setfield(L, -2, fields->name);
    }
}

/* ---- Generation arguments ---------------------------------------------------------------------------- */

#define FIELD(member, kind)                                        \
    {                                                              \
#member, kind, offsetof(phi3_generation_config, member), 0 \
    }

static const phi3_lua_field generation_fields[] = {
    FIELD(max_new_tokens, PHI3_LUA_INT64),
    FIELD(max_length, PHI3_LUA_INT64),
    FIELD(min_new_tokens, PHI3_LUA_INT64),
    FIELD(min_length, PHI3_LUA_INT64),
    FIELD(do_sample, PHI3_LUA_BOOLEAN),
    FIELD(repetition_penalty, PHI3_LUA_NUMBER),
    FIELD(temperature, PHI3_LUA_NUMBER),
    FIELD(top_k, PHI3_LUA_INT64),
    FIELD(top_p, PHI3_LUA_NUMBER),
    FIELD(min_p, PHI3_LUA_NUMBER),
    FIELD(pad_token_id, PHI3_LUA_INT32),
    FIELD(num_return_sequences, PHI3_LUA_SIZE),
    FIELD(output_logits, PHI3_LUA_BOOLEAN),
    {"eos_token_id", PHI3_LUA_IDS, offsetof(phi3_generation_config, eos_token_ids),
     offsetof(phi3_generation_config, n_eos_token_ids)},
    {"stop_strings", PHI3_LUA_STRINGS, offsetof(phi3_generation_config, stop_strings),
     offsetof(phi3_generation_config, n_stop_strings)},
    {NULL, 0, 0, 0},
};

bool phi3_lua_read_generation_config(lua_State *L, int index, const char *function,
                                     phi3_generation_config *config, phi3_error *error)
{
    return phi3_lua_read_options(L, index, function, generation_fields, config, error);
}
