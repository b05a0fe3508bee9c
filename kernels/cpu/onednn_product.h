/*
 * onednn_product.h - products of matrices through oneDNN, each on the thread that asks for it.
 *
 * Work is spread over threads by parallel.h alone: oneDNN starts none, so that no two pools of
 * threads wait for each other. Without oneDNN (PHI3_ONEDNN is not defined) there are no products.
 */
#ifndef PHI3_CPU_ONEDNN_PRODUCT_H
#define PHI3_CPU_ONEDNN_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>

#include "phi3.h"

typedef enum phi3_onednn_type {
    PHI3_ONEDNN_F32,  /* float32 by float32 to float32 */
    PHI3_ONEDNN_BF16, /* bfloat16 by bfloat16 to float32 */
    PHI3_ONEDNN_INT8  /* uint8 by int8 to int32 */
} phi3_onednn_type;

/* y [m][n] = x [m][k] w, all dense. */
typedef struct phi3_onednn_shape {
    phi3_onednn_type type;
    size_t m, n, k;
    bool panels;          /* w is [n / 64][k / 2][64][2]; else in an order of oneDNN's choice */
    bool without_signals; /* no signal comes while it runs: any generated code will do */
} phi3_onednn_shape;

typedef enum phi3_onednn_operand {
    PHI3_ONEDNN_X,
    PHI3_ONEDNN_W,
    PHI3_ONEDNN_Y,
    PHI3_ONEDNN_SCRATCHPAD,
    PHI3_ONEDNN_OPERANDS
} phi3_onednn_operand;

typedef struct phi3_onednn_product phi3_onednn_product;

/* *product is NULL where oneDNN has no code for it that may be used. oneDNN keeps the code of a
 * shape: the first time takes 0.3 ms, later ones some microseconds. */
phi3_status phi3_onednn_product_create(const phi3_onednn_shape *shape,
                                       phi3_onednn_product **product, phi3_error *error);
void phi3_onednn_product_free(phi3_onednn_product *product);

size_t phi3_onednn_product_bytes(const phi3_onednn_product *product, phi3_onednn_operand operand);

/* Multiplies, on this thread; any threads may at the same time. False: memory ran out. */
bool phi3_onednn_product_run(const phi3_onednn_product *product,
                             void *const operands[PHI3_ONEDNN_OPERANDS]);

#endif
