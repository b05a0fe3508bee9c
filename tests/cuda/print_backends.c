/* print_backends.c - what phi3_backends says, a line for each: for tests that look for words in it. */
#include <stdio.h>

#include "phi3.h"

int main(void)
{
    phi3_backend_info infos[8];
    size_t count = phi3_backends(infos, sizeof infos / sizeof *infos);
    for (size_t i = 0; i < count; i++)
        printf("%s: %s: %s\n", infos[i].name, infos[i].available ? "available" : "missing",
               infos[i].detail);
    return 0;
}
