/* stream_decoder.c - the type StreamDecoder: ids in, one by one, the text that they complete out. */
#include "binding.h"

typedef struct stream_decoder {
    PyObject_HEAD phi3_py_tokenizer *tokenizer;
    phi3_stream_decoder *decoder;
} stream_decoder;

static PyObject *stream_decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"tokenizer", "skip_special_tokens", NULL};
    phi3_py_state *state = PyType_GetModuleState(type);
    PyObject *tokenizer;
    int skip = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|p:StreamDecoder", keywords,
                                     state->tokenizer_type, &tokenizer, &skip))
        return NULL;
    stream_decoder *self = (stream_decoder *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->tokenizer = (phi3_py_tokenizer *)Py_NewRef(tokenizer);
    phi3_error error;
    phi3_status status =
        phi3_stream_decoder_create(self->tokenizer->tokenizer, skip != 0, &self->decoder, &error);
    if (status != PHI3_OK) {
        Py_DECREF((PyObject *)self);
        return phi3_py_raise(state, status, &error);
    }
    return (PyObject *)self;
}

static void stream_decoder_dealloc(PyObject *object)
{
    stream_decoder *self = (stream_decoder *)object;
    phi3_stream_decoder_free(self->decoder);
    Py_XDECREF((PyObject *)self->tokenizer);
    phi3_py_release(object);
}

static PyObject *stream_decoder_put(PyObject *object, PyObject *id)
{
    stream_decoder *self = (stream_decoder *)object;
    long value = PyLong_AsLong(id);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    if (value < 0 || value > INT32_MAX)
        return phi3_py_raise_message(phi3_py_state_of(object), PHI3_ERROR_INVALID_ARGUMENT,
                                     "%ld is not a token id", value);
    const char *text;
    size_t size;
    phi3_error error;
    phi3_status status =
        phi3_stream_decoder_put(self->decoder, (int32_t)value, &text, &size, &error);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    return PyUnicode_FromStringAndSize(text, (Py_ssize_t)size);
}

static PyObject *stream_decoder_end(PyObject *object, PyObject *Py_UNUSED(unused))
{
    const char *text;
    size_t size;
    phi3_error error;
    phi3_status status =
        phi3_stream_decoder_end(((stream_decoder *)object)->decoder, &text, &size, &error);
    if (status != PHI3_OK)
        return phi3_py_raise(phi3_py_state_of(object), status, &error);
    return PyUnicode_FromStringAndSize(text, (Py_ssize_t)size);
}

static PyMethodDef stream_decoder_methods[] = {
    {"put", stream_decoder_put, METH_O, "Takes one more id; returns the text it completes."},
    {"end", stream_decoder_end, METH_NOARGS, "Ends the stream; returns what was held back."},
    {NULL},
};

static PyType_Slot stream_decoder_slots[] = {
    {Py_tp_doc, "StreamDecoder(tokenizer, skip_special_tokens=False)\n\n"
                "Turns ids that arrive one by one into text, never half a character."},
    {Py_tp_new, stream_decoder_new},
    {Py_tp_dealloc, stream_decoder_dealloc},
    {Py_tp_methods, stream_decoder_methods},
    {0, NULL},
};

PyType_Spec phi3_py_stream_decoder_spec = {
    .name = "phi3._phi3.StreamDecoder",
    .basicsize = sizeof(stream_decoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = stream_decoder_slots,
};
