/* stream_decoder.c - the type StreamDecoder: ids in, one by one, the text they complete out. */
#include "binding.h"

static phi3_stream_decoder *decoder_of(lua_State *L)
{
    return phi3_lua_check(L, 1, &phi3_lua_stream_decoder_type)->handle;
}

/* stream_decoder(tokenizer, skip_special_tokens) */
int phi3_lua_stream_decoder_new(lua_State *L)
{
    phi3_error error;
    phi3_stream_decoder *decoder = NULL;
    phi3_lua_object *tokenizer = phi3_lua_check(L, 1, &phi3_lua_tokenizer_type);
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_stream_decoder_type, 1);
    phi3_lua_need(object, tokenizer);
    phi3_status status =
        phi3_stream_decoder_create(tokenizer->handle, lua_toboolean(L, 2), &decoder, &error);
    object->handle = decoder;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

static void release(void *handle)
{
    phi3_stream_decoder_free(handle);
}

static int put(lua_State *L)
{
    phi3_error error;
    phi3_stream_decoder *decoder = decoder_of(L);
    const char *text;
    size_t size;
    long long id;
    if (!phi3_lua_is_integer(L, 2, &id))
        luaL_argerror(L, 2, "a token id must be an integer");
    if (id < 0 || id > INT32_MAX)
        return phi3_lua_fail_message(L, PHI3_ERROR_INVALID_ARGUMENT, "%f is not a token id",
                                     (double)id);
    phi3_status status = phi3_stream_decoder_put(decoder, (int32_t)id, &text, &size, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushlstring(L, text, size);
    return 1;
}

static int end(lua_State *L)
{
    phi3_error error;
    const char *text;
    size_t size;
    phi3_status status = phi3_stream_decoder_end(decoder_of(L), &text, &size, &error);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, &error);
    lua_pushlstring(L, text, size);
    return 1;
}

static const luaL_Reg methods[] = {
    {"put", put},
    {"finish", end}, /* "end" is a word of Lua's own */
    {NULL, NULL},
};

const phi3_lua_type phi3_lua_stream_decoder_type = {"phi3.StreamDecoder", release, methods, NULL};
