/*
 * binding.h - what the files of phi3.core share: objects, conversions, failures and the callbacks
 * that let Lua in while the library computes.
 *
 * The binding only converts: Lua values in, a call of phi3.h, Lua values or a failure out. What a
 * type does is in the file named after it; what users see, from `require "phi3"`, is written in Lua
 * on top of it.
 *
 * Lua leaves a C function by longjmp when it runs out of memory or raises an error. So nothing that
 * malloc gave may be held in a local variable while Lua is called: memory belongs to a userdata from
 * the start, either an object (phi3_lua_new) or scratch memory (phi3_lua_scratch).
 */
#ifndef PHI3_LUA_BINDING_H
#define PHI3_LUA_BINDING_H

#include "compat.h"
#include "phi3.h"

/* ---- Objects --------------------------------------------------------------------------------- */

/* A type of userdata, e.g. phi3.Model around a phi3_model. */
typedef struct phi3_lua_type {
    const char *name; /* "phi3.Model": its metatable's key in the registry, and its __name */
    void (*release)(void *handle);
    const luaL_Reg *methods; /* beside close(), which every type has */
    const luaL_Reg *metamethods;
} phi3_lua_type;

/* A handle of the library and what must outlive it. Counted: the userdata holds it and so does every
 * object that needs it, so neither close() nor the order of finalisers can free a model that a cache
 * still uses. */
typedef struct phi3_lua_object {
    void *handle; /* NULL until it is there */
    const phi3_lua_type *type;
    size_t n_references;
    size_t n_needs;
    struct phi3_lua_object *needs[]; /* [n_needs] */
} phi3_lua_object;

extern const phi3_lua_type phi3_lua_model_type;
extern const phi3_lua_type phi3_lua_tokenizer_type;
extern const phi3_lua_type phi3_lua_cache_type;
extern const phi3_lua_type phi3_lua_generation_type;
extern const phi3_lua_type phi3_lua_random_type;
extern const phi3_lua_type phi3_lua_stream_decoder_type;
extern const phi3_lua_type phi3_lua_engine_type;
extern const phi3_lua_type phi3_lua_request_type;

/* Creates the type's metatable. */
void phi3_lua_add_type(lua_State *L, const phi3_lua_type *type);

/* Pushes a new userdata. Its object has no handle yet, which counts as closed, and room for
 * `max_needs` needs. */
phi3_lua_object *phi3_lua_new(lua_State *L, const phi3_lua_type *type, size_t max_needs);

/* `needed` will live at least as long as `object`. */
void phi3_lua_need(phi3_lua_object *object, phi3_lua_object *needed);

/* The object of the argument; an error when it is of another type or has been closed. */
phi3_lua_object *phi3_lua_check(lua_State *L, int argument, const phi3_lua_type *type);

/* The same for any stack index; NULL when it is of another type. */
phi3_lua_object *phi3_lua_test(lua_State *L, int index, const phi3_lua_type *type);

/* A callback may close the object that a call is using: the call holds it meanwhile. */
void phi3_lua_hold(phi3_lua_object *object);
void phi3_lua_let_go(phi3_lua_object *object);

/* Lets the collector work: objects hold memory that it cannot see. */
void phi3_lua_collect(lua_State *L);

/* Pushes a userdata of `size` zeroed bytes. `release`, which may be NULL, gets them at the end. */
void *phi3_lua_scratch(lua_State *L, size_t size, void (*release)(void *memory));
void phi3_lua_add_scratch(lua_State *L);

/* ---- Failures -------------------------------------------------------------------------------- */

/* Pushes what a function returns for something that can happen: nil, message, code. The code is
 * phi3_status_name: "not found", "busy", ... */
int phi3_lua_fail(lua_State *L, phi3_status status, const phi3_error *error);

/* The same with a message of the binding's own. */
int phi3_lua_fail_message(lua_State *L, phi3_status status, const char *format, ...);

/* Raises an error for a wrong type or an unknown name. Without a position: the Lua part puts that of
 * the user's call before it. */
int phi3_lua_misuse(lua_State *L, const char *format, ...);

/* ---- Conversions: a wrong type is misuse and raises an error ----------------------------------- */

/* Token ids from a table of integers. Pushes the memory that holds them, or returns false with
 * `error` filled when a number cannot be an id. */
bool phi3_lua_to_ids(lua_State *L, int index, const int32_t **ids, size_t *count,
                     phi3_error *error);

void phi3_lua_push_ids(lua_State *L, const int32_t *ids, size_t count);

/* Messages from a table of {role = , content = , tools = }, whose strings they borrow: the table
 * must stay as it is. Pushes the memory that holds them, or returns false with `error` filled. */
bool phi3_lua_to_messages(lua_State *L, int index, const phi3_message **messages, size_t *count,
                          phi3_error *error);

/* Text without a NUL in it, for the library's NUL-terminated arguments. */
const char *phi3_lua_check_name(lua_State *L, int argument);

/* The spelling among `names` (NULL-terminated) that `name` may have been meant for, or NULL. */
const char *phi3_lua_closest(const char *name, const char *const *names);

/* ---- Options: a table's fields to a struct's ---------------------------------------------------- */

typedef enum phi3_lua_kind {
    PHI3_LUA_BOOLEAN,  /* bool */
    PHI3_LUA_INT,      /* int */
    PHI3_LUA_INT32,    /* int32_t */
    PHI3_LUA_INT64,    /* int64_t */
    PHI3_LUA_SIZE,     /* size_t */
    PHI3_LUA_NUMBER,   /* double */
    PHI3_LUA_FLOAT,    /* float */
    PHI3_LUA_STRING,   /* const char *, borrowed from the table */
    PHI3_LUA_FUNCTION, /* int: where on the stack the function is */
    PHI3_LUA_IDS,      /* const int32_t *, and its size_t count at `count_offset` */
    PHI3_LUA_STRINGS   /* const char *const *, and its size_t count at `count_offset` */
} phi3_lua_kind;

typedef struct phi3_lua_field {
    const char *name; /* NULL ends an array of fields */
    phi3_lua_kind kind;
    size_t offset;
    size_t count_offset;
} phi3_lua_field;

/*
 * Reads the table at `index` (nil and none: no options) into `target`. Fields that are nil or
 * phi3.null stay as they are. An unknown name is an error that suggests the nearest one; `function`
 * is who says so. Pushes what the results borrow from, so the top of the stack moves. Returns false
 * with `error` filled when a number cannot be what it should.
 */
bool phi3_lua_read_options(lua_State *L, int index, const char *function,
                           const phi3_lua_field *fields, void *target, phi3_error *error);

/* The other way round: pushes a table of the struct's booleans, numbers and strings by their names. */
void phi3_lua_push_fields(lua_State *L, const phi3_lua_field *fields, const void *source);

/* The generation arguments, by transformers' names, over what is in `config`. The same rules. */
bool phi3_lua_read_generation_config(lua_State *L, int index, const char *function,
                                     phi3_generation_config *config, phi3_error *error);

/* ---- Calls that take long ----------------------------------------------------------------------- */

/* One call of the library. Its address is the user_data of both callbacks. */
typedef struct phi3_lua_call {
    lua_State *L;
    int function;       /* stack index of the function */
    bool is_idle;       /* it is one of ours that does nothing */
    int64_t last_check; /* when Lua was last let in, in nanoseconds */
    bool raised;        /* the function's error is at the top of the stack */
} phi3_lua_call;

/* `function`: the stack index of the caller's, or 0. May push; makes sure of the stack that the
 * callbacks need. */
phi3_lua_call phi3_lua_call_begin(lua_State *L, int function);

/* Raises the error that a callback has raised; to be called when all memory is safe. */
void phi3_lua_call_end(phi3_lua_call *call);

/* Stop the library when the function returns true or raises. Lua's own hooks get their chance, so
 * Ctrl-C is answered in the middle of a call. */
bool phi3_lua_interrupt(void *call);
bool phi3_lua_progress(float done, void *call);

/* ---- Parts of the module: each adds its functions to the table at the top of the stack ----------- */

void phi3_lua_add_log(lua_State *L);
void phi3_lua_add_json(lua_State *L);
void phi3_lua_add_logits(lua_State *L);

int phi3_lua_model_new(lua_State *L);
int phi3_lua_model_save(lua_State *L);
int phi3_lua_quantize(lua_State *L);
int phi3_lua_make_directory(lua_State *L);
int phi3_lua_tokenizer_new(lua_State *L);
int phi3_lua_cache_new(lua_State *L);
int phi3_lua_generation_new(lua_State *L);
int phi3_lua_random_new(lua_State *L);
int phi3_lua_stream_decoder_new(lua_State *L);
int phi3_lua_engine_new(lua_State *L);

/* Pushes Logits of up to three dimensions, filled with zeros, whose values Lua's collector owns. */
float *phi3_lua_push_logits(lua_State *L, int n_dims, const size_t *shape);

/* The hyper-parameters as a table, by their names in phi3_config. */
void phi3_lua_push_config(lua_State *L, const phi3_config *config);

#endif
