/*
 * logits.c - the type Logits: float32 values of up to three dimensions, [batch][n_tokens][vocab].
 *
 * NumPy, torch and memoryview read and write them in place through the buffer protocol. Without
 * any of these, indexing works as in NumPy: an integer drops a dimension, a slice narrows one, and
 * the result is a view of the same memory.
 */
#include <stdlib.h>
#include <string.h>

#include "binding.h"

#define MAX_DIMS 3

typedef struct logits {
    PyObject_HEAD PyObject
        *owner;    /* the object whose memory this is a view of; NULL: it is this one's */
    float *values; /* the first element of the view */
    int n_dims;
    Py_ssize_t shape[MAX_DIMS];
    Py_ssize_t strides[MAX_DIMS]; /* in bytes */
} logits;

PyObject *phi3_py_logits_new(phi3_py_state *state, int n_dims, const Py_ssize_t *shape,
                             float **values)
{
    logits *self = (logits *)PyType_GenericAlloc(state->logits_type, 0);
    if (self == NULL)
        return NULL;
    size_t count = 1;
    bool overflow = false;
    for (int i = n_dims - 1; i >= 0; i--) {
        self->shape[i] = shape[i];
        self->strides[i] = (Py_ssize_t)(count * sizeof(float));
        overflow |= __builtin_mul_overflow(count, (size_t)shape[i], &count);
    }
    self->n_dims = n_dims;
    if (!overflow)
        self->values = calloc(count + 1, sizeof(float));
    if (self->values == NULL) {
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    *values = self->values;
    return (PyObject *)self;
}

static void logits_dealloc(PyObject *object)
{
    logits *self = (logits *)object;
    if (self->owner == NULL)
        free(self->values);
    Py_XDECREF(self->owner);
    phi3_py_release(object);
}

static float *step(float *values, Py_ssize_t stride, Py_ssize_t index)
{
    return (float *)((char *)values + stride * index);
}

/* ---- Indexing ---------------------------------------------------------------------------------- */

/* A view of everything, to be narrowed. */
static logits *view_of(logits *self)
{
    logits *view = (logits *)PyType_GenericAlloc(Py_TYPE((PyObject *)self), 0);
    if (view == NULL)
        return NULL;
    view->owner = Py_NewRef(self->owner != NULL ? self->owner : (PyObject *)self);
    view->values = self->values;
    view->n_dims = self->n_dims;
    memcpy(view->shape, self->shape, sizeof view->shape);
    memcpy(view->strides, self->strides, sizeof view->strides);
    return view;
}

static int select_index(logits *view, int dim, Py_ssize_t index)
{
    Py_ssize_t place = index < 0 ? index + view->shape[dim] : index;
    if (place < 0 || place >= view->shape[dim]) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of range for dimension %d of size %zd",
                     index, dim, view->shape[dim]);
        return -1;
    }
    view->values = step(view->values, view->strides[dim], place);
    view->n_dims--;
    for (int i = dim; i < view->n_dims; i++) {
        view->shape[i] = view->shape[i + 1];
        view->strides[i] = view->strides[i + 1];
    }
    return 0;
}

static int select_slice(logits *view, int dim, PyObject *slice)
{
    Py_ssize_t start, stop, stride;
    if (PySlice_Unpack(slice, &start, &stop, &stride) < 0)
        return -1;
    Py_ssize_t length = PySlice_AdjustIndices(view->shape[dim], &start, &stop, stride);
    if (length > 0)
        view->values = step(view->values, view->strides[dim], start);
    view->shape[dim] = length;
    view->strides[dim] *= stride;
    return 0;
}

/* Applies one part of an index to *dim and moves on to the next dimension. */
static int select_part(logits *view, int *dim, PyObject *part)
{
    if (*dim >= view->n_dims) {
        PyErr_SetString(PyExc_IndexError, "too many indices");
        return -1;
    }
    if (PySlice_Check(part))
        return select_slice(view, (*dim)++, part);
    if (!PyIndex_Check(part)) {
        PyErr_SetString(PyExc_TypeError, "indices must be integers or slices");
        return -1;
    }
    Py_ssize_t index = PyNumber_AsSsize_t(part, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return -1;
    return select_index(view, *dim, index);
}

static PyObject *logits_subscript(PyObject *object, PyObject *key)
{
    logits *view = view_of((logits *)object);
    if (view == NULL)
        return NULL;
    int dim = 0, failed = 0;
    if (PyTuple_Check(key)) {
        for (Py_ssize_t i = 0; i < PyTuple_Size(key) && !failed; i++)
            failed = select_part(view, &dim, PyTuple_GetItem(key, i));
    } else {
        failed = select_part(view, &dim, key);
    }
    PyObject *result = NULL;
    if (!failed)
        result =
            view->n_dims == 0 ? PyFloat_FromDouble(*view->values) : Py_NewRef((PyObject *)view);
    Py_DECREF((PyObject *)view);
    return result;
}

static PyObject *logits_item(PyObject *object, Py_ssize_t index)
{
    PyObject *key = PyLong_FromSsize_t(index);
    PyObject *result = key == NULL ? NULL : logits_subscript(object, key);
    Py_XDECREF(key);
    return result;
}

static Py_ssize_t logits_length(PyObject *object)
{
    return ((logits *)object)->shape[0];
}

/* ---- Buffer protocol --------------------------------------------------------------------------- */

static int logits_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    logits *self = (logits *)object;
    Py_ssize_t count = 1;
    for (int i = 0; i < self->n_dims; i++)
        count *= self->shape[i];
    *view = (Py_buffer){
        .buf = self->values,
        .len = count * (Py_ssize_t)sizeof(float),
        .itemsize = sizeof(float),
        .format = flags & PyBUF_FORMAT ? "f" : NULL,
        .ndim = self->n_dims,
        .shape = self->shape,
        .strides = self->strides,
    };
    bool needs_c = (flags & PyBUF_STRIDES) != PyBUF_STRIDES ||
                   (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS;
    bool needs_fortran = (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS;
    bool needs_any = (flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS;
    if ((needs_c && !PyBuffer_IsContiguous(view, 'C')) ||
        (needs_fortran && !PyBuffer_IsContiguous(view, 'F')) ||
        (needs_any && !PyBuffer_IsContiguous(view, 'A'))) {
        PyErr_SetString(PyExc_BufferError, "this view of the logits is not contiguous");
        return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES)
        view->strides = NULL;
    if ((flags & PyBUF_ND) != PyBUF_ND)
        view->shape = NULL;
    view->obj = Py_NewRef(object);
    return 0;
}

/* ---- Attributes -------------------------------------------------------------------------------- */

static PyObject *nested_list(float *values, int n_dims, const Py_ssize_t *shape,
                             const Py_ssize_t *strides)
{
    if (n_dims == 0)
        return PyFloat_FromDouble(*values);
    PyObject *list = PyList_New(*shape);
    for (Py_ssize_t i = 0; list != NULL && i < *shape; i++) {
        PyObject *item = nested_list(step(values, *strides, i), n_dims - 1, shape + 1, strides + 1);
        if (item == NULL || PyList_SetItem(list, i, item) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *logits_tolist(PyObject *object, PyObject *Py_UNUSED(unused))
{
    logits *self = (logits *)object;
    return nested_list(self->values, self->n_dims, self->shape, self->strides);
}

static PyObject *logits_shape(PyObject *object, void *Py_UNUSED(closure))
{
    logits *self = (logits *)object;
    PyObject *shape = PyTuple_New(self->n_dims);
    for (int i = 0; shape != NULL && i < self->n_dims; i++) {
        PyObject *size = PyLong_FromSsize_t(self->shape[i]);
        if (size == NULL || PyTuple_SetItem(shape, i, size) < 0) {
            Py_DECREF(shape);
            return NULL;
        }
    }
    return shape;
}

static PyObject *logits_ndim(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(((logits *)object)->n_dims);
}

static PyObject *logits_repr(PyObject *object)
{
    PyObject *shape = logits_shape(object, NULL);
    PyObject *text = shape == NULL ? NULL : PyUnicode_FromFormat("Logits(shape=%R)", shape);
    Py_XDECREF(shape);
    return text;
}

static PyMethodDef logits_methods[] = {
    {"tolist", logits_tolist, METH_NOARGS, "The values as nested lists of floats."},
    {NULL},
};

static PyGetSetDef logits_attributes[] = {
    {"shape", logits_shape, NULL, "The size of every dimension.", NULL},
    {"ndim", logits_ndim, NULL, "How many dimensions there are.", NULL},
    {NULL},
};

static PyType_Slot logits_slots[] = {
    {Py_tp_doc, "float32 values, [batch][n_tokens][vocab]. numpy.asarray(logits) copies nothing."},
    {Py_tp_dealloc, logits_dealloc},
    {Py_tp_repr, logits_repr},
    {Py_tp_methods, logits_methods},
    {Py_tp_getset, logits_attributes},
    {Py_sq_length, logits_length},
    {Py_sq_item, logits_item},
    {Py_mp_length, logits_length},
    {Py_mp_subscript, logits_subscript},
    {Py_bf_getbuffer, logits_getbuffer},
    {0, NULL},
};

PyType_Spec phi3_py_logits_spec = {
    .name = "phi3._phi3.Logits",
    .basicsize = sizeof(logits),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = logits_slots,
};
