/* onednn_rate.c - products of fixed shape through oneDNN, each thread with operands of its own. */
#include "onednn_rate.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "kernels/host_memory.h"

/* [M][K] by [K][N]: near oneDNN's best for every type, and soon done where it is slow. */
enum { M = 512, N = 512, K = 512 };

typedef struct operands {
    void *memory[PHI3_ONEDNN_OPERANDS];
} operands;

struct phi3_onednn_rate {
    phi3_onednn_product *product;
    int n_threads;
    operands threads[];
};

/* False: out of memory. */
static bool allocate(const phi3_onednn_product *product, operands *o)
{
    for (int i = 0; i < PHI3_ONEDNN_OPERANDS; i++) {
        size_t size = phi3_onednn_product_bytes(product, i);
        o->memory[i] = phi3_host_allocate(size ? size : 1);
        if (!o->memory[i])
            return false;
        memset(o->memory[i], 0x3c, size); /* an ordinary number: zeros might be quicker */
    }
    return true;
}

phi3_status phi3_onednn_rate_create(phi3_onednn_type type, int n_threads, phi3_onednn_rate **rate,
                                    phi3_error *error)
{
    *rate = NULL;
    const phi3_onednn_shape shape = {.type = type, .m = M, .n = N, .k = K, .without_signals = true};
    phi3_onednn_product *product;
    PHI3_TRY(phi3_onednn_product_create(&shape, &product, error));
    if (!product)
        return PHI3_OK;
    phi3_onednn_rate *r = calloc(1, sizeof *r + (size_t)n_threads * sizeof *r->threads);
    if (!r) {
        phi3_onednn_product_free(product);
        return phi3_fail_memory(error, "a product to measure");
    }
    r->product = product;
    r->n_threads = n_threads;
    for (int i = 0; i < n_threads; i++) {
        if (!allocate(product, &r->threads[i])) {
            phi3_onednn_rate_free(r);
            return phi3_fail_memory(error, "a product to measure");
        }
    }
    *rate = r;
    return PHI3_OK;
}

void phi3_onednn_rate_free(phi3_onednn_rate *rate)
{
    for (int t = 0; t < rate->n_threads; t++)
        for (int i = 0; i < PHI3_ONEDNN_OPERANDS; i++)
            phi3_host_release(rate->threads[t].memory[i]);
    phi3_onednn_product_free(rate->product);
    free(rate);
}

double phi3_onednn_rate_run(const phi3_onednn_rate *rate, int thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool done = phi3_onednn_product_run(rate->product, rate->threads[thread].memory);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return done ? 2.0 * M * N * K : 0;
}
