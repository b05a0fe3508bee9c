/*
 * attention.c - attention of one unit of query vectors over some pages of the cache.
 *
 * A unit is some consecutive rows of a span and some kv heads. For each page and head, keys are packed
 * once and multiplied with all query vectors that read them, scores become weights relative to the
 * highest score so far, values are packed and weighted. Both products are the same tile of registers:
 * a vector of a panel times a number of a row, step by step. The heads of a page follow each other in
 * memory: where it is memory that takes the time, a unit has several, which are read as one stream.
 *
 * With AMX, the units of long spans multiply in its tiles, whose sums are others than those of
 * registers.
 *
 * A query vector's numbers do not depend on which others are computed with it: each lane of a score
 * is one chain of sums over the dimensions, and each of a result over the positions.
 */
#include <math.h>

#include "kernels.h"
#include "kv_panels.h"
#include "kv_stream.h"
#include "page_softmax.h"
#include "panel_product.h"
#include "simd_narrow.h"

/* What a unit works with, all in the thread's scratch. With `pairs` a float's place in queries,
 * panels and weights holds two numbers of bfloat16. */
typedef struct state {
    bool pairs, tiles; /* tiles are of pairs */
    size_t n_queries;  /* of a kv head */
    size_t n_steps;    /* of a query: head_dim, or half of it */
    size_t width;      /* of a value: PHI3_ATTENTION_WIDTH(head_dim) */
    float *queries;    /* [n_kv_heads][n_queries][n_steps], times 1 / sqrt(head_dim) */
    float *scores;     /* [n_queries][PHI3_PAGE_POSITIONS], then the weights in their place */
    float *keys;       /* [n_steps][PHI3_PAGE_POSITIONS] of the page */
    float *values;     /* [PHI3_PAGE_POSITIONS][width] of the page */
    phi3_attention_sums sums;
} state;

size_t ISA_NAME(phi3_attend_scratch)(size_t head_dim, size_t n_queries)
{
    size_t width = PHI3_ATTENTION_WIDTH(head_dim);
    return n_queries * (width + PHI3_PAGE_POSITIONS) + 2 * PHI3_PAGE_POSITIONS * width;
}

/* Not on Intel's CPUs, which are those with AMX: they begin a product of pairs every other cycle, and
 * in float32 two products each cycle. There decoding and prefill took twice as long with pairs. */
static bool use_pairs(const phi3_attention *attention)
{
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
    return attention->compute == PHI3_COMPUTE_MIXED && attention->kv.dtype != PHI3_F32;
#else
    (void)attention;
    return false;
#endif
}

static state lay_out(const phi3_attention *attention, const phi3_attention_unit *unit,
                     float *scratch, const phi3_attention_sums *sums)
{
    size_t n_queries = unit->n_rows * (attention->n_heads / attention->kv.n_kv_heads);
    size_t head_dim = attention->kv.head_dim, width = PHI3_ATTENTION_WIDTH(head_dim);
    state s = {.pairs = unit->tiles || use_pairs(attention),
               .tiles = unit->tiles,
               .n_queries = n_queries,
               .width = width};
    s.n_steps = s.pairs ? (head_dim + 1) / 2 : head_dim;
    s.keys = scratch;
    s.values = s.keys + PHI3_PAGE_POSITIONS * width;
    s.scores = s.values + PHI3_PAGE_POSITIONS * width;
    s.queries = s.scores + n_queries * PHI3_PAGE_POSITIONS;
    s.sums = *sums;
    return s;
}

/* ---- Queries --------------------------------------------------------------------------------- */

static void load_query(const state *s, const float *from, size_t head_dim, float *to)
{
    float scale = 1 / sqrtf((float)head_dim);
    size_t step = s->pairs ? 2 * LANES : LANES;
    for (size_t i = 0; i < head_dim; i += step) {
        size_t left = head_dim - i;
        floats numbers = load_up_to(from + i, left) * scale;
        if (s->pairs) {
            floats second = {0};
            if (left > LANES)
                second = load_up_to(from + i + LANES, left - LANES) * scale;
            numbers = round_pairs(numbers, second);
        }
        size_t place = i / (step / LANES);
        store_up_to(to + place, numbers, s->n_steps - place);
    }
}

/* Where query vector q of a unit comes from and where its result goes. */
typedef struct place {
    size_t row, head; /* of the batch, of all query heads */
} place;

static place place_of(const phi3_attention *attention, const phi3_attention_unit *unit, size_t q)
{
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    size_t kv_head = unit->kv_head + q / (unit->n_rows * group);
    return (place){unit->span->first_row + unit->first + q / group % unit->n_rows,
                   kv_head * group + q % group};
}

static void load_queries(const phi3_attention *attention, const phi3_attention_unit *unit,
                         const float *qkv, const state *s)
{
    const phi3_kv_layout *kv = &attention->kv;
    size_t row_floats = (attention->n_heads + 2 * kv->n_kv_heads) * kv->head_dim;
    for (size_t q = 0; q < unit->n_kv_heads * s->n_queries; q++) {
        place at = place_of(attention, unit, q);
        load_query(s, qkv + at.row * row_floats + at.head * kv->head_dim, kv->head_dim,
                   s->queries + q * s->n_steps);
        memset(s->sums.values + q * s->width, 0, s->width * sizeof(float));
        s->sums.totals[q] = 0;
        s->sums.highest[q] = -INFINITY;
    }
}

/* ---- What is seen ---------------------------------------------------------------------------- */

/* Clips position p to the page that starts at `start`. */
static size_t in_page(size_t p, size_t start)
{
    size_t index = p > start ? p - start : 0;
    return index < PHI3_PAGE_POSITIONS ? index : PHI3_PAGE_POSITIONS;
}

/* What query vectors q to q + count - 1 see of a page, together. */
static range seen(const phi3_attention *attention, const phi3_attention_unit *unit, size_t page,
                  size_t q, size_t count)
{
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    size_t start = page * PHI3_PAGE_POSITIONS, position = unit->span->n_past + unit->first;
    size_t first = phi3_first_seen(attention, position + q / group);
    size_t end = position + (q + count - 1) / group + 1;
    range r = {in_page(first, start), in_page(end, start)};
    if (r.first >= r.end)
        r = (range){0, 0};
    return r;
}

/* The columns of scores that are computed for `count` positions: whole vectors, also of pairs. */
static size_t whole_columns(const state *s, size_t count)
{
    size_t step = s->pairs ? 2 * LANES : LANES;
    return (count + step - 1) / step * step;
}

static void weigh(const state *s, size_t q, size_t n_columns, range r, page_scales scales)
{
    softmax_row row = {.scores = s->scores + q * PHI3_PAGE_POSITIONS,
                       .values = s->sums.values + q * s->width,
                       .total = s->sums.totals + q,
                       .highest = s->sums.highest + q,
                       .width = s->width,
                       .pairs = s->pairs};
    weigh_page(&row, n_columns, r, scales);
}

/* ---- One page -------------------------------------------------------------------------------- */

/* A page's keys or values of one head, and those that will be read next. */
typedef struct run {
    const phi3_kv_layout *kv;
    char *data, *next;
} run;

static run find_run(const phi3_attention *attention, const phi3_attention_unit *unit, size_t page,
                    size_t index, size_t value)
{
    const phi3_kv_span *span = unit->span;
    const phi3_kv_layout *kv = &attention->kv;
    size_t layer = attention->layer, head = unit->kv_head;
    run r = {kv, phi3_kv_head(kv, span->pages[page], layer, value, head + index), NULL};
    if (index + 1 < unit->n_kv_heads)
        r.next = r.data + phi3_kv_run_bytes(kv);
    else if ((page + 1) * PHI3_PAGE_POSITIONS < span->n_past + unit->first + unit->n_rows)
        r.next = phi3_kv_head(kv, span->pages[page + 1], layer, value, head);
    return r;
}

/* One copy of the code for each dtype, with and without pairs. */
INLINE void pack(phi3_dtype dtype, bool pairs, const state *s, const run *from, size_t value,
                 size_t count)
{
    size_t head_dim = from->kv->head_dim;
    if (value)
        pack_values(dtype, pairs, from->data, from->next, count, head_dim, s->width, s->values);
    else
        pack_keys(dtype, pairs, from->data, from->next, count, head_dim, s->keys);
}

INLINE void pack_dtype(phi3_dtype dtype, const state *s, const run *from, size_t value,
                       size_t count)
{
    if (s->pairs)
        pack(dtype, true, s, from, value, count);
    else
        pack(dtype, false, s, from, value, count);
}

/* The first `count` positions, into the panel of keys (value 0) or of values (1). Tiles take values
 * of whole columns of scores. */
static void pack_run(const state *s, const run *from, size_t value, size_t count)
{
    if (value && s->tiles)
        for (size_t i = (count + 1) / 2; i < whole_columns(s, count) / 2; i++)
            memset(s->values + i * s->width, 0, s->width * sizeof(float));
    switch (from->kv->dtype) {
    case PHI3_F16:
        pack_dtype(PHI3_F16, s, from, value, count);
        break;
    case PHI3_BF16:
        pack_dtype(PHI3_BF16, s, from, value, count);
        break;
    case PHI3_I8:
        pack_dtype(PHI3_I8, s, from, value, count);
        break;
    default:
        pack(PHI3_F32, false, s, from, value, count);
    }
}

/* The products of one query vector with a run: of its keys (value 0) to scores, or of its values (1),
 * the first `count` positions. */
INLINE void stream_run(phi3_dtype dtype, bool pairs, const state *s, const run *from, size_t value,
                       size_t count)
{
    size_t head_dim = from->kv->head_dim;
    stream t = {from->data, from->next, head_dim, head_dim * phi3_kv_element_bytes(dtype)};
    if (value)
        stream_values(dtype, pairs, &t, count, s->width, s->scores, s->sums.values);
    else
        stream_keys(dtype, pairs, &t, count, s->queries, s->scores);
}

INLINE void stream_dtype(phi3_dtype dtype, const state *s, const run *from, size_t value,
                         size_t count)
{
    if (s->pairs)
        stream_run(dtype, true, s, from, value, count);
    else
        stream_run(dtype, false, s, from, value, count);
}

static void multiply_run(const state *s, const run *from, size_t value, size_t count)
{
    switch (from->kv->dtype) {
    case PHI3_F16:
        stream_dtype(PHI3_F16, s, from, value, count);
        break;
    case PHI3_BF16:
        stream_dtype(PHI3_BF16, s, from, value, count);
        break;
    case PHI3_I8:
        stream_dtype(PHI3_I8, s, from, value, count);
        break;
    default:
        stream_run(PHI3_F32, false, s, from, value, count);
    }
}

typedef struct page_job {
    const phi3_attention *attention;
    const phi3_attention_unit *unit;
    size_t page;
    page_scales scales;
} page_job;

/* Scores of query vectors q to q + count - 1, and from them the weights. */
static void score_tile(const page_job *j, const state *s, size_t q, size_t count)
{
    range tile = seen(j->attention, j->unit, j->page, q, count);
    if (tile.end == 0)
        return;
    product p = {.rows = s->queries + q * s->n_steps,
                 .panel = s->keys,
                 .out = s->scores + q * PHI3_PAGE_POSITIONS,
                 .row_stride = s->n_steps,
                 .panel_stride = PHI3_PAGE_POSITIONS,
                 .out_stride = PHI3_PAGE_POSITIONS,
                 .n_steps = s->n_steps,
                 .pairs = s->pairs,
                 .tiles = s->tiles};
    size_t n_columns = whole_columns(s, tile.end);
    multiply(&p, count, n_columns);
    for (size_t i = q; i < q + count; i++)
        weigh(s, i, n_columns, seen(j->attention, j->unit, j->page, i, 1), j->scales);
}

static void sum_tile(const page_job *j, const state *s, size_t q, size_t count)
{
    size_t end = seen(j->attention, j->unit, j->page, q, count).end;
    if (s->tiles)
        end = whole_columns(s, end);
    product p = {.rows = s->scores + q * PHI3_PAGE_POSITIONS,
                 .panel = s->values,
                 .out = s->sums.values + q * s->width,
                 .row_stride = PHI3_PAGE_POSITIONS,
                 .panel_stride = s->width,
                 .out_stride = s->width,
                 .n_steps = s->pairs ? (end + 1) / 2 : end,
                 .pairs = s->pairs,
                 .tiles = s->tiles,
                 .add = true};
    multiply(&p, count, s->width);
}

static size_t tile_rows(const state *s, size_t q)
{
    size_t left = s->n_queries - q, most = product_rows(s->tiles);
    return left < most ? left : most;
}

/* What the queries of kv head number `index` of the unit see of a page. */
static void attend_page(const phi3_attention *attention, const phi3_attention_unit *unit,
                        size_t page, size_t index, const state *s)
{
    size_t count = seen(attention, unit, page, 0, s->n_queries).end;
    run keys = find_run(attention, unit, page, index, 0);
    run values = find_run(attention, unit, page, index, 1);
    page_job j = {attention,
                  unit,
                  page,
                  {phi3_kv_scales(keys.kv, keys.data), phi3_kv_scales(values.kv, values.data)}};
    if (s->n_queries == 1 && !s->tiles) {
        multiply_run(s, &keys, 0, count);
        weigh(s, 0, whole_columns(s, count), seen(attention, unit, page, 0, 1), j.scales);
        multiply_run(s, &values, 1, count);
        return;
    }
    pack_run(s, &keys, 0, count);
    for (size_t q = 0; q < s->n_queries; q += product_rows(s->tiles))
        score_tile(&j, s, q, tile_rows(s, q));
    pack_run(s, &values, 1, count);
    for (size_t q = 0; q < s->n_queries; q += product_rows(s->tiles))
        sum_tile(&j, s, q, tile_rows(s, q));
}

/* ---- The kernels ----------------------------------------------------------------------------- */

/* The part of the state that belongs to kv head number `index` of the unit. */
static state of_head(const state *s, size_t index)
{
    size_t first = index * s->n_queries;
    state h = *s;
    h.queries += first * s->n_steps;
    h.sums.values += first * s->width;
    h.sums.totals += first;
    h.sums.highest += first;
    return h;
}

void ISA_NAME(phi3_attend)(const phi3_attention *attention, const phi3_attention_unit *unit,
                           size_t first_page, size_t end_page, const float *qkv, float *scratch,
                           const phi3_attention_sums *sums)
{
    state s = lay_out(attention, unit, scratch, sums);
    load_queries(attention, unit, qkv, &s);
    for (size_t page = first_page; page < end_page; page++)
        for (size_t h = 0; h < unit->n_kv_heads; h++) {
            state head = of_head(&s, h);
            attend_page(attention, unit, page, h, &head);
        }
}

void ISA_NAME(phi3_add_sums)(const phi3_attention_sums *sums, const phi3_attention_sums *later,
                             size_t n_queries, size_t head_dim)
{
    size_t width = PHI3_ATTENTION_WIDTH(head_dim);
    for (size_t q = 0; q < n_queries; q++) {
        if (later->totals[q] == 0) /* all of it was out of this query's sight */
            continue;
        float before = sums->highest[q], then = later->highest[q];
        float highest = then <= before ? before : then;
        float shrink = sums->totals[q] == 0 ? 0 : expf(before - highest);
        float grow = expf(then - highest);
        sums->highest[q] = highest;
        sums->totals[q] = sums->totals[q] * shrink + later->totals[q] * grow;
        float *values = sums->values + q * width;
        for (size_t i = 0; i < width; i += LANES) {
            floats more = load(later->values + q * width + i) * grow;
            store(values + i, multiply_add(load(values + i), splat(shrink), more));
        }
    }
}

void ISA_NAME(phi3_finish_attention)(const phi3_attention *attention,
                                     const phi3_attention_unit *unit,
                                     const phi3_attention_sums *sums, float *out)
{
    size_t group = attention->n_heads / attention->kv.n_kv_heads;
    size_t head_dim = attention->kv.head_dim, width = PHI3_ATTENTION_WIDTH(head_dim);
    for (size_t q = 0; q < unit->n_kv_heads * unit->n_rows * group; q++) {
        place at = place_of(attention, unit, q);
        const float *values = sums->values + q * width;
        float *to = out + (at.row * attention->n_heads + at.head) * head_dim;
        for (size_t i = 0; i < head_dim; i++)
            to[i] = values[i] / sums->totals[q];
    }
}
