/*
 * generation.c - the type Generation: prompts and settings in, tokens out, one step at a time or all
 * of them at once.
 *
 * The object keeps everything alive that the library's generation uses. The GIL is free while it
 * computes, and Ctrl-C is answered between the parts of a layer.
 */
#include <string.h>

#include "binding.h"

typedef struct generation {
    PyObject_HEAD phi3_generation *generation;
    size_t vocab_size;
    int n_threads;
    bool done;
    PyObject *kept; /* a tuple of the model, tokenizer, random and caches in use */
} generation;

/* ---- Settings ------------------------------------------------------------------------------------ */

/* The arguments of Generation(), before they are what the library takes. */
typedef struct settings {
    PyObject *model, *prompts, *caches, *tokenizer, *random;
    phi3_py_generation_config generation;
    int n_threads;
    phi3_prompt *prompt_array; /* [n_prompts], owning their ids */
    PyObject **cache_array;    /* [n_prompts] strong references, NULL where there is no cache */
    size_t n_prompts;
} settings;

static void settings_free(settings *s)
{
    for (size_t i = 0; s->prompt_array != NULL && i < s->n_prompts; i++)
        PyMem_Free((void *)s->prompt_array[i].ids);
    for (size_t i = 0; s->cache_array != NULL && i < s->n_prompts; i++)
        Py_XDECREF(s->cache_array[i]);
    PyMem_Free(s->prompt_array);
    PyMem_Free(s->cache_array);
    phi3_py_clear_generation_config(&s->generation);
}

static bool parse(phi3_py_state *state, PyObject *args, PyObject *kwargs, settings *s)
{
    static char *keywords[] = {"model",  "prompts",   "caches", "tokenizer",
                               "random", "n_threads", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!|$OOOi:Generation", keywords,
                                     state->model_type, &s->model, &PyList_Type, &s->prompts,
                                     &s->caches, &s->tokenizer, &s->random, &s->n_threads))
        return false;
    if ((s->tokenizer != Py_None && Py_TYPE(s->tokenizer) != state->tokenizer_type) ||
        (s->random != Py_None && Py_TYPE(s->random) != state->random_type)) {
        phi3_py_raise_message(state, PHI3_ERROR_TYPE,
                              "tokenizer must be a Tokenizer and random a Random, or None");
        return false;
    }
    return true;
}

static bool read_prompts(phi3_py_state *state, settings *s)
{
    s->n_prompts = (size_t)PyList_Size(s->prompts);
    s->prompt_array = PyMem_Calloc(s->n_prompts + 1, sizeof *s->prompt_array);
    s->cache_array = PyMem_Calloc(s->n_prompts + 1, sizeof *s->cache_array);
    if (s->prompt_array == NULL || s->cache_array == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; i < s->n_prompts; i++) {
        int32_t *ids;
        phi3_prompt *prompt = &s->prompt_array[i];
        PyObject *row = PyList_GetItem(s->prompts, (Py_ssize_t)i);
        if (!phi3_py_to_ids(state, row, &ids, &prompt->count))
            return false;
        prompt->ids = ids;
        if (s->caches == Py_None)
            continue;
        PyObject *cache = s->cache_array[i] = PySequence_GetItem(s->caches, (Py_ssize_t)i);
        if (cache == NULL)
            return false;
        if (cache == Py_None)
            continue;
        if (Py_TYPE(cache) != state->cache_type) {
            phi3_py_raise_message(state, PHI3_ERROR_TYPE, "caches must be phi3.Cache objects");
            return false;
        }
        prompt->cache = ((phi3_py_cache *)cache)->cache;
    }
    return true;
}

/* `kwargs` without the generation settings, which are read already. */
static bool settings_read(phi3_py_state *state, PyObject *args, PyObject *kwargs, settings *s)
{
    s->caches = s->tokenizer = s->random = Py_None;
    return parse(state, args, kwargs, s) && read_prompts(state, s);
}

/* ---- Life ---------------------------------------------------------------------------------------- */

static PyObject *keep_alive(const settings *s)
{
    PyObject *kept = PyTuple_New(3 + (Py_ssize_t)s->n_prompts);
    if (kept == NULL)
        return NULL;
    PyTuple_SetItem(kept, 0, Py_NewRef(s->model));
    PyTuple_SetItem(kept, 1, Py_NewRef(s->tokenizer));
    PyTuple_SetItem(kept, 2, Py_NewRef(s->random));
    for (size_t i = 0; i < s->n_prompts; i++) {
        PyObject *cache = s->cache_array[i] != NULL ? s->cache_array[i] : Py_None;
        PyTuple_SetItem(kept, 3 + (Py_ssize_t)i, Py_NewRef(cache));
    }
    return kept;
}

static bool generation_start(phi3_py_state *state, generation *self, const settings *s)
{
    phi3_model *model = ((phi3_py_model *)s->model)->model;
    phi3_tokenizer *tokenizer = NULL;
    phi3_random *random = NULL;
    if (s->tokenizer != Py_None)
        tokenizer = ((phi3_py_tokenizer *)s->tokenizer)->tokenizer;
    if (s->random != Py_None)
        random = ((phi3_py_random *)s->random)->random;
    self->vocab_size = phi3_model_config(model)->vocab_size;
    self->n_threads = s->n_threads;
    self->kept = keep_alive(s);
    if (self->kept == NULL)
        return false;
    phi3_error error;
    phi3_status status;
    Py_BEGIN_ALLOW_THREADS status =
        phi3_generation_create(model, tokenizer, &s->generation.config, random, s->prompt_array,
                               s->n_prompts, &self->generation, &error);
    Py_END_ALLOW_THREADS if (status != PHI3_OK) phi3_py_raise(state, status, &error);
    return status == PHI3_OK;
}

static PyObject *generation_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    phi3_py_state *state = PyType_GetModuleState(type);
    generation *self = (generation *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    settings s = {0};
    PyObject *rest = phi3_py_take_generation_config(state, kwargs, &s.generation);
    bool ok =
        rest != NULL && settings_read(state, args, rest, &s) && generation_start(state, self, &s);
    settings_free(&s);
    Py_XDECREF(rest);
    if (!ok) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void generation_dealloc(PyObject *object)
{
    generation *self = (generation *)object;
    phi3_generation_free(self->generation);
    Py_XDECREF(self->kept);
    phi3_py_release(object);
}

/* ---- Steps --------------------------------------------------------------------------------------- */

static PyObject *generation_step(PyObject *object, PyObject *Py_UNUSED(unused))
{
    generation *self = (generation *)object;
    size_t rows = phi3_generation_rows(self->generation);
    int32_t *tokens = PyMem_Calloc(rows + 1, sizeof *tokens);
    if (tokens == NULL)
        return PyErr_NoMemory();
    phi3_py_call call;
    phi3_run_options options = {
        .interrupt = phi3_py_interrupt, .interrupt_data = &call, .n_threads = self->n_threads};
    phi3_error error;
    bool done = false;
    phi3_py_call_begin(&call, NULL);
    phi3_status status = phi3_generation_step(self->generation, &options, tokens, &done, &error);
    phi3_py_call_end(&call);
    PyObject *result = NULL;
    if (status != PHI3_OK) {
        phi3_py_raise(phi3_py_state_of(object), status, &error);
    } else {
        self->done = done;
        result = phi3_py_from_ids(tokens, rows);
    }
    PyMem_Free(tokens);
    return result;
}

/* Tokens [n_steps][rows] as nested lists [rows][n_steps]. */
static PyObject *rows_of(const int32_t *tokens, size_t n_steps, size_t rows)
{
    PyObject *result = PyList_New((Py_ssize_t)rows);
    for (size_t row = 0; result != NULL && row < rows; row++) {
        PyObject *list = PyList_New((Py_ssize_t)n_steps);
        if (list == NULL || PyList_SetItem(result, (Py_ssize_t)row, list) < 0) {
            Py_DECREF(result);
            return NULL;
        }
        for (size_t i = 0; i < n_steps; i++) {
            PyObject *token = PyLong_FromLong(tokens[i * rows + row]);
            if (token == NULL || PyList_SetItem(list, (Py_ssize_t)i, token) < 0) {
                Py_DECREF(result);
                return NULL;
            }
        }
    }
    return result;
}

static PyObject *generation_run(PyObject *object, PyObject *Py_UNUSED(unused))
{
    generation *self = (generation *)object;
    int32_t *tokens = NULL;
    size_t n_steps = 0;
    phi3_py_call call;
    phi3_run_options options = {
        .interrupt = phi3_py_interrupt, .interrupt_data = &call, .n_threads = self->n_threads};
    phi3_error error;
    phi3_py_call_begin(&call, NULL);
    phi3_status status = phi3_generation_run(self->generation, &options, &tokens, &n_steps, &error);
    phi3_py_call_end(&call);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    self->done = true;
    PyObject *result = rows_of(tokens, n_steps, phi3_generation_rows(self->generation));
    phi3_free(tokens);
    return result;
}

/* ---- Looking inside ------------------------------------------------------------------------------ */

/* Copies what `row_values` lends for each row to Logits [rows][vocab]. */
static PyObject *copy_rows(PyObject *object,
                           const float *(*row_values)(const phi3_generation *, size_t))
{
    generation *self = (generation *)object;
    size_t rows = phi3_generation_rows(self->generation);
    if (row_values(self->generation, 0) == NULL)
        return phi3_py_raise_message(phi3_py_state_of(object), PHI3_ERROR_INVALID_ARGUMENT,
                                     "logits and scores are there after the first step, of a "
                                     "generation with output_logits");
    Py_ssize_t shape[2] = {(Py_ssize_t)rows, (Py_ssize_t)self->vocab_size};
    float *values;
    PyObject *logits = phi3_py_logits_new(phi3_py_state_of(object), 2, shape, &values);
    for (size_t row = 0; logits != NULL && row < rows; row++)
        memcpy(values + row * self->vocab_size, row_values(self->generation, row),
               self->vocab_size * sizeof *values);
    return logits;
}

static PyObject *generation_logits(PyObject *object, PyObject *Py_UNUSED(unused))
{
    return copy_rows(object, phi3_generation_logits);
}

static PyObject *generation_scores(PyObject *object, PyObject *Py_UNUSED(unused))
{
    return copy_rows(object, phi3_generation_scores);
}

static PyObject *generation_finish_reasons(PyObject *object, void *Py_UNUSED(closure))
{
    static const char *const names[] = {NULL, "eos", "stop", "length"};
    generation *self = (generation *)object;
    size_t rows = phi3_generation_rows(self->generation);
    PyObject *list = PyList_New((Py_ssize_t)rows);
    for (size_t row = 0; list != NULL && row < rows; row++) {
        const char *name = names[phi3_generation_finish(self->generation, row)];
        PyObject *reason = name == NULL ? Py_NewRef(Py_None) : PyUnicode_FromString(name);
        if (reason == NULL || PyList_SetItem(list, (Py_ssize_t)row, reason) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *generation_timings(PyObject *object, void *Py_UNUSED(closure))
{
    phi3_timings t = phi3_generation_timings(((generation *)object)->generation);
    return Py_BuildValue(
        "{sn sn sn sn sd sd sd sd sd}", "prompt_tokens", (Py_ssize_t)t.prompt_tokens,
        "reused_tokens", (Py_ssize_t)t.reused_tokens, "computed_tokens",
        (Py_ssize_t)t.computed_tokens, "new_tokens", (Py_ssize_t)t.new_tokens, "prompt_seconds",
        t.prompt_seconds, "decode_seconds", t.decode_seconds, "first_token_seconds",
        t.first_token_seconds, "prompt_tokens_per_second", t.prompt_tokens_per_second,
        "decode_tokens_per_second", t.decode_tokens_per_second);
}

static PyObject *generation_done(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((generation *)object)->done);
}

static PyMethodDef generation_methods[] = {
    {"step", generation_step, METH_NOARGS, "Chooses one token for every row and returns them."},
    {"run", generation_run, METH_NOARGS, "All steps to the end: the new tokens of every row."},
    {"logits", generation_logits, METH_NOARGS, "What the last step saw, [rows][vocab]."},
    {"scores", generation_scores, METH_NOARGS, "The same after processing, [rows][vocab]."},
    {NULL},
};

static PyGetSetDef generation_attributes[] = {
    {"done", generation_done, NULL, "Whether every row has finished.", NULL},
    {"timings", generation_timings, NULL, "Where the time has gone so far, as phi3_timings.", NULL},
    {"finish_reasons", generation_finish_reasons, NULL,
     "\"eos\", \"stop\", \"length\" or None for each row.", NULL},
    {NULL},
};

static PyType_Slot generation_slots[] = {
    {Py_tp_doc, "Generation(model, prompts, *, caches=None, tokenizer=None, random=None, ...)\n\n"
                "Continues lists of ids together. A row that has finished gets pad_token_id."},
    {Py_tp_new, generation_new},
    {Py_tp_dealloc, generation_dealloc},
    {Py_tp_methods, generation_methods},
    {Py_tp_getset, generation_attributes},
    {0, NULL},
};

PyType_Spec phi3_py_generation_spec = {
    .name = "phi3._phi3.Generation",
    .basicsize = sizeof(generation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = generation_slots,
};
