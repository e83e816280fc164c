/* cpu_cross_entropy.c — the loss over the rows that carry it, and its gradient, without ever
 * holding all logits: rows go through in chunks of PIECE_ROWS, each chunk's logits become their
 * own gradient in place. A stored head is dequantised once a call where that fits, else panel by
 * panel.
 */
#include "compute/cpu/cpu.h"

#include "compute/cpu/gemm.h"

#include <math.h>
#include <string.h>

typedef struct Layout {
    size_t panel, rows, grads, logits; /* offsets */
    size_t bytes;
} Layout;

/* One layout of the head for both directions. */
static PanelPlan head_plan(const Backend *backend, const CrossEntropyArgs *a)
{
    const PanelUse use = tensor_is_empty(&a->dx) ? PANEL_ROWS_ARE_OUTPUTS : PANEL_ROWS_ARE_INPUTS;
    return panel_plan(backend, a->w, use, cpu_state(backend)->head_floats);
}

static Layout layout(const Backend *backend, const CrossEntropyArgs *a)
{
    Layout l = {0};
    const int64_t chunk = min_i64(PIECE_ROWS, a->nll.rows);
    l.panel = layout_take(&l.bytes, head_plan(backend, a).floats, sizeof(float));
    l.rows = layout_take(&l.bytes, chunk * a->x.cols, dtype_row_bytes(a->x.dtype, 1));
    l.grads = l.rows; /* f32: the gathered rows become their gradient */
    if (!tensor_is_f32(&a->x) && !tensor_is_empty(&a->dx))
        l.grads = layout_take(&l.bytes, chunk * a->x.cols, sizeof(float));
    l.logits = layout_take(&l.bytes, chunk * a->w->rows, sizeof(float));
    return l;
}

size_t cpu_cross_entropy_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    return pass == PASS_FWD ? layout(backend, &call->cross_entropy).bytes : 0;
}

/* One chunk on its way through. */
typedef struct Chunk {
    const CrossEntropyArgs *args;
    int64_t begin, n;  /* entries of args->rows */
    void *x;           /* [n, C] gathered */
    float *dx;         /* [n, C] their gradient */
    float *logits;     /* [n, V], then their gradient in the type of x: each row at its begin */
    PanelPlan plan;
    void *memory;      /* of the panel */
    Panel panel;       /* what `memory` holds; end 0 = nothing yet */
} Chunk;

static void gather(const CpuState *cpu, const Chunk *c)
{
    const CrossEntropyArgs *a = c->args;
#pragma omp parallel for schedule(static) num_threads(cpu->threads)
    for (int64_t i = 0; i < c->n; i++) {
        must(a->rows[c->begin + i] >= 0 && a->rows[c->begin + i] < a->x.rows);
        const size_t bytes = dtype_row_bytes(a->x.dtype, a->x.cols);
        memcpy((uint8_t *)c->x + (size_t)i * bytes, tensor_at(&a->x, a->rows[c->begin + i], 0),
               bytes);
    }
}

/* The panel that begins at row v of the head; a head that fits whole is dequantised once. */
static Panel head_panel(Backend *backend, Chunk *c, int64_t v)
{
    if (c->panel.end == 0 || c->panel.begin != v)
        c->panel = panel_load(backend, c->args->w, &c->plan, v, c->memory);
    return c->panel;
}

static void make_logits(Backend *backend, Chunk *c)
{
    const CpuState *cpu = cpu_state(backend);
    const int64_t V = c->args->w->rows, C = c->args->w->cols;
    for (int64_t v = 0; v < V;) {
        const Panel panel = head_panel(backend, c, v);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
        for (int64_t col = panel.begin; col < panel.end; col += PIECE_COLS)
            gemm_nt(&(Gemm){.m = c->n, .n = min_i64(PIECE_COLS, panel.end - col), .k = C,
                            .alpha = 1, .type = panel.type, .a = c->x, .lda = C,
                            .b = panel_at(&panel, col, 0), .ldb = panel.stride,
                            .c = c->logits + col, .ldc = V});
        v = panel.end;
    }
}

/* The row's bf16 values over the first half of itself. */
static void narrow_in_place(const CpuKernels *kernels, float *row, int64_t n)
{
    enum { STRETCH = 1024 };
    uint16_t narrow[STRETCH];
    for (int64_t i = 0; i < n; i += STRETCH) {
        const int64_t some = min_i64(STRETCH, n - i);
        kernels->to_bf16(row + i, narrow, some);
        memcpy((uint16_t *)(void *)row + i, narrow, (size_t)some * sizeof *narrow);
    }
}

/* Logit gradients from (row, v) on, and the elements from one row to the next. */
static const void *dlogits_at(const Chunk *c, int64_t row, int64_t v, int64_t *stride)
{
    const int64_t V = c->args->w->rows;
    const float *begin = c->logits + row * V;
    const bool wide = tensor_is_f32(&c->args->x);
    *stride = wide ? V : 2 * V;
    return wide ? (const void *)(begin + v) : (const uint16_t *)(const void *)begin + v;
}

/* nll of each row; its logits become their gradient when that is wanted. */
static void make_loss(const CpuState *cpu, const Chunk *c)
{
    const CrossEntropyArgs *a = c->args;
    const int64_t V = a->w->rows;
    const bool backward = !tensor_is_empty(&a->dx) || !tensor_is_empty(&a->dw);
    const float weight = a->step->inv_loss_tokens;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < c->n; i++) {
        float *logits = c->logits + i * V;
        const int32_t target = a->targets[c->begin + i];
        must(target >= 0 && target < V);
        const float most = cpu->kernels->max(logits, V);
        const float lse = most + logf(cpu->kernels->sum_exp(logits, V, most));
        *tensor_row(&a->nll, c->begin + i) = lse - logits[target];
        if (backward) {
            cpu->kernels->exp_row(logits, V, 1.0f, lse, weight);
            logits[target] -= weight;
            if (!tensor_is_f32(&a->x))
                narrow_in_place(cpu->kernels, logits, V);
        }
    }
}

/* dw[v, :] += dlogits[:, v]^T x; before make_dx, which overwrites the gathered rows. */
static void add_dw(const CpuState *cpu, const Chunk *c)
{
    const CrossEntropyArgs *a = c->args;
    const int64_t V = a->w->rows, C = a->w->cols;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t v = 0; v < V; v += PIECE_COLS) {
        int64_t stride;
        const void *dlogits = dlogits_at(c, 0, v, &stride);
        gemm_tn(&(Gemm){.m = min_i64(PIECE_COLS, V - v), .n = C, .k = c->n, .alpha = 1, .beta = 1,
                        .type = a->x.dtype, .a = dlogits, .lda = stride, .b = c->x, .ldb = C,
                        .c = tensor_row(&a->dw, v), .ldc = a->dw.stride});
    }
}

/* dx rows of the chunk = dlogits W, panels in order, then scattered. Pieces are small both ways: a
 * chunk has few of them. */
static void make_dx(Backend *backend, Chunk *c)
{
    enum { ROWS = 128 };
    const CpuState *cpu = cpu_state(backend);
    const CrossEntropyArgs *a = c->args;
    const int64_t V = a->w->rows, C = a->w->cols;
    const int64_t width = even_piece(C, PIECE_COLS), across = ceil_div(C, width);
    /* Panels come last to first where several are needed: the last one is still there. */
    const int64_t step = c->plan.rows;
    for (int64_t v = (V - 1) / step * step; v >= 0; v -= step) {
        const Panel panel = head_panel(backend, c, v);
        const float beta = panel.end == V ? 0 : 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
        for (int64_t i = 0; i < ceil_div(c->n, ROWS) * across; i++) {
            const int64_t row = i / across * ROWS, col = i % across * width;
            int64_t stride;
            const void *dlogits = dlogits_at(c, row, panel.begin, &stride);
            gemm_nn(&(Gemm){.m = min_i64(ROWS, c->n - row), .n = min_i64(width, C - col),
                            .k = panel.end - panel.begin, .alpha = 1, .beta = beta,
                            .type = panel.type, .a = dlogits, .lda = stride,
                            .b = panel_at(&panel, panel.begin, col), .ldb = panel.stride,
                            .c = c->dx + row * C + col, .ldc = C});
        }
    }
    for (int64_t i = 0; i < c->n; i++) {
        const int32_t row = a->rows[c->begin + i];
        if (tensor_is_f32(&a->dx))
            memcpy(tensor_row(&a->dx, row), c->dx + i * C, (size_t)C * sizeof(float));
        else
            cpu->kernels->to_bf16(c->dx + i * C, tensor_at(&a->dx, row, 0), C);
    }
}

void cpu_cross_entropy_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const CrossEntropyArgs *a = &call->cross_entropy;
    const Layout l = layout(backend, a);
    const int64_t n = a->step->n_loss;
    must(n >= 0 && n <= a->nll.rows && a->nll.cols == 1);
    must(a->w->cols == a->x.cols);
    for (int64_t t = 0; !tensor_is_empty(&a->dx) && t < a->dx.rows; t++)
        memset(tensor_at(&a->dx, t, 0), 0, dtype_row_bytes(a->dx.dtype, a->dx.cols));
    for (int64_t i = n; i < a->nll.rows; i++)
        *tensor_row(&a->nll, i) = 0.0f;
    Chunk c = {.args = a, .x = layout_f32(call, l.rows),
               .dx = layout_f32(call, l.grads), .logits = layout_f32(call, l.logits),
               .plan = head_plan(backend, a), .memory = layout_f32(call, l.panel)};
    for (c.begin = 0; c.begin < n; c.begin += PIECE_ROWS) {
        c.n = min_i64(PIECE_ROWS, n - c.begin);
        gather(cpu, &c);
        make_logits(backend, &c);
        make_loss(cpu, &c);
        if (!tensor_is_empty(&a->dw))
            add_dw(cpu, &c);
        if (!tensor_is_empty(&a->dx))
            make_dx(backend, &c);
    }
}
