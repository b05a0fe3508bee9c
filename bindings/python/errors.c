/*
 * errors.c - exceptions: a phi3_status and its message in, a Python exception out.
 *
 * Every class is a phi3.Error and also the builtin that transformers raises in the same place, so
 * that code written for it keeps working.
 */
#include <stdarg.h>
#include <string.h>

#include "binding.h"

typedef struct error_class {
    phi3_status status;
    const char *name;
    PyObject **bases[2]; /* after phi3.Error */
    const char *doc;
} error_class;

/* PHI3_OK stands for phi3.Error itself, the base of the rest. */
static const error_class error_classes[PHI3_PY_N_ERRORS] = {
    {PHI3_OK, "phi3.Error", {&PyExc_Exception}, "Anything that phi3 reports."},
    {PHI3_ERROR_INVALID_ARGUMENT,
     "phi3.InvalidArgumentError",
     {&PyExc_ValueError},
     "A value that the call cannot take."},
    {PHI3_ERROR_TYPE, "phi3.InvalidTypeError", {&PyExc_TypeError}, "A value of the wrong kind."},
    {PHI3_ERROR_NOT_FOUND,
     "phi3.ModelNotFoundError",
     {&PyExc_FileNotFoundError},
     "No such model, file or tensor."},
    {PHI3_ERROR_IO,
     "phi3.FileAccessError",
     {&PyExc_OSError},
     "The operating system refused to open, map or read a file."},
    {PHI3_ERROR_BAD_FILE,
     "phi3.BadFileError",
     {&PyExc_OSError, &PyExc_ValueError},
     "A file that breaks its own format."},
    {PHI3_ERROR_UNSUPPORTED,
     "phi3.UnsupportedError",
     {&PyExc_NotImplementedError, &PyExc_ValueError},
     "Well-formed, but not something that this version runs."},
    {PHI3_ERROR_OUT_OF_MEMORY, "phi3.OutOfMemoryError", {&PyExc_MemoryError}, "Out of memory."},
    {PHI3_ERROR_BUSY,
     "phi3.BusyError",
     {&PyExc_RuntimeError},
     "The object is in use by another thread."},
    {PHI3_ERROR_QUEUE_FULL,
     "phi3.QueueFullError",
     {&PyExc_RuntimeError},
     "An engine has as many requests as it takes."},
    {PHI3_ERROR_INTERRUPTED, "phi3.StoppedError", {&PyExc_RuntimeError}, "A call was stopped."},
    {PHI3_ERROR_FORKED,
     "phi3.ForkedError",
     {&PyExc_RuntimeError},
     "A child process uses what its parent had started: load after the fork."},
    {PHI3_ERROR_DEVICE, "phi3.DeviceError", {&PyExc_RuntimeError}, "The device failed."},
    {PHI3_ERROR_INTERNAL, "phi3.InternalError", {&PyExc_RuntimeError}, "A defect of phi3."},
};

/* The tuple of base classes of an entry. */
static PyObject *error_bases(const phi3_py_state *state, const error_class *entry)
{
    if (entry->status == PHI3_OK)
        return PyTuple_Pack(1, *entry->bases[0]);
    if (entry->bases[1] == NULL)
        return PyTuple_Pack(2, state->errors[0], *entry->bases[0]);
    return PyTuple_Pack(3, state->errors[0], *entry->bases[0], *entry->bases[1]);
}

int phi3_py_add_errors(PyObject *module, phi3_py_state *state)
{
    for (size_t i = 0; i < PHI3_PY_N_ERRORS; i++) {
        const error_class *entry = &error_classes[i];
        PyObject *bases = error_bases(state, entry);
        if (bases == NULL)
            return -1;
        state->errors[i] = PyErr_NewExceptionWithDoc(entry->name, entry->doc, bases, NULL);
        Py_DECREF(bases);
        if (state->errors[i] == NULL)
            return -1;
        const char *attribute = strchr(entry->name, '.') + 1;
        if (PyModule_AddObjectRef(module, attribute, state->errors[i]) < 0)
            return -1;
    }
    return 0;
}

static PyObject *class_of(const phi3_py_state *state, phi3_status status)
{
    for (size_t i = 1; i < PHI3_PY_N_ERRORS; i++)
        if (error_classes[i].status == status)
            return state->errors[i];
    return state->errors[0];
}

PyObject *phi3_py_raise(phi3_py_state *state, phi3_status status, const phi3_error *error)
{
    if (status == PHI3_ERROR_INTERRUPTED && PyErr_Occurred())
        return NULL;
    PyErr_SetString(class_of(state, status), error->message);
    return NULL;
}

PyObject *phi3_py_raise_message(phi3_py_state *state, phi3_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (message != NULL) {
        PyErr_SetObject(class_of(state, status), message);
        Py_DECREF(message);
    }
    return NULL;
}
