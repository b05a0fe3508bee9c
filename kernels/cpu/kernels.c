/* kernels.c - the table of kernels for the level in use. Compiled without instruction set flags. */
#include "kernels.h"

#include "isa.h"

const phi3_cpu_kernels *phi3_cpu_kernels_current(void)
{
#ifdef PHI3_X86
    switch (phi3_isa_current()) {
    case PHI3_ISA_AVX512_AMX:
        return &phi3_cpu_kernels_avx512_amx;
    case PHI3_ISA_AVX512_BF16:
        return &phi3_cpu_kernels_avx512_bf16;
    case PHI3_ISA_AVX512_VNNI:
        return &phi3_cpu_kernels_avx512_vnni;
    case PHI3_ISA_AVX512:
        return &phi3_cpu_kernels_avx512;
    case PHI3_ISA_AVX2:
        return &phi3_cpu_kernels_avx2;
    case PHI3_ISA_PORTABLE:
    case PHI3_ISA_NONE:
        break;
    }
#endif
    return &phi3_cpu_kernels_portable;
}
