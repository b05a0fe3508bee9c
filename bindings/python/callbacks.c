/*
 * callbacks.c - letting Python in while the library computes without the GIL.
 *
 * The library asks often whether to go on. Taking the GIL each time would make every thread wait, so
 * signals are looked at only every 20 ms: soon enough for Ctrl-C, too rare to cost anything.
 */
#include <time.h>

#include "binding.h"

#define CHECK_INTERVAL 20000000 /* nanoseconds */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void phi3_py_call_begin(phi3_py_call *call, PyObject *progress)
{
    call->progress = progress;
    call->last_check = now();
    call->thread = PyEval_SaveThread();
}

void phi3_py_call_end(phi3_py_call *call)
{
    PyEval_RestoreThread(call->thread);
}

bool phi3_py_interrupt(void *user_data)
{
    phi3_py_call *call = user_data;
    if (now() - call->last_check < CHECK_INTERVAL)
        return false;
    PyEval_RestoreThread(call->thread);
    bool stop = PyErr_CheckSignals() < 0;
    call->thread = PyEval_SaveThread();
    call->last_check = now();
    return stop;
}

bool phi3_py_progress(float done, void *user_data)
{
    phi3_py_call *call = user_data;
    if (call->progress == NULL)
        return phi3_py_interrupt(call);
    PyEval_RestoreThread(call->thread);
    PyObject *answer =
        PyErr_CheckSignals() < 0 ? NULL : PyObject_CallFunction(call->progress, "d", (double)done);
    bool stop = answer == NULL;
    Py_XDECREF(answer);
    call->thread = PyEval_SaveThread();
    return stop;
}

/* Runs on any thread that uses the library, with or without the GIL. */
static void forward_log_line(phi3_log_level level, const char *message, void *user_data)
{
    phi3_py_state *state = user_data;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *callback = state->log_callback;
    if (callback != NULL) {
        PyObject *type, *value, *traceback; /* an exception may be on its way already */
        PyErr_Fetch(&type, &value, &traceback);
        Py_INCREF(callback);
        PyObject *answer = PyObject_CallFunction(callback, "is", (int)level, message);
        if (answer == NULL)
            PyErr_WriteUnraisable(callback);
        Py_XDECREF(answer);
        Py_DECREF(callback);
        PyErr_Restore(type, value, traceback);
    }
    PyGILState_Release(gil);
}

PyObject *phi3_py_set_log_callback(PyObject *module, PyObject *callback)
{
    phi3_py_state *state = PyModule_GetState(module);
    if (callback != Py_None && !PyCallable_Check(callback))
        return phi3_py_raise_message(state, PHI3_ERROR_TYPE,
                                     "the log callback must be callable or None");
    PyObject *previous = state->log_callback;
    state->log_callback = callback == Py_None ? NULL : Py_NewRef(callback);
    Py_XDECREF(previous);
    phi3_set_log_callback(state->log_callback ? forward_log_line : NULL, state);
    Py_RETURN_NONE;
}

void phi3_py_clear_log_callback(phi3_py_state *state)
{
    if (state->log_callback != NULL)
        phi3_set_log_callback(NULL, NULL);
    Py_CLEAR(state->log_callback);
}
