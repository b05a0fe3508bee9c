/* model.c - the type Model: a directory or GGUF file in, its configuration and logits out. */
#include <stdlib.h>
#include <string.h>

#include "binding.h"

/* ---- Loading ----------------------------------------------------------------------------------- */

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"path",       "device",   "compute_dtype", "kv_cache_dtype",
                               "n_threads",  "progress", "quantization",  "packed_dir",
                               "max_memory", NULL};
    phi3_py_state *state = PyType_GetModuleState(type);
    PyObject *path, *progress = Py_None;
    phi3_model_options options = {0};
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O&|$zzziOzzz:Model", keywords, PyUnicode_FSConverter, &path,
            &options.device, &options.compute_dtype, &options.kv_cache_dtype, &options.n_threads,
            &progress, &options.quantization, &options.packed_dir, &options.max_memory))
        return NULL;
    phi3_py_model *self = (phi3_py_model *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        Py_DECREF(path);
        return NULL;
    }
    phi3_py_call call;
    options.progress = phi3_py_progress;
    options.progress_data = &call;
    const char *name = PyBytes_AsString(path);
    phi3_error error;
    phi3_py_call_begin(&call, progress == Py_None ? NULL : progress);
    phi3_status status = phi3_model_load(name, &options, &self->model, &error);
    phi3_py_call_end(&call);
    Py_DECREF(path);
    if (status != PHI3_OK) {
        phi3_py_raise(state, status, &error);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void model_dealloc(PyObject *object)
{
    phi3_model_free(((phi3_py_model *)object)->model);
    phi3_py_release(object);
}

/* ---- Forward ----------------------------------------------------------------------------------- */

/* A batch while it is taken from Python: `n_rows` spans that own their ids and hold their caches. */
typedef struct batch {
    phi3_span *spans;  /* [n_rows] */
    PyObject **caches; /* [n_rows] phi3_py_cache, strong references */
    size_t n_rows;
    size_t width;    /* the most logits that a row wants */
    size_t n_logits; /* of all rows together */
} batch;

static void batch_free(batch *rows)
{
    for (size_t i = 0; rows->spans != NULL && i < rows->n_rows; i++)
        PyMem_Free((void *)rows->spans[i].ids);
    for (size_t i = 0; rows->caches != NULL && i < rows->n_rows; i++)
        Py_XDECREF(rows->caches[i]);
    PyMem_Free(rows->spans);
    PyMem_Free(rows->caches);
}

/* The cache of a row: the caller's, or a new one. */
static PyObject *row_cache(phi3_py_state *state, PyObject *model, PyObject *caches, size_t row)
{
    if (caches == Py_None)
        return PyObject_CallFunctionObjArgs((PyObject *)state->cache_type, model, NULL);
    PyObject *cache = PySequence_GetItem(caches, (Py_ssize_t)row);
    if (cache != NULL && Py_TYPE(cache) != state->cache_type) {
        Py_DECREF(cache);
        phi3_py_raise_message(state, PHI3_ERROR_TYPE, "caches must be phi3.Cache objects");
        return NULL;
    }
    return cache;
}

/* Reads row `row`; `keep` logits of it are wanted, all when 0. */
static bool batch_read_row(phi3_py_state *state, PyObject *model, PyObject *ids, PyObject *caches,
                           size_t keep, size_t row, batch *rows)
{
    phi3_span *span = &rows->spans[row];
    int32_t *values;
    if (!phi3_py_to_ids(state, ids, &values, &span->count))
        return false;
    span->ids = values;
    rows->caches[row] = row_cache(state, model, caches, row);
    if (rows->caches[row] == NULL)
        return false;
    span->cache = ((phi3_py_cache *)rows->caches[row])->cache;
    span->n_logits = keep == 0 || keep > span->count ? span->count : keep;
    if (span->n_logits > rows->width)
        rows->width = span->n_logits;
    rows->n_logits += span->n_logits;
    return true;
}

static bool batch_read(phi3_py_state *state, PyObject *model, PyObject *list, PyObject *caches,
                       size_t keep, batch *rows)
{
    Py_ssize_t n_rows = PySequence_Size(list);
    if (n_rows < 0)
        return false;
    if (caches != Py_None && PySequence_Size(caches) != n_rows) {
        phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT, "one cache is needed per row");
        return false;
    }
    rows->n_rows = (size_t)n_rows;
    rows->spans = PyMem_Calloc(rows->n_rows + 1, sizeof *rows->spans);
    rows->caches = PyMem_Calloc(rows->n_rows + 1, sizeof *rows->caches);
    if (rows->spans == NULL || rows->caches == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; i < rows->n_rows; i++) {
        PyObject *ids = PySequence_GetItem(list, (Py_ssize_t)i);
        bool ok = ids != NULL && batch_read_row(state, model, ids, caches, keep, i, rows);
        Py_XDECREF(ids);
        if (!ok)
            return false;
    }
    return true;
}

/* Moves packed rows to the right edge of [n_rows][width][vocab]; the left of short rows is zero. */
static void align_right(const batch *rows, size_t vocab, float *values)
{
    size_t packed = rows->n_logits;
    for (size_t i = rows->n_rows; i-- > 0;) {
        size_t count = rows->spans[i].n_logits;
        packed -= count;
        float *row = values + i * rows->width * vocab;
        size_t gap = rows->width - count;
        memmove(row + gap * vocab, values + packed * vocab, count * vocab * sizeof *values);
        memset(row, 0, gap * vocab * sizeof *values);
    }
}

static PyObject *batch_run(phi3_py_state *state, const phi3_model *model, const batch *rows,
                           int n_threads)
{
    size_t vocab = phi3_model_config(model)->vocab_size;
    Py_ssize_t shape[3] = {(Py_ssize_t)rows->n_rows, (Py_ssize_t)rows->width, (Py_ssize_t)vocab};
    float *values;
    PyObject *logits = phi3_py_logits_new(state, 3, shape, &values);
    if (logits == NULL)
        return NULL;
    phi3_py_call call;
    phi3_run_options options = {
        .interrupt = phi3_py_interrupt, .interrupt_data = &call, .n_threads = n_threads};
    phi3_error error;
    phi3_py_call_begin(&call, NULL);
    phi3_status status =
        phi3_model_forward(model, rows->spans, rows->n_rows, &options, values, &error);
    if (status == PHI3_OK)
        align_right(rows, vocab, values);
    phi3_py_call_end(&call);
    if (status != PHI3_OK) {
        phi3_py_raise(state, status, &error);
        Py_DECREF(logits);
        return NULL;
    }
    return logits;
}

static PyObject *model_forward(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"rows", "caches", "keep", "n_threads", NULL};
    PyObject *list, *caches = Py_None;
    Py_ssize_t keep = 0;
    int n_threads = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$Oni:forward", keywords, &list, &caches,
                                     &keep, &n_threads))
        return NULL;
    phi3_py_state *state = phi3_py_state_of(object);
    if (keep < 0)
        return phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT,
                                     "the number of logits to keep is negative");
    batch rows = {0};
    PyObject *logits = NULL;
    if (batch_read(state, object, list, caches, (size_t)keep, &rows))
        logits = batch_run(state, ((phi3_py_model *)object)->model, &rows, n_threads);
    batch_free(&rows);
    return logits;
}

/* ---- Attributes -------------------------------------------------------------------------------- */

static PyObject *model_config(PyObject *object, void *Py_UNUSED(closure))
{
    return phi3_py_from_config(phi3_model_config(((phi3_py_model *)object)->model));
}

static PyObject *model_generation_config(PyObject *object, void *Py_UNUSED(closure))
{
    phi3_generation_config config = phi3_model_generation_config(((phi3_py_model *)object)->model);
    return Py_BuildValue("{sN si}", "eos_token_id",
                         phi3_py_from_ids(config.eos_token_ids, config.n_eos_token_ids),
                         "pad_token_id", (int)config.pad_token_id);
}

static PyObject *model_device(PyObject *object, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(phi3_model_device(((phi3_py_model *)object)->model));
}

/* The places of modules, in the order of a forward: pairs of names. */
static PyObject *model_device_map(PyObject *object, void *Py_UNUSED(closure))
{
    const phi3_model *model = ((phi3_py_model *)object)->model;
    size_t count = phi3_model_device_map(model, NULL, 0);
    phi3_module_place *places = PyMem_Calloc(count, sizeof *places);
    if (places == NULL)
        return PyErr_NoMemory();
    phi3_model_device_map(model, places, count);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *pair = Py_BuildValue("(ss)", places[i].module, places[i].device);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    PyMem_Free(places);
    return list;
}

static PyObject *model_compute_dtype(PyObject *object, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(phi3_model_compute_dtype(((phi3_py_model *)object)->model));
}

static PyObject *model_kv_cache_dtype(PyObject *object, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(phi3_model_kv_cache_dtype(((phi3_py_model *)object)->model));
}

static PyObject *model_kv_token_bytes(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(phi3_model_kv_token_bytes(((phi3_py_model *)object)->model));
}

static PyMethodDef model_methods[] = {
    {"forward", (PyCFunction)(void (*)(void))model_forward, METH_VARARGS | METH_KEYWORDS,
     "forward(rows, *, caches=None, keep=0, n_threads=0)\n\n"
     "Logits of every row of ids, [len(rows)][n_tokens][vocab]: of the last `keep` ids, of all "
     "when "
     "0. Rows may differ in length; short ones are aligned to the right and filled with zeros. "
     "`caches` holds what came before each row and is extended."},
    {"save", (PyCFunction)(void (*)(void))phi3_py_model_save, METH_VARARGS | METH_KEYWORDS,
     "save(path, *, overwrite=False, n_threads=0, progress=None)\n\n"
     "Writes a GGUF file, quantised as the model was loaded."},
    {NULL},
};

static PyGetSetDef model_attributes[] = {
    {"config", model_config, NULL, "The hyper-parameters, as a dict.", NULL},
    {"generation_config", model_generation_config, NULL,
     "The ids that end a text and fill a batch, as the model's files name them.", NULL},
    {"device", model_device, NULL, "Where the head is: \"cpu\", \"reference\", \"cuda:0\".", NULL},
    {"device_map", model_device_map, NULL,
     "Where each module of transformers' model is: pairs of names, (\"\", device) for one device.",
     NULL},
    {"compute_dtype", model_compute_dtype, NULL, "How products are computed.", NULL},
    {"kv_cache_dtype", model_kv_cache_dtype, NULL, "How keys and values are kept.", NULL},
    {"kv_token_bytes", model_kv_token_bytes, NULL, "Bytes of a token's keys and values.", NULL},
    {NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_doc, "Model(path, *, device=None, compute_dtype=None, kv_cache_dtype=None, n_threads=0, "
                "progress=None, quantization=None, packed_dir=None, max_memory=None)\n\n"
                "A model, ready to run. Any number of threads may share it."},
    {Py_tp_new, model_new},
    {Py_tp_dealloc, model_dealloc},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_attributes},
    {0, NULL},
};

PyType_Spec phi3_py_model_spec = {
    .name = "phi3._phi3.Model",
    .basicsize = sizeof(phi3_py_model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};
