/*
 * runtime.h - the parts of CUDA's runtime that kernels/cuda uses, on the CPU.
 *
 * Work in a stream runs when somebody waits for it, not sooner: whoever reads a result, or writes
 * what a copy still reads, without waiting gets it wrong. As on a card: a copy from memory that is
 * not pinned takes its source at the call; while a thread records a graph, its calls that allocate
 * or wait fail and spoil the recording; after a kernel has failed, every call fails.
 */
#ifndef PHI3_CUDA_RUNTIME_H
#define PHI3_CUDA_RUNTIME_H

#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "emulator.h"

/* ---- Errors ------------------------------------------------------------------------------------------ */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
} cudaError_t;

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char *cudaGetErrorString(cudaError_t error);

/* ---- Devices ----------------------------------------------------------------------------------------- */

struct cudaDeviceProp {
    char name[256];
    int major, minor;
    int multiProcessorCount;
    size_t totalGlobalMem;
};

#define CUDART_VERSION 13000

/* $EMULATOR_DRIVER, by default as new as the runtime; 0: there is none. */
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);

/* ---- Memory ------------------------------------------------------------------------------------------ */

enum { cudaHostAllocDefault = 0 };
typedef enum {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3
} cudaMemcpyKind;

typedef struct CUstream_st *cudaStream_t;

cudaError_t cudaMalloc(void **memory, size_t size);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream);

template <typename T> cudaError_t cudaMalloc(T **memory, size_t size)
{
    return cudaMalloc(reinterpret_cast<void **>(memory), size);
}

/* ---- Streams and events ------------------------------------------------------------------------------ */

#define cudaStreamPerThread (reinterpret_cast<cudaStream_t>(2))
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };

typedef struct CUevent_st *cudaEvent_t;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

/* ---- Graphs ------------------------------------------------------------------------------------------ */

typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
typedef enum { cudaStreamCaptureModeThreadLocal = 1 } cudaStreamCaptureMode;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

/* ---- Launches ---------------------------------------------------------------------------------------- */

namespace emulator
{

/* Puts work into a stream, or into the graph that it records. `pointers`: device memory that the work
 * uses, looked at when it runs. */
void enqueue(cudaStream_t stream, std::vector<const void *> pointers, std::function<void()> work);

template <typename T> void add_pointer(std::vector<const void *> &list, const T &argument)
{
    if constexpr (std::is_pointer_v<T>)
        list.push_back(argument);
}

/* kernel<<<grid, block, shared, stream>>>(arguments...) */
template <typename... P>
void enqueue_kernel(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...),
                    std::type_identity_t<P>... arguments)
{
    std::vector<const void *> pointers;
    (add_pointer(pointers, arguments), ...);
    std::tuple<P...> kept(std::move(arguments)...);
    enqueue(stream, std::move(pointers),
            [=] { launch(grid, block, shared, [&] { std::apply(kernel, kept); }); });
}

} // namespace emulator

/* ---- For tests that only know the library ------------------------------------------------------------ */

extern "C" {

/* What is in use: memory of all cards, and pinned memory, events and graphs, counted. */
size_t emulator_device_bytes();
size_t emulator_objects();

size_t emulator_graph_launches();

/* From now on the cards are as after a kernel that failed with these words. */
void emulator_fail(const char *words);
}

#endif
