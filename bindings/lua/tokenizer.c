/* tokenizer.c - the type Tokenizer: text to ids and back, its vocabulary, and chats to prompts. */
#include "binding.h"

static phi3_tokenizer *tokenizer_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_tokenizer_type)->handle;
}

/* tokenizer(path) */
int phi3_lua_tokenizer_new(lua_State *L)
{
    phi3_error error;
    phi3_tokenizer *tokenizer = NULL;
    const char *path = phi3_lua_check_name(L, 1);
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_tokenizer_type, 0);
    phi3_status status = phi3_tokenizer_load(path, &tokenizer, &error);
    object->handle = tokenizer;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

static void release(void *handle)
{
    phi3_tokenizer_free(handle);
}

/* ---- Text to ids and back ---------------------------------------------------------------------------- */

typedef struct encode_options {
    phi3_encode_options encode;
    bool offsets;
} encode_options;

static const phi3_lua_field encode_fields[] = {
    {"add_special_tokens", PHI3_LUA_BOOLEAN, offsetof(encode_options, encode.add_special_tokens),
     0},
    {"split_special_tokens", PHI3_LUA_BOOLEAN,
     offsetof(encode_options, encode.split_special_tokens), 0},
    {"offsets", PHI3_LUA_BOOLEAN, offsetof(encode_options, offsets), 0},
    {NULL, 0, 0, 0},
};

static void free_encoding(void *encoding)
{
    phi3_encoding_free(encoding);
}

/* Pushes {first, last} for each token, so that text:sub(first, last) is where it stood. */
static void push_offsets(lua_State *L, const phi3_encoding *encoding)
{
    lua_createtable(L, (int)encoding->count, 0);
    for (size_t i = 0; i < encoding->count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushinteger(L, (lua_Integer)encoding->offsets[i].start + 1);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, (lua_Integer)encoding->offsets[i].end);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

/* tokenizer:encode(text, options) -> ids, offsets */
static int encode(lua_State *L)
{
    phi3_error error;
    encode_options options = {{true, false}, false};
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    size_t size;
    luaL_checktype(L, 2, LUA_TSTRING);
    const char *text = lua_tolstring(L, 2, &size);
    if (!phi3_lua_read_options(L, 3, "encode()", encode_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    phi3_encoding *encoding = phi3_lua_scratch(L, sizeof *encoding, free_encoding);
    phi3_status status =
        phi3_tokenizer_encode(tokenizer, text, size, &options.encode, encoding, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    phi3_lua_push_ids(L, encoding->ids, encoding->count);
    if (!options.offsets)
        return 1;
    push_offsets(L, encoding);
    return 2;
}

static void free_text(void *memory)
{
    phi3_free(*(char **)memory);
}

/* tokenizer:decode(ids, skip_special_tokens) */
static int decode(lua_State *L)
{
    phi3_error error;
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    const int32_t *ids;
    size_t count, size;
    if (!phi3_lua_to_ids(L, 2, &ids, &count, &error))
        return phi3_lua_fail(L, error.code, &error);
    char **text = phi3_lua_scratch(L, sizeof *text, free_text);
    phi3_status status =
        phi3_tokenizer_decode(tokenizer, ids, count, lua_toboolean(L, 3), text, &size, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushlstring(L, *text, size);
    return 1;
}

/* ---- Vocabulary -------------------------------------------------------------------------------------- */

static void push_id(lua_State *L, int32_t id)
{
    if (id < 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, id);
}

static int token_to_id(lua_State *L)
{
    size_t size;
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    luaL_checktype(L, 2, LUA_TSTRING);
    const char *token = lua_tolstring(L, 2, &size);
    push_id(L, phi3_tokenizer_token_to_id(tokenizer, token, size));
    return 1;
}

static int id_to_token(lua_State *L)
{
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    const char *token = NULL;
    size_t size;
    long long id;
    if (!phi3_lua_is_integer(L, 2, &id))
        luaL_argerror(L, 2, "a token id must be an integer");
    if (id >= 0 && id <= INT32_MAX)
        token = phi3_tokenizer_id_to_token(tokenizer, (int32_t)id, &size);
    if (token == NULL)
        lua_pushnil(L);
    else
        lua_pushlstring(L, token, size);
    return 1;
}

static const phi3_lua_field added_token_fields[] = {
    {"id", PHI3_LUA_INT32, offsetof(phi3_added_token, id), 0},
    {"content", PHI3_LUA_STRING, offsetof(phi3_added_token, content), 0},
    {"special", PHI3_LUA_BOOLEAN, offsetof(phi3_added_token, special), 0},
    {"lstrip", PHI3_LUA_BOOLEAN, offsetof(phi3_added_token, lstrip), 0},
    {"rstrip", PHI3_LUA_BOOLEAN, offsetof(phi3_added_token, rstrip), 0},
    {"single_word", PHI3_LUA_BOOLEAN, offsetof(phi3_added_token, single_word), 0},
    {"normalized", PHI3_LUA_BOOLEAN, offsetof(phi3_added_token, normalized), 0},
    {NULL, 0, 0, 0},
};

static int added_tokens(lua_State *L)
{
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    size_t count = phi3_tokenizer_added_token_count(tokenizer);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        phi3_added_token token = phi3_tokenizer_added_token(tokenizer, i);
        phi3_lua_push_fields(L, added_token_fields, &token);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int special_ids(lua_State *L)
{
    static const struct {
        const char *name;
        phi3_special_token role;
    } roles[] = {{"bos_token", PHI3_TOKEN_BOS},
                 {"eos_token", PHI3_TOKEN_EOS},
                 {"unk_token", PHI3_TOKEN_UNK},
                 {"pad_token", PHI3_TOKEN_PAD}};
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    lua_newtable(L);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        push_id(L, phi3_tokenizer_special_id(tokenizer, roles[i].role));
        lua_setfield(L, -2, roles[i].name);
    }
    return 1;
}

static int vocab_size(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)phi3_tokenizer_vocab_size(tokenizer_of(L)));
    return 1;
}

static int length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)phi3_tokenizer_length(tokenizer_of(L)));
    return 1;
}

static int model_max_length(lua_State *L)
{
    size_t most = phi3_tokenizer_model_max_length(tokenizer_of(L));
    if (most == SIZE_MAX)
        lua_pushnil(L);
    else
        lua_pushinteger(L, (lua_Integer)most);
    return 1;
}

/* ---- Chats --------------------------------------------------------------------------------------------- */

static int chat_template(lua_State *L)
{
    lua_pushstring(L, phi3_tokenizer_chat_template(tokenizer_of(L))); /* NULL becomes nil */
    return 1;
}

static const phi3_lua_field chat_fields[] = {
    {"add_generation_prompt", PHI3_LUA_BOOLEAN, offsetof(phi3_chat_options, add_generation_prompt),
     0},
    {"continue_final_message", PHI3_LUA_BOOLEAN,
     offsetof(phi3_chat_options, continue_final_message), 0},
    {NULL, 0, 0, 0},
};

/* tokenizer:render_chat(messages, options) */
static int render_chat(lua_State *L)
{
    phi3_error error;
    phi3_chat_options options = {0};
    const phi3_tokenizer *tokenizer = tokenizer_of(L);
    const phi3_message *messages;
    size_t count, size;
    if (!phi3_lua_read_options(L, 3, "render_chat()", chat_fields, &options, &error) ||
        !phi3_lua_to_messages(L, 2, &messages, &count, &error))
        return phi3_lua_fail(L, error.code, &error);
    char **text = phi3_lua_scratch(L, sizeof *text, free_text);
    phi3_status status =
        phi3_chat_render(tokenizer, messages, count, &options, text, &size, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushlstring(L, *text, size);
    return 1;
}

static const luaL_Reg methods[] = {
    {"encode", encode},
    {"decode", decode},
    {"token_to_id", token_to_id},
    {"id_to_token", id_to_token},
    {"added_tokens", added_tokens},
    {"special_ids", special_ids},
    {"vocab_size", vocab_size},
    {"length", length},
    {"model_max_length", model_max_length},
    {"chat_template", chat_template},
    {"render_chat", render_chat},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__len", length},
    {NULL, NULL},
};

const phi3_lua_type phi3_lua_tokenizer_type = {"phi3.Tokenizer", release, methods, metamethods};
