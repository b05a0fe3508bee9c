/* onednn_rate.h - how fast oneDNN multiplies matrices here, as a yardstick for our own products.
 * Defined where the library is built with oneDNN (PHI3_ONEDNN). */
#ifndef PHI3_CPU_ONEDNN_RATE_H
#define PHI3_CPU_ONEDNN_RATE_H

#include "phi3.h"

typedef enum phi3_rate_type { PHI3_RATE_F32, PHI3_RATE_BF16, PHI3_RATE_INT8 } phi3_rate_type;

/* A product of a type, of a shape that suits oneDNN, with operands for each thread. */
typedef struct phi3_onednn_product phi3_onednn_product;

/* NULL where oneDNN has no generated code for the type. */
phi3_status phi3_onednn_product_create(phi3_rate_type type, int n_threads,
                                       phi3_onednn_product **product, phi3_error *error);
void phi3_onednn_product_free(phi3_onednn_product *product);

/* Multiplies once, on thread number `thread`; returns the operations done, a multiply-add being
 * two, or 0 when it failed. */
double phi3_onednn_product_run(const phi3_onednn_product *product, int thread);

#endif
