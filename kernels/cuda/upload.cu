/*
 * upload.cu - weights through pinned memory: see upload.h.
 *
 * Pinning memory takes milliseconds and a model has hundreds of matrices: one pair of buffers waits
 * for the next of them. Events belong to a device and are made each time.
 */
#include "upload.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *idle; /* buffers that nobody uses, or NULL */

static uint8_t *take_staging(void)
{
    pthread_mutex_lock(&lock);
    uint8_t *staging = idle;
    idle = NULL;
    pthread_mutex_unlock(&lock);
    void *pinned = NULL;
    if (staging == NULL &&
        cudaHostAlloc(&pinned, 2 * (size_t)PHI3_STAGING_BYTES, cudaHostAllocDefault) == cudaSuccess)
        staging = static_cast<uint8_t *>(pinned);
    return staging;
}

static void give_back(uint8_t *staging)
{
    pthread_mutex_lock(&lock);
    bool keep = idle == NULL;
    if (keep)
        idle = staging;
    pthread_mutex_unlock(&lock);
    if (!keep)
        cudaFreeHost(staging);
}

static void end(phi3_upload *upload)
{
    for (cudaEvent_t event : upload->copied)
        if (event != NULL)
            cudaEventDestroy(event);
    if (upload->staging != NULL)
        give_back(upload->staging);
}

phi3_status phi3_upload_begin(phi3_upload *upload)
{
    *upload = {take_staging(), {NULL, NULL}, 0};
    if (upload->staging == NULL)
        return PHI3_ERROR_OUT_OF_MEMORY;
    for (cudaEvent_t &event : upload->copied) {
        cudaError_t failed = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
        if (failed != cudaSuccess) {
            event = NULL;
            end(upload);
            return phi3_cuda_status(failed);
        }
    }
    return PHI3_OK;
}

/* An event that was never recorded lets everybody pass. */
uint8_t *phi3_upload_buffer(phi3_upload *upload)
{
    if (cudaEventSynchronize(upload->copied[upload->turn]) != cudaSuccess)
        return NULL;
    return upload->staging + upload->turn * (size_t)PHI3_STAGING_BYTES;
}

phi3_status phi3_upload_send(phi3_upload *upload, void *to, size_t size)
{
    const uint8_t *from = upload->staging + upload->turn * (size_t)PHI3_STAGING_BYTES;
    cudaError_t failed = cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, PHI3_STREAM);
    if (failed == cudaSuccess)
        failed = cudaEventRecord(upload->copied[upload->turn], PHI3_STREAM);
    upload->turn = 1 - upload->turn;
    return phi3_cuda_status(failed);
}

phi3_status phi3_upload_end(phi3_upload *upload)
{
    phi3_status status = phi3_cuda_status(cudaStreamSynchronize(PHI3_STREAM));
    end(upload);
    return status;
}
