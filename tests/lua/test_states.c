/*
 * test_states.c - many Lua states at once, each in a thread of its own.  test_states MODEL
 *
 * Every state loads phi3, computes and is closed with all of its objects alive, while the others go
 * on. All must get the same ids. One after the other, too: a closed state leaves nothing behind that
 * the next one trips over.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { N_STATES = 4, N_ROUNDS = 3 };

static const char program[] =
    "local phi3 = require 'phi3'\n"
    "model = assert(phi3.AutoModelForCausalLM.from_pretrained(..., {n_threads = 2}))\n"
    "tokenizer = assert(phi3.AutoTokenizer.from_pretrained(...))\n"
    "pipe = assert(phi3.pipeline('text-generation', {model = model, tokenizer = tokenizer}))\n"
    "local args = {do_sample = false, max_new_tokens = 12, return_tensors = true}\n"
    "local output = assert(pipe('Hello', args))\n"
    "cache = phi3.Cache(model)\n"
    "assert(model({1, 2, 3}, {past_key_values = cache}))\n"
    "stream = pipe:stream('Hello', {do_sample = false, max_new_tokens = 50})\n"
    "stream()\n"
    "return table.concat(output[1].generated_token_ids, ' ')\n";

typedef struct job {
    const char *model;
    char result[512]; /* the ids, or what went wrong */
} job;

static void *run(void *argument)
{
    job *j = argument;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    if (luaL_loadstring(L, program) == 0) {
        lua_pushstring(L, j->model);
        lua_pcall(L, 1, 1, 0);
    }
    snprintf(j->result, sizeof j->result, "%s", lua_tostring(L, -1));
    lua_close(L);
    return NULL;
}

int main(int argc, char **argv)
{
    job alone = {.model = argc > 1 ? argv[1] : ""}, jobs[N_STATES];
    pthread_t threads[N_STATES];
    int failures = 0;
    run(&alone);
    printf("%s\n", alone.result);
    if (strspn(alone.result, "0123456789 ") != strlen(alone.result))
        return 1;
    for (int round = 0; round < N_ROUNDS; round++) {
        for (int i = 0; i < N_STATES; i++) {
            jobs[i].model = alone.model;
            pthread_create(&threads[i], NULL, run, &jobs[i]);
        }
        for (int i = 0; i < N_STATES; i++) {
            pthread_join(threads[i], NULL);
            if (strcmp(jobs[i].result, alone.result) != 0) {
                printf("state %d of round %d: %s\n", i, round, jobs[i].result);
                failures++;
            }
        }
    }
    return failures != 0;
}
