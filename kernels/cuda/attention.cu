/*
 * attention.cu - the op: softmax(q k^T / sqrt(head_dim)) v over the cache.
 *
 * In: qkv [n_rows][(n_heads + 2 n_kv_heads) head_dim], queries rotated, and the plan of where the rows
 * stand. Out: out [n_rows][n_heads head_dim].
 */
#include "attention.h"

size_t phi3_cuda_attention_scratch(const phi3_attention *attention, size_t n_rows, int n_threads)
{
    (void)n_rows, (void)n_threads;
    return phi3_attend_rows_scratch(phi3_heads_of(attention), phi3_plan_few(attention),
                                    phi3_plan_longest(attention));
}

phi3_status phi3_cuda_attention(const phi3_exec *exec, const phi3_attention *attention,
                                const float *qkv, float *out)
{
    const phi3_plan &plan = *phi3_cuda_plan(exec);
    phi3_heads h = phi3_heads_of(attention);
    if (h.head_dim > PHI3_MAX_HEAD_DIM)
        return PHI3_ERROR_UNSUPPORTED;
    phi3_attend_rows(h, attention->kv.dtype, plan, static_cast<float *>(exec->scratch), qkv, out);
    phi3_attend_tiles(h, attention->kv.dtype, plan, qkv, out);
    return phi3_cuda_launched();
}
