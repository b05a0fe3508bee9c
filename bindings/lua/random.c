/* random.c - the type Random: a seed in, the random numbers of sampling out. */
#include <unistd.h>

#include "binding.h"

/* A seed is 64 bits; a number from Lua 5.1 has 53 of them. Negative ones wrap around, as in torch. */
static uint64_t check_seed(lua_State *L, int argument)
{
    long long seed;
    if (!phi3_lua_is_integer(L, argument, &seed))
        luaL_argerror(L, argument, "a seed must be an integer");
    return (uint64_t)seed;
}

/* random(seed); without one the system chooses */
int phi3_lua_random_new(lua_State *L)
{
    phi3_error error;
    phi3_random *random = NULL;
    uint64_t seed;
    if (!phi3_lua_is_absent(L, 1))
        seed = check_seed(L, 1);
    else if (getentropy(&seed, sizeof seed) != 0)
        return phi3_lua_fail_message(L, PHI3_ERROR_IO, "the system has no random numbers");
    phi3_lua_object *object = phi3_lua_new(L, &phi3_lua_random_type, 0);
    phi3_status status = phi3_random_create(seed, &random, &error);
    object->handle = random;
    return status == PHI3_OK ? 1 : phi3_lua_fail(L, status, &error);
}

static void release(void *handle)
{
    phi3_random_free(handle);
}

static int seed_random(lua_State *L)
{
    phi3_random *random = phi3_lua_check(L, 1, &phi3_lua_random_type)->handle;
    phi3_random_seed(random, check_seed(L, 2));
    return 0;
}

/* The next 64 random bits; those of Lua 5.1 that a double can hold are the upper ones. */
static int next_bits(lua_State *L)
{
    phi3_random *random = phi3_lua_check(L, 1, &phi3_lua_random_type)->handle;
    uint64_t bits = phi3_random_next(random);
#if LUA_VERSION_NUM >= 504
    lua_pushinteger(L, (lua_Integer)bits);
#else
    lua_pushnumber(L, (double)bits);
#endif
    return 1;
}

static const luaL_Reg methods[] = {
    {"seed", seed_random},
    {"next", next_bits},
    {NULL, NULL},
};

const phi3_lua_type phi3_lua_random_type = {"phi3.Random", release, methods, NULL};
