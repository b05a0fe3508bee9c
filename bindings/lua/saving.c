/* saving.c - writing models as GGUF files: the function quantize and Model's save. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "binding.h"

typedef struct save_options {
    phi3_save_options save;
    int progress;
} save_options;

static const phi3_lua_field save_fields[] = {
    {"overwrite", PHI3_LUA_BOOLEAN, offsetof(save_options, save.overwrite), 0},
    {"n_threads", PHI3_LUA_INT, offsetof(save_options, save.n_threads), 0},
    {"progress", PHI3_LUA_FUNCTION, offsetof(save_options, progress), 0},
    {NULL, 0, 0, 0},
};

static int finish(lua_State *L, phi3_lua_call *call, phi3_status status, const phi3_error *error)
{
    phi3_lua_call_end(call);
    if (status != PHI3_OK)
        return phi3_lua_fail(L, status, error);
    lua_pushboolean(L, true);
    return 1;
}

/* quantize(path, type, out_path, options) -> true; a type of nil: as the weights are stored */
int phi3_lua_quantize(lua_State *L)
{
    phi3_error error;
    save_options options = {0};
    const char *path = phi3_lua_check_name(L, 1);
    const char *type = phi3_lua_is_absent(L, 2) ? NULL : phi3_lua_check_name(L, 2);
    const char *out_path = phi3_lua_check_name(L, 3);
    if (!phi3_lua_read_options(L, 4, "quantize()", save_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    phi3_lua_call call = phi3_lua_call_begin(L, options.progress);
    options.save.progress = phi3_lua_progress;
    options.save.progress_data = &call;
    phi3_status status = phi3_quantize(path, type, out_path, &options.save, &error);
    return finish(L, &call, status, &error);
}

/* model:save(path, options) -> true */
int phi3_lua_model_save(lua_State *L)
{
    phi3_error error;
    save_options options = {0};
    phi3_lua_object *model = phi3_lua_check(L, 1, &phi3_lua_model_type);
    const char *path = phi3_lua_check_name(L, 2);
    if (!phi3_lua_read_options(L, 3, "save()", save_fields, &options, &error))
        return phi3_lua_fail(L, error.code, &error);
    phi3_lua_call call = phi3_lua_call_begin(L, options.progress);
    options.save.progress = phi3_lua_progress;
    options.save.progress_data = &call;
    phi3_lua_hold(model);
    phi3_status status = phi3_model_save(model->handle, path, &options.save, &error);
    phi3_lua_let_go(model);
    return finish(L, &call, status, &error);
}

/* make_directory(path) -> true, also when it is there: Lua's own library has no such function */
int phi3_lua_make_directory(lua_State *L)
{
    const char *path = phi3_lua_check_name(L, 1);
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return phi3_lua_fail_message(L, PHI3_ERROR_IO, "%s: cannot make the directory: %s", path,
                                     strerror(errno));
    lua_pushboolean(L, true);
    return 1;
}
