/* runtime.cpp - streams, events, graphs and copies: see runtime.h. */
#include "runtime.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "memory.h"

/* ---- What there is ----------------------------------------------------------------------------------- */

/* Something that a stream does: `pointers` are device memory it needs, of the stream's card. */
struct step {
    std::vector<const void *> pointers;
    std::function<void()> run;
};

struct CUgraph_st {
    std::vector<step> steps;
};

struct CUgraphExec_st {
    std::vector<step> steps;
};

struct CUstream_st {
    int device;
    std::deque<step> waiting;
    unsigned long long n_queued, n_done;
    CUgraph_st *recording; /* nullptr: it is not */
    bool spoiled;          /* what it records */
};

struct CUevent_st {
    cudaStream_t stream; /* nullptr: never recorded, or its stream is gone */
    unsigned long long at;
};

namespace
{

/* Everything here is under one lock: cards work one after the other, whoever waits for them. */
std::recursive_mutex lock;
using guard = std::lock_guard<std::recursive_mutex>;

std::set<cudaStream_t> streams;
size_t n_graphs, n_graph_launches; /* that live; so far */
std::set<cudaEvent_t> events;
std::map<const char *, size_t> pinned;
cudaError_t dead; /* what a kernel's failure left for all calls to come */
std::string why;
thread_local cudaError_t last_error;
thread_local int current_device;
thread_local cudaStream_t recorder; /* the stream that this thread records */

cudaError_t report(cudaError_t error)
{
    if (error == cudaSuccess)
        error = dead;
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

/* For calls that may not be part of a recording. */
bool is_recording()
{
    if (recorder != nullptr)
        recorder->spoiled = true;
    return recorder != nullptr;
}

bool is_pinned(const void *memory, size_t size)
{
    const char *at = static_cast<const char *>(memory);
    auto after = pinned.upper_bound(at);
    if (after == pinned.begin())
        return false;
    const auto &[begin, length] = *--after;
    return (size_t)(at - begin) + size <= length;
}

/* ---- Doing the work ---------------------------------------------------------------------------------- */

void die(cudaError_t error, const std::string &reason)
{
    dead = error;
    why = reason;
}

void run(const step &s, int device)
{
    for (const void *pointer : s.pointers)
        if (pointer != nullptr && !emulator::is_device(pointer, 1, device)) {
            die(cudaErrorIllegalAddress, "a kernel got a pointer that is not its device's memory");
            return;
        }
    emulator::open_memory opened;
    s.run();
    std::string failed = emulator::take_failure();
    if (!failed.empty())
        die(cudaErrorLaunchFailure, failed);
}

void drain(cudaStream_t stream, unsigned long long until)
{
    emulator::open_memory opened;
    while (stream->n_done < until) {
        step next = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        stream->n_done++;
        if (dead == cudaSuccess)
            run(next, stream->device);
    }
}

void drain_all()
{
    for (cudaStream_t stream : streams)
        drain(stream, stream->n_queued);
}

cudaStream_t make_stream(int device)
{
    cudaStream_t made = new CUstream_st{device, {}, 0, 0, nullptr, false};
    streams.insert(made);
    return made;
}

void end_stream(cudaStream_t stream)
{
    drain(stream, stream->n_queued);
    for (cudaEvent_t event : events)
        if (event->stream == stream)
            event->stream = nullptr;
    streams.erase(stream);
    delete stream;
}

/* A thread's own streams, one for each card. */
struct own_streams {
    std::map<int, cudaStream_t> of_device;
    ~own_streams()
    {
        guard hold(lock);
        for (const auto &[device, stream] : of_device)
            end_stream(stream);
    }
};

cudaStream_t resolve(cudaStream_t stream)
{
    static thread_local own_streams own;
    if (stream != cudaStreamPerThread)
        return stream;
    cudaStream_t &mine = own.of_device[current_device];
    if (mine == nullptr)
        mine = make_stream(current_device);
    return mine;
}

void add(cudaStream_t stream, step s)
{
    if (stream->recording != nullptr) {
        stream->recording->steps.push_back(std::move(s));
        return;
    }
    stream->waiting.push_back(std::move(s));
    stream->n_queued++;
}

} // namespace

void emulator::enqueue(cudaStream_t stream, std::vector<const void *> pointers,
                       std::function<void()> work)
{
    guard hold(lock);
    add(resolve(stream), {std::move(pointers), std::move(work)});
}

/* ---- Errors ------------------------------------------------------------------------------------------ */

cudaError_t cudaGetLastError()
{
    cudaError_t error = last_error;
    last_error = dead;
    return error;
}

cudaError_t cudaPeekAtLastError()
{
    return last_error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    default:
        return why.c_str();
    }
}

/* ---- Devices ----------------------------------------------------------------------------------------- */

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = (int)emulator::number_of_environment("EMULATOR_DRIVER", CUDART_VERSION);
    return report(cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = emulator::device_count();
    return report(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device < 0 || device >= emulator::device_count())
        return report(cudaErrorInvalidDevice);
    int capability = (int)emulator::number_of_environment("EMULATOR_CAPABILITY", 80);
    *properties = {"the emulator", capability / 10, capability % 10, 2, emulator::device_total()};
    return report(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= emulator::device_count())
        return report(cudaErrorInvalidDevice);
    current_device = device;
    return report(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return report(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    guard hold(lock);
    *available = emulator::device_available(current_device);
    *total = emulator::device_total();
    return report(cudaSuccess);
}

/* ---- Memory ------------------------------------------------------------------------------------------ */

cudaError_t cudaMalloc(void **memory, size_t size)
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    *memory = emulator::device_allocate(current_device, size);
    return report(*memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory)
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    if (memory == nullptr)
        return report(cudaSuccess);
    drain_all();
    return report(emulator::device_release(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned)
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    *memory = malloc(size > 0 ? size : 1);
    if (*memory == nullptr)
        return report(cudaErrorMemoryAllocation);
    pinned[static_cast<char *>(*memory)] = size;
    return report(cudaSuccess);
}

cudaError_t cudaFreeHost(void *memory)
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    if (memory == nullptr)
        return report(cudaSuccess);
    drain_all();
    if (pinned.erase(static_cast<char *>(memory)) == 0)
        return report(cudaErrorInvalidValue);
    free(memory);
    return report(cudaSuccess);
}

namespace
{

bool is_valid(void *to, const void *from, size_t size, cudaMemcpyKind kind)
{
    bool to_device = emulator::is_device(to, size), from_device = emulator::is_device(from, size);
    return to_device == (kind != cudaMemcpyDeviceToHost) &&
           from_device == (kind != cudaMemcpyHostToDevice);
}

} // namespace

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    guard hold(lock);
    stream = resolve(stream);
    if (!is_valid(to, from, size, kind))
        return report(cudaErrorInvalidValue);
    const void *host = kind == cudaMemcpyHostToDevice ? from : to;
    bool is_async = kind == cudaMemcpyDeviceToDevice || is_pinned(host, size);
    if (!is_async && is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    if (is_async) {
        add(stream, {{}, [=] { memcpy(to, from, size); }});
    } else if (kind == cudaMemcpyHostToDevice) {
        auto bytes = static_cast<const char *>(from);
        auto source = std::make_shared<std::vector<char>>(bytes, bytes + size);
        add(stream, {{}, [=] { memcpy(to, source->data(), size); }});
    } else {
        add(stream, {{}, [=] { memcpy(to, from, size); }});
        drain(stream, stream->n_queued);
    }
    return report(cudaSuccess);
}

/* As compiled with a default stream for each thread. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind)
{
    cudaError_t failed = cudaMemcpyAsync(to, from, size, kind, cudaStreamPerThread);
    return failed == cudaSuccess ? cudaStreamSynchronize(cudaStreamPerThread) : failed;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t stream)
{
    guard hold(lock);
    if (!emulator::is_device(memory, size))
        return report(cudaErrorInvalidValue);
    add(resolve(stream), {{}, [=] { memset(memory, value, size); }});
    return report(cudaSuccess);
}

/* ---- Streams and events ------------------------------------------------------------------------------ */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    guard hold(lock);
    *stream = make_stream(current_device);
    return report(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    guard hold(lock);
    end_stream(stream);
    return report(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    stream = resolve(stream);
    drain(stream, stream->n_queued);
    return report(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    guard hold(lock);
    cudaStream_t other = event->stream;
    unsigned long long at = event->at;
    if (other != nullptr)
        add(resolve(stream), {{}, [=] {
                                  if (streams.count(other) > 0)
                                      drain(other, at);
                              }});
    return report(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize()
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return report(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    guard hold(lock);
    *event = new CUevent_st{nullptr, 0};
    events.insert(*event);
    return report(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    guard hold(lock);
    events.erase(event);
    delete event;
    return report(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    guard hold(lock);
    stream = resolve(stream);
    if (stream->recording != nullptr && is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    *event = {stream, stream->n_queued};
    return report(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    guard hold(lock);
    if (is_recording())
        return report(cudaErrorStreamCaptureUnsupported);
    if (event->stream != nullptr)
        drain(event->stream, event->at);
    return report(cudaSuccess);
}

/* ---- Graphs ------------------------------------------------------------------------------------------ */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    guard hold(lock);
    stream = resolve(stream);
    if (recorder != nullptr || stream->recording != nullptr)
        return report(cudaErrorStreamCaptureUnsupported);
    stream->recording = new CUgraph_st;
    stream->spoiled = false;
    recorder = stream;
    return report(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    guard hold(lock);
    stream = resolve(stream);
    *graph = nullptr;
    if (recorder != stream)
        return report(cudaErrorInvalidValue);
    std::unique_ptr<CUgraph_st> made(stream->recording);
    stream->recording = nullptr;
    recorder = nullptr;
    if (stream->spoiled)
        return report(cudaErrorStreamCaptureInvalidated);
    n_graphs++;
    *graph = made.release();
    return report(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    guard hold(lock);
    n_graphs++;
    *exec = new CUgraphExec_st{graph->steps};
    return report(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    guard hold(lock);
    stream = resolve(stream);
    n_graph_launches++;
    for (const step &s : exec->steps)
        add(stream, s);
    return report(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    guard hold(lock);
    n_graphs--;
    delete graph;
    return report(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    guard hold(lock);
    n_graphs--;
    delete exec;
    return report(cudaSuccess);
}

/* ---- For tests that only know the library ------------------------------------------------------------ */

size_t emulator_device_bytes()
{
    guard hold(lock);
    size_t used = 0;
    for (int device = 0; device < emulator::device_count(); device++)
        used += emulator::device_total() - emulator::device_available(device);
    return used;
}

size_t emulator_objects()
{
    guard hold(lock);
    return events.size() + pinned.size() + n_graphs;
}

size_t emulator_graph_launches()
{
    guard hold(lock);
    return n_graph_launches;
}

void emulator_fail(const char *words)
{
    guard hold(lock);
    die(cudaErrorLaunchFailure, words);
}
