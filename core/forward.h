/* forward.h - a forward as generation and engine ask for it: without the logits that nobody looks at. */
#ifndef PHI3_INTERNAL_FORWARD_H
#define PHI3_INTERNAL_FORWARD_H

#include "candidates.h"
#include "phi3.h"

/*
 * phi3_model_forward that gives each row of the logits what candidates[row] wants, [sum of n_logits]:
 * where it ends with a count of 0, all logits, else nothing but the candidates.
 */
phi3_status phi3_model_forward_candidates(const phi3_model *model, const phi3_span *spans,
                                          size_t n_spans, const phi3_run_options *options,
                                          phi3_candidates *candidates, float *logits,
                                          phi3_error *error);

#endif
