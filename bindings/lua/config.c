/* config.c - a model's hyper-parameters in, a table with their names out. */
#include "binding.h"

#define FIELD(member, kind)                             \
    {                                                   \
#member, kind, offsetof(phi3_config, member), 0 \
    }

static const phi3_lua_field fields[] = {
    FIELD(model_type, PHI3_LUA_STRING),
    FIELD(name, PHI3_LUA_STRING),
    FIELD(vocab_size, PHI3_LUA_SIZE),
    FIELD(hidden_size, PHI3_LUA_SIZE),
    FIELD(intermediate_size, PHI3_LUA_SIZE),
    FIELD(num_hidden_layers, PHI3_LUA_SIZE),
    FIELD(num_attention_heads, PHI3_LUA_SIZE),
    FIELD(num_key_value_heads, PHI3_LUA_SIZE),
    FIELD(head_dim, PHI3_LUA_SIZE),
    FIELD(max_position_embeddings, PHI3_LUA_SIZE),
    FIELD(original_max_position_embeddings, PHI3_LUA_SIZE),
    FIELD(sliding_window, PHI3_LUA_SIZE),
    FIELD(rms_norm_eps, PHI3_LUA_FLOAT),
    FIELD(tie_word_embeddings, PHI3_LUA_BOOLEAN),
    FIELD(rope_theta, PHI3_LUA_FLOAT),
    FIELD(partial_rotary_factor, PHI3_LUA_FLOAT),
    FIELD(rotary_dim, PHI3_LUA_SIZE),
    FIELD(rope_attention_factor, PHI3_LUA_FLOAT),
    FIELD(dtype, PHI3_LUA_STRING),
    FIELD(n_parameters, PHI3_LUA_SIZE),
    FIELD(weight_bytes, PHI3_LUA_SIZE),
    FIELD(embedding_bytes, PHI3_LUA_SIZE),
    {NULL, 0, 0, 0},
};

/* LongRoPE's factors, [count], as the field `name` of the table at the top, where there are any. */
static void set_factors(lua_State *L, const char *name, const float *factors, size_t count)
{
    if (factors == NULL)
        return;
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_pushnumber(L, factors[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, name);
}

void phi3_lua_push_config(lua_State *L, const phi3_config *config)
{
    phi3_lua_push_fields(L, fields, config);
    lua_pushstring(L, config->rope_type == PHI3_ROPE_LONGROPE ? "longrope" : "default");
    lua_setfield(L, -2, "rope_type");
    set_factors(L, "short_factor", config->short_factor, config->rotary_dim / 2);
    set_factors(L, "long_factor", config->long_factor, config->rotary_dim / 2);
}
