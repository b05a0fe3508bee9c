/* random.h - PyTorch's CPU generator for the sampler: raw draws, under the caller's lock. */
#ifndef PHI3_INTERNAL_RANDOM_H
#define PHI3_INTERNAL_RANDOM_H

#include "phi3.h"

/* A step locks the generator for all of its draws, so that those of two threads do not mix. */
void phi3_random_lock(phi3_random *random);
void phi3_random_unlock(phi3_random *random);

/* The next 53 random bits, as torch draws them for one double. Needs the lock. */
uint64_t phi3_random_bits53(phi3_random *random);

/* Draws as often for nothing. Needs the lock. */
void phi3_random_skip(phi3_random *random, size_t n_draws);

/* Exponentially distributed with rate 1: what torch's exponential_ makes of 53 bits. */
float phi3_exponential_from_bits53(uint64_t bits);

#endif
