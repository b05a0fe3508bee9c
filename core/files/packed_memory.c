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

enum { HUGE_PAGE = 2 << 20, MAX_SLOW_PAGES = 2 /* one after the other */ };

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

/*
 * A huge page takes 0.1 ms where the system has them at hand; its 512 small ones take 0.6 ms together.
 * But it may take 2 ms and more: when the kernel must move others out of the way, or when a virtual
 * machine had given its memory back. So the first huge page of a matrix is timed, and after two slow
 * ones the rest of the memory comes in small ones. For 2 GB, on 2 threads: 0.07 s if all is well, 0.35
 * in small pages, 2.3 in slow ones.
 */
void phi3_packed_touch(const phi3_packed *packed, size_t offset, size_t size, int *n_slow_pages)
{
    const double slow = 0.6e-3;
    size_t at = (offset + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (*n_slow_pages == MAX_SLOW_PAGES || at + HUGE_PAGE > offset + size)
        return;
    uint8_t *page = (uint8_t *)(uintptr_t)packed->data + at;
    double start = seconds_of_thread();
    *(volatile uint8_t *)page = 0;
    *n_slow_pages = seconds_of_thread() - start > slow ? *n_slow_pages + 1 : 0;
    if (*n_slow_pages == MAX_SLOW_PAGES)
        madvise(page, (size_t)((uint8_t *)packed->mapping + packed->mapping_size - page),
                MADV_NOHUGEPAGE);
}

void phi3_packed_free(phi3_packed *packed)
{
    if (packed->mapping)
        munmap(packed->mapping, packed->mapping_size);
    *packed = (phi3_packed){0};
}
