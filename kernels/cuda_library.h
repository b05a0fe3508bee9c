/* cuda_library.h - the CUDA backend, which is a shared object of its own. */
#ifndef PHI3_CUDA_LIBRARY_H
#define PHI3_CUDA_LIBRARY_H

#include "backend.h"

/*
 * A device's backend in libphi3_cuda.so, which is opened once: $PHI3_CUDA_LIBRARY, else the file beside
 * the library or extension module that this code is part of. Device 0 has one whenever the file can be
 * opened, others where they are there. NULL: there is none; *detail then lends why, in words for a
 * user, when the file cannot be opened.
 */
const phi3_backend *phi3_cuda_library(int device, const char **detail);

#endif
