/* upload.h - bytes made on the host, on their way to the device while the next ones are made. */
#ifndef PHI3_CUDA_UPLOAD_H
#define PHI3_CUDA_UPLOAD_H

#include "cuda.h"

enum { PHI3_STAGING_BYTES = 4 << 20 };

/* Two buffers of pinned memory, in turns: one is filled, one is copied. */
typedef struct phi3_upload {
    uint8_t *staging; /* [2][PHI3_STAGING_BYTES] */
    cudaEvent_t copied[2];
    int turn;
} phi3_upload;

/* Out of memory, or what the device says; there is nothing to end then. */
phi3_status phi3_upload_begin(phi3_upload *upload);

/* The buffer whose turn it is, when its last copy is through; NULL: the device fails. */
uint8_t *phi3_upload_buffer(phi3_upload *upload);

/* Sends the first `size` bytes of that buffer on their way. */
phi3_status phi3_upload_send(phi3_upload *upload, void *to, size_t size);

/* Waits for all copies and gives the buffers back. */
phi3_status phi3_upload_end(phi3_upload *upload);

#endif
