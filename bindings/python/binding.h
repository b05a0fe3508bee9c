/*
 * binding.h - what the files of phi3._phi3 share: the module's state, its objects, conversions,
 * exceptions and the callbacks that let Python in while the library computes.
 *
 * The binding only converts: Python objects in, a call of phi3.h, Python objects or an exception
 * out. What a type does is in the file named after it.
 */
#ifndef PHI3_PYTHON_BINDING_H
#define PHI3_PYTHON_BINDING_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000 /* CPython 3.11: the first with the buffer protocol in it */
#include <Python.h>

#include "phi3.h"

/* ---- Module state ---------------------------------------------------------------------------- */

#define PHI3_PY_N_ERRORS 14 /* phi3.Error and one class for each kind of failure */

typedef struct phi3_py_state {
    PyTypeObject *model_type;
    PyTypeObject *tokenizer_type;
    PyTypeObject *cache_type;
    PyTypeObject *generation_type;
    PyTypeObject *random_type;
    PyTypeObject *stream_decoder_type;
    PyTypeObject *logits_type;
    PyTypeObject *engine_type;
    PyTypeObject *request_type;
    PyObject *errors[PHI3_PY_N_ERRORS]; /* in the order of errors.c */
    PyObject *log_callback;             /* a callable(level, message), or NULL */
} phi3_py_state;

/* The state behind an object of one of the module's types. No type may be subclassed, so the type
 * of an object is always the module's own. */
static inline phi3_py_state *phi3_py_state_of(PyObject *object)
{
    return PyType_GetModuleState(Py_TYPE(object));
}

/* Creates a type from its spec, adds it to the module and stores it. Returns -1 on failure. */
int phi3_py_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type);

/* Frees the memory of a dead object and the reference to its type that every object holds. */
void phi3_py_release(PyObject *object);

extern PyType_Spec phi3_py_model_spec;
extern PyType_Spec phi3_py_tokenizer_spec;
extern PyType_Spec phi3_py_cache_spec;
extern PyType_Spec phi3_py_generation_spec;
extern PyType_Spec phi3_py_random_spec;
extern PyType_Spec phi3_py_stream_decoder_spec;
extern PyType_Spec phi3_py_logits_spec;
extern PyType_Spec phi3_py_engine_spec;
extern PyType_Spec phi3_py_request_spec;

/* ---- Objects --------------------------------------------------------------------------------- */

typedef struct phi3_py_model {
    PyObject_HEAD phi3_model *model;
} phi3_py_model;

typedef struct phi3_py_tokenizer {
    PyObject_HEAD phi3_tokenizer *tokenizer;
} phi3_py_tokenizer;

typedef struct phi3_py_cache {
    PyObject_HEAD phi3_py_model *model;
    phi3_cache *cache;
} phi3_py_cache;

typedef struct phi3_py_random {
    PyObject_HEAD phi3_random *random;
} phi3_py_random;

/* A new Logits of up to three dimensions, [shape[0]][shape[1]][shape[2]], filled with zeros. *values
 * lends its memory. */
PyObject *phi3_py_logits_new(phi3_py_state *state, int n_dims, const Py_ssize_t *shape,
                             float **values);

/* ---- Exceptions ------------------------------------------------------------------------------ */

/* Creates the exception classes and adds them to the module. Returns -1 on failure. */
int phi3_py_add_errors(PyObject *module, phi3_py_state *state);

/* Raises the exception that belongs to a failure and returns NULL. An exception that a callback has
 * left pending (KeyboardInterrupt, say) stays. */
PyObject *phi3_py_raise(phi3_py_state *state, phi3_status status, const phi3_error *error);

/* The same with a message of the binding's own. */
PyObject *phi3_py_raise_message(phi3_py_state *state, phi3_status status, const char *format, ...);

/* ---- Conversions ----------------------------------------------------------------------------- */

/* Ids of a sequence of integers or of a one-dimensional buffer of int32 or int64. *ids is freed with
 * PyMem_Free. Returns false with an exception set. */
bool phi3_py_to_ids(phi3_py_state *state, PyObject *object, int32_t **ids, size_t *count);

/* A list of integers; NULL with an exception set. */
PyObject *phi3_py_from_ids(const int32_t *ids, size_t count);

/* The UTF-8 of a str, borrowed from it. Lone surrogates raise TypeError. */
const char *phi3_py_to_utf8(phi3_py_state *state, PyObject *text, size_t *size);

/* The UTF-8 of a tuple of str without NULs, which keeps it. *strings is freed with PyMem_Free. */
bool phi3_py_to_strings(phi3_py_state *state, PyObject *tuple, const char ***strings,
                        size_t *count);

/* Generation settings, and what they point to. */
typedef struct phi3_py_generation_config {
    phi3_generation_config config;
    int32_t *eos_ids;     /* owned */
    const char **strings; /* owned; the strings belong to the call's arguments */
} phi3_py_generation_config;

/* Takes the generation settings from a call's keyword arguments (NULL: there are none). Returns a new
 * dict of what is left, or NULL with an exception set and nothing to clear. */
PyObject *phi3_py_take_generation_config(phi3_py_state *state, PyObject *kwargs,
                                         phi3_py_generation_config *made);
void phi3_py_clear_generation_config(phi3_py_generation_config *made);

/* The hyper-parameters as a dict, by their names in phi3_config. */
PyObject *phi3_py_from_config(const phi3_config *config);

/* Byte offsets of a text to a list of (start, end) in characters. */
PyObject *phi3_py_from_offsets(const char *text, const phi3_offset *offsets, size_t count);

/* ---- Calls that take long -------------------------------------------------------------------- */

/* One call of the library without the GIL. Its address is the user_data of both callbacks. */
typedef struct phi3_py_call {
    PyThreadState *thread;
    int64_t last_check; /* when signals were last looked at, in nanoseconds */
    PyObject *progress; /* a callable(done), or NULL; borrowed */
} phi3_py_call;

/* Gives the GIL up and takes it back. Between the two no Python object may be touched. */
void phi3_py_call_begin(phi3_py_call *call, PyObject *progress);
void phi3_py_call_end(phi3_py_call *call);

/* Stop the library when a signal handler or the progress callable has raised. */
bool phi3_py_interrupt(void *call);
bool phi3_py_progress(float done, void *call);

/* quantize(path, type, out_path, ...) of the module and save(path, ...) of Model. */
PyObject *phi3_py_quantize(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *phi3_py_model_save(PyObject *model, PyObject *args, PyObject *kwargs);

/* set_log_callback(callable or None), and its end when the module dies. */
PyObject *phi3_py_set_log_callback(PyObject *module, PyObject *callback);
void phi3_py_clear_log_callback(phi3_py_state *state);

#endif
