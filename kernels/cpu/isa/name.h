/* name.h - names with the level's suffix: ISA_NAME(swiglu) is swiglu_avx2 and so on. */
#ifndef PHI3_ISA_NAME_H
#define PHI3_ISA_NAME_H

#define ISA_JOIN_(name, suffix) name##_##suffix
#define ISA_JOIN(name, suffix) ISA_JOIN_(name, suffix)
#define ISA_NAME(name) ISA_JOIN(name, PHI3_ISA)

#endif
