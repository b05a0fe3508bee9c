/* graph.cu - recording and launching graphs: see graph.h. */
#include "graph.h"

static bool same(const phi3_graph_key *a, const phi3_graph_key *b)
{
    return a->program == b->program && a->n_rows == b->n_rows && a->n_logits == b->n_logits &&
           a->longest == b->longest && a->plan == b->plan && a->scratch == b->scratch;
}

static void clear(phi3_graph *graph)
{
    if (graph->exec != NULL)
        cudaGraphExecDestroy(graph->exec);
    *graph = {};
}

/* The place of a shape, which may be new. */
static phi3_graph *find(phi3_graphs *graphs, const phi3_graph_key *key)
{
    phi3_graph *oldest = &graphs->list[0];
    for (phi3_graph &graph : graphs->list) {
        if (graph.last_use > 0 && same(&graph.key, key))
            return &graph;
        if (graph.last_use < oldest->last_use)
            oldest = &graph;
    }
    clear(oldest);
    oldest->key = *key;
    return oldest;
}

phi3_status phi3_graphs_begin(phi3_graphs *graphs, const phi3_graph_key *key, bool *replayed)
{
    phi3_graph *graph = find(graphs, key);
    bool is_new = graph->last_use == 0;
    graph->last_use = ++graphs->n_uses;
    graphs->recording = NULL;
    *replayed = graph->exec != NULL;
    if (is_new)
        return PHI3_OK;
    if (graph->exec != NULL)
        return phi3_cuda_status(cudaGraphLaunch(graph->exec, PHI3_STREAM));
    /* Other threads may allocate and wait meanwhile. */
    phi3_status status =
        phi3_cuda_status(cudaStreamBeginCapture(PHI3_STREAM, cudaStreamCaptureModeThreadLocal));
    if (status == PHI3_OK)
        graphs->recording = graph;
    return status;
}

phi3_status phi3_graphs_end(phi3_graphs *graphs, phi3_status status)
{
    phi3_graph *graph = graphs->recording;
    cudaGraph_t recorded = NULL;
    if (graph == NULL)
        return status;
    graphs->recording = NULL;
    cudaError_t failed = cudaStreamEndCapture(PHI3_STREAM, &recorded);
    if (status == PHI3_OK && failed == cudaSuccess)
        failed = cudaGraphInstantiate(&graph->exec, recorded, 0);
    if (status == PHI3_OK && failed == cudaSuccess)
        failed = cudaGraphLaunch(graph->exec, PHI3_STREAM);
    if (recorded != NULL)
        cudaGraphDestroy(recorded);
    return status == PHI3_OK ? phi3_cuda_status(failed) : status;
}

void phi3_graphs_free(phi3_graphs *graphs)
{
    for (phi3_graph &graph : graphs->list)
        clear(&graph);
}
