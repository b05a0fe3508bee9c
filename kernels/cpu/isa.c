/*
 * isa.c - looks at the CPU. Compiled without instruction set flags, so that it runs anywhere.
 */
#include "isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "phi3.h"

static const char *const names[] = {"portable",    "avx2",        "avx512",
                                    "avx512_vnni", "avx512_bf16", "avx512_amx"};
enum { N_LEVELS = sizeof names / sizeof names[0] };

static struct {
    phi3_isa current;
    phi3_isa best;
    char wish[32]; /* $PHI3_CPU_ISA, for messages */
} choice;

static once_flag chosen = ONCE_FLAG_INIT;

#ifdef __x86_64__
/* Whether there are AMX's tiles of int8 and bfloat16, and leave to use them, which Linux gives a
 * process that asks: a thread's tiles take 8 KiB wherever its registers are saved. */
static bool may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const unsigned needed = 1u << 22 | 1u << 24 | 1u << 25; /* bfloat16, tiles, int8 */
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & needed) == needed &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif

/* The compiler's built-in asks the operating system too: registers it does not save are no use. */
static phi3_isa detect(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c"))
        return PHI3_ISA_PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return PHI3_ISA_AVX2;
    if (!__builtin_cpu_supports("avx512vnni"))
        return PHI3_ISA_AVX512;
    if (!__builtin_cpu_supports("avx512bf16"))
        return PHI3_ISA_AVX512_VNNI;
    return may_use_tiles() ? PHI3_ISA_AVX512_AMX : PHI3_ISA_AVX512_BF16;
#else
    return PHI3_ISA_PORTABLE;
#endif
}

static void choose(void)
{
    choice.best = detect();
    choice.current = choice.best;
    const char *wish = getenv("PHI3_CPU_ISA");
    if (!wish || !*wish)
        return;
    snprintf(choice.wish, sizeof choice.wish, "%s", wish);
    choice.current = PHI3_ISA_NONE;
    for (int level = 0; level <= (int)choice.best; level++)
        if (!strcmp(wish, names[level]))
            choice.current = (phi3_isa)level;
}

phi3_isa phi3_isa_current(void)
{
    call_once(&chosen, choose);
    return choice.current;
}

const char *phi3_isa_name(phi3_isa isa)
{
    return isa == PHI3_ISA_NONE ? "none" : names[isa];
}

void phi3_isa_explain(char *detail, size_t size)
{
    call_once(&chosen, choose);
    for (int level = 0; level < N_LEVELS; level++) {
        if (strcmp(choice.wish, names[level]))
            continue;
        snprintf(detail, size, "PHI3_CPU_ISA=%s, but this CPU supports no more than %s",
                 choice.wish, names[choice.best]);
        return;
    }
    snprintf(detail, size,
             "PHI3_CPU_ISA=%s is unknown; known are portable, avx2, avx512, avx512_vnni, "
             "avx512_bf16 and avx512_amx",
             choice.wish);
}

const char *phi3_cpu_isa(void)
{
    return phi3_isa_name(phi3_isa_current());
}
