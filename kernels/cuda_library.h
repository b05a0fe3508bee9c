/* cuda_library.h - the CUDA backend, which is a shared object of its own. */
#ifndef PHI3_CUDA_LIBRARY_H
#define PHI3_CUDA_LIBRARY_H

#include "backend.h"

/*
 * The backend of libphi3_cuda.so, opened once: $PHI3_CUDA_LIBRARY, else the file beside the library
 * or extension module that this code is part of. NULL when it cannot be opened; *detail then lends
 * why, in words for a user.
 */
const phi3_backend *phi3_cuda_library(const char **detail);

#endif
