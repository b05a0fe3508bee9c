/*
 * backend.h - what a device must be able to do to run the model: the contract of every op.
 *
 * core/model.c is written against this table only. An op's grain is a part of a transformer layer,
 * so that a backend may fuse what it likes inside it. kernels/reference is the plain-C truth that
 * every other backend is tested against (tests/kernels).
 *
 * Memory: what ops get and what page tables point to is memory of the backend (from `allocate`), the
 * host's for CPU backends; only phi3_attention, its spans and page tables are host memory. Tensors
 * are row-major and dense unless a stride is named. Activations are float32.
 *
 * Ops cannot fail on valid arguments, except on devices: they return a phi3_status. They allocate
 * nothing: what they need beside their arguments is in `exec->scratch`.
 */
#ifndef PHI3_BACKEND_H
#define PHI3_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats.h"
#include "phi3.h"

/* ---- Weights -------------------------------------------------------------------------------- */

/* A stored matrix [n_rows][n_columns], rows dense in `dtype`, usually inside a mapped file and at
 * any alignment. */
typedef struct phi3_tensor {
    phi3_dtype dtype;
    size_t n_rows;
    size_t n_columns;
    const void *data;
} phi3_tensor;

/* How products are computed: in 8 bits where weights are quantised and bfloat16 where they are that,
 * or exactly in float32. */
typedef enum phi3_compute { PHI3_COMPUTE_MIXED, PHI3_COMPUTE_FLOAT32 } phi3_compute;

/* A weight matrix in the layout that a backend likes best. Opaque; one type per backend. */
typedef struct phi3_matrix phi3_matrix;

/* ---- Execution ------------------------------------------------------------------------------ */

/* What one forward has at hand. One thread uses an exec at a time. */
typedef struct phi3_exec {
    int n_threads;
    void *scratch;        /* backend memory, 64-byte aligned */
    size_t scratch_size;  /* bytes; at least what the *_scratch functions ask for */
    bool batch_invariant; /* many rows go no other way than few; as far as the CPU goes */
    void *state; /* what `begin` of the backend keeps here, until exec_free; starts as NULL */
} phi3_exec;

/* ---- KV cache ------------------------------------------------------------------------------- */

enum { PHI3_PAGE_POSITIONS = 64 };

/*
 * A page holds PHI3_PAGE_POSITIONS positions of one sequence, all layers:
 *     [n_layers][2: K, V][n_kv_heads] runs of
 *         [PHI3_PAGE_POSITIONS][head_dim]  elements of dtype F32, F16, BF16 or I8
 *         [PHI3_PAGE_POSITIONS]            float32 scales, with I8 only: element = scale * code
 * Elements of keys stand as [PHI3_PAGE_POSITIONS / key_lanes][head_dim][key_lanes], key_lanes of the
 * backend. Keys are stored after rotation. With I8 a row's scale is its largest magnitude / 127.
 */
typedef struct phi3_kv_layout {
    phi3_dtype dtype;
    size_t n_layers;
    size_t n_kv_heads;
    size_t head_dim;
} phi3_kv_layout;

/* One sequence's rows in a ragged batch. Row r of the span is batch row first_row + r and stands at
 * position n_past + r; the page table covers n_past + n_rows positions. */
typedef struct phi3_kv_span {
    void *const *pages;
    size_t n_past;
    size_t first_row;
    size_t n_rows;
} phi3_kv_span;

/* The arguments that the two attention ops share. */
typedef struct phi3_attention {
    phi3_kv_layout kv;
    size_t layer;
    size_t n_heads;    /* a multiple of kv.n_kv_heads; query head h reads kv head
                          h / (n_heads / n_kv_heads) */
    size_t rotary_dim; /* even, at most head_dim: dimensions i and i + rotary_dim/2 turn together */
    size_t sliding_window; /* position j is seen from i when j <= i and i - j < window; 0: all */
    phi3_compute compute;  /* mixed: products may be of bfloat16 where the cache is not F32 */
    const phi3_kv_span *spans;
    size_t n_spans;
} phi3_attention;

/*
 * The rows that ops are about to work on, and what they need beside activations. In host memory until
 * `begin` of a backend has put its copies in their places; arrays that no op reads may be NULL.
 *
 * Batches of equal `program`, n_rows and n_logits are followed by the same ops on the same addresses,
 * up to `end`, so that a backend may record them and issue them itself the next time. 0: by others.
 */
typedef struct phi3_batch {
    const phi3_attention *attention; /* its spans cover all rows; stays as it is until `end` */
    size_t n_rows, n_logits;
    const int32_t *ids;         /* [n_rows] */
    const float *cosine, *sine; /* [n_rows][rotary_dim / 2] */
    const size_t *logit_rows;   /* [n_logits] rows whose logits are wanted */
    uint64_t program;
} phi3_batch;

enum { PHI3_TOP_K_MAX = 256 };

/* ---- The table ------------------------------------------------------------------------------ */

typedef struct phi3_backend {
    const char *name; /* "cpu", "reference", "cuda:0" */

    /* True when the backend can run on this machine. `detail` gets the kernels it would use, or why
     * it cannot, as a line of text. */
    bool (*available)(char *detail, size_t size);

    /* Memory, 64-byte aligned; allocate returns NULL when there is none left. */
    void *(*allocate)(size_t size);
    void (*release)(void *memory);
    phi3_status (*upload)(void *to, const void *from_host, size_t size);
    phi3_status (*download)(void *to_host, const void *from, size_t size);
    /* Bytes of the device's memory; false: the device does not tell. NULL: it is the host's memory. */
    bool (*memory)(size_t *available, size_t *total);

    size_t key_lanes; /* positions whose keys stand side by side in a page of the KV cache */

    /*
     * A weight matrix is the rows of all parts, one below the other. The parts have the same
     * n_columns but may differ in dtype.
     *
     * matrix_packed_size: bytes of the copy that products read, a multiple of 64; 0 when they read
     * the parts in place. matrix_pack fills them, on n_threads; false: a block has a scale that is
     * NaN or infinite. They hold no address, and depend on the parts and `compute` alone: what is
     * packed may be kept in a file and mapped later by any machine that gives the same packed_layout.
     *
     * matrix_create: `packed` was filled by matrix_pack, stands at a multiple of 64 and stays
     * readable while the matrix lives; NULL: the matrix packs for itself. The parts' data stays
     * readable as long, too (embed reads single rows of it), unless the backend has its own memory.
     *
     * matrix_bytes: what matrix_create takes of the device's memory; NULL: it is the host's.
     */
    const char *packed_layout; /* name and version of the layout: part of a kept file's key */
    size_t (*matrix_packed_size)(const phi3_tensor *parts, size_t n_parts, phi3_compute compute);
    bool (*matrix_pack)(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                        int n_threads, void *packed);
    size_t (*matrix_bytes)(const phi3_tensor *parts, size_t n_parts, phi3_compute compute);
    phi3_status (*matrix_create)(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                 const void *packed, phi3_matrix **matrix, phi3_error *error);
    void (*matrix_free)(phi3_matrix *matrix);

    /* Bytes of scratch that linear and embed (on up to n_rows rows), attention (of these spans, of
     * any layer) and top_k may need. */
    size_t (*matrix_scratch)(const phi3_matrix *matrix, size_t n_rows, int n_threads);
    size_t (*attention_scratch)(const phi3_attention *attention, size_t n_rows, int n_threads);
    size_t (*top_k_scratch)(size_t n_rows, size_t n_columns, size_t k);

    /*
     * Ops on the rows of a batch come after its `begin`; all four are NULL for a backend that has
     * nothing to prepare.
     *
     * begin: copies the batch, and points its arrays to the copies: they stay until the next one.
     * `replayed`: the ops up to `end` have been issued already, as they were recorded before.
     * end: `status` is what became of the ops; returns it, or what went wrong in issuing what has been
     * recorded. Without logits to download, the ops have also finished. Ops that need nothing new
     * may follow.
     * exec_free: frees exec->state.
     * failure: the device's words for the last PHI3_ERROR_DEVICE on this thread; NULL: it has none.
     */
    phi3_status (*begin)(phi3_exec *exec, phi3_batch *batch, bool *replayed);
    phi3_status (*end)(phi3_exec *exec, phi3_status status);
    void (*exec_free)(phi3_exec *exec);
    const char *(*failure)(void);

    /* What the device can do at best, see phi3_peaks; in some tenths of a second. NULL: it is a CPU. */
    phi3_status (*measure_peaks)(phi3_peaks *peaks);

    /* out[r][:] = row ids[r] of table.     table [vocab][n_columns], out [n_rows][n_columns] */
    phi3_status (*embed)(const phi3_exec *exec, const phi3_matrix *table, const int32_t *ids,
                         size_t n_rows, float *out);

    /* y = x W^T.     x [n_rows][n_columns], W [n_out][n_columns], y [n_rows][n_out] */
    phi3_status (*linear)(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                          size_t n_rows, float *y);

    /* x += delta (when not NULL); out = weight * x / sqrt(mean(x^2) + epsilon), row by row.
     * x, delta, out [n_rows][n_columns], weight [n_columns]. out may not overlap x. */
    phi3_status (*add_rms_norm)(const phi3_exec *exec, float *x, const float *delta,
                                const float *weight, float epsilon, size_t n_rows, size_t n_columns,
                                float *out);

    /*
     * Rotates queries in place and keys on their way into the cache, and stores keys and values at
     * the rows' positions.
     *     qkv [n_rows][(n_heads + 2 n_kv_heads) * head_dim]: queries, keys, values
     *     cosine, sine [n_rows][rotary_dim / 2]
     */
    phi3_status (*rope_append)(const phi3_exec *exec, const phi3_attention *attention,
                               const float *cosine, const float *sine, float *qkv);

    /*
     * softmax(q k^T / sqrt(head_dim)) v over what each row may see, read from the cache.
     *     qkv as above, queries rotated; out [n_rows][n_heads * head_dim]
     */
    phi3_status (*attention)(const phi3_exec *exec, const phi3_attention *attention,
                             const float *qkv, float *out);

    /* out = silu(gate) * up.
     *     gate_up [n_rows][2 n_columns]: gate, then up; out [n_rows][n_columns] */
    phi3_status (*swiglu)(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                          size_t n_columns, float *out);

    /* out[i] = x[rows[i]].     x [.][n_columns], rows [n_rows], out [n_rows][n_columns] */
    phi3_status (*gather_rows)(const phi3_exec *exec, const float *x, const size_t *rows,
                               size_t n_rows, size_t n_columns, float *out);

    /*
     * The k highest logits of each row and their columns: the higher first, of equals the lower
     * column. As in torch, NaN is higher than any number. What a row of fewer than k columns lacks is
     * column -1 and -infinity.
     *     logits [n_rows][n_columns]; values, which may be NULL, and ids [n_rows][k];
     *     1 <= k <= PHI3_TOP_K_MAX
     */
    phi3_status (*top_k)(const phi3_exec *exec, const float *logits, size_t n_rows,
                         size_t n_columns, size_t k, float *values, int32_t *ids);
} phi3_backend;

/* ---- Registry ------------------------------------------------------------------------------- */

extern const phi3_backend phi3_backend_reference;
extern const phi3_backend phi3_backend_cpu;

enum { PHI3_MAX_CUDA_DEVICES = 16 }; /* others are not looked at */

/* The backends, best first; each CUDA device has its own, which may not be available. */
const phi3_backend *const *phi3_backend_list(size_t *count);

/* The backend for a device: "cpu" or "-1"; "cuda" (the first), "cuda:N" or "N"; "reference". */
phi3_status phi3_backend_find(const char *device, const phi3_backend **backend, phi3_error *error);

/* ---- Addresses in a page, for CPU backends --------------------------------------------------- */

static inline size_t phi3_kv_element_bytes(phi3_dtype dtype)
{
    return dtype == PHI3_F32 ? 4 : dtype == PHI3_I8 ? 1 : 2;
}

/* One layer's keys, or values, of one head. */
static inline size_t phi3_kv_run_bytes(const phi3_kv_layout *kv)
{
    size_t scales = kv->dtype == PHI3_I8 ? PHI3_PAGE_POSITIONS * sizeof(float) : 0;
    return PHI3_PAGE_POSITIONS * kv->head_dim * phi3_kv_element_bytes(kv->dtype) + scales;
}

static inline size_t phi3_kv_page_bytes(const phi3_kv_layout *kv)
{
    return kv->n_layers * 2 * kv->n_kv_heads * phi3_kv_run_bytes(kv);
}

/* The run of one layer and head in a page; value 0: keys, 1: values. */
static inline char *phi3_kv_head(const phi3_kv_layout *kv, void *page, size_t layer, size_t value,
                                 size_t head)
{
    return (char *)page + ((layer * 2 + value) * kv->n_kv_heads + head) * phi3_kv_run_bytes(kv);
}

/* Which element of a run is number i of a position; lanes: key_lanes, or 1 for values. */
static inline size_t phi3_kv_place(const phi3_kv_layout *kv, size_t lanes, size_t position,
                                   size_t i)
{
    return (position / lanes * kv->head_dim + i) * lanes + position % lanes;
}

/* The scales of a run that phi3_kv_head has found: [PHI3_PAGE_POSITIONS]; NULL when it has none. */
static inline float *phi3_kv_scales(const phi3_kv_layout *kv, char *run)
{
    if (kv->dtype != PHI3_I8)
        return NULL;
    return (float *)(void *)(run + PHI3_PAGE_POSITIONS * kv->head_dim);
}

#endif
