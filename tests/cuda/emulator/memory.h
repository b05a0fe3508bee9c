/*
 * memory.h - the memory of the emulated cards.
 *
 * Each of the $EMULATOR_DEVICES cards (1) has $EMULATOR_MEMORY bytes (1 GiB) in an address range of
 * its own. Host code that touches it dies of SIGSEGV: only what runs while an `open_memory` lives may.
 * New memory is filled with NaNs. ASan sees the exact ends of every allocation, and its release.
 */
#ifndef PHI3_CUDA_EMULATOR_MEMORY_H
#define PHI3_CUDA_EMULATOR_MEMORY_H

#include <cstddef>

namespace emulator
{

size_t number_of_environment(const char *name, size_t otherwise);

int device_count();
size_t device_total();
size_t device_available(int device);

/* nullptr: there is not so much left in one piece. */
void *device_allocate(int device, size_t size);

/* False: it is no allocation's beginning. */
bool device_release(void *memory);

/* Whether all of [memory, memory + size) is part of one allocation; of that device, when it is not
 * negative. */
bool is_device(const void *memory, size_t size, int device = -1);

/* Lets the CPU at the cards' memory. May be nested; for threads that hold the runtime's lock. */
class open_memory
{
  public:
    open_memory();
    ~open_memory();
};

} // namespace emulator

#endif
