/* clock.h - seconds of a clock that only goes forward, for measuring how long things take. */
#ifndef PHI3_INTERNAL_CLOCK_H
#define PHI3_INTERNAL_CLOCK_H

#include <time.h>

static inline double phi3_clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
