/* gemm.c - dense products through oneDNN. */
#include "gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <string.h>
#include <threads.h>

#include "error.h"
#include "isa.h"

typedef struct product {
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
} product;

/* Lives as long as the process: oneDNN keeps the code it generates for as long anyway. */
static struct {
    dnnl_status_t status;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    product f32;
    product bf16; /* only with AVX512_BF16 */
} onednn;

static once_flag created = ONCE_FLAG_INIT;

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

/* Descriptions of x, w and y with every number open, or with those of `shape`. */
static dnnl_status_t describe(const phi3_gemm_shape *shape, dnnl_data_type_t type,
                              dnnl_memory_desc_t desc[3])
{
    dnnl_dim_t n_rows = DNNL_RUNTIME_DIM_VAL, n_out = DNNL_RUNTIME_DIM_VAL;
    dnnl_dim_t n_columns = DNNL_RUNTIME_DIM_VAL, y_stride = DNNL_RUNTIME_DIM_VAL;
    if (shape) {
        n_rows = (dnnl_dim_t)shape->n_rows;
        n_out = (dnnl_dim_t)shape->n_out;
        n_columns = (dnnl_dim_t)shape->n_columns;
        y_stride = (dnnl_dim_t)shape->y_stride;
    }
    const dnnl_dims_t dims[3] = {{n_rows, n_columns}, {n_columns, n_out}, {n_rows, n_out}};
    const dnnl_dims_t strides[3] = {{n_columns, 1}, {1, n_columns}, {y_stride, 1}};
    for (int i = 0; i < 3; i++) {
        dnnl_status_t status = dnnl_memory_desc_create_with_strides(
            &desc[i], 2, dims[i], i == 2 ? dnnl_f32 : type, strides[i]);
        if (status != dnnl_success)
            return status;
    }
    return dnnl_success;
}

static void release_descriptions(dnnl_memory_desc_t desc[3])
{
    for (int i = 0; i < 3; i++)
        if (desc[i])
            dnnl_memory_desc_destroy(desc[i]);
}

static dnnl_status_t create_product(dnnl_data_type_t type, product *out)
{
    dnnl_memory_desc_t desc[3] = {NULL, NULL, NULL};
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attributes);
    /* The default scratchpad would tie the primitive to the thread that made it. */
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = describe(NULL, type, desc);
    if (status == dnnl_success)
        status = dnnl_matmul_primitive_desc_create(&out->description, onednn.engine, desc[0],
                                                   desc[1], NULL, desc[2], attributes);
    if (status == dnnl_success) {
        const_dnnl_memory_desc_t scratchpad =
            dnnl_primitive_desc_query_md(out->description, dnnl_query_scratchpad_md, 0);
        if (dnnl_memory_desc_get_size(scratchpad) != 0)
            status = dnnl_unimplemented; /* with open shapes its size would be unknown too */
    }
    if (status == dnnl_success)
        status = dnnl_primitive_create(&out->primitive, out->description);
    release_descriptions(desc);
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

static void create(void)
{
    limit_isa();
    onednn.status = dnnl_engine_create(&onednn.engine, dnnl_cpu, 0);
    if (onednn.status == dnnl_success)
        onednn.status = dnnl_stream_create(&onednn.stream, onednn.engine, dnnl_stream_in_order);
    if (onednn.status == dnnl_success)
        onednn.status = create_product(dnnl_f32, &onednn.f32);
    if (onednn.status == dnnl_success && phi3_isa_current() == PHI3_ISA_AVX512_BF16)
        onednn.status = create_product(dnnl_bf16, &onednn.bf16);
}

const char *phi3_gemm_implementation(phi3_dtype dtype)
{
    call_once(&created, create);
    const product *used = dtype == PHI3_F32 ? &onednn.f32 : &onednn.bf16;
    const char *name = NULL;
    if (used->primitive)
        dnnl_primitive_desc_query(used->description, dnnl_query_impl_info_str, 0, &name);
    return name;
}

phi3_status phi3_gemm_prepare(phi3_error *error)
{
    call_once(&created, create);
    if (onednn.status == dnnl_out_of_memory)
        return phi3_fail_memory(error, "oneDNN");
    if (onednn.status != dnnl_success)
        return phi3_fail(error, PHI3_ERROR_DEVICE, "oneDNN cannot multiply matrices here (%s)",
                         dnnl_status2str(onednn.status));
    return PHI3_OK;
}

phi3_status phi3_gemm(const phi3_gemm_shape *shape, const void *x, const void *w, float *y)
{
    bool f32 = shape->dtype == PHI3_F32;
    const void *data[3] = {x, w, y};
    const int roles[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    dnnl_memory_desc_t desc[3] = {NULL, NULL, NULL};
    dnnl_exec_arg_t args[3] = {{0, NULL}, {0, NULL}, {0, NULL}};

    dnnl_status_t status = describe(shape, f32 ? dnnl_f32 : dnnl_bf16, desc);
    for (int i = 0; i < 3 && status == dnnl_success; i++) {
        args[i].arg = roles[i];
        /* oneDNN takes no pointers to const; it only writes to the last. */
        status = dnnl_memory_create(&args[i].memory, desc[i], onednn.engine, (void *)data[i]);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_execute(f32 ? onednn.f32.primitive : onednn.bf16.primitive,
                                        onednn.stream, 3, args);
    for (int i = 0; i < 3; i++)
        if (args[i].memory)
            dnnl_memory_destroy(args[i].memory);
    release_descriptions(desc);
    if (status == dnnl_success)
        return PHI3_OK;
    return status == dnnl_out_of_memory ? PHI3_ERROR_OUT_OF_MEMORY : PHI3_ERROR_DEVICE;
}
