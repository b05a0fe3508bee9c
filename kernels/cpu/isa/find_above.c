/* find_above.c - the scan behind top_k: passes over what is too low, several vectors at a time. */
#include "kernels.h"
#include "simd.h"

enum { STEP = 4 * LANES };

size_t ISA_NAME(phi3_find_above)(const float *x, size_t start, size_t count, float bound)
{
    const floats limit = splat(bound);
    size_t i = start;
    for (; i + STEP <= count; i += STEP) {
        ints low = (load(x + i) <= limit) & (load(x + i + LANES) <= limit) &
                   (load(x + i + 2 * LANES) <= limit) & (load(x + i + 3 * LANES) <= limit);
        if (has_zero_lane(low))
            break;
    }
    while (i < count && x[i] <= bound)
        i++;
    return i;
}
