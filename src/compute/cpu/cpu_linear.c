/* cpu_linear.c — products that share an input, with low-rank parts beside them.
 *
 * Many tokens: a stored weight is dequantised to an f32 panel by all threads, then pieces of
 * PIECE_ROWS tokens x PIECE_COLS outputs are multiplied one thread each. Few tokens (generation):
 * stored rows are multiplied as they are read, so the cost is the bytes of the weight. The low-rank
 * part stays unfolded: it is added to a piece while that is in cache.
 */
#include "compute/cpu/cpu.h"

#include "compute/cpu/gemm.h"

#include <string.h>

enum { FEW_ROWS = DOT_MAX_X, DOT_BATCH = 32, THIN_COLS = 128 };

/* ==== Scratch ==== */

typedef struct Layout {
    size_t panel, dh; /* offsets */
    size_t bytes;
} Layout;

static int64_t part_rank(const LinearPart *p) { return tensor_is_empty(&p->a) ? 0 : p->a.rows; }

static int64_t total_rank(const LinearArgs *a)
{
    int64_t r = 0;
    for (int i = 0; i < a->n_parts; i++)
        r += part_rank(&a->part[i]);
    return r;
}

/* dh_i = scale_i dy_i B_i is wanted for dx and for dA. */
static bool wants_dh(const LinearArgs *a)
{
    bool wanted = !tensor_is_empty(&a->dx);
    for (int i = 0; i < a->n_parts; i++)
        wanted = wanted || !tensor_is_empty(&a->part[i].da);
    return wanted && total_rank(a) > 0;
}

static bool wants_panel(const LinearArgs *a, Pass pass)
{
    return pass == PASS_FWD ? a->x.rows > FEW_ROWS : !tensor_is_empty(&a->dx);
}

static Layout layout(const Backend *backend, const LinearArgs *a, Pass pass)
{
    Layout l = {0};
    const int64_t budget = cpu_state(backend)->panel_floats;
    const PanelUse use = pass == PASS_FWD ? PANEL_ROWS_ARE_OUTPUTS : PANEL_ROWS_ARE_INPUTS;
    int64_t floats = 0;
    for (int i = 0; i < a->n_parts && wants_panel(a, pass); i++)
        floats = max_i64(floats, panel_plan(a->part[i].w, use, budget).floats);
    l.panel = layout_take(&l.bytes, floats, sizeof(float));
    if (pass == PASS_BWD && wants_dh(a))
        l.dh = layout_take(&l.bytes, a->x.rows * total_rank(a), sizeof(float));
    return l;
}

size_t cpu_linear_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    return layout(backend, &call->linear, pass).bytes;
}

static void check(const LinearArgs *a)
{
    must(a->n_parts >= 1 && a->n_parts <= LINEAR_MAX_PARTS);
    must(total_rank(a) == 0 || (a->h.rows == a->x.rows && a->h.cols >= total_rank(a)));
    for (int i = 0; i < a->n_parts; i++) {
        const LinearPart *p = &a->part[i];
        must(p->w->cols == a->x.cols && p->w->rows == p->y.cols && p->y.rows == a->x.rows);
        must(tensor_is_empty(&p->a) == tensor_is_empty(&p->b));
        must(tensor_is_empty(&p->a) || (p->a.cols == a->x.cols && p->b.rows == p->w->rows));
        must(tensor_is_empty(&p->bias) || p->bias.cols == p->w->rows);
    }
}

/* ==== Forward ==== */

/* h columns of part p, rows of the piece: scale x A^T. */
static void lowrank_in(const LinearArgs *a, const LinearPart *p, int64_t column, int64_t begin,
                       int64_t rows)
{
    gemm_nt(&(Gemm){.m = rows, .n = p->a.rows, .k = a->x.cols, .alpha = p->scale,
                    .a = tensor_row(&a->x, begin), .lda = a->x.stride,
                    .b = tensor_f32(&p->a), .ldb = p->a.stride,
                    .c = tensor_row(&a->h, begin) + column, .ldc = a->h.stride});
}

typedef struct Piece {
    int64_t row, rows; /* tokens */
    int64_t col, cols; /* outputs */
} Piece;

/* y += h B^T + bias on a piece; column: where the part's h begins. */
static void add_lowrank_and_bias(const CpuKernels *kernels, const LinearArgs *a,
                                 const LinearPart *p, int64_t column, Piece at)
{
    float *y = tensor_row(&p->y, at.row) + at.col;
    if (part_rank(p) > 0)
        gemm_nt(&(Gemm){.m = at.rows, .n = at.cols, .k = p->a.rows, .alpha = 1, .beta = 1,
                        .a = tensor_row(&a->h, at.row) + column, .lda = a->h.stride,
                        .b = tensor_row(&p->b, at.col), .ldb = p->b.stride,
                        .c = y, .ldc = p->y.stride});
    for (int64_t t = 0; !tensor_is_empty(&p->bias) && t < at.rows; t++)
        kernels->axpy(y + t * p->y.stride, 1.0f, tensor_f32(&p->bias) + at.col, at.cols);
}

static void part_fwd(Backend *backend, const LinearArgs *a, const LinearPart *p, int64_t column,
                     float *memory)
{
    const CpuState *cpu = cpu_state(backend);
    const int64_t T = a->x.rows, out = p->w->rows;
    const PanelPlan plan = panel_plan(p->w, PANEL_ROWS_ARE_OUTPUTS, cpu->panel_floats);
    for (int64_t begin = 0; begin < out; begin += plan.rows) {
        const Panel panel = panel_load(backend, p->w, &plan, begin, memory);
        const int64_t width = even_piece(panel.end - panel.begin, PIECE_COLS);
        const int64_t across = ceil_div(panel.end - panel.begin, width);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
        for (int64_t i = 0; i < ceil_div(T, PIECE_ROWS) * across; i++) {
            const int64_t row = i / across * PIECE_ROWS, col = begin + i % across * width;
            const Piece at = {row, min_i64(PIECE_ROWS, T - row), col,
                              min_i64(width, panel.end - col)};
            gemm_nt(&(Gemm){.m = at.rows, .n = at.cols, .k = a->x.cols, .alpha = 1,
                            .a = tensor_row(&a->x, row), .lda = a->x.stride,
                            .b = panel.rows + (col - begin) * panel.stride, .ldb = panel.stride,
                            .c = tensor_row(&p->y, row) + col, .ldc = p->y.stride});
            add_lowrank_and_bias(cpu->kernels, a, p, column, at);
        }
    }
}

/* y[t][i] = rows_i . x[t] for the rows col .. col + n of a matrix in f32 or stored. */
static void dot_into(const CpuKernels *kernels, DotRows rows, const float *x, int64_t x_stride,
                     int64_t n_x, float *y, int64_t y_stride)
{
    rows.x = x;
    rows.x_stride = x_stride;
    rows.n_x = (int)n_x;
    rows.y = y;
    rows.y_stride = y_stride;
    kernels->dot_rows(&rows);
}

static void part_fwd_few(Backend *backend, const LinearArgs *a, const LinearPart *p,
                         int64_t column)
{
    const CpuState *cpu = cpu_state(backend);
    const int64_t T = a->x.rows, out = p->w->rows, rank = part_rank(p);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < out; i += DOT_BATCH) {
        const int64_t n = min_i64(DOT_BATCH, out - i);
        float *y = tensor_f32(&p->y) + i;
        dot_into(cpu->kernels,
                 (DotRows){.rows = weight_row(p->w, i), .dtype = p->w->dtype, .n_rows = n,
                           .row_bytes = dtype_row_bytes(p->w->dtype, p->w->cols),
                           .cols = p->w->cols},
                 tensor_f32(&a->x), a->x.stride, T, y, p->y.stride);
        float low[FEW_ROWS][DOT_BATCH];
        if (rank > 0)
            dot_into(cpu->kernels,
                     (DotRows){.rows = (const uint8_t *)tensor_row(&p->b, i), .dtype = DTYPE_F32,
                               .n_rows = n, .row_bytes = (size_t)p->b.stride * sizeof(float),
                               .cols = rank},
                     tensor_f32(&a->h) + column, a->h.stride, T, low[0], DOT_BATCH);
        for (int64_t t = 0; t < T; t++) {
            if (rank > 0)
                cpu->kernels->axpy(y + t * p->y.stride, 1.0f, low[t], n);
            if (!tensor_is_empty(&p->bias))
                cpu->kernels->axpy(y + t * p->y.stride, 1.0f, tensor_f32(&p->bias) + i, n);
        }
    }
}

/* h for few tokens: the rows of A are dotted as they lie. */
static void lowrank_in_few(const CpuState *cpu, const LinearArgs *a, const LinearPart *p,
                           int64_t column)
{
    float *h = tensor_f32(&a->h) + column;
    dot_into(cpu->kernels,
             (DotRows){.rows = (const uint8_t *)p->a.data, .dtype = DTYPE_F32,
                       .n_rows = p->a.rows, .row_bytes = (size_t)p->a.stride * sizeof(float),
                       .cols = p->a.cols},
             tensor_f32(&a->x), a->x.stride, a->x.rows, h, a->h.stride);
    for (int64_t t = 0; t < a->x.rows; t++)
        cpu->kernels->scale(h + t * a->h.stride, p->scale, p->a.rows);
}

void cpu_linear_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const LinearArgs *a = &call->linear;
    const int64_t T = a->x.rows;
    const bool few = T <= FEW_ROWS;
    const Layout l = layout(backend, a, PASS_FWD);
    check(a);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t row = 0; row < T; row += PIECE_ROWS) {
        int64_t column = 0;
        for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
            if (part_rank(&a->part[i]) == 0)
                continue;
            if (few)
                lowrank_in_few(cpu, a, &a->part[i], column);
            else
                lowrank_in(a, &a->part[i], column, row, min_i64(PIECE_ROWS, T - row));
        }
    }
    int64_t column = 0;
    for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
        if (few)
            part_fwd_few(backend, a, &a->part[i], column);
        else
            part_fwd(backend, a, &a->part[i], column, layout_f32(call, l.panel));
    }
}

/* ==== Backward ==== */

/* dh: [T, total rank] = scale_i dy_i B_i side by side. */
static void make_dh(const CpuState *cpu, const LinearArgs *a, float *dh)
{
    const int64_t T = a->x.rows, r = total_rank(a);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t row = 0; row < T; row += PIECE_ROWS) {
        int64_t column = 0;
        for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
            const LinearPart *p = &a->part[i];
            if (part_rank(p) == 0)
                continue;
            gemm_nn(&(Gemm){.m = min_i64(PIECE_ROWS, T - row), .n = part_rank(p), .k = p->b.rows,
                            .alpha = p->scale, .a = tensor_row(&p->dy, row), .lda = p->dy.stride,
                            .b = tensor_f32(&p->b), .ldb = p->b.stride,
                            .c = dh + row * r + column, .ldc = r});
        }
    }
}

/* dx (= or +=) dy[:, panel] W[panel, :]. */
static void dx_panel(const CpuState *cpu, const LinearArgs *a, const LinearPart *p, Panel panel,
                     float beta)
{
    const int64_t T = a->x.rows, in = a->x.cols;
    const int64_t width = even_piece(in, PIECE_COLS), across = ceil_div(in, width);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < ceil_div(T, PIECE_ROWS) * across; i++) {
        const int64_t row = i / across * PIECE_ROWS, col = i % across * width;
        gemm_nn(&(Gemm){.m = min_i64(PIECE_ROWS, T - row), .n = min_i64(width, in - col),
                        .k = panel.end - panel.begin, .alpha = 1, .beta = beta,
                        .a = tensor_row(&p->dy, row) + panel.begin, .lda = p->dy.stride,
                        .b = panel.rows + col, .ldb = panel.stride,
                        .c = tensor_row(&a->dx, row) + col, .ldc = a->dx.stride});
    }
}

/* dx += dh_i A_i for all parts. */
static void dx_lowrank(const CpuState *cpu, const LinearArgs *a, const float *dh)
{
    const int64_t T = a->x.rows, in = a->x.cols, r = total_rank(a);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t row = 0; row < T; row += PIECE_ROWS) {
        int64_t column = 0;
        for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
            const LinearPart *p = &a->part[i];
            if (part_rank(p) == 0)
                continue;
            gemm_nn(&(Gemm){.m = min_i64(PIECE_ROWS, T - row), .n = in, .k = part_rank(p),
                            .alpha = 1, .beta = 1, .a = dh + row * r + column, .lda = r,
                            .b = tensor_f32(&p->a), .ldb = p->a.stride,
                            .c = tensor_row(&a->dx, row), .ldc = a->dx.stride});
        }
    }
}

static void make_dx(Backend *backend, const LinearArgs *a, const float *dh, float *memory)
{
    const CpuState *cpu = cpu_state(backend);
    float beta = 0;
    for (int i = 0; i < a->n_parts; i++) {
        const LinearPart *p = &a->part[i];
        const PanelPlan plan = panel_plan(p->w, PANEL_ROWS_ARE_INPUTS, cpu->panel_floats);
        for (int64_t begin = 0; begin < p->w->rows; begin += plan.rows) {
            dx_panel(cpu, a, p, panel_load(backend, p->w, &plan, begin, memory), beta);
            beta = 1;
        }
    }
    if (dh != NULL)
        dx_lowrank(cpu, a, dh);
}

/* d[i, j] += sum over tokens of u[t, i] v[t, j], partials of PIECE_ROWS tokens in order. */
static void outer_sum(const CpuState *cpu, const Tensor *d, Tensor u, Tensor v, int64_t width)
{
    must(d->rows == u.cols && d->cols == v.cols && u.rows == v.rows);
    const int64_t tall = even_piece(d->rows, PIECE_COLS), down = ceil_div(d->rows, tall);
    const int64_t wide = even_piece(d->cols, width), across = ceil_div(d->cols, wide);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < down * across; i++) {
        const int64_t row = i / across * tall, col = i % across * wide;
        for (int64_t t = 0; t < u.rows; t += PIECE_ROWS)
            gemm_tn(&(Gemm){.m = min_i64(tall, d->rows - row), .n = min_i64(wide, d->cols - col),
                            .k = min_i64(PIECE_ROWS, u.rows - t), .alpha = 1, .beta = 1,
                            .a = tensor_row(&u, t) + row, .lda = u.stride,
                            .b = tensor_row(&v, t) + col, .ldb = v.stride,
                            .c = tensor_row(d, row) + col, .ldc = d->stride});
    }
}

/* dbias += column sums of dy, partials of PIECE_ROWS tokens in order. */
static void make_dbias(const CpuState *cpu, const LinearPart *p)
{
    enum { COLUMNS = 64 };
    const int64_t T = p->dy.rows, out = p->dy.cols;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t col = 0; col < out; col += COLUMNS) {
        const int64_t n = min_i64(COLUMNS, out - col);
        for (int64_t row = 0; row < T; row += PIECE_ROWS) {
            float partial[COLUMNS] = {0};
            for (int64_t t = row; t < min_i64(row + PIECE_ROWS, T); t++)
                cpu->kernels->axpy(partial, 1.0f, tensor_row(&p->dy, t) + col, n);
            cpu->kernels->axpy(tensor_f32(&p->dbias) + col, 1.0f, partial, n);
        }
    }
}

/* A column range of `rows` x `total` floats as a tensor. */
static Tensor columns(float *data, int64_t rows, int64_t cols, int64_t total)
{
    Tensor t = tensor_make(data, DTYPE_F32, rows, cols);
    t.stride = total;
    return t;
}

void cpu_linear_bwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const LinearArgs *a = &call->linear;
    const Layout l = layout(backend, a, PASS_BWD);
    float *dh = wants_dh(a) ? layout_f32(call, l.dh) : NULL;
    check(a);
    if (dh != NULL)
        make_dh(cpu, a, dh);
    if (!tensor_is_empty(&a->dx))
        make_dx(backend, a, dh, layout_f32(call, l.panel));
    int64_t column = 0;
    for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
        const LinearPart *p = &a->part[i];
        const int64_t T = a->x.rows, r = part_rank(p);
        if (!tensor_is_empty(&p->dw))
            outer_sum(cpu, &p->dw, p->dy, a->x, PIECE_COLS);
        if (!tensor_is_empty(&p->dbias))
            make_dbias(cpu, p);
        if (!tensor_is_empty(&p->db))
            outer_sum(cpu, &p->db, p->dy,
                      columns(tensor_f32(&a->h) + column, T, r, a->h.stride), PIECE_COLS);
        if (!tensor_is_empty(&p->da))
            outer_sum(cpu, &p->da, columns(dh + column, T, r, total_rank(a)), a->x, THIN_COLS);
    }
}
