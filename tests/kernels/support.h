/*
 * support.h - what the kernel tests share: random numbers, random weights of every format, and the
 * runs over instruction sets.
 */
#ifndef PHI3_KERNEL_TEST_SUPPORT_H
#define PHI3_KERNEL_TEST_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/blocks.h"
#include "kernels/cpu/isa.h"
#include "kernels/float16.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Random numbers -------------------------------------------------------------------------- */

/* splitmix64; every test seeds it. */
static uint64_t random_state;

static inline uint64_t random_bits(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline double random_unit(void)
{
    return (double)(random_bits() >> 11) * 0x1p-53;
}

/* Roughly normal, deviation 1. */
static inline float random_normal(void)
{
    double sum = random_unit() + random_unit() + random_unit() + random_unit();
    return (float)((sum - 2) * 1.7320508);
}

static inline float *random_floats(size_t count)
{
    float *values = test_malloc((count ? count : 1) * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = random_normal();
    return values;
}

/* ---- Random weights -------------------------------------------------------------------------- */

static const phi3_dtype all_dtypes[] = {PHI3_F32,  PHI3_F16,  PHI3_BF16, PHI3_Q4_0,   PHI3_Q4_1,
                                        PHI3_Q5_0, PHI3_Q5_1, PHI3_Q8_0, PHI3_Q2_K,   PHI3_Q3_K,
                                        PHI3_Q4_K, PHI3_Q5_K, PHI3_Q6_K, PHI3_IQ4_NL, PHI3_IQ4_XS};

/* Where the float16 scales of a block stand; SIZE_MAX: there is no second one. */
static inline void scale_offsets(phi3_dtype dtype, size_t offsets[2])
{
    offsets[0] = 0;
    offsets[1] = SIZE_MAX;
    switch (dtype) {
    case PHI3_Q4_1:
        offsets[1] = offsetof(phi3_block_q4_1, m);
        break;
    case PHI3_Q5_1:
        offsets[1] = offsetof(phi3_block_q5_1, m);
        break;
    case PHI3_Q4_K:
        offsets[1] = offsetof(phi3_block_q4_k, dmin);
        break;
    case PHI3_Q5_K:
        offsets[1] = offsetof(phi3_block_q5_k, dmin);
        break;
    case PHI3_Q2_K:
        offsets[0] = offsetof(phi3_block_q2_k, d);
        offsets[1] = offsetof(phi3_block_q2_k, dmin);
        break;
    case PHI3_Q3_K:
        offsets[0] = offsetof(phi3_block_q3_k, d);
        break;
    case PHI3_Q6_K:
        offsets[0] = offsetof(phi3_block_q6_k, d);
        break;
    default:
        break;
    }
}

/* Any bytes make a block; its scales are drawn of ordinary size and both signs. */
static inline void fill_block(phi3_dtype dtype, uint8_t *block)
{
    size_t bytes = phi3_dtype_traits(dtype)->block_bytes, offsets[2];
    for (size_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)random_bits();
    scale_offsets(dtype, offsets);
    for (int s = 0; s < 2; s++) {
        if (offsets[s] == SIZE_MAX)
            continue;
        uint16_t half = phi3_f16_from_f32(0.02f * random_normal());
        memcpy(block + offsets[s], &half, sizeof half);
    }
}

/* Weights in new memory (freed with test_free(tensor.data - misalignment)): random, `misalignment`
 * bytes past an aligned address. */
static inline phi3_tensor random_tensor(phi3_dtype dtype, size_t n_rows, size_t n_columns,
                                        size_t misalignment)
{
    size_t row_bytes = phi3_dtype_row_bytes(dtype, n_columns);
    uint8_t *memory = test_malloc(n_rows * row_bytes + misalignment);
    uint8_t *data = memory + misalignment;
    size_t block_bytes = phi3_dtype_traits(dtype)->block_bytes;
    for (size_t at = 0; at < n_rows * row_bytes; at += block_bytes) {
        float value = random_normal();
        uint16_t half = dtype == PHI3_F16 ? phi3_f16_from_f32(value) : phi3_bf16_from_f32(value);
        if (dtype == PHI3_F32)
            memcpy(data + at, &value, sizeof value);
        else if (dtype == PHI3_F16 || dtype == PHI3_BF16)
            memcpy(data + at, &half, sizeof half);
        else
            fill_block(dtype, data + at);
    }
    return (phi3_tensor){dtype, n_rows, n_columns, data};
}

/* ---- Backends and instruction sets ----------------------------------------------------------- */

/* under_qemu.sh looks for instructions that must not be there, at a hundredth of the speed: it has one
 * of every kind of work, but not all sizes. */
static inline bool is_under_qemu(void)
{
    return getenv("PHI3_TEST_UNDER_QEMU") != NULL;
}

/* The backends to test: the one that $PHI3_TEST_BACKEND names; else all at the lowest level,
 * afterwards only the one that knows levels. */
static inline const phi3_backend *const *test_backends(size_t *count)
{
    static const phi3_backend *chosen;
    const char *name = getenv("PHI3_TEST_BACKEND");
    phi3_error error = {.message = ""};
    *count = 1;
    if (name && phi3_backend_find(name, &chosen, &error) != PHI3_OK)
        fail_msg("%s", error.message);
    if (name)
        return &chosen;
    const phi3_backend *const *all = phi3_backend_list(count);
    static const phi3_backend *const cpu = &phi3_backend_cpu;
    if (phi3_isa_current() == PHI3_ISA_PORTABLE)
        return all;
    *count = 1;
    return &cpu;
}

/* A copy of host data in the backend's memory, of exactly that size, so that a sanitizer sees a step
 * beyond it. No data: NaNs, as what an op reads it must have written. */
static inline void *to_device(const phi3_backend *backend, const void *data, size_t size)
{
    void *memory = backend->allocate(size);
    void *filler = data == NULL ? test_malloc(size) : NULL;
    assert_non_null(memory);
    if (filler != NULL)
        memset(filler, 0xff, size);
    assert_int_equal(backend->upload(memory, data == NULL ? filler : data, size), PHI3_OK);
    test_free(filler);
    return memory;
}

/* Takes the result, and gives the memory back. */
static inline void from_device(const phi3_backend *backend, void *memory, void *data, size_t size)
{
    assert_int_equal(backend->download(data, memory, size), PHI3_OK);
    backend->release(memory);
}

static inline phi3_exec make_exec(const phi3_backend *backend, int n_threads, size_t size)
{
    return (phi3_exec){
        .n_threads = n_threads, .scratch = to_device(backend, NULL, size), .scratch_size = size};
}

/* Tells a backend of the rows of the next ops, as core/model.c does. */
static inline phi3_batch begin_batch(const phi3_backend *backend, phi3_exec *exec,
                                     const phi3_attention *attention, size_t n_rows,
                                     const float *cosine, const float *sine)
{
    phi3_batch batch = {.attention = attention, .n_rows = n_rows, .cosine = cosine, .sine = sine};
    bool replayed = false;
    if (backend->begin != NULL)
        assert_int_equal(backend->begin(exec, &batch, &replayed), PHI3_OK);
    assert_false(replayed);
    return batch;
}

static inline void free_exec(const phi3_backend *backend, phi3_exec *exec)
{
    if (backend->exec_free != NULL)
        backend->exec_free(exec);
    backend->release(exec->scratch);
}

/*
 * Runs `tests` of this program once per instruction set that the machine has. The level is chosen
 * once per process, so each level gets a process of its own.
 */
static inline int run_on_every_isa(char **argv, int (*tests)(void))
{
    if (getenv("PHI3_CPU_ISA") || getenv("PHI3_TEST_BACKEND"))
        return tests();
    int failures = 0;
    for (phi3_isa level = PHI3_ISA_PORTABLE; level <= phi3_isa_current(); level++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            setenv("PHI3_CPU_ISA", phi3_isa_name(level), 1);
            execv("/proc/self/exe", argv);
            _exit(127);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "failed at PHI3_CPU_ISA=%s\n", phi3_isa_name(level));
            failures++;
        }
    }
    return failures;
}

#endif
