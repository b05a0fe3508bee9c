/* device_peaks.c - what a device can do at best: the CPU measures itself, others have an op for it. */
#include "backend.h"
#include "core/base/error.h"
#include "core/base/process.h"

phi3_status phi3_measure_device_peaks(const char *device, const phi3_run_options *options,
                                      phi3_peaks *peaks, phi3_error *error)
{
    const phi3_backend *backend;
    PHI3_TRY(phi3_backend_find(device, &backend, error));
    if (backend->measure_peaks == NULL)
        return phi3_measure_peaks(options, peaks, error);
    PHI3_TRY(phi3_process_begin_work(error));
    phi3_status status = backend->measure_peaks(peaks);
    if (status == PHI3_OK)
        return PHI3_OK;
    const char *why = backend->failure == NULL ? NULL : backend->failure();
    return phi3_fail(error, status, "measuring %s: %s", backend->name,
                     why == NULL ? phi3_status_name(status) : why);
}
