/*
 * threads.c - how many threads to use when a caller does not say.
 *
 * $OMP_NUM_THREADS when it is set; else one per physical core that this process may run on, and no
 * more than the container's CPU quota.
 */
#include "threads.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "phi3.h"

/* The first number of a list such as "4,2", or 0. */
static int threads_from_environment(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    if (!text)
        return 0;
    long count = strtol(text, NULL, 10);
    return count > 0 && count < 4096 ? (int)count : 0;
}

/* The lowest CPU that shares a core with `cpu`; itself when the system does not say. */
static int first_sibling(int cpu)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "r");
    int first = cpu;
    if (file) {
        if (fscanf(file, "%d", &first) != 1)
            first = cpu;
        fclose(file);
    }
    return first;
}

static int physical_cores(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return (int)sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        int first = first_sibling(cpu);
        if (first >= 0 && first < CPU_SETSIZE)
            CPU_SET(first, &cores);
    }
    return CPU_COUNT(&cores);
}

/* ---- Control groups ------------------------------------------------------------------------------ */

/* Reads one or two numbers from a file below `root`. Returns whether it is there. */
static bool read_numbers(const char *root, const char *name, long *first, long *second)
{
    char path[512];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", root, name) >= sizeof path)
        return false;
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    long ignored = 0;
    (void)!fscanf(file, "%ld %ld", first, second ? second : &ignored); /* "max 100000": none */
    fclose(file);
    return true;
}

int phi3_cpu_quota(const char *root)
{
    long quota = 0, period = 0;
    if (!read_numbers(root, "cpu.max", &quota, &period)) { /* version 2; else the files of 1 */
        (void)read_numbers(root, "cpu/cpu.cfs_quota_us", &quota, NULL);
        (void)read_numbers(root, "cpu/cpu.cfs_period_us", &period, NULL);
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* ---- The default --------------------------------------------------------------------------------- */

int phi3_default_threads(void)
{
    int count = threads_from_environment();
    if (count)
        return count;
    count = physical_cores();
    int quota = phi3_cpu_quota("/sys/fs/cgroup");
    if (quota && quota < count)
        count = quota;
    return count > 0 ? count : 1;
}
