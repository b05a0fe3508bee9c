/* cache.c - the type Cache: what one sequence has been shown. Truncate, fork and reset it. */
#include "binding.h"

static phi3_cache *cache_of(PyObject *object)
{
    return ((phi3_py_cache *)object)->cache;
}

static PyObject *cache_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"model", NULL};
    phi3_py_state *state = PyType_GetModuleState(type);
    PyObject *model;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Cache", keywords, state->model_type, &model))
        return NULL;
    phi3_py_cache *self = (phi3_py_cache *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->model = (phi3_py_model *)Py_NewRef(model);
    phi3_error error;
    phi3_status status = phi3_cache_create(self->model->model, &self->cache, &error);
    if (status != PHI3_OK) {
        Py_DECREF((PyObject *)self);
        return phi3_py_raise(state, status, &error);
    }
    return (PyObject *)self;
}

static void cache_dealloc(PyObject *object)
{
    phi3_py_cache *self = (phi3_py_cache *)object;
    phi3_cache_free(self->cache);
    Py_XDECREF((PyObject *)self->model);
    phi3_py_release(object);
}

static PyObject *cache_fork(PyObject *object, PyObject *Py_UNUSED(unused))
{
    phi3_py_cache *copy = (phi3_py_cache *)PyType_GenericAlloc(Py_TYPE(object), 0);
    if (copy == NULL)
        return NULL;
    copy->model = (phi3_py_model *)Py_NewRef((PyObject *)((phi3_py_cache *)object)->model);
    phi3_error error;
    phi3_status status = phi3_cache_fork(cache_of(object), &copy->cache, &error);
    if (status != PHI3_OK) {
        phi3_py_raise(phi3_py_state_of(object), status, &error);
        Py_DECREF((PyObject *)copy);
        return NULL;
    }
    return (PyObject *)copy;
}

static PyObject *cache_truncate(PyObject *object, PyObject *length)
{
    Py_ssize_t value = PyLong_AsSsize_t(length);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    if (value < 0)
        return phi3_py_raise_message(phi3_py_state_of(object), PHI3_ERROR_INVALID_ARGUMENT,
                                     "the length to keep is negative: %zd", value);
    phi3_error error;
    phi3_status status = phi3_cache_truncate(cache_of(object), (size_t)value, &error);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    Py_RETURN_NONE;
}

static PyObject *cache_reset(PyObject *object, PyObject *Py_UNUSED(unused))
{
    phi3_error error;
    phi3_status status = phi3_cache_reset(cache_of(object), &error);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    Py_RETURN_NONE;
}

static Py_ssize_t cache_length(PyObject *object)
{
    size_t length;
    phi3_cache_ids(cache_of(object), &length);
    return (Py_ssize_t)length;
}

static PyObject *cache_get_seq_length(PyObject *object, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromSsize_t(cache_length(object));
}

static PyObject *cache_ids(PyObject *object, void *Py_UNUSED(closure))
{
    size_t length;
    const int32_t *ids = phi3_cache_ids(cache_of(object), &length);
    return phi3_py_from_ids(ids, length);
}

static PyObject *cache_bytes(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(phi3_cache_bytes(cache_of(object)));
}

static PyMethodDef cache_methods[] = {
    {"fork", cache_fork, METH_NOARGS, "A second cache with the same contents, sharing memory."},
    {"truncate", cache_truncate, METH_O, "Forgets all but the first `length` tokens."},
    {"reset", cache_reset, METH_NOARGS, "Forgets everything and gives the memory back."},
    {"get_seq_length", cache_get_seq_length, METH_NOARGS, "How many tokens it has seen."},
    {NULL},
};

static PyGetSetDef cache_attributes[] = {
    {"ids", cache_ids, NULL, "The tokens seen so far.", NULL},
    {"nbytes", cache_bytes, NULL, "Bytes of memory that it holds.", NULL},
    {NULL},
};

static PyType_Slot cache_slots[] = {
    {Py_tp_doc, "Cache(model)\n\nThe keys and values of one sequence. Give it to generate() as "
                "past_key_values: what it has in common with the prompt is not computed again."},
    {Py_tp_new, cache_new},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_methods, cache_methods},
    {Py_tp_getset, cache_attributes},
    {Py_sq_length, cache_length},
    {0, NULL},
};

PyType_Spec phi3_py_cache_spec = {
    .name = "phi3._phi3.Cache",
    .basicsize = sizeof(phi3_py_cache),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cache_slots,
};
