/*
 * convert.c - ids, text and offsets between Python and the library.
 *
 * Ids come as any sequence of integers, or as a buffer of int32 or int64 (a NumPy array, say), and
 * go out as lists. Text is str here and UTF-8 there; offsets are characters here and bytes there.
 */
#include <string.h>

#include "binding.h"

static bool store_id(phi3_py_state *state, long long value, int32_t *id)
{
    if (value < 0 || value > INT32_MAX) {
        phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT, "%lld is not a token id", value);
        return false;
    }
    *id = (int32_t)value;
    return true;
}

static bool copy_buffer(phi3_py_state *state, const Py_buffer *view, int32_t *ids)
{
    for (Py_ssize_t i = 0; i < view->shape[0]; i++) {
        long long value =
            view->itemsize == 8 ? ((const int64_t *)view->buf)[i] : ((const int32_t *)view->buf)[i];
        if (!store_id(state, value, &ids[i]))
            return false;
    }
    return true;
}

static bool ids_of_buffer(phi3_py_state *state, PyObject *object, int32_t **ids, size_t *count)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0)
        return false;
    bool signed_integer = view.format != NULL && strlen(view.format) == 1 &&
                          strchr("ilq", view.format[0]) != NULL &&
                          (view.itemsize == 4 || view.itemsize == 8);
    bool ok = false;
    if (view.ndim != 1 || !signed_integer) {
        phi3_py_raise_message(state, PHI3_ERROR_TYPE,
                              "token ids must be a one-dimensional array of int32 or int64");
    } else if ((*ids = PyMem_Malloc((size_t)view.len + 1)) == NULL) {
        PyErr_NoMemory();
    } else if (copy_buffer(state, &view, *ids)) {
        *count = (size_t)view.shape[0];
        ok = true;
    } else {
        PyMem_Free(*ids);
    }
    PyBuffer_Release(&view);
    return ok;
}

static bool copy_sequence(phi3_py_state *state, PyObject *sequence, size_t count, int32_t *ids)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(sequence, (Py_ssize_t)i);
        if (item == NULL)
            return false;
        long long value = PyLong_AsLongLong(item);
        Py_DECREF(item);
        if (value == -1 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError))
                phi3_py_raise_message(state, PHI3_ERROR_TYPE, "token ids must be integers");
            else if (PyErr_ExceptionMatches(PyExc_OverflowError))
                phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT,
                                      "a token id does not fit in 32 bits");
            return false;
        }
        if (!store_id(state, value, &ids[i]))
            return false;
    }
    return true;
}

bool phi3_py_to_ids(phi3_py_state *state, PyObject *object, int32_t **ids, size_t *count)
{
    if (PyObject_CheckBuffer(object) && !PyBytes_Check(object))
        return ids_of_buffer(state, object, ids, count);
    PyObject *sequence = PySequence_Fast(object, "token ids must be a sequence of integers");
    if (sequence == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            phi3_py_raise_message(state, PHI3_ERROR_TYPE,
                                  "token ids must be a sequence of integers");
        return false;
    }
    size_t n = (size_t)PySequence_Size(sequence);
    int32_t *values = PyMem_Malloc(n * sizeof *values + 1);
    bool ok = values != NULL && copy_sequence(state, sequence, n, values);
    Py_DECREF(sequence);
    if (!ok) {
        PyMem_Free(values);
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        return false;
    }
    *ids = values;
    *count = n;
    return true;
}

PyObject *phi3_py_from_ids(const int32_t *ids, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        PyObject *value = PyLong_FromLong(ids[i]);
        if (value == NULL || PyList_SetItem(list, (Py_ssize_t)i, value) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

const char *phi3_py_to_utf8(phi3_py_state *state, PyObject *text, size_t *size)
{
    if (!PyUnicode_Check(text)) {
        phi3_py_raise_message(state, PHI3_ERROR_TYPE, "text must be a str");
        return NULL;
    }
    Py_ssize_t length;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &length);
    if (bytes == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            phi3_py_raise_message(state, PHI3_ERROR_TYPE,
                                  "text holds a lone surrogate, which no UTF-8 can carry");
        return NULL;
    }
    *size = (size_t)length;
    return bytes;
}

bool phi3_py_to_strings(phi3_py_state *state, PyObject *tuple, const char ***strings, size_t *count)
{
    if (!PyTuple_Check(tuple)) {
        phi3_py_raise_message(state, PHI3_ERROR_TYPE, "stop_strings must be a tuple of str");
        return false;
    }
    size_t n_strings = (size_t)PyTuple_Size(tuple);
    const char **found = PyMem_Calloc(n_strings + 1, sizeof *found);
    if (found == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; i < n_strings; i++) {
        size_t size;
        PyObject *string = PyTuple_GetItem(tuple, (Py_ssize_t)i);
        found[i] = phi3_py_to_utf8(state, string, &size);
        if (found[i] != NULL && strlen(found[i]) == size)
            continue;
        if (found[i] != NULL)
            phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT,
                                  "a stop string holds a NUL character");
        PyMem_Free((void *)found);
        return false;
    }
    *strings = found;
    *count = n_strings;
    return true;
}

/* A place in a text, in bytes and in characters. */
typedef struct text_place {
    size_t byte;
    Py_ssize_t character;
} text_place;

static text_place advance(const char *text, text_place place, size_t byte)
{
    for (; place.byte < byte; place.byte++)
        if (((unsigned char)text[place.byte] & 0xC0) != 0x80)
            place.character++;
    return place;
}

PyObject *phi3_py_from_offsets(const char *text, const phi3_offset *offsets, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    text_place start = {0, 0};
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (offsets[i].start < start.byte)
            start = (text_place){0, 0};
        start = advance(text, start, offsets[i].start);
        text_place end = advance(text, start, offsets[i].end);
        PyObject *pair = Py_BuildValue("(nn)", start.character, end.character);
        if (pair == NULL || PyList_SetItem(list, (Py_ssize_t)i, pair) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}
