/* memory.cpp - first fit in a range of addresses for each card: see memory.h. */
#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(memory, size) ((void)(memory), (void)(size))
#endif

namespace emulator
{

size_t number_of_environment(const char *name, size_t otherwise)
{
    const char *chosen = getenv(name);
    return chosen == nullptr || *chosen == '\0' ? otherwise : strtoull(chosen, nullptr, 10);
}

namespace
{

constexpr size_t alignment = 256;

struct card {
    char *begin;
    size_t size;
    std::map<char *, size_t> allocations; /* address and exact size */
};

/* Whole pages, so that protection covers nothing else. */
card make_card(size_t size)
{
    size_t whole = (size + 4095) / 4096 * 4096;
    void *begin =
        mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED)
        abort();
    ASAN_POISON_MEMORY_REGION(begin, whole);
    return {static_cast<char *>(begin), whole, {}};
}

std::vector<card> &cards()
{
    static std::vector<card> all = [] {
        std::vector<card> made(number_of_environment("EMULATOR_DEVICES", 1));
        for (card &c : made)
            c = make_card(device_total());
        return made;
    }();
    return all;
}

size_t rounded(size_t size)
{
    return (size + alignment - 1) / alignment * alignment;
}

/* Where `size` bytes fit between the allocations. */
char *find_gap(const card &c, size_t size)
{
    char *at = c.begin;
    for (const auto &[memory, length] : c.allocations) {
        if ((size_t)(memory - at) >= size)
            return at;
        at = memory + rounded(length);
    }
    return (size_t)(c.begin + c.size - at) >= size ? at : nullptr;
}

int depth;

void protect(int allowed)
{
    for (const card &c : cards())
        if (mprotect(c.begin, c.size, allowed) != 0)
            abort();
}

} // namespace

int device_count()
{
    return (int)cards().size();
}

size_t device_total()
{
    return number_of_environment("EMULATOR_MEMORY", (size_t)1 << 30);
}

size_t device_available(int device)
{
    size_t used = 0;
    for (const auto &[memory, length] : cards()[(size_t)device].allocations)
        used += rounded(length);
    size_t total = device_total();
    return used < total ? total - used : 0;
}

void *device_allocate(int device, size_t size)
{
    card &c = cards()[(size_t)device];
    size = size > 0 ? size : 1;
    if (rounded(size) > device_available(device))
        return nullptr;
    char *memory = find_gap(c, rounded(size));
    if (memory == nullptr)
        return nullptr;
    c.allocations[memory] = size;
    ASAN_UNPOISON_MEMORY_REGION(memory, size);
    open_memory opened;
    memset(memory, 0xff, size);
    return memory;
}

bool device_release(void *memory)
{
    for (card &c : cards()) {
        auto found = c.allocations.find(static_cast<char *>(memory));
        if (found == c.allocations.end())
            continue;
        {
            open_memory opened;
            memset(memory, 0xff, found->second);
        }
        ASAN_POISON_MEMORY_REGION(memory, rounded(found->second));
        c.allocations.erase(found);
        return true;
    }
    return false;
}

bool is_device(const void *memory, size_t size, int device)
{
    char *at = static_cast<char *>(const_cast<void *>(memory));
    for (size_t i = 0; i < cards().size(); i++) {
        const card &c = cards()[i];
        auto after = c.allocations.upper_bound(at);
        if (after == c.allocations.begin())
            continue;
        const auto &[begin, length] = *--after;
        if (at >= begin && (size_t)(at - begin) + size <= length)
            return device < 0 || device == (int)i;
    }
    return false;
}

open_memory::open_memory()
{
    if (depth++ == 0)
        protect(PROT_READ | PROT_WRITE);
}

open_memory::~open_memory()
{
    if (--depth == 0)
        protect(PROT_NONE);
}

} // namespace emulator
