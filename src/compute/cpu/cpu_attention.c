/* cpu_attention.c — softmax attention over spans, a block of query rows x one head at a time.
 *
 * Forward: keys go through in tiles; running maximum and sum rescale what was added before (online
 * softmax: Milakov & Gimelshein 2018; tiling: Dao et al. 2022). Spans never decrease with t, so a
 * tile concerns one contiguous range of a block's rows and each row one contiguous range of the
 * tile's keys; nothing outside is computed.
 *
 * Backward: probabilities are rebuilt from lse. A unit of work is one query head on a closed range
 * of tokens (no span crosses its ends); it adds its dk and dv into its own columns of scratch, and
 * the heads that share a key head are summed in order at the end.
 */
#include "compute/cpu/cpu.h"

#include "compute/cpu/gemm.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    QUERY_BLOCK = 128,
    KEY_TILE = 256,
    FEW_QUERIES = 4, /* up to here rows are dotted one by one: products of such shapes do not pay */
    UNIT_ROWS = 128  /* closed ranges are joined up to this many tokens */
};

/* ==== Scratch ==== */

typedef struct Layout {
    size_t thread;       /* offset of thread 0's floats */
    size_t thread_bytes; /* from one thread's to the next */
    size_t scores, dscores, maxima, sums; /* offsets inside a thread's part */
    size_t narrow, block; /* 16-bit rows only: factors of a product, f32 sums of a block */
    size_t dk, dv;       /* [S, H*D] f32, a query head's own part, when key_parts() */
    size_t units;        /* begins of closed ranges */
    size_t bytes;
} Layout;

/* Whether dk and dv are summed in scratch first: heads share keys, or results are 16-bit. */
static bool key_parts(const AttentionArgs *a)
{
    return a->n_kv_heads < a->n_heads || !tensor_is_f32(&a->q);
}

static Layout layout(const Backend *backend, const AttentionArgs *a, Pass pass)
{
    Layout l = {0};
    const int64_t block = min_i64(QUERY_BLOCK, a->q.rows);
    size_t mine = 0;
    l.scores = layout_take(&mine, block * KEY_TILE, sizeof(float));
    if (pass == PASS_BWD)
        l.dscores = layout_take(&mine, block * KEY_TILE, sizeof(float));
    l.maxima = layout_take(&mine, block, sizeof(float));
    l.sums = layout_take(&mine, block, sizeof(float));
    if (!tensor_is_f32(&a->q)) {
        l.narrow = layout_take(&mine, block * KEY_TILE, sizeof(uint16_t));
        l.block = layout_take(&mine, block * a->head_dim, sizeof(float));
    }
    l.thread_bytes = mine;
    l.thread = layout_take(&l.bytes, cpu_state(backend)->threads, mine);
    if (pass == PASS_BWD) {
        const int64_t wide = a->k.rows * a->n_heads * a->head_dim;
        l.units = layout_take(&l.bytes, ceil_div(a->q.rows, UNIT_ROWS) + 2, sizeof(int64_t));
        if (key_parts(a) && !tensor_is_empty(&a->dk))
            l.dk = layout_take(&l.bytes, wide, sizeof(float));
        if (key_parts(a) && !tensor_is_empty(&a->dv))
            l.dv = layout_take(&l.bytes, wide, sizeof(float));
    }
    return l;
}

size_t cpu_attention_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    return layout(backend, &call->attention, pass).bytes;
}

static void check(const AttentionArgs *a)
{
    must(a->n_kv_heads >= 1 && a->n_heads % a->n_kv_heads == 0 && a->head_dim >= 1);
    must(a->q.cols == (int64_t)a->n_heads * a->head_dim);
    must(a->k.cols == (int64_t)a->n_kv_heads * a->head_dim && a->v.cols == a->k.cols);
    must(a->y.rows == a->q.rows && a->y.cols == a->q.cols && a->k.rows == a->v.rows);
    must(tensor_is_empty(&a->lse) || (a->lse.rows == a->n_heads && a->lse.cols == a->q.rows));
}

/* ==== Tiles ==== */

/* Rows [row, row + rows) of q with keys [key, key + keys): all that a tile's products need. */
typedef struct Tile {
    int64_t row, rows;
    int64_t key, keys;
} Tile;

/* The part of a tile that any span touches; rows = 0 when none does. */
static Tile tile_trim(const AttentionArgs *a, Tile t)
{
    while (t.rows > 0 && a->kv_end[t.row] <= t.key)
        t.row++, t.rows--;
    while (t.rows > 0 && a->kv_begin[t.row + t.rows - 1] >= t.key + t.keys)
        t.rows--;
    return t;
}

/* Keys of the tile that query row t sees: [*from, *to) counted from the tile's first key. */
static void tile_span(const AttentionArgs *a, Tile tile, int64_t t, int64_t *from, int64_t *to)
{
    *from = min_i64(max_i64(a->kv_begin[t] - tile.key, 0), tile.keys);
    *to = max_i64(min_i64(a->kv_end[t] - tile.key, tile.keys), *from);
}

static void *head_row(const Tensor *x, int64_t row, int64_t head, int64_t head_dim)
{
    return tensor_at(x, row, head * head_dim);
}

static bool few(const AttentionArgs *a, Tile tile)
{
    return tile.rows <= FEW_QUERIES && tensor_is_f32(&a->q);
}

/* scores[r, j] = u[row + r] . k[key + j]; left side u: q or dy, right side k: k or v. */
static void tile_scores(const CpuKernels *kernels, const AttentionArgs *a, Tile tile,
                        const Tensor *u, const Tensor *keys, int64_t head, float *scores)
{
    const int64_t D = a->head_dim, key_head = head / (a->n_heads / a->n_kv_heads);
    if (!few(a, tile)) {
        gemm_nt(&(Gemm){.m = tile.rows, .n = tile.keys, .k = D, .alpha = 1, .type = u->dtype,
                        .a = head_row(u, tile.row, head, D), .lda = u->stride,
                        .b = head_row(keys, tile.key, key_head, D), .ldb = keys->stride,
                        .c = scores, .ldc = KEY_TILE});
        return;
    }
    for (int64_t r = 0; r < tile.rows; r++)
        for (int64_t j = 0; j < tile.keys; j++)
            scores[r * KEY_TILE + j] = kernels->dot(head_row(u, tile.row + r, head, D),
                                                    head_row(keys, tile.key + j, key_head, D), D);
}

/* Sums of one head's rows of a block: row `row` is at c. */
typedef struct Sums {
    float *c;
    int64_t ld, row;
} Sums;

typedef struct Work {
    float *scores, *dscores, *maxima, *sums, *block;
    uint16_t *narrow;
} Work;

/* The tile's p as products take it. */
static const void *tile_factor(const CpuKernels *kernels, const AttentionArgs *a, Tile tile,
                               const float *p, Work w)
{
    if (tensor_is_f32(&a->q))
        return p;
    for (int64_t r = 0; r < tile.rows; r++)
        kernels->to_bf16(p + r * KEY_TILE, w.narrow + r * KEY_TILE, tile.keys);
    return w.narrow;
}

/* out[row + r] += sum over j of p[r, j] keys[key + j]; `factor` is p as products take it. */
static void tile_weighted(const CpuKernels *kernels, const AttentionArgs *a, Tile tile,
                          const float *p, const void *factor, const Tensor *keys, int64_t head,
                          Sums out)
{
    const int64_t D = a->head_dim, key_head = head / (a->n_heads / a->n_kv_heads);
    float *y = out.c + (tile.row - out.row) * out.ld;
    if (!few(a, tile)) {
        gemm_nn(&(Gemm){.m = tile.rows, .n = D, .k = tile.keys, .alpha = 1, .beta = 1,
                        .type = keys->dtype, .a = factor, .lda = KEY_TILE,
                        .b = head_row(keys, tile.key, key_head, D), .ldb = keys->stride,
                        .c = y, .ldc = out.ld});
        return;
    }
    for (int64_t r = 0; r < tile.rows; r++)
        for (int64_t j = 0; j < tile.keys; j++)
            if (p[r * KEY_TILE + j] != 0.0f)
                kernels->axpy(y + r * out.ld, p[r * KEY_TILE + j],
                              head_row(keys, tile.key + j, key_head, D), D);
}

static void zero_block(const Tensor *x, int64_t row, int64_t rows, int64_t head, int64_t D)
{
    for (int64_t r = row; r < row + rows; r++)
        memset(tensor_row(x, r) + head * D, 0, (size_t)D * sizeof(float));
}

/* ==== Forward ==== */

static Work thread_work(const OpCall *call, const Layout *l)
{
    const size_t base = l->thread + l->thread_bytes * (size_t)omp_get_thread_num();
    return (Work){layout_f32(call, base + l->scores), layout_f32(call, base + l->dscores),
                  layout_f32(call, base + l->maxima), layout_f32(call, base + l->sums),
                  layout_f32(call, base + l->block),
                  (uint16_t *)(void *)layout_f32(call, base + l->narrow)};
}

/* Zeroes; x itself where it is f32, else this thread's block. */
static Sums sums_begin(const AttentionArgs *a, const Tensor *x, int64_t row, int64_t rows,
                       int64_t head, Work w)
{
    const int64_t D = a->head_dim;
    if (tensor_is_f32(x)) {
        zero_block(x, row, rows, head, D);
        return (Sums){head_row(x, row, head, D), x->stride, row};
    }
    memset(w.block, 0, (size_t)(rows * D) * sizeof *w.block);
    return (Sums){w.block, D, row};
}

static void sums_end(const CpuKernels *kernels, const AttentionArgs *a, const Tensor *x,
                     int64_t rows, int64_t head, Sums sums)
{
    const int64_t D = a->head_dim;
    if (!tensor_is_f32(x))
        store_rows(kernels, sums.c, sums.ld, x, sums.row, head * D, rows, D);
}

/* Scores of one tile become exp(scale * s - new maximum); what was added before is rescaled. */
static void softmax_tile(const CpuKernels *kernels, const AttentionArgs *a, Tile tile, Sums y,
                         Work w)
{
    for (int64_t r = 0; r < tile.rows; r++) {
        const int64_t t = tile.row + r;
        float *s = w.scores + r * KEY_TILE, *m = &w.maxima[t - y.row], *l = &w.sums[t - y.row];
        int64_t from, to;
        tile_span(a, tile, t, &from, &to);
        memset(s, 0, (size_t)from * sizeof *s);
        memset(s + to, 0, (size_t)(tile.keys - to) * sizeof *s);
        if (from == to)
            continue;
        const float most = fmaxf(*m, a->scale * kernels->max(s + from, to - from));
        if (most > *m && *l != 0.0f) {
            const float old = expf(*m - most);
            *l *= old;
            kernels->scale(y.c + (t - y.row) * y.ld, old, a->head_dim);
        }
        *m = most;
        kernels->exp_row(s + from, to - from, a->scale, most, 1.0f);
        *l += kernels->sum(s + from, to - from);
    }
}

static void block_fwd(const CpuKernels *kernels, const AttentionArgs *a, int64_t row,
                      int64_t rows, int64_t head, Work w)
{
    const int64_t first = a->kv_begin[row], last = a->kv_end[row + rows - 1];
    const Sums y = sums_begin(a, &a->y, row, rows, head, w);
    for (int64_t r = 0; r < rows; r++) {
        w.maxima[r] = -INFINITY;
        w.sums[r] = 0.0f;
    }
    for (int64_t key = first; key < last; key += KEY_TILE) {
        const Tile tile = tile_trim(a, (Tile){row, rows, key, min_i64(KEY_TILE, last - key)});
        if (tile.rows == 0)
            continue;
        tile_scores(kernels, a, tile, &a->q, &a->k, head, w.scores);
        softmax_tile(kernels, a, tile, y, w);
        tile_weighted(kernels, a, tile, w.scores, tile_factor(kernels, a, tile, w.scores, w),
                      &a->v, head, y);
    }
    for (int64_t r = 0; r < rows; r++) {
        if (w.sums[r] != 0.0f)
            kernels->scale(y.c + r * y.ld, 1.0f / w.sums[r], a->head_dim);
        if (!tensor_is_empty(&a->lse))
            tensor_row(&a->lse, head)[row + r] = w.maxima[r] + logf(w.sums[r]);
    }
    sums_end(kernels, a, &a->y, rows, head, y);
}

void cpu_attention_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const AttentionArgs *a = &call->attention;
    const Layout l = layout(backend, a, PASS_FWD);
    const int64_t T = a->q.rows, blocks = ceil_div(T, QUERY_BLOCK);
    check(a);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < blocks * a->n_heads; i++) {
        /* Long spans first: the last blocks of a causal sequence. */
        const int64_t row = (blocks - 1 - i / a->n_heads) * QUERY_BLOCK;
        block_fwd(cpu->kernels, a, row, min_i64(QUERY_BLOCK, T - row), i % a->n_heads,
                  thread_work(call, &l));
    }
}

/* ==== Backward ==== */

/* Begins of closed ranges of at least UNIT_ROWS tokens, then T. Returns their number. */
static int64_t find_units(const AttentionArgs *a, int64_t *begins)
{
    const int64_t T = a->q.rows;
    int64_t n = 0;
    begins[n] = 0;
    for (int64_t t = UNIT_ROWS; t < T; t++)
        if (t - begins[n] >= UNIT_ROWS && a->kv_begin[t] >= t && a->kv_end[t - 1] <= t)
            begins[++n] = t;
    begins[n + 1] = T;
    return n + 1;
}

/* Where a query head adds its dk or dv: its own columns of scratch, or the result itself. */
typedef struct KeyGrads {
    Tensor dk, dv; /* empty = not wanted */
} KeyGrads;

static KeyGrads key_grads(const OpCall *call, const Layout *l)
{
    const AttentionArgs *a = &call->attention;
    KeyGrads g = {a->dk, a->dv};
    const int64_t wide = (int64_t)a->n_heads * a->head_dim;
    if (key_parts(a) && !tensor_is_empty(&a->dk))
        g.dk = tensor_make(layout_f32(call, l->dk), DTYPE_F32, a->k.rows, wide);
    if (key_parts(a) && !tensor_is_empty(&a->dv))
        g.dv = tensor_make(layout_f32(call, l->dv), DTYPE_F32, a->k.rows, wide);
    return g;
}

/* w.sums[r] = dy . y of each row. */
static void row_deltas(const CpuKernels *kernels, const AttentionArgs *a, int64_t row,
                       int64_t rows, int64_t head, Work w)
{
    const int64_t D = a->head_dim;
    for (int64_t r = 0; r < rows; r++) {
        const float *dy = head_row(&a->dy, row + r, head, D);
        const float *y = head_row(&a->y, row + r, head, D);
        if (!tensor_is_f32(&a->y)) {
            float *wide = w.block;
            kernels->dequant(DTYPE_BF16, (const uint8_t *)dy, w.scores, D);
            kernels->dequant(DTYPE_BF16, (const uint8_t *)y, wide, D);
            dy = w.scores;
            y = wide;
        }
        w.sums[r] = kernels->dot(dy, y, D);
    }
}

/* Scores become probabilities, their gradients dP become the gradients of q.k. */
static void probabilities(const CpuKernels *kernels, const AttentionArgs *a, Tile tile,
                          int64_t block, int64_t head, Work w)
{
    for (int64_t r = 0; r < tile.rows; r++) {
        const int64_t t = tile.row + r;
        float *p = w.scores + r * KEY_TILE, *ds = w.dscores + r * KEY_TILE;
        int64_t from, to;
        tile_span(a, tile, t, &from, &to);
        const size_t before = (size_t)from * sizeof *p;
        const size_t after = (size_t)(tile.keys - to) * sizeof *p;
        memset(p, 0, before);
        memset(ds, 0, before);
        memset(p + to, 0, after);
        memset(ds + to, 0, after);
        kernels->exp_row(p + from, to - from, a->scale, tensor_row(&a->lse, head)[t], 1.0f);
        kernels->softmax_bwd_row(ds + from, p + from, to - from, w.sums[t - block], a->scale);
    }
}

/* out[key + j] += sum over r of p[r, j] u[row + r], p as products take it. */
static void tile_to_keys(const AttentionArgs *a, Tile tile, const void *p, const Tensor *u,
                         int64_t head, const Tensor *out)
{
    const int64_t D = a->head_dim;
    if (tensor_is_empty(out))
        return;
    gemm_tn(&(Gemm){.m = tile.keys, .n = D, .k = tile.rows, .alpha = 1, .beta = 1,
                    .type = u->dtype, .a = p, .lda = KEY_TILE,
                    .b = head_row(u, tile.row, head, D), .ldb = u->stride,
                    .c = tensor_row(out, tile.key) + head * D, .ldc = out->stride});
}

static void block_bwd(const CpuKernels *kernels, const AttentionArgs *a, KeyGrads grads,
                      int64_t row, int64_t rows, int64_t head, Work w)
{
    const int64_t first = a->kv_begin[row], last = a->kv_end[row + rows - 1];
    row_deltas(kernels, a, row, rows, head, w);
    const bool wants_dq = !tensor_is_empty(&a->dq);
    const Sums dq = wants_dq ? sums_begin(a, &a->dq, row, rows, head, w) : (Sums){0};
    for (int64_t key = first; key < last; key += KEY_TILE) {
        const Tile tile = tile_trim(a, (Tile){row, rows, key, min_i64(KEY_TILE, last - key)});
        if (tile.rows == 0)
            continue;
        tile_scores(kernels, a, tile, &a->q, &a->k, head, w.scores);
        tile_scores(kernels, a, tile, &a->dy, &a->v, head, w.dscores);
        probabilities(kernels, a, tile, row, head, w);
        const void *ds = tile_factor(kernels, a, tile, w.dscores, w);
        if (wants_dq)
            tile_weighted(kernels, a, tile, w.dscores, ds, &a->k, head, dq);
        tile_to_keys(a, tile, ds, &a->q, head, &grads.dk);
        const void *p = tile_factor(kernels, a, tile, w.scores, w);
        tile_to_keys(a, tile, p, &a->dy, head, &grads.dv);
    }
    if (wants_dq)
        sums_end(kernels, a, &a->dq, rows, head, dq);
}

static void unit_bwd(const CpuKernels *kernels, const AttentionArgs *a, KeyGrads grads,
                     int64_t begin, int64_t end, int64_t head, Work w)
{
    const int64_t D = a->head_dim;
    if (!tensor_is_empty(&grads.dk))
        zero_block(&grads.dk, begin, end - begin, head, D);
    if (!tensor_is_empty(&grads.dv))
        zero_block(&grads.dv, begin, end - begin, head, D);
    for (int64_t row = begin; row < end; row += QUERY_BLOCK)
        block_bwd(kernels, a, grads, row, min_i64(QUERY_BLOCK, end - row), head, w);
}

/* out[s, g] = sum over the query heads of g, in order, of wide[s, h], which is overwritten. */
static void sum_heads(const CpuState *cpu, const AttentionArgs *a, const Tensor *wide,
                      const Tensor *out)
{
    const int64_t D = a->head_dim, group = a->n_heads / a->n_kv_heads;
    if (tensor_is_empty(out) || !key_parts(a))
        return;
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t s = 0; s < out->rows; s++)
        for (int64_t g = 0; g < a->n_kv_heads; g++) {
            float *sum = head_row(wide, s, g * group, D);
            for (int64_t h = 1; h < group; h++)
                cpu->kernels->axpy(sum, 1.0f, head_row(wide, s, g * group + h, D), D);
            if (tensor_is_f32(out))
                memcpy(head_row(out, s, g, D), sum, (size_t)D * sizeof *sum);
            else
                cpu->kernels->to_bf16(sum, head_row(out, s, g, D), D);
        }
}

void cpu_attention_bwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const AttentionArgs *a = &call->attention;
    const Layout l = layout(backend, a, PASS_BWD);
    const KeyGrads grads = key_grads(call, &l);
    int64_t *begins = (int64_t *)(void *)((uint8_t *)call->scratch + l.units);
    check(a);
    must(a->k.rows == a->q.rows && !tensor_is_empty(&a->lse));
    const int64_t units = find_units(a, begins);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < units * a->n_heads; i++) {
        const int64_t u = i / a->n_heads;
        unit_bwd(cpu->kernels, a, grads, begins[u], begins[u + 1], i % a->n_heads,
                 thread_work(call, &l));
    }
    sum_heads(cpu, a, &grads.dk, &a->dk);
    sum_heads(cpu, a, &grads.dv, &a->dv);
}
