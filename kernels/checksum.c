/*
 * checksum.c - a sum over memory at the speed of the memory.
 *
 * The memory is cut into chunks. Eight lanes run through a chunk side by side, each over every eighth
 * word: xor, rotate and multiply by an odd number, so that every state of a lane comes from exactly
 * one state before it. What the chunks give is mixed with their numbers and added up, in any order.
 */
#include "checksum.h"

#include <stdatomic.h>
#include <string.h>

#include "cpu/parallel.h"

enum { CHUNK = 1 << 20, LANES = 8, LINE = LANES * sizeof(uint64_t) };

/* Odd, with about half of the bits set: 2^64 divided by the golden ratio. */
static const uint64_t multiplier = 0x9e3779b97f4a7c15;

static uint64_t step(uint64_t state, uint64_t word)
{
    state ^= word;
    return (state << 29 | state >> 35) * multiplier;
}

static uint64_t sum_chunk(const uint8_t *data, size_t size)
{
    uint64_t lanes[LANES] = {0}, words[LANES];
    size_t done = 0;
    for (; done + LINE <= size; done += LINE) {
        memcpy(words, data + done, LINE);
        for (size_t i = 0; i < LANES; i++)
            lanes[i] = step(lanes[i], words[i]);
    }
    memset(words, 0, LINE);
    memcpy(words, data + done, size - done);
    uint64_t sum = size;
    for (size_t i = 0; i < LANES; i++)
        sum = step(step(sum, words[i]), lanes[i]);
    return sum;
}

typedef struct job {
    const uint8_t *data; /* [size] */
    size_t size;
    atomic_ullong sum;
} job;

static void add_chunk(void *context, size_t index, int thread)
{
    (void)thread;
    job *j = context;
    size_t start = index * CHUNK, left = j->size - start;
    uint64_t sum = sum_chunk(j->data + start, left < CHUNK ? left : CHUNK);
    atomic_fetch_add(&j->sum, step(step(index, sum), sum >> 32));
}

uint64_t phi3_checksum(const void *data, size_t size, int n_threads)
{
    job j = {.data = data, .size = size};
    phi3_parallel(n_threads, size / CHUNK + (size % CHUNK != 0), add_chunk, &j);
    return j.sum;
}
