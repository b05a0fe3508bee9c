/*
 * packed.h - the weights in the layout that the backend multiplies with, packed when a model is
 * loaded: one piece of memory with one matrix behind the other, or a file of the same that is kept
 * for the next start and shared between processes.
 */
#ifndef PHI3_INTERNAL_PACKED_H
#define PHI3_INTERNAL_PACKED_H

#include "packed_memory.h"
#include "packing.h"

/*
 * Places the matrices, checks what they hold and packs them, or sends them to their device; or takes
 * what is packed from a kept file, once its checksum is right. The pages of what is packed or sent are
 * given back to the system as it goes on.
 * No directory, no room and a damaged file are no errors: a warning is logged, and the weights are
 * packed into memory. *packed is freed with phi3_packed_free, also after an error.
 */
phi3_status phi3_pack(phi3_packing *packing, phi3_packed *packed, phi3_error *error);

#endif
