/* cpu_pointwise.c — the ops whose rows are independent: embed, rmsnorm, rope, glu, copy_rows,
 * window_spans, rope_rows; and
 * the panels through which products read stored weights.
 */
#include "compute/cpu/cpu.h"

#include "core/quant_block.h"

#include <omp.h>
#include <string.h>

/* ==== Panels ==== */

PanelPlan panel_plan(const Backend *backend, const Weight *w, PanelUse use, int64_t budget)
{
    enum { BAD_MULTIPLE = 256, PAD = 16 };
    const Dtype type = cpu_state(backend)->type;
    const bool bad = type == DTYPE_F32 && w->cols % BAD_MULTIPLE == 0;
    if (w->dtype == type && (use == PANEL_ROWS_ARE_OUTPUTS || !bad))
        return (PanelPlan){type, w->rows, w->cols, 0};
    const int64_t per_float = type == DTYPE_F32 ? 1 : 2;
    const int64_t stride = w->cols + (bad ? PAD : 0);
    const int64_t fit = max_i64(budget * per_float / stride / PIECE_COLS, 1) * PIECE_COLS;
    const int64_t rows = min_i64(w->rows, fit);
    return (PanelPlan){type, rows, stride, ceil_div(rows * stride, per_float)};
}

/* One stored row as bf16, through f32 a stretch at a time. */
static void narrow_row(const CpuKernels *kernels, const Weight *w, int64_t row, uint16_t *to)
{
    enum { STRETCH = 512 };
    float wide[STRETCH];
    const uint8_t *from = weight_row(w, row);
    static_assert(STRETCH % QB_BLOCK == 0, "a stretch is whole blocks");
    for (int64_t i = 0; i < w->cols; i += STRETCH) {
        const int64_t n = min_i64(STRETCH, w->cols - i);
        kernels->dequant(w->dtype, from + dtype_row_bytes(w->dtype, i), wide, n);
        kernels->to_bf16(wide, to + i, n);
    }
}

Panel panel_load(const Backend *backend, const Weight *w, const PanelPlan *plan, int64_t begin,
                 void *memory)
{
    const CpuState *cpu = cpu_state(backend);
    const int64_t rows = min_i64(plan->rows, w->rows - begin);
    Panel panel = {memory, plan->type, plan->stride, begin, begin + rows};
    assert(begin >= 0 && rows > 0);
    if (plan->floats == 0) {
        panel.rows = weight_row(w, begin);
        return panel;
    }
    const int64_t stride = plan->stride;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t r = 0; r < rows; r += ROW_BATCH)
        for (int64_t i = r; i < min_i64(r + ROW_BATCH, rows); i++) {
            if (plan->type == DTYPE_F32)
                cpu->kernels->dequant(w->dtype, weight_row(w, begin + i),
                                      (float *)memory + i * stride, w->cols);
            else
                narrow_row(cpu->kernels, w, begin + i, (uint16_t *)memory + i * stride);
        }
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

/* ==== 16-bit rows ==== */

/* The kernels of rows work on f32. A 16-bit row is widened into a buffer before and narrowed after;
 * an f32 row is used where it lies. */
static float *row_in(const CpuKernels *kernels, const Tensor *x, int64_t row, float *buffer)
{
    if (tensor_is_f32(x))
        return tensor_row(x, row);
    kernels->dequant(DTYPE_BF16, tensor_at(x, row, 0), buffer, x->cols);
    return buffer;
}

/* Where a kernel writes a row that row_done then puts in its place. */
static float *row_out(const Tensor *x, int64_t row, float *buffer)
{
    return tensor_is_f32(x) ? tensor_row(x, row) : buffer;
}

static void row_done(const CpuKernels *kernels, const Tensor *x, int64_t row, const float *buffer)
{
    if (!tensor_is_f32(x))
        kernels->to_bf16(buffer, tensor_at(x, row, 0), x->cols);
}

/* ==== Norm ==== */

/* Rows of several heads are as many short rows. */
static int64_t norm_heads(const RmsnormArgs *a)
{
    must(a->w.cols > 0 && a->x.cols % a->w.cols == 0);
    must(a->w.cols == a->x.cols || tensor_is_empty(&a->delta));
    return a->x.cols / a->w.cols;
}

/* Buffers of one thread for 16-bit rows, and partial sums of dw, one row a piece of tokens. */
enum { NORM_ROWS = 4 };
typedef struct NormLayout {
    size_t rows, partial, bytes;
} NormLayout;

static NormLayout norm_layout(const Backend *backend, const RmsnormArgs *a, Pass pass)
{
    NormLayout l = {0};
    const CpuState *cpu = cpu_state(backend);
    if (cpu->type != DTYPE_F32)
        l.rows = layout_take(&l.bytes, (int64_t)cpu->threads * NORM_ROWS * a->x.cols,
                             sizeof(float));
    if (pass == PASS_BWD && !tensor_is_empty(&a->dw))
        l.partial = layout_take(&l.bytes, ceil_div(a->x.rows, PIECE_ROWS) * a->w.cols,
                                sizeof(float));
    return l;
}

size_t cpu_rmsnorm_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    return norm_layout(backend, &call->rmsnorm, pass).bytes;
}

/* Buffer i of the calling thread; f32 rows need none. */
static float *norm_buffer(const CpuState *cpu, const OpCall *call, const NormLayout *l, int i)
{
    const int64_t slot = (int64_t)omp_get_thread_num() * NORM_ROWS + i;
    return cpu->type == DTYPE_F32 ? NULL
                                  : layout_f32(call, l->rows) + slot * call->rmsnorm.x.cols;
}

void cpu_rmsnorm_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const RmsnormArgs *a = &call->rmsnorm;
    const NormLayout l = norm_layout(backend, a, PASS_FWD);
    const bool has_delta = !tensor_is_empty(&a->delta), keep = !tensor_is_empty(&a->rstd);
    const int64_t heads = norm_heads(a), D = a->w.cols;
    must(a->y.rows == a->x.rows && a->y.cols == a->x.cols);
    must(!has_delta || !tensor_is_empty(&a->sum));
    must(!keep || a->rstd.cols == heads);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->x.rows; t++) {
        float *narrow = norm_buffer(cpu, call, &l, 0);
        const float *x = row_in(cpu->kernels, &a->x, t, norm_buffer(cpu, call, &l, 1));
        const float *delta =
            has_delta ? row_in(cpu->kernels, &a->delta, t, norm_buffer(cpu, call, &l, 2)) : NULL;
        float *y = row_out(&a->y, t, narrow);
        for (int64_t h = 0; h < heads; h++) {
            const RmsnormRow row = {
                .x = x + h * D,
                .delta = delta,
                .sum = has_delta ? tensor_row(&a->sum, t) : NULL,
                .w = tensor_f32(&a->w),
                .y = y + h * D,
                .eps = a->eps,
                .n = D,
            };
            const float rstd = cpu->kernels->rmsnorm_fwd(&row);
            if (keep)
                tensor_row(&a->rstd, t)[h] = rstd;
        }
        row_done(cpu->kernels, &a->y, t, narrow);
    }
}

/* One token; dw: the partial sum of its piece, or NULL. */
static void norm_row_bwd(const CpuKernels *kernels, const RmsnormArgs *a, int64_t t,
                         float *const buffer[NORM_ROWS], float *dw)
{
    const Tensor *s = tensor_is_empty(&a->delta) ? &a->x : &a->sum;
    const int64_t D = a->w.cols;
    const bool has_dx = !tensor_is_empty(&a->dx), has_delta = !tensor_is_empty(&a->ddelta);
    const float *sum = row_in(kernels, s, t, buffer[0]);
    const float *dy = row_in(kernels, &a->dy, t, buffer[1]);
    float *dx = !has_dx            ? NULL
                : a->dx_beta != 0 ? row_in(kernels, &a->dx, t, buffer[2])
                                  : row_out(&a->dx, t, buffer[2]);
    float *ddelta = has_delta ? row_out(&a->ddelta, t, buffer[3]) : NULL;
    for (int64_t h = 0, at = 0; at < a->x.cols; h++, at += D)
        kernels->rmsnorm_bwd(&(RmsnormRow){
            .s = sum + at,
            .w = tensor_f32(&a->w),
            .dy = dy + at,
            .dx = has_dx ? dx + at : NULL,
            .ddelta = has_delta ? ddelta + at : NULL,
            .dw = dw,
            .rstd = tensor_row(&a->rstd, t)[h],
            .dx_beta = a->dx_beta,
            .n = D,
        });
    if (has_dx)
        row_done(kernels, &a->dx, t, buffer[2]);
    if (has_delta)
        row_done(kernels, &a->ddelta, t, buffer[3]);
}

void cpu_rmsnorm_bwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const RmsnormArgs *a = &call->rmsnorm;
    const int64_t T = a->x.rows, D = a->w.cols;
    const NormLayout l = norm_layout(backend, a, PASS_BWD);
    float *partial = tensor_is_empty(&a->dw) ? NULL : layout_f32(call, l.partial);
    must(a->dy.rows == T && a->dy.cols == a->x.cols);
    must(a->rstd.rows == T && a->rstd.cols == norm_heads(a));
    /* Pieces are large only where partial sums need it. */
    const int64_t piece = partial != NULL ? PIECE_ROWS : ROW_BATCH;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t begin = 0; begin < T; begin += piece) {
        float *dw = partial == NULL ? NULL : partial + begin / PIECE_ROWS * D;
        float *const buffer[NORM_ROWS] = {
            norm_buffer(cpu, call, &l, 0), norm_buffer(cpu, call, &l, 1),
            norm_buffer(cpu, call, &l, 2), norm_buffer(cpu, call, &l, 3)};
        if (dw != NULL)
            memset(dw, 0, (size_t)D * sizeof *dw);
        for (int64_t t = begin; t < min_i64(begin + piece, T); t++)
            norm_row_bwd(cpu->kernels, a, t, buffer, dw);
    }
    for (int64_t i = 0; partial != NULL && i < ceil_div(T, PIECE_ROWS); i++)
        cpu->kernels->axpy(tensor_f32(&a->dw), 1.0f, partial + i * D, D);
}

/* ==== Rope ==== */

/* One head at a time where rows are 16-bit, so that the buffer is small. */
static void rope_row_16(const CpuKernels *kernels, RopeRow row, const Tensor *x, int64_t t)
{
    enum { MOST = 512 };
    float buffer[MOST];
    must(row.head_dim <= MOST);
    const int64_t heads = row.n_heads;
    row.n_heads = 1;
    row.x = buffer;
    for (int64_t h = 0; h < heads; h++) {
        uint16_t *head = tensor_at(x, t, h * row.head_dim);
        kernels->dequant(DTYPE_BF16, (const uint8_t *)head, buffer, row.rot);
        kernels->rope(&row);
        kernels->to_bf16(buffer, head, row.rot);
    }
}

static void rope_tensor(const CpuState *cpu, const RopeArgs *a, const Tensor *x, float direction)
{
    if (tensor_is_empty(x))
        return;
    must(x->cols % a->head_dim == 0 && a->rot <= a->head_dim && a->rot % 2 == 0);
    must(a->table.cols == a->rot);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < x->rows; t++) {
        RopeRow row = {.table = tensor_row(&a->table, a->positions[t]),
                       .n_heads = x->cols / a->head_dim, .head_dim = a->head_dim, .rot = a->rot,
                       .pairing = a->pairing, .direction = direction};
        if (!tensor_is_f32(x)) {
            rope_row_16(cpu->kernels, row, x, t);
            continue;
        }
        row.x = tensor_row(x, t);
        cpu->kernels->rope(&row);
    }
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

/* A stretch of a row: 16-bit elements are widened and narrowed in the first cache. */
enum { GLU_STRETCH = 512 };

static void load_16(const CpuKernels *kernels, const Tensor *x, int64_t t, int64_t column,
                    int64_t n, float *buffer)
{
    kernels->dequant(DTYPE_BF16, tensor_at(x, t, column), buffer, n);
}

static void glu_row_fwd_16(const CpuKernels *kernels, const GluArgs *a, int64_t t)
{
    float gate[GLU_STRETCH], up[GLU_STRETCH];
    for (int64_t i = 0; i < a->gate.cols; i += GLU_STRETCH) {
        const int64_t n = min_i64(GLU_STRETCH, a->gate.cols - i);
        load_16(kernels, &a->gate, t, i, n, gate);
        load_16(kernels, &a->up, t, i, n, up);
        kernels->glu_fwd(&(GluRow){.act = a->act, .gate = gate, .up = up, .y = gate, .n = n});
        kernels->to_bf16(gate, tensor_at(&a->y, t, i), n);
    }
}

static void glu_row_bwd_16(const CpuKernels *kernels, const GluArgs *a, int64_t t)
{
    float gate[GLU_STRETCH], up[GLU_STRETCH], dy[GLU_STRETCH];
    for (int64_t i = 0; i < a->gate.cols; i += GLU_STRETCH) {
        const int64_t n = min_i64(GLU_STRETCH, a->gate.cols - i);
        load_16(kernels, &a->gate, t, i, n, gate);
        load_16(kernels, &a->up, t, i, n, up);
        load_16(kernels, &a->dy, t, i, n, dy);
        kernels->glu_bwd(&(GluRow){.act = a->act, .gate = gate, .up = up, .dy = dy, .dgate = gate,
                                   .dup = up, .n = n});
        if (!tensor_is_empty(&a->dgate))
            kernels->to_bf16(gate, tensor_at(&a->dgate, t, i), n);
        if (!tensor_is_empty(&a->dup))
            kernels->to_bf16(up, tensor_at(&a->dup, t, i), n);
    }
}

void cpu_glu_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const GluArgs *a = &call->glu;
    must(a->up.rows == a->gate.rows && a->up.cols == a->gate.cols);
    must(a->y.rows == a->gate.rows && a->y.cols == a->gate.cols);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->gate.rows; t++) {
        if (!tensor_is_f32(&a->gate)) {
            glu_row_fwd_16(cpu->kernels, a, t);
            continue;
        }
        cpu->kernels->glu_fwd(&(GluRow){
            .act = a->act,
            .gate = tensor_row(&a->gate, t),
            .up = tensor_row(&a->up, t),
            .y = tensor_row(&a->y, t),
            .n = a->gate.cols,
        });
    }
}

void cpu_glu_bwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const GluArgs *a = &call->glu;
    must(a->dy.rows == a->gate.rows && a->dy.cols == a->gate.cols);
#pragma omp parallel for schedule(dynamic, ROW_BATCH) num_threads(cpu->threads)
    for (int64_t t = 0; t < a->gate.rows; t++) {
        if (!tensor_is_f32(&a->gate)) {
            glu_row_bwd_16(cpu->kernels, a, t);
            continue;
        }
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
}

/* ==== Cache ==== */

void cpu_copy_rows_fwd(Backend *backend, const OpCall *call)
{
    (void)backend;
    const CopyRowsArgs *a = &call->copy_rows;
    must(a->src.cols == a->dst.cols && a->src.dtype == a->dst.dtype);
    for (int64_t t = 0; t < a->src.rows; t++)
        memcpy(tensor_at(&a->dst, a->index[t], 0), tensor_at(&a->src, t, 0),
               dtype_row_bytes(a->src.dtype, a->src.cols));
}
