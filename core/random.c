/*
 * random.c - the Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), seeded and read as PyTorch
 * does on the CPU, so that a seed draws the tokens that it draws there.
 */
#include "random.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"

enum { STATE_SIZE = 624, SHIFT_SIZE = 397 };

struct phi3_random {
    pthread_mutex_t lock;
    uint32_t state[STATE_SIZE];
    size_t n_used; /* words of the state that have been drawn */
};

/* ---- MT19937 ---------------------------------------------------------------------------------- */

static void seed_state(phi3_random *random, uint32_t seed)
{
    uint32_t *state = random->state;
    state[0] = seed;
    for (uint32_t i = 1; i < STATE_SIZE; i++)
        state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + i;
    random->n_used = STATE_SIZE;
}

static uint32_t mix(uint32_t word, uint32_t next)
{
    uint32_t mixed = (word & 0x80000000u) | (next & 0x7FFFFFFFu);
    return (mixed >> 1) ^ (next & 1 ? 0x9908B0DFu : 0);
}

/* In parts within which no index wraps: these are loops that a compiler vectorises. */
static void twist(phi3_random *random)
{
    enum { LAST = STATE_SIZE - 1, WRAPS = STATE_SIZE - SHIFT_SIZE };
    uint32_t *state = random->state;
    for (size_t i = 0; i < WRAPS; i++)
        state[i] = state[i + SHIFT_SIZE] ^ mix(state[i], state[i + 1]);
    for (size_t i = WRAPS; i < LAST; i++)
        state[i] = state[i - WRAPS] ^ mix(state[i], state[i + 1]);
    state[LAST] = state[LAST - WRAPS] ^ mix(state[LAST], state[0]);
    random->n_used = 0;
}

static uint32_t next_word(phi3_random *random)
{
    if (random->n_used == STATE_SIZE)
        twist(random);
    uint32_t word = random->state[random->n_used++];
    word ^= word >> 11;
    word ^= (word << 7) & 0x9D2C5680u;
    word ^= (word << 15) & 0xEFC60000u;
    return word ^ (word >> 18);
}

/* ---- Draws ------------------------------------------------------------------------------------ */

void phi3_random_lock(phi3_random *random)
{
    pthread_mutex_lock(&random->lock);
}

void phi3_random_unlock(phi3_random *random)
{
    pthread_mutex_unlock(&random->lock);
}

static uint64_t next_bits64(phi3_random *random)
{
    uint64_t high = next_word(random), low = next_word(random);
    return high << 32 | low;
}

uint64_t phi3_random_bits53(phi3_random *random)
{
    return next_bits64(random) & ((UINT64_C(1) << 53) - 1);
}

void phi3_random_skip(phi3_random *random, size_t n_draws)
{
    size_t n_words = 2 * n_draws;
    while (n_words > 0) {
        if (random->n_used == STATE_SIZE)
            twist(random);
        size_t left = STATE_SIZE - random->n_used;
        size_t n_skipped = n_words < left ? n_words : left;
        random->n_used += n_skipped;
        n_words -= n_skipped;
    }
}

float phi3_exponential_from_bits53(uint64_t bits)
{
    double uniform = (double)bits * 0x1p-53;
    return (float)-log1p(-uniform);
}

/* ---- The public calls ------------------------------------------------------------------------- */

phi3_status phi3_random_create(uint64_t seed, phi3_random **random, phi3_error *error)
{
    phi3_random *made = malloc(sizeof *made);
    if (made == NULL)
        return phi3_fail_memory(error, "a random generator");
    pthread_mutex_init(&made->lock, NULL);
    seed_state(made, (uint32_t)seed);
    *random = made;
    return PHI3_OK;
}

void phi3_random_free(phi3_random *random)
{
    if (random == NULL)
        return;
    pthread_mutex_destroy(&random->lock);
    free(random);
}

void phi3_random_seed(phi3_random *random, uint64_t seed)
{
    phi3_random_lock(random);
    seed_state(random, (uint32_t)seed);
    phi3_random_unlock(random);
}

uint64_t phi3_random_next(phi3_random *random)
{
    phi3_random_lock(random);
    uint64_t bits = next_bits64(random);
    phi3_random_unlock(random);
    return bits;
}
