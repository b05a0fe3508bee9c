/* dequantize.c - the reference's row expansion, compiled for this level: its loops are plain enough
 * for the compiler to use the level's vectors, and the results stay the same to the bit. */
#include "name.h"

#define phi3_dequantize_row ISA_NAME(phi3_dequantize_row)
#include "kernels/reference/dequantize.c"
