/* onednn_rate.c - products of fixed shape through oneDNN, each thread with operands of its own. */
#ifdef PHI3_ONEDNN
#include "onednn_rate.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "isa.h"

/* [M][K] by [K][N]: near oneDNN's best for every type, and soon done where it is slow. */
enum { M = 512, N = 512, K = 512 };

enum { SOURCE, WEIGHTS, RESULT, SCRATCHPAD, N_OPERANDS };

static const int roles[N_OPERANDS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                      DNNL_ARG_SCRATCHPAD};

typedef struct operands {
    dnnl_stream_t stream;
    dnnl_exec_arg_t args[N_OPERANDS];
} operands;

struct phi3_onednn_product {
    dnnl_engine_t engine;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    int n_threads;
    operands threads[];
};

/* oneDNN may order the weights as it likes. */
static dnnl_status_t describe(phi3_rate_type type, dnnl_primitive_attr_t attributes,
                              phi3_onednn_product *p)
{
    static const dnnl_data_type_t types[][3] = {
        [PHI3_RATE_F32] = {dnnl_f32, dnnl_f32, dnnl_f32},
        [PHI3_RATE_BF16] = {dnnl_bf16, dnnl_bf16, dnnl_f32},
        [PHI3_RATE_INT8] = {dnnl_u8, dnnl_s8, dnnl_s32},
    };
    const dnnl_dims_t dims[3] = {{M, K}, {K, N}, {M, N}};
    const dnnl_format_tag_t tags[3] = {dnnl_ab, dnnl_format_tag_any, dnnl_ab};
    dnnl_memory_desc_t desc[3] = {NULL, NULL, NULL};
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < 3 && status == dnnl_success; i++)
        status = dnnl_memory_desc_create_with_tag(&desc[i], 2, dims[i], types[type][i], tags[i]);
    if (status == dnnl_success)
        status = dnnl_matmul_primitive_desc_create(&p->description, p->engine, desc[0], desc[1],
                                                   NULL, desc[2], attributes);
    for (int i = 0; i < 3; i++)
        if (desc[i])
            dnnl_memory_desc_destroy(desc[i]);
    return status;
}

/* oneDNN keeps to the level that our own kernels use. It has no say where it has run before us. */
static void limit_isa(void)
{
    switch (phi3_isa_current()) {
    case PHI3_ISA_NONE:
    case PHI3_ISA_PORTABLE:
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
        break;
    case PHI3_ISA_AVX2:
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
        break;
    case PHI3_ISA_AVX512:
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core);
        break;
    case PHI3_ISA_AVX512_VNNI:
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_vnni);
        break;
    case PHI3_ISA_AVX512_BF16: /* whatever it has beyond */
        break;
    }
}

static dnnl_status_t create_primitive(phi3_rate_type type, phi3_onednn_product *p)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t status = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attributes);
    /* The default scratchpad would be shared by the threads. */
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = describe(type, attributes, p);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&p->primitive, p->description);
    return status;
}

static dnnl_status_t create_operands(const phi3_onednn_product *p, operands *o)
{
    const dnnl_query_t queries[N_OPERANDS] = {dnnl_query_src_md, dnnl_query_weights_md,
                                              dnnl_query_dst_md, dnnl_query_scratchpad_md};
    dnnl_status_t status = dnnl_stream_create(&o->stream, p->engine, dnnl_stream_in_order);
    for (int i = 0; i < N_OPERANDS && status == dnnl_success; i++) {
        const_dnnl_memory_desc_t desc = dnnl_primitive_desc_query_md(p->description, queries[i], 0);
        void *data = NULL;
        o->args[i].arg = roles[i];
        status = dnnl_memory_create(&o->args[i].memory, desc, p->engine, DNNL_MEMORY_ALLOCATE);
        if (status == dnnl_success)
            status = dnnl_memory_get_data_handle(o->args[i].memory, &data);
        if (data) /* an ordinary number in all types: zeros might be quicker */
            memset(data, 0x3c, dnnl_memory_desc_get_size(desc));
    }
    return status;
}

/* "ref:any" and the like are plain loops, which say nothing about the machine. */
static bool is_generated(const phi3_onednn_product *p)
{
    const char *name = NULL;
    dnnl_primitive_desc_query(p->description, dnnl_query_impl_info_str, 0, &name);
    return name && !strstr(name, "ref");
}

phi3_status phi3_onednn_product_create(phi3_rate_type type, int n_threads,
                                       phi3_onednn_product **product, phi3_error *error)
{
    *product = NULL;
    limit_isa();
    phi3_onednn_product *p = calloc(1, sizeof *p + (size_t)n_threads * sizeof *p->threads);
    if (!p)
        return phi3_fail_memory(error, "a product to measure");
    p->n_threads = n_threads;
    dnnl_status_t status = create_primitive(type, p);
    if (status == dnnl_success && !is_generated(p))
        status = dnnl_unimplemented;
    for (int i = 0; i < n_threads && status == dnnl_success; i++)
        status = create_operands(p, &p->threads[i]);
    if (status == dnnl_success) {
        *product = p;
        return PHI3_OK;
    }
    phi3_onednn_product_free(p);
    return status == dnnl_out_of_memory ? phi3_fail_memory(error, "a product to measure") : PHI3_OK;
}

void phi3_onednn_product_free(phi3_onednn_product *product)
{
    if (!product)
        return;
    for (int t = 0; t < product->n_threads; t++) {
        for (int i = 0; i < N_OPERANDS; i++)
            if (product->threads[t].args[i].memory)
                dnnl_memory_destroy(product->threads[t].args[i].memory);
        if (product->threads[t].stream)
            dnnl_stream_destroy(product->threads[t].stream);
    }
    if (product->primitive)
        dnnl_primitive_destroy(product->primitive);
    if (product->description)
        dnnl_primitive_desc_destroy(product->description);
    if (product->engine)
        dnnl_engine_destroy(product->engine);
    free(product);
}

/*
 * No signal may come meanwhile: some float32 code of oneDNN before 3.12 uses the stack pointer for
 * memory of the heap, and a signal's frame would be written there
 * (https://github.com/uxlfoundation/oneDNN/issues/4845).
 */
double phi3_onednn_product_run(const phi3_onednn_product *product, int thread)
{
    const operands *o = &product->threads[thread];
    sigset_t all, before;
    int omp_threads = omp_get_max_threads();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    omp_set_num_threads(1); /* the caller has spread the work already */
    dnnl_status_t status =
        dnnl_primitive_execute(product->primitive, o->stream, N_OPERANDS, o->args);
    omp_set_num_threads(omp_threads);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status == dnnl_success ? 2.0 * M * N * K : 0;
}
#endif
