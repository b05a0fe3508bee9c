/* host_memory.h - memory of the backends that compute on the host, 64-byte aligned. */
#ifndef PHI3_HOST_MEMORY_H
#define PHI3_HOST_MEMORY_H

#include <stddef.h>

#include "phi3.h"

void *phi3_host_allocate(size_t size);
void phi3_host_release(void *memory);
phi3_status phi3_host_copy(void *to, const void *from, size_t size);

#endif
