/*
 * engine.c - the types Engine and Request: prompts in, text as it comes, without waiting for it.
 *
 * An engine keeps its model and tokenizer alive, and a request its engine.
 */
#include "binding.h"

typedef struct engine {
    PyObject_HEAD phi3_engine *engine; /* NULL: closed */
    PyObject *model, *tokenizer;
} engine;

typedef struct request {
    PyObject_HEAD phi3_request *request;
    PyObject *engine;
} request;

/* ---- Engine -------------------------------------------------------------------------------------- */

static PyObject *engine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"model",      "tokenizer", "n_slots", "n_queue",
                               "max_length", "n_threads", NULL};
    phi3_py_state *state = PyType_GetModuleState(type);
    PyObject *model, *tokenizer;
    Py_ssize_t n_slots = 0, n_queue = 0, max_length = 0;
    phi3_engine_options options = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!|$nnni:Engine", keywords, state->model_type,
                                     &model, state->tokenizer_type, &tokenizer, &n_slots, &n_queue,
                                     &max_length, &options.n_threads))
        return NULL;
    if (n_slots < 0 || n_queue < 0 || max_length < 0)
        return phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT,
                                     "n_slots, n_queue and max_length must not be negative");
    options.n_slots = (size_t)n_slots;
    options.n_queue = (size_t)n_queue;
    options.max_length = (size_t)max_length;
    engine *self = (engine *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->model = Py_NewRef(model);
    self->tokenizer = Py_NewRef(tokenizer);
    phi3_error error;
    phi3_status status = phi3_engine_create(((phi3_py_model *)model)->model,
                                            ((phi3_py_tokenizer *)tokenizer)->tokenizer, &options,
                                            &self->engine, &error);
    if (status != PHI3_OK) {
        Py_DECREF((PyObject *)self);
        return phi3_py_raise(state, status, &error);
    }
    return (PyObject *)self;
}

/* Stops the thread, which may take as long as a part of a layer. */
static void stop(engine *self)
{
    phi3_engine *stopped = self->engine;
    self->engine = NULL;
    Py_BEGIN_ALLOW_THREADS phi3_engine_free(stopped);
    Py_END_ALLOW_THREADS
}

static void engine_dealloc(PyObject *object)
{
    engine *self = (engine *)object;
    stop(self);
    Py_XDECREF(self->model);
    Py_XDECREF(self->tokenizer);
    phi3_py_release(object);
}

static PyObject *engine_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    stop((engine *)object);
    Py_RETURN_NONE;
}

static phi3_engine *open_engine(PyObject *object)
{
    phi3_engine *found = ((engine *)object)->engine;
    if (found == NULL)
        phi3_py_raise_message(phi3_py_state_of(object), PHI3_ERROR_INVALID_ARGUMENT,
                              "the engine is closed");
    return found;
}

/* [(bound, count), ...] */
static PyObject *buckets_of(const phi3_engine_stats *stats)
{
    PyObject *list = PyList_New(PHI3_FIRST_TOKEN_BUCKETS);
    for (Py_ssize_t i = 0; list != NULL && i < PHI3_FIRST_TOKEN_BUCKETS; i++) {
        PyObject *pair = Py_BuildValue("(dn)", stats->first_token_bounds[i],
                                       (Py_ssize_t)stats->first_token_buckets[i]);
        if (pair == NULL || PyList_SetItem(list, i, pair) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *engine_stats(PyObject *object, PyObject *Py_UNUSED(unused))
{
    phi3_engine *opened = open_engine(object);
    if (opened == NULL)
        return NULL;
    phi3_engine_stats s = phi3_engine_get_stats(opened);
    PyObject *buckets = buckets_of(&s);
    if (buckets == NULL)
        return NULL;
    return Py_BuildValue("{sn sn sn sn sn sn sn sn sn sn sn sn sn sn sd sd sn sd sN}", "n_slots",
                         (Py_ssize_t)s.n_slots, "n_running", (Py_ssize_t)s.n_running, "n_queue",
                         (Py_ssize_t)s.n_queue, "n_waiting", (Py_ssize_t)s.n_waiting, "kv_bytes",
                         (Py_ssize_t)s.kv_bytes, "n_submitted", (Py_ssize_t)s.n_submitted,
                         "n_refused", (Py_ssize_t)s.n_refused, "n_finished",
                         (Py_ssize_t)s.n_finished, "n_cancelled", (Py_ssize_t)s.n_cancelled,
                         "n_failed", (Py_ssize_t)s.n_failed, "n_steps", (Py_ssize_t)s.n_steps,
                         "prompt_tokens", (Py_ssize_t)s.prompt_tokens, "reused_tokens",
                         (Py_ssize_t)s.reused_tokens, "new_tokens", (Py_ssize_t)s.new_tokens,
                         "prompt_seconds", s.prompt_seconds, "decode_seconds", s.decode_seconds,
                         "n_first_tokens", (Py_ssize_t)s.n_first_tokens, "first_token_seconds",
                         s.first_token_seconds, "first_token_buckets", buckets);
}

/* ---- Submitting ---------------------------------------------------------------------------------- */

/* Reads what submit() is given beside the generation settings. *ids is freed with PyMem_Free. */
static bool read_request(phi3_py_state *state, PyObject *args, PyObject *kwargs,
                         phi3_request_options *options, int32_t **ids)
{
    static char *keywords[] = {"prompt", "seed", "add_special_tokens", NULL};
    PyObject *prompt;
    unsigned long long seed = 0;
    int special = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$Kp:submit", keywords, &prompt, &seed,
                                     &special))
        return false;
    options->seed = seed;
    options->add_special_tokens = special != 0;
    if (PyUnicode_Check(prompt)) {
        options->text = phi3_py_to_utf8(state, prompt, &options->size);
        return options->text != NULL;
    }
    if (!phi3_py_to_ids(state, prompt, ids, &options->count))
        return false;
    options->ids = *ids;
    return true;
}

static PyObject *submit(PyObject *object, phi3_engine *opened, const phi3_request_options *options)
{
    phi3_py_state *state = phi3_py_state_of(object);
    request *made = (request *)PyType_GenericAlloc(state->request_type, 0);
    if (made == NULL)
        return NULL;
    made->engine = Py_NewRef(object);
    phi3_error error;
    phi3_status status = phi3_engine_submit(opened, options, &made->request, &error);
    if (status != PHI3_OK) {
        Py_DECREF((PyObject *)made);
        return phi3_py_raise(state, status, &error);
    }
    return (PyObject *)made;
}

static PyObject *engine_submit(PyObject *object, PyObject *args, PyObject *kwargs)
{
    phi3_py_state *state = phi3_py_state_of(object);
    phi3_engine *opened = open_engine(object);
    phi3_py_generation_config settings;
    if (opened == NULL)
        return NULL;
    PyObject *rest = phi3_py_take_generation_config(state, kwargs, &settings), *result = NULL;
    if (rest == NULL)
        return NULL;
    phi3_request_options options = {.config = &settings.config};
    int32_t *ids = NULL;
    if (read_request(state, args, rest, &options, &ids))
        result = submit(object, opened, &options);
    PyMem_Free(ids);
    phi3_py_clear_generation_config(&settings);
    Py_DECREF(rest);
    return result;
}

/* ---- Request ------------------------------------------------------------------------------------- */

static const char *const finish_names[] = {NULL, "eos", "stop", "length"};

static void request_dealloc(PyObject *object)
{
    request *self = (request *)object;
    phi3_request_free(self->request);
    Py_XDECREF(self->engine);
    phi3_py_release(object);
}

static PyObject *request_take(PyObject *object, PyObject *Py_UNUSED(unused))
{
    request *self = (request *)object;
    phi3_error error;
    phi3_news news;
    phi3_status status = phi3_request_take(self->request, &news, &error);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    PyObject *ids = phi3_py_from_ids(news.ids, news.n_ids);
    if (ids == NULL)
        return NULL;
    const char *finish = finish_names[phi3_request_get_info(self->request).finish];
    return Py_BuildValue("(s#Nz)", news.text, (Py_ssize_t)news.size, ids,
                         news.finished ? finish : NULL);
}

static PyObject *request_cancel(PyObject *object, PyObject *Py_UNUSED(unused))
{
    phi3_request_cancel(((request *)object)->request);
    Py_RETURN_NONE;
}

static PyObject *request_fileno(PyObject *object, PyObject *Py_UNUSED(unused))
{
    phi3_error error;
    int descriptor;
    phi3_status status = phi3_request_descriptor(((request *)object)->request, &descriptor, &error);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    return PyLong_FromLong(descriptor);
}

static PyObject *request_info(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const char *const states[] = {"waiting", "running", "ended"};
    phi3_request_info i = phi3_request_get_info(((request *)object)->request);
    return Py_BuildValue("{ss sz sn sn sn sd sd sd sd}", "state", states[i.state], "finish_reason",
                         finish_names[i.finish], "prompt_tokens", (Py_ssize_t)i.prompt_tokens,
                         "reused_tokens", (Py_ssize_t)i.reused_tokens, "new_tokens",
                         (Py_ssize_t)i.new_tokens, "queue_seconds", i.queue_seconds,
                         "prompt_seconds", i.prompt_seconds, "decode_seconds", i.decode_seconds,
                         "first_token_seconds", i.first_token_seconds);
}

/* ---- Types --------------------------------------------------------------------------------------- */

static PyMethodDef engine_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))engine_submit, METH_VARARGS | METH_KEYWORDS,
     "submit(prompt, *, seed=0, add_special_tokens=True, ...)\n\n"
     "Puts a text or ids into the queue; the rest are the settings of Generation."},
    {"stats", engine_stats, METH_NOARGS, "The fields of phi3_engine_stats."},
    {"close", engine_close, METH_NOARGS, "Stops the requests and the thread."},
    {NULL},
};

static PyMethodDef request_methods[] = {
    {"take", request_take, METH_NOARGS,
     "What is new, without waiting: (text, ids, finish reason or None)."},
    {"cancel", request_cancel, METH_NOARGS, "Stops within one step."},
    {"fileno", request_fileno, METH_NOARGS, "Can be read from while there is news to take."},
    {"info", request_info, METH_NOARGS, "The fields of phi3_request_info."},
    {NULL},
};

static PyType_Slot engine_slots[] = {
    {Py_tp_doc, "Engine(model, tokenizer, *, n_slots=0, n_queue=0, max_length=0, n_threads=0)\n\n"
                "A thread that generates for many requests together."},
    {Py_tp_new, engine_new},
    {Py_tp_dealloc, engine_dealloc},
    {Py_tp_methods, engine_methods},
    {0, NULL},
};

static PyType_Slot request_slots[] = {
    {Py_tp_doc, "What Engine.submit() gives."},
    {Py_tp_dealloc, request_dealloc},
    {Py_tp_methods, request_methods},
    {0, NULL},
};

PyType_Spec phi3_py_engine_spec = {
    .name = "phi3._phi3.Engine",
    .basicsize = sizeof(engine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = engine_slots,
};

PyType_Spec phi3_py_request_spec = {
    .name = "phi3._phi3.Request",
    .basicsize = sizeof(request),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = request_slots,
};
