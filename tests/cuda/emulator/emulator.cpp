/*
 * emulator.cpp - fibers, barriers and exchanges: see emulator.h.
 *
 * For TSan this file is compiled with EMULATOR_TSAN and without instrumentation, which is for the
 * kernels: the scheduler and the fibers share its data on purpose.
 */
#include "emulator.h"

#include <csetjmp>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(EMULATOR_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace emulator
{
namespace
{

constexpr size_t stack_size = 256 * 1024;
constexpr unsigned warp_size = 32;

enum class phase { ready, at_barrier, in_exchange, done };

/* A place to go on from. */
struct context {
    ucontext_t whole;
    jmp_buf jump;
    bool jumps; /* to `jump`, not to `whole` */
};

/* A stack, and where its code stands: in fiber_main, between one thread of a kernel and the next. */
struct runner {
    struct context context;
    void *stack;
};

struct fiber {
    runner *self;
    void *sanitizer; /* ASan's fake stack, or TSan's fiber */
    coordinates where;
    unsigned index; /* in the block */
    enum phase phase;
    place waits_at;
    size_t n_shared; /* pieces of shared memory it has asked for */
    /* Of the exchange it waits in: */
    unsigned mask;
    size_t size; /* of a lane's value */
    alignas(16) unsigned char left[largest_exchange];
    const void *received; /* [warp_size] values */
    std::vector<unsigned char> own;
    std::vector<pending_copy> copies;
};

struct piece {
    void *memory;
    size_t size;
};

struct block {
    const std::function<void()> *kernel;
    std::vector<fiber> fibers;
    std::vector<piece> pieces;
    std::vector<std::vector<unsigned char>> tables; /* what the lanes of each whole warp exchange */
    void *dynamic;
    char barrier_token; /* TSan: what a barrier orders */
    ~block();
};

/* $EMULATOR_ORDER: forward, backward, or the seed of a shuffle. */
order order_of_environment()
{
    const char *chosen = getenv("EMULATOR_ORDER");
    if (chosen == nullptr || strcmp(chosen, "forward") == 0)
        return order::forward;
    return strcmp(chosen, "backward") == 0 ? order::backward : order::shuffled;
}

unsigned seed_of_environment()
{
    const char *chosen = getenv("EMULATOR_ORDER");
    return chosen == nullptr ? 0 : (unsigned)strtoul(chosen, nullptr, 10);
}

order current_order = order_of_environment();
std::mt19937 shuffler(seed_of_environment());
std::string failure;
std::mutex one_launch;

context scheduler;
block *running_block;
fiber *running_fiber;
#if defined(__SANITIZE_ADDRESS__)
void *scheduler_fake_stack;
const void *scheduler_stack;
size_t scheduler_stack_size;
#elif defined(EMULATOR_TSAN)
void *scheduler_fiber;
#endif

/* Tells TSan that what came before a wait comes before what follows it. */
void before_wait(void *token)
{
#if defined(EMULATOR_TSAN)
    __tsan_release(token);
#endif
    (void)token;
}

void after_wait(void *token)
{
#if defined(EMULATOR_TSAN)
    __tsan_acquire(token);
#endif
    (void)token;
}

/* ---- Switching ----------------------------------------------------------------------------------- */

/* Leaves for another context and returns when somebody comes back. swapcontext asks the kernel every
 * time, jumps do not; but sanitizers follow no jump from one stack to another. */
void switch_context(context *from, context *to)
{
#if defined(EMULATOR_TSAN) || defined(__SANITIZE_ADDRESS__)
    swapcontext(&from->whole, &to->whole);
#else
    from->jumps = true;
    if (_setjmp(from->jump) != 0)
        return;
    if (to->jumps)
        _longjmp(to->jump, 1);
    setcontext(&to->whole);
#endif
}

void to_scheduler(bool for_good)
{
    fiber *self = running_fiber;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &self->sanitizer, scheduler_stack,
                                   scheduler_stack_size);
#elif defined(EMULATOR_TSAN)
    __tsan_switch_to_fiber(scheduler_fiber, __tsan_switch_to_fiber_no_sync);
#endif
    (void)for_good;
    switch_context(&self->self->context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self->sanitizer, nullptr, nullptr);
#endif
}

void to_fiber(fiber *next)
{
    running_fiber = next;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, next->self->stack, stack_size);
#elif defined(EMULATOR_TSAN)
    __tsan_switch_to_fiber(next->sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
    switch_context(&scheduler, &next->self->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
    running_fiber = nullptr;
}

/* One thread of a kernel after the other; under a sanitizer only one. */
void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    for (;;) {
        (*running_block->kernel)();
        before_wait(running_fiber->left);
        running_fiber->phase = phase::done;
        to_scheduler(true);
    }
}

#if defined(EMULATOR_TSAN) || defined(__SANITIZE_ADDRESS__)
constexpr bool reuses_runners = false; /* to a sanitizer, a thread ends with its kernel */
#else
constexpr bool reuses_runners = true;
#endif

void free_runner(runner *r)
{
    free(r->stack);
    delete r;
}

/* Runners wait here for the next block. */
struct runner_pool {
    std::vector<runner *> idle;
    ~runner_pool()
    {
        for (runner *r : idle)
            free_runner(r);
    }
} runners;

void prepare(ucontext_t *start, void *stack)
{
    getcontext(start);
    start->uc_stack.ss_sp = stack;
    start->uc_stack.ss_size = stack_size;
    start->uc_link = nullptr;
    makecontext(start, fiber_main, 0);
}

runner *take_runner()
{
    if (!runners.idle.empty()) {
        runner *idle = runners.idle.back();
        runners.idle.pop_back();
        return idle;
    }
    runner *made = new runner();
    made->stack = malloc(stack_size);
    if (made->stack == nullptr)
        abort();
    prepare(&made->context.whole, made->stack);
    return made;
}

void start_fiber(fiber *f)
{
    f->self = take_runner();
#if defined(EMULATOR_TSAN)
    f->sanitizer = __tsan_create_fiber(0);
#endif
}

/* One that hangs inside a kernel is of no more use. */
void end_fiber(fiber *f)
{
#if defined(EMULATOR_TSAN)
    __tsan_destroy_fiber(f->sanitizer);
#endif
    if (reuses_runners && f->phase == phase::done)
        runners.idle.push_back(f->self);
    else
        free_runner(f->self);
}

/* ---- Waiting ------------------------------------------------------------------------------------- */

void wait(enum phase why, place where)
{
    running_fiber->phase = why;
    running_fiber->waits_at = where;
    before_wait(running_fiber->left);
    to_scheduler(false);
}

bool same(place a, place b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

/* Lets the block go on when all of its threads stand at the same barrier. */
bool release_barrier(block &b)
{
    const fiber &first = b.fibers[0];
    for (const fiber &f : b.fibers)
        if (f.phase != phase::at_barrier || !same(f.waits_at, first.waits_at))
            return false;
    for (fiber &f : b.fibers)
        f.phase = phase::ready;
    return true;
}

/* Whether all lanes of a mask stand in the exchange of one of them. */
bool is_complete(const fiber *lanes, size_t count, const fiber &one)
{
    for (unsigned l = 0; l < warp_size; l++) {
        if (!(one.mask >> l & 1))
            continue;
        if (l >= count || lanes[l].phase != phase::in_exchange || lanes[l].mask != one.mask ||
            !same(lanes[l].waits_at, one.waits_at))
            return false;
    }
    return true;
}

/* Hands what every lane of the mask has left to all of them. A whole warp shares a table: all of its
 * lanes have read it when they have come to the next. */
void complete(fiber *lanes, unsigned mask, std::vector<unsigned char> &shared)
{
    bool is_whole = mask == 0xffffffffu;
    shared.resize(warp_size * largest_exchange);
    for (unsigned l = 0; l < warp_size; l++)
        if (mask >> l & 1)
            after_wait(lanes[l].left);
    for (unsigned l = 0; l < warp_size; l++)
        if (mask >> l & 1)
            memcpy(shared.data() + l * lanes[l].size, lanes[l].left, lanes[l].size);
    for (unsigned l = 0; l < warp_size; l++)
        if (mask >> l & 1) {
            if (!is_whole)
                lanes[l].own = shared;
            lanes[l].received = is_whole ? shared.data() : lanes[l].own.data();
            before_wait(&lanes[l].received);
            lanes[l].phase = phase::ready;
        }
}

bool release_exchanges(block &b)
{
    bool released = false;
    for (size_t first = 0; first < b.fibers.size(); first += warp_size) {
        fiber *lanes = &b.fibers[first];
        size_t count = std::min<size_t>(warp_size, b.fibers.size() - first);
        for (size_t i = 0; i < count; i++) {
            bool is_lowest = (lanes[i].mask & ((1u << i) - 1)) == 0;
            if (lanes[i].phase != phase::in_exchange || !is_lowest ||
                !is_complete(lanes, count, lanes[i]))
                continue;
            std::vector<unsigned char> partial;
            bool is_whole = lanes[i].mask == 0xffffffffu;
            complete(lanes, lanes[i].mask, is_whole ? b.tables[first / warp_size] : partial);
            released = true;
        }
    }
    return released;
}

void describe_deadlock(const block &b)
{
    char text[512];
    failure = "divergence:";
    for (const fiber &f : b.fibers) {
        const char *what = f.phase == phase::at_barrier    ? "waits at the barrier of"
                           : f.phase == phase::in_exchange ? "waits in the exchange of"
                                                           : "has ended";
        if (f.phase == phase::done)
            snprintf(text, sizeof text, " thread %u %s;", f.index, what);
        else
            snprintf(text, sizeof text, " thread %u %s %s:%d;", f.index, what, f.waits_at.file,
                     f.waits_at.line);
        failure += text;
        if (failure.size() > 2000)
            break;
    }
}

/* ---- A block ------------------------------------------------------------------------------------- */

/* The turns of a pass over the fibers. */
void choose_order(std::vector<unsigned> &turns)
{
    for (unsigned i = 0; i < turns.size(); i++)
        turns[i] = current_order == order::backward ? (unsigned)turns.size() - 1 - i : i;
    if (current_order == order::shuffled)
        std::shuffle(turns.begin(), turns.end(), shuffler);
}

bool all_done(const block &b)
{
    return std::all_of(b.fibers.begin(), b.fibers.end(),
                       [](const fiber &f) { return f.phase == phase::done; });
}

void run_fibers(block &b)
{
    std::vector<unsigned> turns(b.fibers.size());
    while (!all_done(b)) {
        choose_order(turns);
        for (unsigned i : turns)
            if (b.fibers[i].phase == phase::ready)
                to_fiber(&b.fibers[i]);
        bool released = release_exchanges(b);
        released = release_barrier(b) || released;
        if (!released && !all_done(b)) {
            describe_deadlock(b);
            return;
        }
    }
}

void *filled(size_t size)
{
    void *memory = nullptr;
    if (posix_memalign(&memory, 128, size) != 0)
        abort();
    memset(memory, 0xff, size);
    return memory;
}

std::unique_ptr<block> run_block(uint3 block_index, dim3 grid, dim3 size, size_t dynamic_shared,
                                 const std::function<void()> &kernel)
{
    unsigned count = size.x * size.y * size.z;
    auto b = std::make_unique<block>();
    b->kernel = &kernel;
    b->fibers.resize(count);
    b->tables.resize((count + warp_size - 1) / warp_size);
    b->dynamic = dynamic_shared > 0 ? filled(dynamic_shared) : nullptr;
    for (unsigned i = 0; i < count; i++) {
        fiber &f = b->fibers[i];
        f.index = i;
        f.where = {
            {i % size.x, i / size.x % size.y, i / (size.x * size.y)}, block_index, size, grid};
        f.phase = phase::ready;
        start_fiber(&f);
    }
    running_block = b.get();
    run_fibers(*b);
    running_block = nullptr;
    return b;
}

block::~block()
{
    for (fiber &f : fibers) {
        after_wait(f.left);
        end_fiber(&f);
    }
    for (const piece &p : pieces)
        free(p.memory);
    free(dynamic);
}

} // namespace

/* ---- For the kernels ----------------------------------------------------------------------------- */

const coordinates &here()
{
    return running_fiber->where;
}

unsigned lane()
{
    return running_fiber->index % warp_size;
}

std::vector<pending_copy> &pending_copies()
{
    return running_fiber->copies;
}

void launch(dim3 grid, dim3 block_size, size_t dynamic_shared, const std::function<void()> &kernel)
{
    std::lock_guard<std::mutex> guard(one_launch);
    /* To TSan, taking a block away orders it before the next: its races with that would go unseen. */
    std::vector<std::unique_ptr<block>> finished;
#if defined(EMULATOR_TSAN)
    scheduler_fiber = __tsan_get_current_fiber();
    constexpr bool keep = true;
#else
    constexpr bool keep = false;
#endif
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x && failure.empty(); x++) {
                auto b = run_block({x, y, z}, grid, block_size, dynamic_shared, kernel);
                if (keep)
                    finished.push_back(std::move(b));
            }
}

void barrier(place place)
{
    before_wait(&running_block->barrier_token);
    wait(phase::at_barrier, place);
    after_wait(&running_block->barrier_token);
}

void *dynamic_shared()
{
    return running_block->dynamic;
}

void *shared(size_t size)
{
    std::vector<piece> &pieces = running_block->pieces;
    size_t index = running_fiber->n_shared++;
    if (index == pieces.size()) {
        pieces.push_back({filled(size), size});
        before_wait(pieces[index].memory);
    }
    after_wait(pieces[index].memory);
    if (pieces[index].size != size)
        failure = "threads of a block ask for shared memory of different sizes";
    return pieces[index].memory;
}

const void *exchange(unsigned mask, const void *value, size_t size, place place)
{
    fiber *self = running_fiber;
    memcpy(self->left, value, size);
    self->size = size;
    self->mask = mask;
    if (!(mask >> self->index % warp_size & 1))
        failure = "a lane calls an exchange whose mask leaves it out";
    wait(phase::in_exchange, place);
    after_wait(&self->received);
    return self->received;
}

/* ---- For the tests ------------------------------------------------------------------------------- */

void set_order(order order, unsigned seed)
{
    current_order = order;
    shuffler.seed(seed);
}

bool has_failed()
{
    return !failure.empty();
}

const char *take_failure()
{
    static std::string taken;
    taken = failure;
    failure.clear();
    return taken.c_str();
}

} // namespace emulator
