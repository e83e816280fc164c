/* cpu_pointwise.c — the ops whose rows are independent: embed, rmsnorm, rope, glu, copy_rows,
 * window_spans, rope_rows; and
 * the panels through which products read stored weights.
 */
#include "compute/cpu/cpu.h"

#include <string.h>

/* ==== Panels ==== */

PanelPlan panel_plan(const Weight *w, PanelUse use, int64_t budget)
{
    enum { BAD_MULTIPLE = 256, PAD = 16 };
    const bool bad = w->cols % BAD_MULTIPLE == 0;
    if (w->dtype == DTYPE_F32 && (use == PANEL_ROWS_ARE_OUTPUTS || !bad))
        return (PanelPlan){w->rows, w->cols, 0};
    const int64_t stride = w->cols + (bad ? PAD : 0);
    const int64_t fit = max_i64(budget / stride / PIECE_COLS, 1) * PIECE_COLS;
    const int64_t rows = min_i64(w->rows, fit);
    return (PanelPlan){rows, stride, rows * stride};
}

Panel panel_load(const Backend *backend, const Weight *w, const PanelPlan *plan, int64_t begin,
                 float *memory)
{
    const CpuState *cpu = cpu_state(backend);
    const int64_t rows = min_i64(plan->rows, w->rows - begin);
    const Panel panel = {memory, plan->stride, begin, begin + rows};
    assert(begin >= 0 && rows > 0);
    if (plan->floats == 0)
        return (Panel){(const float *)w->data + begin * w->cols, w->cols, begin, begin + rows};
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t r = 0; r < rows; r += ROW_BATCH)
        for (int64_t i = r; i < min_i64(r + ROW_BATCH, rows); i++)
            cpu->kernels->dequant(w->dtype, weight_row(w, begin + i), memory + i * plan->stride,
                                  w->cols);
    return panel;
}

int64_t even_piece(int64_t n, int64_t most)
{
    assert(n > 0 && most > 0);
    const int64_t pieces = ceil_div(n, most);
    return min_i64(most, round_up(ceil_div(n, pieces), 16));
}

/* ==== Embedding ==== */

void cpu_embed_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const EmbedArgs *a = &call->embed;
    const int64_t n = a->y.cols;
    must(n == a->table->cols);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->y.rows; t++) {
        must(a->tokens[t] >= 0 && a->tokens[t] < a->table->rows);
        float *y = tensor_row(&a->y, t);
        cpu->kernels->dequant(a->table->dtype, weight_row(a->table, a->tokens[t]), y, n);
        if (a->scale != 1.0f)
            cpu->kernels->scale(y, a->scale, n);
    }
}

/* Each thread takes a range of columns and walks all tokens in order. */
void cpu_embed_bwd(Backend *backend, const OpCall *call)
{
    enum { COLUMNS = 64 };
    const CpuState *cpu = cpu_state(backend);
    const EmbedArgs *a = &call->embed;
    const int64_t n = a->dy.cols;
    if (tensor_is_empty(&a->dtable))
        return;
    must(n == a->dtable.cols);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t c = 0; c < n; c += COLUMNS)
        for (int64_t t = 0; t < a->dy.rows; t++)
            cpu->kernels->axpy(tensor_row(&a->dtable, a->tokens[t]) + c, a->scale,
                               tensor_row(&a->dy, t) + c, min_i64(COLUMNS, n - c));
}

/* ==== Norm ==== */

/* Rows of several heads are as many short rows. */
static int64_t norm_heads(const RmsnormArgs *a)
{
    must(a->w.cols > 0 && a->x.cols % a->w.cols == 0);
    must(a->w.cols == a->x.cols || tensor_is_empty(&a->delta));
    return a->x.cols / a->w.cols;
}

void cpu_rmsnorm_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const RmsnormArgs *a = &call->rmsnorm;
    const bool has_delta = !tensor_is_empty(&a->delta), keep = !tensor_is_empty(&a->rstd);
    const int64_t heads = norm_heads(a), D = a->w.cols;
    must(a->y.rows == a->x.rows && a->y.cols == a->x.cols);
    must(!has_delta || !tensor_is_empty(&a->sum));
    must(!keep || a->rstd.cols == heads);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->x.rows; t++) {
        for (int64_t h = 0; h < heads; h++) {
            const RmsnormRow row = {
                .x = tensor_row(&a->x, t) + h * D,
                .delta = has_delta ? tensor_row(&a->delta, t) : NULL,
                .sum = has_delta ? tensor_row(&a->sum, t) : NULL,
                .w = tensor_f32(&a->w),
                .y = tensor_row(&a->y, t) + h * D,
                .eps = a->eps,
                .n = D,
            };
            const float rstd = cpu->kernels->rmsnorm_fwd(&row);
            if (keep)
                tensor_row(&a->rstd, t)[h] = rstd;
        }
    }
}

/* Partial sums of dw, one row a piece of tokens. */
size_t cpu_rmsnorm_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    (void)backend;
    const RmsnormArgs *a = &call->rmsnorm;
    if (pass == PASS_FWD || tensor_is_empty(&a->dw))
        return 0;
    size_t used = 0;
    layout_take(&used, ceil_div(a->x.rows, PIECE_ROWS) * a->w.cols, sizeof(float));
    return used;
}

/* One head of one token; dw: the partial sum of its piece, or NULL. */
static void rmsnorm_bwd_row(const CpuState *cpu, const RmsnormArgs *a, int64_t t, int64_t h,
                            float *dw)
{
    const Tensor *s = tensor_is_empty(&a->delta) ? &a->x : &a->sum;
    const int64_t D = a->w.cols, at = h * D;
    cpu->kernels->rmsnorm_bwd(&(RmsnormRow){
        .s = tensor_row(s, t) + at,
        .w = tensor_f32(&a->w),
        .dy = tensor_row(&a->dy, t) + at,
        .dx = tensor_is_empty(&a->dx) ? NULL : tensor_row(&a->dx, t) + at,
        .ddelta = tensor_is_empty(&a->ddelta) ? NULL : tensor_row(&a->ddelta, t) + at,
        .dw = dw,
        .rstd = tensor_row(&a->rstd, t)[h],
        .dx_beta = a->dx_beta,
        .n = D,
    });
}

void cpu_rmsnorm_bwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const RmsnormArgs *a = &call->rmsnorm;
    const int64_t T = a->x.rows, heads = norm_heads(a), D = a->w.cols;
    float *partial = tensor_is_empty(&a->dw) ? NULL : layout_f32(call, 0);
    must(a->dy.rows == T && a->dy.cols == a->x.cols);
    must(a->rstd.rows == T && a->rstd.cols == heads);
    /* Pieces are large only where partial sums need it. */
    const int64_t piece = partial != NULL ? PIECE_ROWS : ROW_BATCH;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t begin = 0; begin < T; begin += piece) {
        float *dw = partial == NULL ? NULL : partial + begin / PIECE_ROWS * D;
        if (dw != NULL)
            memset(dw, 0, (size_t)D * sizeof *dw);
        for (int64_t t = begin; t < min_i64(begin + piece, T); t++)
            for (int64_t h = 0; h < heads; h++)
                rmsnorm_bwd_row(cpu, a, t, h, dw);
    }
    for (int64_t i = 0; partial != NULL && i < ceil_div(T, PIECE_ROWS); i++)
        cpu->kernels->axpy(tensor_f32(&a->dw), 1.0f, partial + i * D, D);
}

/* ==== Rope ==== */

static void rope_tensor(const CpuState *cpu, const RopeArgs *a, const Tensor *x, float direction)
{
    if (tensor_is_empty(x))
        return;
    must(x->cols % a->head_dim == 0 && a->rot <= a->head_dim && a->rot % 2 == 0);
    must(a->table.cols == a->rot);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < x->rows; t++)
        cpu->kernels->rope(&(RopeRow){
            .x = tensor_row(x, t),
            .table = tensor_row(&a->table, a->positions[t]),
            .n_heads = x->cols / a->head_dim,
            .head_dim = a->head_dim,
            .rot = a->rot,
            .pairing = a->pairing,
            .direction = direction,
        });
}

void cpu_rope_fwd(Backend *backend, const OpCall *call)
{
    rope_tensor(cpu_state(backend), &call->rope, &call->rope.q, 1.0f);
    rope_tensor(cpu_state(backend), &call->rope, &call->rope.k, 1.0f);
}

void cpu_rope_bwd(Backend *backend, const OpCall *call)
{
    rope_tensor(cpu_state(backend), &call->rope, &call->rope.dq, -1.0f);
    rope_tensor(cpu_state(backend), &call->rope, &call->rope.dk, -1.0f);
}

/* ==== Spans and rows ==== */

void cpu_window_spans_fwd(Backend *backend, const OpCall *call)
{
    (void)backend;
    const WindowSpansArgs *a = &call->window_spans;
    must(a->window > 0 && (a->end == NULL) == (a->q_end == NULL));
    for (int64_t t = 0; t < a->n; t++) {
        a->begin[t] = (int32_t)max_i64(a->kv_begin[t], (int64_t)a->kv_end[t] - a->window);
        if (a->end != NULL)
            a->end[t] = (int32_t)min_i64(a->q_end[t], t + a->window);
    }
}

void cpu_rope_rows_fwd(Backend *backend, const OpCall *call)
{
    (void)backend;
    const RopeRowsArgs *a = &call->rope_rows;
    must(a->offset >= 0 && a->longest > 0);
    for (int64_t t = 0; t < a->n; t++) {
        const int64_t length = a->q_end == NULL ? a->length : a->q_end[t] - a->kv_begin[t];
        a->rows[t] = a->positions[t] + (length > a->longest ? a->offset : 0);
    }
}

/* ==== Gated units ==== */

void cpu_glu_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const GluArgs *a = &call->glu;
    must(a->up.rows == a->gate.rows && a->up.cols == a->gate.cols);
    must(a->y.rows == a->gate.rows && a->y.cols == a->gate.cols);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->gate.rows; t++)
        cpu->kernels->glu_fwd(&(GluRow){
            .act = a->act,
            .gate = tensor_row(&a->gate, t),
            .up = tensor_row(&a->up, t),
            .y = tensor_row(&a->y, t),
            .n = a->gate.cols,
        });
}

void cpu_glu_bwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const GluArgs *a = &call->glu;
    must(a->dy.rows == a->gate.rows && a->dy.cols == a->gate.cols);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->gate.rows; t++)
        cpu->kernels->glu_bwd(&(GluRow){
            .act = a->act,
            .gate = tensor_row(&a->gate, t),
            .up = tensor_row(&a->up, t),
            .dy = tensor_row(&a->dy, t),
            .dgate = tensor_is_empty(&a->dgate) ? NULL : tensor_row(&a->dgate, t),
            .dup = tensor_is_empty(&a->dup) ? NULL : tensor_row(&a->dup, t),
            .n = a->gate.cols,
        });
}

/* ==== Cache ==== */

void cpu_copy_rows_fwd(Backend *backend, const OpCall *call)
{
    (void)backend;
    const CopyRowsArgs *a = &call->copy_rows;
    must(a->src.cols == a->dst.cols);
    for (int64_t t = 0; t < a->src.rows; t++)
        memcpy(tensor_row(&a->dst, a->index[t]), tensor_row(&a->src, t),
               (size_t)a->src.cols * sizeof(float));
}
