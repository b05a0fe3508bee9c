/* onednn_product.c - one matmul primitive with a scratchpad of the caller's. */
#include "onednn_product.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "isa.h"

#ifdef PHI3_ONEDNN
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

struct phi3_onednn_product {
    dnnl_engine_t engine;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
};

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
    case PHI3_ISA_AVX512_BF16:
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
        break;
    case PHI3_ISA_AVX512_AMX: /* whatever it has beyond */
        break;
    }
}

static dnnl_status_t describe(const phi3_onednn_shape *s, dnnl_primitive_attr_t attributes,
                              phi3_onednn_product *p)
{
    static const dnnl_data_type_t types[][3] = {
        [PHI3_ONEDNN_F32] = {dnnl_f32, dnnl_f32, dnnl_f32},
        [PHI3_ONEDNN_BF16] = {dnnl_bf16, dnnl_bf16, dnnl_f32},
        [PHI3_ONEDNN_INT8] = {dnnl_u8, dnnl_s8, dnnl_s32},
    };
    const dnnl_dim_t m = (dnnl_dim_t)s->m, n = (dnnl_dim_t)s->n, k = (dnnl_dim_t)s->k;
    const dnnl_dims_t dims[3] = {{m, k}, {k, n}, {m, n}};
    const dnnl_format_tag_t tags[3] = {dnnl_ab, s->panels ? dnnl_BA16a64b2a : dnnl_format_tag_any,
                                       dnnl_ab};
    dnnl_memory_desc_t desc[3] = {NULL, NULL, NULL};
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < 3 && status == dnnl_success; i++)
        status = dnnl_memory_desc_create_with_tag(&desc[i], 2, dims[i], types[s->type][i], tags[i]);
    if (status == dnnl_success)
        status = dnnl_matmul_primitive_desc_create(&p->description, p->engine, desc[0], desc[1],
                                                   NULL, desc[2], attributes);
    for (int i = 0; i < 3; i++)
        if (desc[i])
            dnnl_memory_desc_destroy(desc[i]);
    return status;
}

/*
 * "ref:any" and the like are plain loops. Of generated code only brgemm's may run in a program that
 * has signal handlers: "gemm:jit" before 3.12 uses the stack pointer for memory of the heap, where a
 * signal's frame would be written (https://github.com/uxlfoundation/oneDNN/issues/4845).
 */
static bool may_be_used(const phi3_onednn_shape *shape, const phi3_onednn_product *p)
{
    const char *name = NULL;
    dnnl_primitive_desc_query(p->description, dnnl_query_impl_info_str, 0, &name);
    if (!name)
        return false;
    return shape->without_signals ? !strstr(name, "ref") : strstr(name, "brg") != NULL;
}

static dnnl_status_t create(const phi3_onednn_shape *shape, phi3_onednn_product *p)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t status = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attributes);
    /* The default scratchpad would be shared by the threads. */
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = describe(shape, attributes, p);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_success && !may_be_used(shape, p))
        status = dnnl_unimplemented;
    if (status == dnnl_success)
        status = dnnl_primitive_create(&p->primitive, p->description);
    return status;
}

phi3_status phi3_onednn_product_create(const phi3_onednn_shape *shape,
                                       phi3_onednn_product **product, phi3_error *error)
{
    *product = NULL;
    limit_isa();
    phi3_onednn_product *p = calloc(1, sizeof *p);
    if (!p)
        return phi3_fail_memory(error, "a product");
    int omp_threads = omp_get_max_threads();
    omp_set_num_threads(1); /* the product is made for one thread */
    dnnl_status_t status = create(shape, p);
    omp_set_num_threads(omp_threads);
    if (status == dnnl_success) {
        *product = p;
        return PHI3_OK;
    }
    phi3_onednn_product_free(p);
    return status == dnnl_out_of_memory ? phi3_fail_memory(error, "a product") : PHI3_OK;
}

void phi3_onednn_product_free(phi3_onednn_product *product)
{
    if (!product)
        return;
    if (product->primitive)
        dnnl_primitive_destroy(product->primitive);
    if (product->description)
        dnnl_primitive_desc_destroy(product->description);
    if (product->engine)
        dnnl_engine_destroy(product->engine);
    free(product);
}

static const dnnl_query_t queries[] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md,
                                       dnnl_query_scratchpad_md};

static const_dnnl_memory_desc_t describe_operand(const phi3_onednn_product *product, int operand)
{
    return dnnl_primitive_desc_query_md(product->description, queries[operand], 0);
}

size_t phi3_onednn_product_bytes(const phi3_onednn_product *product, phi3_onednn_operand operand)
{
    return dnnl_memory_desc_get_size(describe_operand(product, operand));
}

bool phi3_onednn_product_run(const phi3_onednn_product *product,
                             void *const operands[PHI3_ONEDNN_OPERANDS])
{
    static const int roles[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    dnnl_exec_arg_t args[PHI3_ONEDNN_OPERANDS] = {{0, NULL}};
    dnnl_stream_t stream = NULL;
    int omp_threads = omp_get_max_threads();
    omp_set_num_threads(1);
    dnnl_status_t status = dnnl_stream_create(&stream, product->engine, dnnl_stream_in_order);
    for (int i = 0; i < PHI3_ONEDNN_OPERANDS && status == dnnl_success; i++) {
        args[i].arg = roles[i];
        status = dnnl_memory_create(&args[i].memory, describe_operand(product, i), product->engine,
                                    operands[i]);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_execute(product->primitive, stream, PHI3_ONEDNN_OPERANDS, args);
    for (int i = 0; i < PHI3_ONEDNN_OPERANDS; i++)
        if (args[i].memory)
            dnnl_memory_destroy(args[i].memory);
    if (stream)
        dnnl_stream_destroy(stream);
    omp_set_num_threads(omp_threads);
    return status == dnnl_success;
}

#else

phi3_status phi3_onednn_product_create(const phi3_onednn_shape *shape,
                                       phi3_onednn_product **product, phi3_error *error)
{
    (void)shape, (void)error;
    *product = NULL;
    return PHI3_OK;
}

void phi3_onednn_product_free(phi3_onednn_product *product)
{
    (void)product;
}

size_t phi3_onednn_product_bytes(const phi3_onednn_product *product, phi3_onednn_operand operand)
{
    (void)product, (void)operand;
    return 0;
}

bool phi3_onednn_product_run(const phi3_onednn_product *product,
                             void *const operands[PHI3_ONEDNN_OPERANDS])
{
    (void)product, (void)operands;
    return false;
}
#endif
