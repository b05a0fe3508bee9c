/*
 * packed_memory.c - memory for packed weights, in huge pages where these are quick to be had.
 *
 * In: a size. Out: memory that begins at the edge of a huge page, which the system gives when it is
 * first touched.
 */
#include "packed_memory.h"

#include <sys/mman.h>
#include <time.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    HUGE_PAGE = 2 << 20,
    SMALL_PAGE = 4096,
    TRIED_PART = 8,            /* of a huge page's place: one in so many small pages */
    TRIAL_DISTANCE = 128 << 20 /* from one trial to the next */
};

phi3_status phi3_packed_map(size_t size, phi3_packed *packed, phi3_error *error)
{
    size_t mapping_size;
    void *mapping = MAP_FAILED;
    if (!phi3_add_overflows(size, HUGE_PAGE, &mapping_size))
        mapping =
            mmap(NULL, mapping_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED)
        return phi3_fail_memory(error, "the packed weights of a model");
    uintptr_t data = ((uintptr_t)mapping + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    madvise((void *)data, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    packed->mapping = mapping;
    packed->mapping_size = mapping_size;
    packed->data = (const uint8_t *)data;
    return PHI3_OK;
}

static double seconds_of_thread(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Seconds to touch the first `size` bytes at a huge page's place, with pages of the kind of `advice`. */
static double try_pages(uint8_t *place, size_t size, int advice)
{
    madvise(place, HUGE_PAGE, advice);
    double start = seconds_of_thread();
    for (size_t i = 0; i < size; i += SMALL_PAGE)
        *(volatile uint8_t *)(place + i) = 0;
    return seconds_of_thread() - start;
}

/*
 * A huge page takes 0.1 to 0.2 ms, and its 512 small ones 0.7. But where the kernel must move others
 * out of the way, or a virtual machine has given that memory back to its host, it takes 2 to 4 ms; of
 * small pages there may be some left that do not, or there may be none. So both are tried again and
 * again. For 2 GB, on 2 threads: 0.2 s if all is well, 0.4 in small pages, 2.2 if all has to come from
 * the host (2.7 in small pages).
 */
void phi3_packed_choose_pages(const phi3_packed *packed, size_t offset, size_t size,
                              size_t *next_trial)
{
    size_t at = (offset + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (offset < *next_trial || at + 2 * HUGE_PAGE > offset + size)
        return;
    *next_trial = offset + TRIAL_DISTANCE;
    uint8_t *place = (uint8_t *)(uintptr_t)packed->data + at;
    double huge = try_pages(place, HUGE_PAGE, MADV_HUGEPAGE);
    place += HUGE_PAGE;
    double small = try_pages(place, HUGE_PAGE / TRIED_PART, MADV_NOHUGEPAGE) * TRIED_PART;
    place += HUGE_PAGE;
    madvise(place, (size_t)((uint8_t *)packed->mapping + packed->mapping_size - place),
            huge <= small ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void phi3_packed_free(phi3_packed *packed)
{
    if (packed->mapping)
        munmap(packed->mapping, packed->mapping_size);
    *packed = (phi3_packed){0};
}
