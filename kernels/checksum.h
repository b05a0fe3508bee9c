/* checksum.h - a sum over memory that notices damage, taken on all threads. */
#ifndef PHI3_CHECKSUM_H
#define PHI3_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Depends on every bit of data [size], and on nothing else. For accidents, not against forgers. */
uint64_t phi3_checksum(const void *data, size_t size, int n_threads);

#endif
