/* pack_words.h - a quicker way to pack some formats. */
#ifndef PHI3_CPU_PACK_WORDS_H
#define PHI3_CPU_PACK_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/formats.h"

/* Writes one group of the first n_rows rows of a panel; the stored blocks of the rows are row_bytes
 * apart. */
typedef void phi3_group_writer(const uint8_t *blocks, size_t row_bytes, size_t n_rows,
                               uint8_t *out);

/* NULL: the format has none. */
phi3_group_writer *phi3_group_writer_for(phi3_dtype dtype);

#endif
