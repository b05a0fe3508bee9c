/* random.c - the type Random: a seed in, the random numbers of sampling out. */
#include "binding.h"

static PyObject *random_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"seed", NULL};
    phi3_py_state *state = PyType_GetModuleState(type);
    unsigned long long seed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "K:Random", keywords, &seed))
        return NULL;
    phi3_py_random *self = (phi3_py_random *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    phi3_error error;
    phi3_status status = phi3_random_create(seed, &self->random, &error);
    if (status != PHI3_OK) {
        Py_DECREF((PyObject *)self);
        return phi3_py_raise(state, status, &error);
    }
    return (PyObject *)self;
}

static void random_dealloc(PyObject *object)
{
    phi3_random_free(((phi3_py_random *)object)->random);
    phi3_py_release(object);
}

static PyObject *random_seed(PyObject *object, PyObject *seed)
{
    unsigned long long value = PyLong_AsUnsignedLongLongMask(seed);
    if (PyErr_Occurred())
        return NULL;
    phi3_random_seed(((phi3_py_random *)object)->random, value);
    Py_RETURN_NONE;
}

static PyObject *random_next(PyObject *object, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromUnsignedLongLong(phi3_random_next(((phi3_py_random *)object)->random));
}

static PyMethodDef random_methods[] = {
    {"seed", random_seed, METH_O, "Starts over from a seed."},
    {"next", random_next, METH_NOARGS, "The next 64 random bits."},
    {NULL},
};

static PyType_Slot random_slots[] = {
    {Py_tp_doc, "Random(seed)\n\nPyTorch's CPU generator: the same seed draws the same tokens."},
    {Py_tp_new, random_new},
    {Py_tp_dealloc, random_dealloc},
    {Py_tp_methods, random_methods},
    {0, NULL},
};

PyType_Spec phi3_py_random_spec = {
    .name = "phi3._phi3.Random",
    .basicsize = sizeof(phi3_py_random),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = random_slots,
};
