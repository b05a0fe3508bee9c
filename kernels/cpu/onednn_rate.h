/* onednn_rate.h - how fast oneDNN multiplies matrices here, as a yardstick for our own products. */
#ifndef PHI3_CPU_ONEDNN_RATE_H
#define PHI3_CPU_ONEDNN_RATE_H

#include "onednn_product.h"

/* A product of a shape that suits oneDNN, with operands for each thread. */
typedef struct phi3_onednn_rate phi3_onednn_rate;

/* NULL where oneDNN has no generated code for the type. */
phi3_status phi3_onednn_rate_create(phi3_onednn_type type, int n_threads, phi3_onednn_rate **rate,
                                    phi3_error *error);
void phi3_onednn_rate_free(phi3_onednn_rate *rate);

/* Multiplies once, on thread number `thread`; returns the operations done, a multiply-add being
 * two, or 0 when it failed. */
double phi3_onednn_rate_run(const phi3_onednn_rate *rate, int thread);

#endif
