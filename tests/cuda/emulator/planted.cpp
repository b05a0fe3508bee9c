/*
 * planted.cpp - mistakes that the sanitizers must find: planted race|bounds|nothing.
 *
 * Built twice, for ASan and for TSan; the tests expect the report, and none for "nothing".
 */
#include <cstdio>
#include <vector>

#include "emulator.h"

/* Every thread reads its neighbour's value. */
static void rotate(const int *x, int *out, bool with_barrier, unsigned beyond)
{
    int *shared = static_cast<int *>(emulator::shared(blockDim.x * sizeof(int)));
    unsigned i = threadIdx.x;
    shared[i] = x[i];
    if (with_barrier)
        __syncthreads();
    unsigned from = (i + 1) % blockDim.x + beyond;
    out[i] = shared[from];
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "nothing";
    std::vector<int> x(64), out(64);
    for (int i = 0; i < 64; i++)
        x[(size_t)i] = i;
    bool race = strcmp(what, "race") == 0, bounds = strcmp(what, "bounds") == 0;
    emulator::launch(2, 64, 0, [&] {
        std::vector<int> own(64);
        rotate(x.data(), blockIdx.x == 0 ? out.data() : own.data(), !race, bounds ? 1 : 0);
    });
    printf("out[63] = %d%s\n", out[63], emulator::take_failure());
    return 0;
}
