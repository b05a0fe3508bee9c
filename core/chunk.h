/* chunk.h - rows on their way through a model: forward.c fills a chunk, model.c runs it. */
#ifndef PHI3_INTERNAL_CHUNK_H
#define PHI3_INTERNAL_CHUNK_H

#include "candidates.h"
#include "devices/placement.h"
#include "kernels/backend.h"
#include "phi3.h"
#include "workspace.h"

/* One call of phi3_model_forward, and the chunk that it works on. */
typedef struct phi3_forward {
    const phi3_model *model;
    const phi3_span *spans;
    size_t n_spans;
    const phi3_run_options *options;
    phi3_candidates *candidates; /* [sum of n_logits], or NULL: all logits are wanted */
    float *logits;               /* the caller's [sum of n_logits][vocab] */
    phi3_workspace *workspace;

    phi3_batch chunk; /* the rows, and those whose logits are wanted; in host memory */

    /* The segment that works on the chunk. model.c's. */
    const phi3_segment *segment;
    phi3_activations *activations;
    phi3_attention attention;
    phi3_batch batch; /* the chunk in the backend's memory */
} phi3_forward;

#endif
