/*
 * isa.h - which instruction set the CPU kernels use.
 *
 * The kernels in cpu/isa are compiled once per level. The level is chosen once per process: the
 * best that the CPU and the operating system support, or the one that $PHI3_CPU_ISA names.
 */
#ifndef PHI3_CPU_ISA_H
#define PHI3_CPU_ISA_H

#include <stddef.h>

typedef enum phi3_isa {
    PHI3_ISA_NONE = -1, /* $PHI3_CPU_ISA asks for what is not there */
    PHI3_ISA_PORTABLE,
    PHI3_ISA_AVX2,        /* AVX2, FMA, F16C */
    PHI3_ISA_AVX512,      /* AVX-512 F, BW, VL, DQ */
    PHI3_ISA_AVX512_VNNI, /* and VNNI */
    PHI3_ISA_AVX512_BF16, /* and products of bfloat16 */
    PHI3_ISA_AVX512_AMX   /* and AMX: tiles of int8 and bfloat16 */
} phi3_isa;

/* The level in use. */
phi3_isa phi3_isa_current(void);

/* "portable", "avx2", ...; "none". Static. */
const char *phi3_isa_name(phi3_isa isa);

/* Why the level in use is PHI3_ISA_NONE. */
void phi3_isa_explain(char *detail, size_t size);

#endif
