/*
 * exec.cu - begin and end of a batch's ops.
 *
 * What a phi3_exec keeps for this backend: the plan of its batch, in device memory (plan.h), and
 * the steps it has recorded (graph.h).
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"
#include "matrix.h"
#include "plan.h"

struct exec_state {
    phi3_plan plan;
    phi3_graphs graphs;
    bool has_logits; /* of the batch: their download waits for the device */
};

static exec_state *state_of(const phi3_exec *exec)
{
    return static_cast<exec_state *>(exec->state);
}

const phi3_plan *phi3_cuda_plan(const phi3_exec *exec)
{
    return &state_of(exec)->plan;
}

/* $PHI3_CUDA_GRAPHS=0: nothing is recorded, so that a debugger or profiler sees every launch. */
static bool may_record(void)
{
    const char *chosen = getenv("PHI3_CUDA_GRAPHS");
    return chosen == NULL || strcmp(chosen, "0") != 0;
}

/* A step in which every sequence goes on by one row: its ops depend on nothing but the key. */
static bool is_step(const phi3_batch *batch)
{
    return batch->program != 0 && batch->n_rows == batch->attention->n_spans &&
           batch->n_rows <= PHI3_FEW_ROWS;
}

phi3_status phi3_cuda_begin(phi3_exec *exec, phi3_batch *batch, bool *replayed)
{
    *replayed = false;
    if (exec->state == NULL)
        exec->state = calloc(1, sizeof(exec_state));
    if (exec->state == NULL)
        return PHI3_ERROR_OUT_OF_MEMORY;
    exec_state *state = state_of(exec);
    state->has_logits = batch->n_logits > 0;
    PHI3_TRY(phi3_plan_upload(&state->plan, batch));
    if (!is_step(batch) || !may_record())
        return PHI3_OK;
    phi3_graph_key key = {batch->program,     batch->n_rows,
                          batch->n_logits,    (size_t)state->plan.longest,
                          state->plan.device, exec->scratch};
    return phi3_graphs_begin(&state->graphs, &key, replayed);
}

/* Whoever gets the exec or the cache next may be another thread, with another stream: nothing may be
 * on its way when a forward returns. */
phi3_status phi3_cuda_end(phi3_exec *exec, phi3_status status)
{
    exec_state *state = state_of(exec);
    status = phi3_graphs_end(&state->graphs, status);
    if (status == PHI3_OK && state->has_logits)
        return PHI3_OK;
    phi3_status finished = phi3_cuda_status(cudaStreamSynchronize(PHI3_STREAM));
    return status == PHI3_OK ? finished : status;
}

void phi3_cuda_exec_free(phi3_exec *exec)
{
    if (exec->state == NULL)
        return;
    phi3_graphs_free(&state_of(exec)->graphs);
    phi3_plan_free(&state_of(exec)->plan);
    free(exec->state);
    exec->state = NULL;
}
