/* tokenizer.c - the type Tokenizer: text to ids and back, its vocabulary, and chats to prompts. */
#include <string.h>

#include "binding.h"

#define LONG_TEXT 16384 /* bytes; below, giving up the GIL costs more than it gains */

static const phi3_tokenizer *tokenizer_of(PyObject *object)
{
    return ((phi3_py_tokenizer *)object)->tokenizer;
}

static PyObject *tokenizer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"path", NULL};
    phi3_py_state *state = PyType_GetModuleState(type);
    PyObject *path;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:Tokenizer", keywords, PyUnicode_FSConverter,
                                     &path))
        return NULL;
    phi3_py_tokenizer *self = (phi3_py_tokenizer *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        Py_DECREF(path);
        return NULL;
    }
    const char *name = PyBytes_AsString(path);
    phi3_error error;
    phi3_status status;
    Py_BEGIN_ALLOW_THREADS status = phi3_tokenizer_load(name, &self->tokenizer, &error);
    Py_END_ALLOW_THREADS Py_DECREF(path);
    if (status != PHI3_OK) {
        phi3_py_raise(state, status, &error);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void tokenizer_dealloc(PyObject *object)
{
    phi3_tokenizer_free(((phi3_py_tokenizer *)object)->tokenizer);
    phi3_py_release(object);
}

/* ---- Text to ids and back ------------------------------------------------------------------------ */

static PyObject *tokenizer_encode(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"text", "add_special_tokens", "split_special_tokens", "offsets",
                               NULL};
    PyObject *text;
    int add_special = 1, split_special = 0, want_offsets = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$ppp:encode", keywords, &text, &add_special,
                                     &split_special, &want_offsets))
        return NULL;
    phi3_py_state *state = phi3_py_state_of(object);
    size_t size;
    const char *bytes = phi3_py_to_utf8(state, text, &size);
    if (bytes == NULL)
        return NULL;
    phi3_encode_options options = {add_special != 0, split_special != 0};
    phi3_encoding encoding;
    phi3_error error;
    PyThreadState *thread = size > LONG_TEXT ? PyEval_SaveThread() : NULL;
    phi3_status status =
        phi3_tokenizer_encode(tokenizer_of(object), bytes, size, &options, &encoding, &error);
    if (thread != NULL)
        PyEval_RestoreThread(thread);
    if (status != PHI3_OK)
        return phi3_py_raise(state, status, &error);
    PyObject *result = phi3_py_from_ids(encoding.ids, encoding.count);
    if (want_offsets)
        result = Py_BuildValue("(NN)", result,
                               phi3_py_from_offsets(bytes, encoding.offsets, encoding.count));
    phi3_encoding_free(&encoding);
    return result;
}

static PyObject *tokenizer_decode(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"ids", "skip_special_tokens", NULL};
    PyObject *sequence;
    int skip = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p:decode", keywords, &sequence, &skip))
        return NULL;
    phi3_py_state *state = phi3_py_state_of(object);
    int32_t *ids;
    size_t count, size;
    if (!phi3_py_to_ids(state, sequence, &ids, &count))
        return NULL;
    char *text;
    phi3_error error;
    phi3_status status =
        phi3_tokenizer_decode(tokenizer_of(object), ids, count, skip != 0, &text, &size, &error);
    PyMem_Free(ids);
    if (status != PHI3_OK)
        return phi3_py_raise(state, status, &error);
    PyObject *result = PyUnicode_FromStringAndSize(text, (Py_ssize_t)size);
    phi3_free(text);
    return result;
}

/* ---- Vocabulary ---------------------------------------------------------------------------------- */

static PyObject *tokenizer_token_to_id(PyObject *object, PyObject *token)
{
    size_t size;
    const char *bytes = phi3_py_to_utf8(phi3_py_state_of(object), token, &size);
    if (bytes == NULL)
        return NULL;
    int32_t id = phi3_tokenizer_token_to_id(tokenizer_of(object), bytes, size);
    if (id < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(id);
}

static PyObject *tokenizer_id_to_token(PyObject *object, PyObject *id)
{
    long value = PyLong_AsLong(id);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    size_t size;
    const char *token = NULL;
    if (value >= 0 && value <= INT32_MAX)
        token = phi3_tokenizer_id_to_token(tokenizer_of(object), (int32_t)value, &size);
    if (token == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromStringAndSize(token, (Py_ssize_t)size);
}

/* One (content, id, special) for each added token. */
static PyObject *tokenizer_added_tokens(PyObject *object, void *Py_UNUSED(closure))
{
    size_t count = phi3_tokenizer_added_token_count(tokenizer_of(object));
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        phi3_added_token token = phi3_tokenizer_added_token(tokenizer_of(object), i);
        PyObject *entry =
            Py_BuildValue("(siN)", token.content, (int)token.id, PyBool_FromLong(token.special));
        if (entry == NULL || PyList_SetItem(list, (Py_ssize_t)i, entry) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *tokenizer_special_ids(PyObject *object, void *Py_UNUSED(closure))
{
    static const struct {
        const char *name;
        phi3_special_token role;
    } roles[] = {{"bos_token", PHI3_TOKEN_BOS},
                 {"eos_token", PHI3_TOKEN_EOS},
                 {"unk_token", PHI3_TOKEN_UNK},
                 {"pad_token", PHI3_TOKEN_PAD}};
    PyObject *ids = PyDict_New();
    for (size_t i = 0; ids != NULL && i < sizeof roles / sizeof *roles; i++) {
        int32_t id = phi3_tokenizer_special_id(tokenizer_of(object), roles[i].role);
        PyObject *value = id < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(id);
        if (value == NULL || PyDict_SetItemString(ids, roles[i].name, value) < 0)
            Py_CLEAR(ids);
        Py_XDECREF(value);
    }
    return ids;
}

static PyObject *tokenizer_vocab_size(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(phi3_tokenizer_vocab_size(tokenizer_of(object)));
}

static Py_ssize_t tokenizer_length(PyObject *object)
{
    return (Py_ssize_t)phi3_tokenizer_length(tokenizer_of(object));
}

static PyObject *tokenizer_model_max_length(PyObject *object, void *Py_UNUSED(closure))
{
    size_t length = phi3_tokenizer_model_max_length(tokenizer_of(object));
    if (length == SIZE_MAX)
        Py_RETURN_NONE;
    return PyLong_FromSize_t(length);
}

/* ---- Chats --------------------------------------------------------------------------------------- */

static PyObject *tokenizer_chat_template(PyObject *object, void *Py_UNUSED(closure))
{
    const char *text = phi3_tokenizer_chat_template(tokenizer_of(object));
    if (text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_FromString(text);
}

/* A str without NUL characters, borrowed; NULL for None. False with an exception set. */
static bool text_field(phi3_py_state *state, PyObject *object, const char **text)
{
    *text = NULL;
    if (object == Py_None)
        return true;
    size_t size;
    *text = phi3_py_to_utf8(state, object, &size);
    if (*text != NULL && strlen(*text) != size)
        phi3_py_raise_message(state, PHI3_ERROR_INVALID_ARGUMENT, "%R holds a NUL character",
                              object);
    return *text != NULL && strlen(*text) == size;
}

/* Reads (role, content, tools) into a message that borrows from them. */
static bool read_message(phi3_py_state *state, PyObject *fields, phi3_message *message)
{
    PyObject *role, *content, *tools;
    if (!PyArg_ParseTuple(fields, "OOO", &role, &content, &tools) ||
        !text_field(state, role, &message->role) || !text_field(state, tools, &message->tools))
        return false;
    message->content = phi3_py_to_utf8(state, content, &message->content_size);
    return message->content != NULL;
}

/* `messages` is a list of tuples; it must stay as it is while the result is used. */
static phi3_message *read_messages(phi3_py_state *state, PyObject *messages, size_t *count)
{
    *count = (size_t)PyList_Size(messages);
    phi3_message *result = PyMem_Calloc(*count + 1, sizeof *result);
    if (result == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < *count; i++) {
        if (!read_message(state, PyList_GetItem(messages, (Py_ssize_t)i), &result[i])) {
            PyMem_Free(result);
            return NULL;
        }
    }
    return result;
}

static PyObject *tokenizer_render_chat(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"messages", "add_generation_prompt", "continue_final_message", NULL};
    PyObject *list;
    int add_prompt = 0, continue_final = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$pp:render_chat", keywords, &PyList_Type,
                                     &list, &add_prompt, &continue_final))
        return NULL;
    phi3_py_state *state = phi3_py_state_of(object);
    size_t count, size;
    phi3_message *messages = read_messages(state, list, &count);
    if (messages == NULL)
        return NULL;
    phi3_chat_options options = {add_prompt != 0, continue_final != 0};
    char *text;
    phi3_error error;
    phi3_status status =
        phi3_chat_render(tokenizer_of(object), messages, count, &options, &text, &size, &error);
    PyMem_Free(messages);
    if (status != PHI3_OK)
        return phi3_py_raise(state, status, &error);
    PyObject *result = PyUnicode_FromStringAndSize(text, (Py_ssize_t)size);
    phi3_free(text);
    return result;
}

/* ---- The type ------------------------------------------------------------------------------------ */

static PyMethodDef tokenizer_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))tokenizer_encode, METH_VARARGS | METH_KEYWORDS,
     "encode(text, *, add_special_tokens=True, split_special_tokens=False, offsets=False)\n\n"
     "The ids of a text; with offsets, (ids, [(start, end), ...]) in characters."},
    {"decode", (PyCFunction)(void (*)(void))tokenizer_decode, METH_VARARGS | METH_KEYWORDS,
     "decode(ids, skip_special_tokens=False)\n\nThe text of ids."},
    {"token_to_id", tokenizer_token_to_id, METH_O, "The id of a token by its spelling, or None."},
    {"id_to_token", tokenizer_id_to_token, METH_O, "The spelling of a token, or None."},
    {"render_chat", (PyCFunction)(void (*)(void))tokenizer_render_chat,
     METH_VARARGS | METH_KEYWORDS,
     "render_chat(messages, *, add_generation_prompt=False, continue_final_message=False)\n\n"
     "The prompt of a list of (role, content, tools). A template that is not built in raises "
     "UnsupportedError."},
    {NULL},
};

static PyGetSetDef tokenizer_attributes[] = {
    {"vocab_size", tokenizer_vocab_size, NULL, "Entries without the added tokens.", NULL},
    {"added_tokens", tokenizer_added_tokens, NULL, "A list of (content, id, special).", NULL},
    {"special_ids", tokenizer_special_ids, NULL, "Ids by role; None where there is none.", NULL},
    {"model_max_length", tokenizer_model_max_length, NULL, "The longest text, or None.", NULL},
    {"chat_template", tokenizer_chat_template, NULL, "Jinja source, or None.", NULL},
    {NULL},
};

static PyType_Slot tokenizer_slots[] = {
    {Py_tp_doc, "Tokenizer(path)\n\nReads a directory with tokenizer.json, or a GGUF file. Any "
                "number of threads may share it."},
    {Py_tp_new, tokenizer_new},
    {Py_tp_dealloc, tokenizer_dealloc},
    {Py_tp_methods, tokenizer_methods},
    {Py_tp_getset, tokenizer_attributes},
    {Py_sq_length, tokenizer_length},
    {0, NULL},
};

PyType_Spec phi3_py_tokenizer_spec = {
    .name = "phi3._phi3.Tokenizer",
    .basicsize = sizeof(phi3_py_tokenizer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tokenizer_slots,
};
