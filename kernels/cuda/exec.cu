/*
 * exec.cu - begin and end of a batch's ops.
 *
 * What a phi3_exec keeps for this backend: the plan of its batch, in device memory (plan.h).
 */
#include <stdlib.h>

#include "plan.h"

struct exec_state {
    phi3_plan plan;
    bool awaits_logits; /* the batch has some: their download waits for the device */
};

static exec_state *state_of(const phi3_exec *exec)
{
    return static_cast<exec_state *>(exec->state);
}

const phi3_plan *phi3_cuda_plan(const phi3_exec *exec)
{
    return &state_of(exec)->plan;
}

phi3_status phi3_cuda_begin(phi3_exec *exec, phi3_batch *batch, bool *replayed)
{
    *replayed = false;
    if (exec->state == NULL)
        exec->state = calloc(1, sizeof(exec_state));
    if (exec->state == NULL)
        return PHI3_ERROR_OUT_OF_MEMORY;
    state_of(exec)->awaits_logits = batch->n_logits > 0;
    return phi3_plan_upload(&state_of(exec)->plan, batch);
}

/* Whoever gets the exec or the cache next may be another thread, with another stream: nothing may be
 * on its way when a forward returns. */
phi3_status phi3_cuda_end(phi3_exec *exec, phi3_status status)
{
    if (status == PHI3_OK && state_of(exec)->awaits_logits)
        return PHI3_OK;
    phi3_status finished = phi3_cuda_status(cudaStreamSynchronize(PHI3_STREAM));
    return status == PHI3_OK ? finished : status;
}

void phi3_cuda_exec_free(phi3_exec *exec)
{
    if (exec->state == NULL)
        return;
    phi3_plan_free(&state_of(exec)->plan);
    free(exec->state);
    exec->state = NULL;
}
