/*
 * attention.c - the CPU backend's rotation, cache append and attention, over threads.
 *
 * The rows of the spans are cut into blocks; a unit of work is one block and one kv head, or a few
 * (see isa/attention.c). What a unit sees is cut into stretches of STRETCH_PAGES pages, whose sums are
 * added up in their order. Few units (one sequence that decodes, with few kv heads) do not fill the
 * threads: then each stretch is computed on its own, and the last one to be done adds up. Stretches
 * begin at fixed positions, so the result is the same however the work was cut.
 */
#include <stdatomic.h>

#include "cpu.h"
#include "isa.h"
#include "kernels.h"
#include "parallel.h"

enum {
    MOST_QUERIES = 128,   /* query vectors that share a packed page: packing is a twentieth */
    MOST_IN_TILES = 512,  /* where products take a tenth of the time */
    TILES_MIN_ROWS = 32,  /* of a span whose products are computed in tiles */
    UNITS_PER_THREAD = 4, /* enough for an even end */
    FEW_QUERIES = 4,      /* of a kv head in a block: memory takes the time ... */
    MOST_HEADS = 8,       /* ... and this many kv heads are one stream of it */
    STRETCH_PAGES = 4,
    MOST_PARTIAL_BYTES = 32 << 20 /* for the sums of stretches */
};

/* ---- Rotation and append --------------------------------------------------------------------- */

typedef struct rotation {
    const phi3_attention *attention;
    const float *cosine, *sine; /* [n_rows][rotary_dim / 2] */
    float *qkv;                 /* [n_rows][(n_heads + 2 n_kv_heads) * head_dim] */
} rotation;

/* Positions of a span whose keys share cache lines. */
static size_t count_blocks(const phi3_kv_span *span)
{
    size_t end = span->n_past + span->n_rows;
    return (end + PHI3_KEY_LANES - 1) / PHI3_KEY_LANES - span->n_past / PHI3_KEY_LANES;
}

static void append_row(const rotation *r, const phi3_kv_span *span, size_t index)
{
    const phi3_attention *attention = r->attention;
    size_t n_heads = attention->n_heads + 2 * attention->kv.n_kv_heads;
    size_t half = attention->rotary_dim / 2, row = span->first_row + index;
    phi3_cpu_kernels_current()->rope_append(attention, span, span->n_past + index,
                                            r->cosine + row * half, r->sine + row * half,
                                            r->qkv + row * n_heads * attention->kv.head_dim);
}

/* The rows in block number `number` of all spans' blocks. */
static void append_block(void *context, size_t number, int thread)
{
    (void)thread;
    const rotation *r = context;
    const phi3_kv_span *span = r->attention->spans;
    for (; number >= count_blocks(span); span++)
        number -= count_blocks(span);
    size_t start = (span->n_past / PHI3_KEY_LANES + number) * PHI3_KEY_LANES;
    size_t first = start > span->n_past ? start - span->n_past : 0;
    size_t end = start + PHI3_KEY_LANES - span->n_past;
    for (size_t i = first; i < end && i < span->n_rows; i++)
        append_row(r, span, i);
}

phi3_status phi3_cpu_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                 const float *cosine, const float *sine, float *qkv)
{
    rotation r = {attention, cosine, sine, qkv};
    size_t n_rows = 0, n_blocks = 0;
    for (size_t s = 0; s < attention->n_spans; s++) {
        n_rows += attention->spans[s].n_rows;
        n_blocks += count_blocks(&attention->spans[s]);
    }
    phi3_parallel(n_rows > 4 ? exec->n_threads : 1, n_blocks, append_block, &r);
    return PHI3_OK;
}

/* ---- The plan -------------------------------------------------------------------------------- */

/* Some rows of a span, and the stretches that they see. */
typedef struct block {
    const phi3_kv_span *span;
    size_t first, n_rows;
    size_t first_stretch, n_stretches;
    size_t stretches_before; /* in blocks before this one */
} block;

typedef struct plan {
    const phi3_attention *attention;
    size_t group;      /* query heads of a kv head */
    size_t block_rows; /* at most, in a block */
    size_t heads;      /* kv heads of a unit, at most */
    size_t n_parts;    /* units of a block */
    size_t n_blocks;
    size_t n_stretches; /* of all blocks */
    bool split;         /* stretches are computed on their own */
    bool tiles;         /* long spans go through tiles */
} plan;

static block make_block(const plan *p, const phi3_kv_span *span, size_t first)
{
    size_t left = span->n_rows - first;
    size_t n_rows = left < p->block_rows ? left : p->block_rows;
    size_t position = span->n_past + first, stretch = STRETCH_PAGES * PHI3_PAGE_POSITIONS;
    size_t first_stretch = phi3_first_seen(p->attention, position) / stretch;
    size_t last_stretch = (position + n_rows - 1) / stretch;
    return (block){span, first, n_rows, first_stretch, last_stretch - first_stretch + 1, 0};
}

/* Counts the blocks and their stretches, and writes them where `blocks` is not NULL. */
static void cut_rows(plan *p, block *blocks)
{
    p->n_blocks = p->n_stretches = 0;
    for (size_t s = 0; s < p->attention->n_spans; s++) {
        const phi3_kv_span *span = &p->attention->spans[s];
        for (size_t first = 0; first < span->n_rows; first += p->block_rows) {
            block b = make_block(p, span, first);
            b.stretches_before = p->n_stretches;
            p->n_stretches += b.n_stretches;
            if (blocks)
                blocks[p->n_blocks] = b;
            p->n_blocks++;
        }
    }
}

/* Floats of the sums of n_queries query vectors, in whole cache lines. */
static size_t sums_floats(const plan *p, size_t n_queries)
{
    size_t floats = n_queries * (PHI3_ATTENTION_WIDTH(p->attention->kv.head_dim) + 2);
    return (floats + 15) / 16 * 16;
}

static size_t most_queries(const plan *p)
{
    return p->heads * p->block_rows * p->group;
}

static size_t unit_floats(const plan *p)
{
    return sums_floats(p, most_queries(p));
}

static size_t partial_floats(const plan *p)
{
    return p->n_stretches * p->n_parts * unit_floats(p);
}

static void share_heads(plan *p, size_t heads)
{
    p->heads = heads;
    p->n_parts = (p->attention->kv.n_kv_heads + heads - 1) / heads;
}

/* Whether products may be computed in AMX's tiles: rounded to bfloat16. */
static bool takes_tiles(const phi3_attention *attention)
{
    return phi3_isa_current() >= PHI3_ISA_AVX512_AMX && attention->kv.dtype != PHI3_F32 &&
           attention->compute == PHI3_COMPUTE_MIXED && attention->kv.head_dim % 32 == 0;
}

/* Blocks, and then units, are as large as the number of units allows. */
static plan make_plan(const phi3_attention *attention, int n_threads)
{
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    size_t wanted = UNITS_PER_THREAD * (size_t)n_threads, n_units = 0;
    plan p = {.attention = attention, .group = group, .tiles = takes_tiles(attention)};
    share_heads(&p, 1);
    size_t most = p.tiles ? MOST_IN_TILES : MOST_QUERIES;
    for (size_t n_queries = most; n_queries >= MOST_QUERIES / 8; n_queries /= 2) {
        p.block_rows = n_queries > group ? n_queries / group : 1;
        cut_rows(&p, NULL);
        n_units = p.n_blocks * attention->kv.n_kv_heads;
        if (n_units >= wanted)
            break;
    }
    p.split = n_units < wanted && p.n_stretches > p.n_blocks &&
              partial_floats(&p) * sizeof(float) <= MOST_PARTIAL_BYTES;
    if (p.block_rows * group <= FEW_QUERIES)
        for (size_t heads = MOST_HEADS; heads > 1 && p.heads == 1; heads /= 2)
            if (n_units / heads >= wanted)
                share_heads(&p, heads);
    return p;
}

/* ---- Scratch --------------------------------------------------------------------------------- */

/* Byte offsets in exec->scratch. */
typedef struct layout {
    size_t blocks;   /* [n_blocks] */
    size_t pending;  /* [n_blocks * n_parts] stretches still to be done, with split */
    size_t partials; /* [n_stretches * n_parts][unit_floats], with split */
    size_t threads;  /* [n_threads][thread_floats] */
    size_t size;
} layout;

static size_t cache_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t attend_floats(const plan *p)
{
    size_t floats =
        phi3_cpu_kernels_current()->attend_scratch(p->attention->kv.head_dim, most_queries(p));
    return (floats + 15) / 16 * 16;
}

/* A thread's scratch for the kernel, then two sums. */
static size_t thread_floats(const plan *p)
{
    return attend_floats(p) + 2 * unit_floats(p);
}

static layout lay_out(const plan *p, int n_threads)
{
    size_t n_units = p->n_blocks * p->n_parts;
    layout l = {.blocks = 0};
    l.pending = cache_lines(p->n_blocks * sizeof(block));
    l.partials = l.pending + (p->split ? cache_lines(n_units * sizeof(atomic_uint)) : 0);
    l.threads = l.partials + (p->split ? partial_floats(p) * sizeof(float) : 0);
    l.size = l.threads + (size_t)n_threads * thread_floats(p) * sizeof(float);
    return l;
}

size_t phi3_cpu_attention_scratch(const phi3_attention *attention, size_t n_rows, int n_threads)
{
    (void)n_rows;
    plan p = make_plan(attention, n_threads);
    return lay_out(&p, n_threads).size;
}

/* ---- Attention ------------------------------------------------------------------------------- */

typedef struct attention_job {
    const phi3_cpu_kernels *kernels;
    plan plan;
    const float *qkv; /* [n_rows][(n_heads + 2 n_kv_heads) * head_dim] */
    float *out;       /* [n_rows][n_heads * head_dim] */
    block *blocks;
    atomic_uint *pending;
    float *partials;
    float *threads;
} attention_job;

static phi3_attention_sums sums_at(const plan *p, float *memory, size_t n_queries)
{
    float *totals = memory + n_queries * PHI3_ATTENTION_WIDTH(p->attention->kv.head_dim);
    return (phi3_attention_sums){memory, totals, totals + n_queries};
}

/* Part number `part` of a block. */
static phi3_attention_unit unit_of(const plan *p, const block *b, size_t part)
{
    size_t first = part * p->heads, left = p->attention->kv.n_kv_heads - first;
    return (phi3_attention_unit){.span = b->span,
                                 .kv_head = first,
                                 .n_kv_heads = left < p->heads ? left : p->heads,
                                 .first = b->first,
                                 .n_rows = b->n_rows,
                                 .tiles = p->tiles && b->span->n_rows >= TILES_MIN_ROWS};
}

static size_t count_queries(const plan *p, const phi3_attention_unit *unit)
{
    return unit->n_kv_heads * unit->n_rows * p->group;
}

/* What a unit sees of stretch number `index` of its block. */
static void attend_stretch(const attention_job *j, const block *b, const phi3_attention_unit *unit,
                           size_t index, int thread, const phi3_attention_sums *sums)
{
    size_t position = b->span->n_past + b->first;
    size_t first_page = (b->first_stretch + index) * STRETCH_PAGES;
    size_t seen_page = phi3_first_seen(j->plan.attention, position) / PHI3_PAGE_POSITIONS;
    size_t end_page = (position + b->n_rows - 1) / PHI3_PAGE_POSITIONS + 1;
    if (end_page > first_page + STRETCH_PAGES)
        end_page = first_page + STRETCH_PAGES;
    if (first_page < seen_page)
        first_page = seen_page;
    float *scratch = j->threads + (size_t)thread * thread_floats(&j->plan);
    j->kernels->attend(j->plan.attention, unit, first_page, end_page, j->qkv, scratch, sums);
}

/* The last blocks of a span have most to read: they go first. */
static void attend_unit(void *context, size_t index, int thread)
{
    const attention_job *j = context;
    const plan *p = &j->plan;
    size_t head_dim = p->attention->kv.head_dim;
    const block *b = &j->blocks[p->n_blocks - 1 - index / p->n_parts];
    phi3_attention_unit unit = unit_of(p, b, index % p->n_parts);
    size_t n_queries = count_queries(p, &unit);
    float *own = j->threads + (size_t)thread * thread_floats(p) + attend_floats(p);
    phi3_attention_sums sums = sums_at(p, own, n_queries);
    phi3_attention_sums later = sums_at(p, own + sums_floats(p, n_queries), n_queries);

    attend_stretch(j, b, &unit, 0, thread, &sums);
    for (size_t i = 1; i < b->n_stretches; i++) {
        attend_stretch(j, b, &unit, i, thread, &later);
        j->kernels->add_sums(&sums, &later, n_queries, head_dim);
    }
    j->kernels->finish_attention(p->attention, &unit, &sums, j->out);
}

/* The sums of stretch number `index` of a unit, part number `part` of its block, with split. */
static phi3_attention_sums partial_sums(const attention_job *j, const block *b, size_t part,
                                        size_t index)
{
    const plan *p = &j->plan;
    phi3_attention_unit unit = unit_of(p, b, part);
    size_t number = (b->stretches_before + index) * p->n_parts + part;
    return sums_at(p, j->partials + number * unit_floats(p), count_queries(p, &unit));
}

static void add_up(const attention_job *j, const block *b, size_t part)
{
    const phi3_attention *attention = j->plan.attention;
    phi3_attention_unit unit = unit_of(&j->plan, b, part);
    phi3_attention_sums sums = partial_sums(j, b, part, 0);
    for (size_t i = 1; i < b->n_stretches; i++) {
        phi3_attention_sums later = partial_sums(j, b, part, i);
        j->kernels->add_sums(&sums, &later, count_queries(&j->plan, &unit), attention->kv.head_dim);
    }
    j->kernels->finish_attention(attention, &unit, &sums, j->out);
}

/* Index: a stretch of all blocks, and a part of its block. */
static void attend_split(void *context, size_t index, int thread)
{
    const attention_job *j = context;
    size_t n_parts = j->plan.n_parts, number = index / n_parts, part = index % n_parts;
    const block *b = j->blocks;
    while (number >= b->stretches_before + b->n_stretches)
        b++;
    phi3_attention_unit unit = unit_of(&j->plan, b, part);
    size_t stretch = number - b->stretches_before;
    phi3_attention_sums sums = partial_sums(j, b, part, stretch);
    attend_stretch(j, b, &unit, stretch, thread, &sums);
    if (atomic_fetch_sub(&j->pending[(size_t)(b - j->blocks) * n_parts + part], 1) == 1)
        add_up(j, b, part);
}

phi3_status phi3_cpu_attention(const phi3_exec *exec, const phi3_attention *attention,
                               const float *qkv, float *out)
{
    char *scratch = exec->scratch;
    attention_job j = {.kernels = phi3_cpu_kernels_current(),
                       .plan = make_plan(attention, exec->n_threads),
                       .qkv = qkv,
                       .out = out};
    if (exec->batch_invariant)
        j.plan.tiles = false;
    layout l = lay_out(&j.plan, exec->n_threads);
    size_t n_parts = j.plan.n_parts;
    j.blocks = (block *)(void *)(scratch + l.blocks);
    j.pending = (atomic_uint *)(void *)(scratch + l.pending);
    j.partials = (float *)(void *)(scratch + l.partials);
    j.threads = (float *)(void *)(scratch + l.threads);
    cut_rows(&j.plan, j.blocks);
    if (!j.plan.split) {
        phi3_parallel(exec->n_threads, j.plan.n_blocks * n_parts, attend_unit, &j);
        return PHI3_OK;
    }
    for (size_t i = 0; i < j.plan.n_blocks * n_parts; i++)
        atomic_init(&j.pending[i], (unsigned)j.blocks[i / n_parts].n_stretches);
    phi3_parallel(exec->n_threads, j.plan.n_stretches * n_parts, attend_split, &j);
    return PHI3_OK;
}
