/* config.c - a model's hyper-parameters in, a dict with their names out. */
#include <stddef.h>

#include "binding.h"

typedef enum field_kind { TEXT, COUNT, NUMBER, FLAG } field_kind;

#define FIELD(member, kind)                          \
    {                                                \
#member, offsetof(phi3_config, member), kind \
    }

static const struct {
    const char *name;
    size_t offset;
    field_kind kind;
} fields[] = {
    FIELD(model_type, TEXT),
    FIELD(name, TEXT),
    FIELD(vocab_size, COUNT),
    FIELD(hidden_size, COUNT),
    FIELD(intermediate_size, COUNT),
    FIELD(num_hidden_layers, COUNT),
    FIELD(num_attention_heads, COUNT),
    FIELD(num_key_value_heads, COUNT),
    FIELD(head_dim, COUNT),
    FIELD(max_position_embeddings, COUNT),
    FIELD(original_max_position_embeddings, COUNT),
    FIELD(sliding_window, COUNT),
    FIELD(rms_norm_eps, NUMBER),
    FIELD(tie_word_embeddings, FLAG),
    FIELD(rope_theta, NUMBER),
    FIELD(partial_rotary_factor, NUMBER),
    FIELD(rotary_dim, COUNT),
    FIELD(rope_attention_factor, NUMBER),
    FIELD(dtype, TEXT),
    FIELD(n_parameters, COUNT),
    FIELD(weight_bytes, COUNT),
    FIELD(embedding_bytes, COUNT),
};

static PyObject *field_value(const phi3_config *config, size_t offset, field_kind kind)
{
    const void *field = (const char *)config + offset;
    switch (kind) {
    case TEXT:
        return PyUnicode_FromString(*(const char *const *)field);
    case COUNT:
        return PyLong_FromSize_t(*(const size_t *)field);
    case NUMBER:
        return PyFloat_FromDouble(*(const float *)field);
    case FLAG:
        break;
    }
    return PyBool_FromLong(*(const bool *)field);
}

/* Puts a value into the dict and lets go of it. A NULL value is a failure that has been raised. */
static bool put(PyObject *dict, const char *name, PyObject *value)
{
    bool ok = value != NULL && PyDict_SetItemString(dict, name, value) == 0;
    Py_XDECREF(value);
    return ok;
}

/* LongRoPE's factors, [count], as a list; None where there are none. */
static PyObject *factor_list(const float *factors, size_t count)
{
    if (factors == NULL)
        return Py_NewRef(Py_None);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *value = PyFloat_FromDouble(factors[i]);
        if (value == NULL || PyList_SetItem(list, (Py_ssize_t)i, value) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

PyObject *phi3_py_from_config(const phi3_config *config)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    size_t n_factors = config->rotary_dim / 2;
    const char *rope = config->rope_type == PHI3_ROPE_LONGROPE ? "longrope" : "default";
    bool ok = put(dict, "rope_type", PyUnicode_FromString(rope)) &&
              put(dict, "short_factor", factor_list(config->short_factor, n_factors)) &&
              put(dict, "long_factor", factor_list(config->long_factor, n_factors));
    for (size_t i = 0; ok && i < sizeof fields / sizeof *fields; i++)
        ok = put(dict, fields[i].name, field_value(config, fields[i].offset, fields[i].kind));
    if (!ok)
        Py_CLEAR(dict);
    return dict;
}
