/*
 * log.c - what the library has to say: to the standard error stream, or to a Lua function.
 *
 * The library logs from any thread and there may be many Lua states, so there is one verbosity and
 * one place for the lines of the whole process. A Lua function gets the lines when its own state asks
 * for them (poll_log, which `phi3` calls after every call that may log): they wait in a queue, whose
 * oldest lines give way when nobody asks.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "binding.h"

enum { QUEUE_SIZE = 64, LINE_SIZE = 1024 };

typedef struct log_line {
    phi3_log_level level;
    char text[LINE_SIZE];
} log_line;

/* The only global state of the binding: phi3_set_log_callback is process-wide as well. */
static struct {
    pthread_mutex_t lock;
    int verbosity; /* lines of a lower level are dropped */
    bool queues;   /* lines wait for a Lua function */
    size_t first, count;
    log_line queue[QUEUE_SIZE];
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .verbosity = PHI3_LOG_WARNING};

static void enqueue(phi3_log_level level, const char *message)
{
    size_t place = (log_state.first + log_state.count) % QUEUE_SIZE;
    if (log_state.count < QUEUE_SIZE)
        log_state.count++;
    else
        log_state.first = (log_state.first + 1) % QUEUE_SIZE;
    log_state.queue[place].level = level;
    snprintf(log_state.queue[place].text, LINE_SIZE, "%s", message);
}

/* Called on any thread. */
static void receive(phi3_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    pthread_mutex_lock(&log_state.lock);
    if ((int)level >= log_state.verbosity) {
        if (log_state.queues)
            enqueue(level, message);
        else
            fprintf(stderr, "%s\n", message);
    }
    pthread_mutex_unlock(&log_state.lock);
}

/* set_verbosity(level) -> the previous one; the numbers are phi3_log_level's */
static int set_verbosity(lua_State *L)
{
    int verbosity = (int)luaL_checkinteger(L, 1);
    pthread_mutex_lock(&log_state.lock);
    int previous = log_state.verbosity;
    log_state.verbosity = verbosity;
    pthread_mutex_unlock(&log_state.lock);
    lua_pushinteger(L, previous);
    return 1;
}

/* queue_log(whether): lines wait for poll_log, or go to the standard error stream */
static int queue_log(lua_State *L)
{
    bool queues = lua_toboolean(L, 1);
    pthread_mutex_lock(&log_state.lock);
    log_state.queues = queues;
    log_state.count = 0;
    pthread_mutex_unlock(&log_state.lock);
    return 0;
}

/* poll_log() -> level, message of the oldest line that waits, or nothing */
static int poll_log(lua_State *L)
{
    log_line line;
    pthread_mutex_lock(&log_state.lock);
    bool found = log_state.count > 0;
    if (found) {
        line = log_state.queue[log_state.first];
        log_state.first = (log_state.first + 1) % QUEUE_SIZE;
        log_state.count--;
    }
    pthread_mutex_unlock(&log_state.lock);
    if (!found)
        return 0;
    lua_pushinteger(L, line.level);
    lua_pushstring(L, line.text);
    return 2;
}

/* log(level, message): a line of the Lua part, by the same way */
static int log_message(lua_State *L)
{
    phi3_log_level level = (phi3_log_level)luaL_checkinteger(L, 1);
    receive(level, luaL_checkstring(L, 2), NULL);
    return 0;
}

void phi3_lua_add_log(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"set_verbosity", set_verbosity},
        {"queue_log", queue_log},
        {"poll_log", poll_log},
        {"log", log_message},
        {NULL, NULL},
    };
    phi3_lua_set_functions(L, functions);
    phi3_set_log_callback(receive, NULL);
}
