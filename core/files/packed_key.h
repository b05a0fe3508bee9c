/* packed_key.h - which file the packed weights of a model are in. */
#ifndef PHI3_INTERNAL_PACKED_KEY_H
#define PHI3_INTERNAL_PACKED_KEY_H

#include "packed_file.h"
#include "packing.h"

/* Names the file and makes its key; phi3_packed_file_close frees both. False: a warning was logged. */
bool phi3_packed_file_describe(const phi3_packing *packing, phi3_packed_file *file);

#endif
