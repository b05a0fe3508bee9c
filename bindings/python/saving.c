/* saving.c - writing models as GGUF files: the function quantize and Model.save. */
#include "binding.h"

/* What both calls take beside their paths. */
typedef struct save_call {
    phi3_save_options options;
    phi3_py_call call;
    PyObject *progress;
} save_call;

static void save_begin(save_call *save)
{
    save->options.progress = phi3_py_progress;
    save->options.progress_data = &save->call;
    phi3_py_call_begin(&save->call, save->progress == Py_None ? NULL : save->progress);
}

PyObject *phi3_py_quantize(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"path",      "type",     "out_path", "overwrite",
                               "n_threads", "progress", NULL};
    PyObject *path, *out_path;
    const char *type;
    int overwrite = 0;
    save_call save = {.progress = Py_None};
    path = out_path = NULL; /* the converter frees the first when the second fails */
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O&zO&|$piO:quantize", keywords, PyUnicode_FSConverter, &path, &type,
            PyUnicode_FSConverter, &out_path, &overwrite, &save.options.n_threads, &save.progress))
        return NULL;
    save.options.overwrite = overwrite;
    const char *from = PyBytes_AsString(path), *to = PyBytes_AsString(out_path);
    phi3_error error;
    save_begin(&save);
    phi3_status status = phi3_quantize(from, type, to, &save.options, &error);
    phi3_py_call_end(&save.call);
    Py_DECREF(path);
    Py_DECREF(out_path);
    if (status != PHI3_OK)
        return phi3_py_raise(PyModule_GetState(module), status, &error);
    Py_RETURN_NONE;
}

PyObject *phi3_py_model_save(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"path", "overwrite", "n_threads", "progress", NULL};
    PyObject *path = NULL;
    int overwrite = 0;
    save_call save = {.progress = Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$piO:save", keywords, PyUnicode_FSConverter,
                                     &path, &overwrite, &save.options.n_threads, &save.progress))
        return NULL;
    save.options.overwrite = overwrite;
    const char *to = PyBytes_AsString(path);
    const phi3_model *model = ((phi3_py_model *)object)->model;
    phi3_error error;
    save_begin(&save);
    phi3_status status = phi3_model_save(model, to, &save.options, &error);
    phi3_py_call_end(&save.call);
    Py_DECREF(path);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    Py_RETURN_NONE;
}
