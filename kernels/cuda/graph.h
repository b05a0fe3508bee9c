/*
 * graph.h - decode steps that have been recorded, to be issued as one.
 *
 * A step of a small batch is hundreds of launches, each shorter than it takes to issue it. The second
 * time that a batch of some shape comes, its ops are recorded into a graph; from then on the graph is
 * launched instead. What differs from step to step, ids and places, is in the plan (plan.h), which
 * is uploaded before: a graph holds addresses and sizes only. The first time ops run as they are:
 * many shapes come once, and a kernel must be loaded before it can be recorded.
 */
#ifndef PHI3_CUDA_GRAPH_H
#define PHI3_CUDA_GRAPH_H

#include "cuda.h"

/* All that a recorded step depends on. */
typedef struct phi3_graph_key {
    uint64_t program;
    size_t n_rows, n_logits, longest;
    const void *plan, *scratch;
} phi3_graph_key;

typedef struct phi3_graph {
    phi3_graph_key key;
    cudaGraphExec_t exec; /* NULL: the shape was seen, not recorded */
    uint64_t last_use;    /* 0: the place is free */
} phi3_graph;

enum { PHI3_MAX_GRAPHS = 16 };

/* Starts as zeros. The one that was used longest ago makes room for another. */
typedef struct phi3_graphs {
    phi3_graph list[PHI3_MAX_GRAPHS];
    phi3_graph *recording; /* NULL: the ops run as they come */
    uint64_t n_uses;
} phi3_graphs;

/* Before the ops: launches the graph of that shape (`replayed`), or begins to record it. */
phi3_status phi3_graphs_begin(phi3_graphs *graphs, const phi3_graph_key *key, bool *replayed);

/* After them: launches what has been recorded, or drops it when the ops have failed. */
phi3_status phi3_graphs_end(phi3_graphs *graphs, phi3_status status);
void phi3_graphs_free(phi3_graphs *graphs);

#endif
