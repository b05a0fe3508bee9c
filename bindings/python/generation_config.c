/*
 * generation_config.c - the generation settings among a call's keyword arguments, by the names that
 * phi3_generation_config has for them.
 *
 * In: the keyword arguments of Generation() or Engine.submit(). Out: the settings, and the arguments
 * that are none.
 */
#include <stddef.h>

#include "binding.h"

typedef enum kind { INTEGER, COUNT, TOKEN_ID, NUMBER, BOOLEAN } kind;

typedef struct field {
    const char *name;
    kind kind;
    size_t offset; /* in phi3_generation_config */
} field;

#define PLACE(name) offsetof(phi3_generation_config, name)

static const field fields[] = {
    {"max_new_tokens", INTEGER, PLACE(max_new_tokens)},
    {"max_length", INTEGER, PLACE(max_length)},
    {"min_new_tokens", INTEGER, PLACE(min_new_tokens)},
    {"min_length", INTEGER, PLACE(min_length)},
    {"do_sample", BOOLEAN, PLACE(do_sample)},
    {"repetition_penalty", NUMBER, PLACE(repetition_penalty)},
    {"temperature", NUMBER, PLACE(temperature)},
    {"top_k", INTEGER, PLACE(top_k)},
    {"top_p", NUMBER, PLACE(top_p)},
    {"min_p", NUMBER, PLACE(min_p)},
    {"pad_token_id", TOKEN_ID, PLACE(pad_token_id)},
    {"num_return_sequences", COUNT, PLACE(num_return_sequences)},
    {"output_logits", BOOLEAN, PLACE(output_logits)},
};

/* ---- One argument -------------------------------------------------------------------------------- */

static bool read_number(PyObject *value, double *out)
{
    *out = PyFloat_AsDouble(value);
    return *out != -1 || !PyErr_Occurred();
}

static bool read_boolean(PyObject *value, bool *out)
{
    int truth = PyObject_IsTrue(value);
    *out = truth > 0;
    return truth >= 0;
}

static bool read_integer(PyObject *value, int64_t *out)
{
    *out = PyLong_AsLongLong(value);
    return *out != -1 || !PyErr_Occurred();
}

static bool read_token_id(PyObject *value, int32_t *out)
{
    int64_t id;
    if (!read_integer(value, &id))
        return false;
    *out = (int32_t)id;
    if (*out == id)
        return true;
    PyErr_SetString(PyExc_OverflowError, "pad_token_id is out of range");
    return false;
}

/* A negative count becomes 0, which the library refuses by name. */
static bool read_count(PyObject *value, size_t *out)
{
    int64_t count;
    bool read = read_integer(value, &count);
    *out = read && count > 0 ? (size_t)count : 0;
    return read;
}

static bool read_field(const field *f, PyObject *value, phi3_generation_config *config)
{
    void *place = (char *)config + f->offset;
    switch (f->kind) {
    case NUMBER:
        return read_number(value, place);
    case BOOLEAN:
        return read_boolean(value, place);
    case TOKEN_ID:
        return read_token_id(value, place);
    case COUNT:
        return read_count(value, place);
    default:
        return read_integer(value, place);
    }
}

static bool read_ids(phi3_py_state *state, PyObject *value, phi3_py_generation_config *made)
{
    bool read = phi3_py_to_ids(state, value, &made->eos_ids, &made->config.n_eos_token_ids);
    made->config.eos_token_ids = made->eos_ids;
    return read;
}

static bool read_strings(phi3_py_state *state, PyObject *value, phi3_py_generation_config *made)
{
    bool read = phi3_py_to_strings(state, value, &made->strings, &made->config.n_stop_strings);
    made->config.stop_strings = made->strings;
    return read;
}

/* ---- All of them --------------------------------------------------------------------------------- */

/* Moves an argument from `rest` into *value, which lends it as long as the call's arguments live. */
static bool take(PyObject *rest, const char *name, PyObject **value)
{
    PyObject *key = PyUnicode_FromString(name);
    if (key == NULL)
        return false;
    *value = PyDict_GetItemWithError(rest, key);
    bool done = *value != NULL ? PyDict_DelItem(rest, key) == 0 : !PyErr_Occurred();
    Py_DECREF(key);
    return done;
}

static bool take_all(phi3_py_state *state, PyObject *rest, phi3_py_generation_config *made)
{
    PyObject *value;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!take(rest, fields[i].name, &value) ||
            (value != NULL && !read_field(&fields[i], value, &made->config)))
            return false;
    }
    if (!take(rest, "eos_token_ids", &value) || (value != NULL && !read_ids(state, value, made)))
        return false;
    return take(rest, "stop_strings", &value) &&
           (value == NULL || read_strings(state, value, made));
}

PyObject *phi3_py_take_generation_config(phi3_py_state *state, PyObject *kwargs,
                                         phi3_py_generation_config *made)
{
    *made = (phi3_py_generation_config){.config = phi3_generation_default_config()};
    PyObject *rest = kwargs == NULL ? PyDict_New() : PyDict_Copy(kwargs);
    if (rest != NULL && take_all(state, rest, made))
        return rest;
    Py_XDECREF(rest);
    phi3_py_clear_generation_config(made);
    return NULL;
}

void phi3_py_clear_generation_config(phi3_py_generation_config *made)
{
    PyMem_Free(made->eos_ids);
    PyMem_Free((void *)made->strings);
    made->eos_ids = NULL;
    made->strings = NULL;
}
