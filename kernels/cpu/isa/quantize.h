/*
 * quantize.h - the quantisers that fit their scales: the blocks of 256 and IQ4.
 *
 * Each takes 256 finite elements and fills one block. False: a scale does not fit a float16.
 */
#ifndef PHI3_ISA_QUANTIZE_H
#define PHI3_ISA_QUANTIZE_H

#include <stdbool.h>

#include "kernels/blocks.h"
#include "name.h"

bool ISA_NAME(phi3_quantize_q2_k)(const float *x, phi3_block_q2_k *block);
bool ISA_NAME(phi3_quantize_q3_k)(const float *x, phi3_block_q3_k *block);
bool ISA_NAME(phi3_quantize_q4_k)(const float *x, phi3_block_q4_k *block);
bool ISA_NAME(phi3_quantize_q5_k)(const float *x, phi3_block_q5_k *block);
bool ISA_NAME(phi3_quantize_q6_k)(const float *x, phi3_block_q6_k *block);

bool ISA_NAME(phi3_quantize_iq4_nl)(const float *x, phi3_block_iq4_nl *block); /* 32 elements */
bool ISA_NAME(phi3_quantize_iq4_xs)(const float *x, phi3_block_iq4_xs *block);

#endif
