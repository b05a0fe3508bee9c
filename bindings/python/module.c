/*
 * module.c - phi3._phi3: the C library as Python sees it. Registers the types and the functions that
 * belong to none. What users import, from phi3, is written in Python on top of it.
 */
#include "binding.h"

int phi3_py_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

void phi3_py_release(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* ---- Functions ----------------------------------------------------------------------------------- */

static PyObject *resolve(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"name", "revision", "search_path", NULL};
    const char *name;
    phi3_resolve_options options = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$zz:resolve", keywords, &name,
                                     &options.revision, &options.search_path))
        return NULL;
    char *path;
    phi3_error error;
    phi3_status status = phi3_resolve(name, &options, &path, &error);
    if (status != PHI3_OK)
        return phi3_py_raise(PyModule_GetState(module), status, &error);
    PyObject *result = PyUnicode_DecodeFSDefault(path);
    phi3_free(path);
    return result;
}

static PyObject *backends(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    enum { MAX_BACKENDS = 32 };
    phi3_backend_info infos[MAX_BACKENDS];
    size_t count = phi3_backends(infos, MAX_BACKENDS);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < count && i < MAX_BACKENDS; i++) {
        PyObject *entry =
            Py_BuildValue("{ss sN ss}", "name", infos[i].name, "available",
                          PyBool_FromLong(infos[i].available), "detail", infos[i].detail);
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

static PyObject *cpu_isa(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyUnicode_FromString(phi3_cpu_isa());
}

static PyObject *default_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyLong_FromLong(phi3_default_threads());
}

static PyObject *measure_peaks(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"device", "n_threads", NULL};
    const char *device = "cpu";
    phi3_py_call call;
    phi3_run_options options = {.interrupt = phi3_py_interrupt, .interrupt_data = &call};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$si:measure_peaks", keywords, &device,
                                     &options.n_threads))
        return NULL;
    phi3_peaks p;
    phi3_error error;
    phi3_py_call_begin(&call, NULL);
    phi3_status status = phi3_measure_device_peaks(device, &options, &p, &error);
    phi3_py_call_end(&call);
    if (status != PHI3_OK)
        return phi3_py_raise(PyModule_GetState(module), status, &error);
    return Py_BuildValue("iddddddd", p.n_threads, p.read, p.product_f32, p.product_bf16,
                         p.product_int8, p.units_f32, p.units_bf16, p.units_int8);
}

static PyMethodDef functions[] = {
    {"resolve", (PyCFunction)(void (*)(void))resolve, METH_VARARGS | METH_KEYWORDS,
     "resolve(name, *, revision=None, search_path=None)\n\n"
     "The path of a model on this machine. Nothing is downloaded."},
    {"backends", backends, METH_NOARGS, "The backends, best first: name, available, detail."},
    {"cpu_isa", cpu_isa, METH_NOARGS, "The instruction set that the CPU kernels use."},
    {"default_threads", default_threads, METH_NOARGS, "Threads used when 0 are asked for."},
    {"measure_peaks", (PyCFunction)(void (*)(void))measure_peaks, METH_VARARGS | METH_KEYWORDS,
     "measure_peaks(*, device=\"cpu\", n_threads=0)\n\nThe fields of phi3.Peaks."},
    {"quantize", (PyCFunction)(void (*)(void))phi3_py_quantize, METH_VARARGS | METH_KEYWORDS,
     "quantize(path, type, out_path, *, overwrite=False, n_threads=0, progress=None)\n\n"
     "Writes a model as a GGUF file of this type (\"q4_k_m\", ...), or as it is stored (None)."},
    {"set_log_callback", phi3_py_set_log_callback, METH_O,
     "Sends every later log line to callback(level, message); None: nowhere."},
    {NULL},
};

/* ---- The module ---------------------------------------------------------------------------------- */

static int execute(PyObject *module)
{
    phi3_py_state *state = PyModule_GetState(module);
    const struct {
        PyType_Spec *spec;
        PyTypeObject **type;
    } types[] = {
        {&phi3_py_model_spec, &state->model_type},
        {&phi3_py_tokenizer_spec, &state->tokenizer_type},
        {&phi3_py_cache_spec, &state->cache_type},
        {&phi3_py_generation_spec, &state->generation_type},
        {&phi3_py_random_spec, &state->random_type},
        {&phi3_py_stream_decoder_spec, &state->stream_decoder_type},
        {&phi3_py_logits_spec, &state->logits_type},
        {&phi3_py_engine_spec, &state->engine_type},
        {&phi3_py_request_spec, &state->request_type},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (phi3_py_add_type(module, types[i].spec, types[i].type) < 0)
            return -1;
    if (phi3_py_add_errors(module, state) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", phi3_version());
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    phi3_py_state *state = PyModule_GetState(module);
    Py_VISIT(state->model_type);
    Py_VISIT(state->tokenizer_type);
    Py_VISIT(state->cache_type);
    Py_VISIT(state->generation_type);
    Py_VISIT(state->random_type);
    Py_VISIT(state->stream_decoder_type);
    Py_VISIT(state->logits_type);
    Py_VISIT(state->engine_type);
    Py_VISIT(state->request_type);
    for (size_t i = 0; i < PHI3_PY_N_ERRORS; i++)
        Py_VISIT(state->errors[i]);
    Py_VISIT(state->log_callback);
    return 0;
}

static int clear(PyObject *module)
{
    phi3_py_state *state = PyModule_GetState(module);
    Py_CLEAR(state->model_type);
    Py_CLEAR(state->tokenizer_type);
    Py_CLEAR(state->cache_type);
    Py_CLEAR(state->generation_type);
    Py_CLEAR(state->random_type);
    Py_CLEAR(state->stream_decoder_type);
    Py_CLEAR(state->logits_type);
    Py_CLEAR(state->engine_type);
    Py_CLEAR(state->request_type);
    for (size_t i = 0; i < PHI3_PY_N_ERRORS; i++)
        Py_CLEAR(state->errors[i]);
    phi3_py_clear_log_callback(state);
    return 0;
}

static void destroy(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,           .m_name = "phi3._phi3", .m_doc = "The C library behind phi3.",
    .m_size = sizeof(phi3_py_state), .m_methods = functions, .m_slots = slots,
    .m_traverse = traverse,          .m_clear = clear,       .m_free = destroy,
};

PyMODINIT_FUNC PyInit__phi3(void)
{
    return PyModuleDef_Init(&definition);
}
