/* cpu_linear.c — products that share an input, with low-rank parts beside them.
 *
 * Many tokens: a stored weight is dequantised to an f32 panel by all threads, then pieces of
 * PIECE_ROWS tokens x PIECE_COLS outputs are multiplied one thread each. Few tokens (generation):
 * stored rows are multiplied as they are read, so the cost is the bytes of the weight. The low-rank
 * part stays unfolded: it is added to a piece while that is in cache.
 */
#include "compute/cpu/cpu.h"

#include "compute/cpu/gemm.h"
#include "core/quant_block.h"

#include <omp.h>
#include <string.h>

enum { FEW_ROWS = DOT_MAX_X, DOT_BATCH = 64, THIN_COLS = 128 };

/* ==== Scratch ==== */

typedef struct Layout {
    size_t panel, dh, dx; /* offsets */
    size_t piece;         /* of thread 0; one a thread, where rows are 16-bit */
    size_t a[LINEAR_MAX_PARTS], b[LINEAR_MAX_PARTS]; /* 16-bit copies of the low-rank factors */
    size_t gain[LINEAR_MAX_PARTS]; /* magnitude / norm */
    size_t dy[LINEAR_MAX_PARTS];   /* gain * dy */
    size_t q, scale, sum; /* x rounded, where few rows meet stored blocks */
    size_t bytes;
} Layout;

enum { PIECE_FLOATS = TALL_ROWS * PIECE_COLS };

static int64_t part_rank(const LinearPart *p) { return tensor_is_empty(&p->a) ? 0 : p->a.rows; }

static int64_t total_rank(const LinearArgs *a)
{
    int64_t r = 0;
    for (int i = 0; i < a->n_parts; i++)
        r += part_rank(&a->part[i]);
    return r;
}

static bool has_gain(const LinearPart *p) { return !tensor_is_empty(&p->magnitude); }

/* dh_i = scale_i dy_i B_i is wanted for dx and for dA. */
static bool wants_dh(const LinearArgs *a)
{
    bool wanted = !tensor_is_empty(&a->dx);
    for (int i = 0; i < a->n_parts; i++)
        wanted = wanted || !tensor_is_empty(&a->part[i].da);
    return wanted && total_rank(a) > 0;
}

/* Few f32 rows are multiplied with stored rows as these are read. */
static bool takes_rows_as_stored(const LinearArgs *a)
{
    return a->x.rows <= FEW_ROWS && tensor_is_f32(&a->x);
}

/* Whether some part's stored blocks are multiplied with x rounded to 16 bits. */
static bool rounds_x(const LinearArgs *a)
{
    bool rounds = false;
    for (int i = 0; i < a->n_parts; i++)
        rounds = rounds || dot_blocks_takes(a->part[i].w->dtype);
    return rounds && takes_rows_as_stored(a);
}

static bool wants_panel(const LinearArgs *a, Pass pass)
{
    return pass == PASS_FWD ? !takes_rows_as_stored(a) : !tensor_is_empty(&a->dx);
}

/* What 16-bit rows need beside: sums are f32, so every result has an f32 piece first. */
static void layout_16(const Backend *backend, const LinearArgs *a, Pass pass, Layout *l)
{
    l->piece = layout_take(&l->bytes, (int64_t)cpu_state(backend)->threads * PIECE_FLOATS,
                           sizeof(float));
    if (pass == PASS_BWD && !tensor_is_empty(&a->dx))
        l->dx = layout_take(&l->bytes, a->x.rows * a->x.cols, sizeof(float));
    for (int i = 0; i < a->n_parts; i++) {
        const LinearPart *p = &a->part[i];
        l->a[i] = layout_take(&l->bytes, part_rank(p) * p->w->cols, sizeof(uint16_t));
        l->b[i] = layout_take(&l->bytes, part_rank(p) * p->w->rows, sizeof(uint16_t));
    }
}

static void layout_gains(const LinearArgs *a, Pass pass, Layout *l)
{
    for (int i = 0; i < a->n_parts; i++) {
        const LinearPart *p = &a->part[i];
        if (!has_gain(p))
            continue;
        l->gain[i] = layout_take(&l->bytes, p->w->rows, sizeof(float));
        if (pass == PASS_BWD)
            l->dy[i] = layout_take(&l->bytes, a->x.rows * p->w->rows,
                                   dtype_row_bytes(a->x.dtype, 1));
    }
}

static Layout layout(const Backend *backend, const LinearArgs *a, Pass pass)
{
    Layout l = {0};
    const int64_t budget = cpu_state(backend)->panel_floats;
    const PanelUse use = pass == PASS_FWD ? PANEL_ROWS_ARE_OUTPUTS : PANEL_ROWS_ARE_INPUTS;
    int64_t floats = 0;
    for (int i = 0; i < a->n_parts && wants_panel(a, pass); i++)
        floats = max_i64(floats, panel_plan(backend, a->part[i].w, use, budget).floats);
    l.panel = layout_take(&l.bytes, floats, sizeof(float));
    if (pass == PASS_BWD && wants_dh(a))
        l.dh = layout_take(&l.bytes, a->x.rows * total_rank(a), dtype_row_bytes(a->x.dtype, 1));
    if (!tensor_is_f32(&a->x))
        layout_16(backend, a, pass, &l);
    layout_gains(a, pass, &l);
    if (pass == PASS_FWD && rounds_x(a)) {
        const int64_t blocks = a->x.rows * (a->x.cols / QB_BLOCK);
        l.q = layout_take(&l.bytes, blocks * QB_BLOCK, sizeof(int16_t));
        l.scale = layout_take(&l.bytes, blocks, sizeof(float));
        l.sum = layout_take(&l.bytes, blocks, sizeof(float));
    }
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
        must(tensor_is_empty(&p->norm) == !has_gain(p));
        must(!has_gain(p) || (p->magnitude.cols == p->w->rows && p->norm.cols == p->w->rows));
    }
}

/* ==== Low-rank factors and results ==== */

/* The call, its factors in the type of the activations, and the calling thread's memory. */
typedef struct Job {
    const OpCall *call;
    const CpuState *cpu;
    const LinearArgs *args;
    Layout at;
    Tensor a[LINEAR_MAX_PARTS], b[LINEAR_MAX_PARTS];
    const float *gain[LINEAR_MAX_PARTS]; /* [out], or NULL */
    Tensor dy[LINEAR_MAX_PARTS];         /* times gain */
} Job;

static Tensor factor_16(const CpuState *cpu, const Tensor *x, void *memory)
{
    Tensor narrow = tensor_make(memory, DTYPE_BF16, x->rows, x->cols);
    for (int64_t i = 0; i < x->rows; i++)
        cpu->kernels->to_bf16(tensor_row(x, i), tensor_at(&narrow, i, 0), x->cols);
    return narrow;
}

static const float *make_gain(const LinearPart *p, float *gain)
{
    const float *magnitude = tensor_f32(&p->magnitude), *norm = tensor_f32(&p->norm);
    for (int64_t i = 0; i < p->w->rows; i++)
        gain[i] = magnitude[i] / norm[i];
    return gain;
}

static Job job_make(const Backend *backend, const OpCall *call, Pass pass)
{
    const LinearArgs *a = &call->linear;
    Job job = {.call = call, .cpu = cpu_state(backend), .args = a,
               .at = layout(backend, a, pass)};
    for (int i = 0; i < a->n_parts; i++) {
        const LinearPart *p = &a->part[i];
        job.a[i] = p->a;
        job.b[i] = p->b;
        job.dy[i] = p->dy;
        if (has_gain(p))
            job.gain[i] = make_gain(p, layout_f32(call, job.at.gain[i]));
        if (part_rank(p) == 0 || tensor_is_f32(&a->x))
            continue;
        job.a[i] = factor_16(job.cpu, &p->a, layout_f32(call, job.at.a[i]));
        job.b[i] = factor_16(job.cpu, &p->b, layout_f32(call, job.at.b[i]));
    }
    return job;
}

/* Tokens in a piece of a product that sums over channels. */
static int64_t piece_rows(const Job *job)
{
    return job->cpu->type == DTYPE_F32 ? PIECE_ROWS : TALL_ROWS;
}

typedef struct Piece {
    int64_t row, rows; /* tokens */
    int64_t col, cols; /* outputs */
} Piece;

/* Where the sums of a piece of x go: x itself, or this thread's f32 piece. */
typedef struct Sums {
    float *c;
    int64_t ld;
} Sums;

static Sums sums_begin(const Job *job, const Tensor *x, Piece at)
{
    if (tensor_is_f32(x))
        return (Sums){tensor_row(x, at.row) + at.col, x->stride};
    must(at.rows <= TALL_ROWS && at.cols <= PIECE_COLS);
    return (Sums){layout_f32(job->call, job->at.piece) + omp_get_thread_num() * PIECE_FLOATS,
                  at.cols};
}

static void sums_end(const Job *job, const Tensor *x, Piece at, Sums sums)
{
    if (!tensor_is_f32(x))
        store_rows(job->cpu->kernels, sums.c, sums.ld, x, at.row, at.col, at.rows, at.cols);
}

/* Where the outputs of part i are summed. */
static const Tensor *outputs(const LinearPart *p)
{
    return tensor_is_empty(&p->y) ? &p->product : &p->y;
}

/* The product is whole in a piece of f32: kept where backward wants it, then scaled. */
static void scale_outputs(const Job *job, int i, Piece at, Sums y)
{
    const LinearPart *p = &job->args->part[i];
    for (int64_t t = 0; job->gain[i] != NULL && t < at.rows; t++) {
        float *row = y.c + t * y.ld;
        const float *gain = job->gain[i] + at.col;
        if (!tensor_is_empty(&p->product)) {
            void *kept = tensor_at(&p->product, at.row + t, at.col);
            if (!tensor_is_f32(&p->product))
                job->cpu->kernels->to_bf16(row, kept, at.cols);
            else if (kept != row)
                memcpy(kept, row, (size_t)at.cols * sizeof(float));
        }
        for (int64_t j = 0; !tensor_is_empty(&p->y) && j < at.cols; j++)
            row[j] *= gain[j];
    }
}

static void add_bias(const CpuKernels *kernels, const LinearPart *p, Piece at, Sums y)
{
    for (int64_t t = 0; !tensor_is_empty(&p->bias) && t < at.rows; t++)
        kernels->axpy(y.c + t * y.ld, 1.0f, tensor_f32(&p->bias) + at.col, at.cols);
}

/* ==== Forward ==== */

/* h columns of part i, rows of the piece: scale x A^T. */
static void lowrank_in(const Job *job, int i, int64_t column, int64_t begin, int64_t rows)
{
    const LinearArgs *a = job->args;
    const Tensor *factor = &job->a[i];
    for (int64_t r = 0; r < factor->rows; r += PIECE_COLS) {
        const Piece at = {begin, rows, column + r, min_i64(PIECE_COLS, factor->rows - r)};
        const Sums h = sums_begin(job, &a->h, at);
        gemm_nt(&(Gemm){.m = rows, .n = at.cols, .k = a->x.cols, .alpha = a->part[i].scale,
                        .type = a->x.dtype, .a = tensor_at(&a->x, begin, 0), .lda = a->x.stride,
                        .b = tensor_at(factor, r, 0), .ldb = factor->stride, .c = h.c,
                        .ldc = h.ld});
        sums_end(job, &a->h, at, h);
    }
}

/* y = x W^T + h B^T + bias on a piece; column: where the part's h begins. */
static void piece_fwd(const Job *job, int i, int64_t column, const Panel *panel, Piece at)
{
    const LinearArgs *a = job->args;
    const LinearPart *p = &a->part[i];
    const Tensor *to = outputs(p);
    const Sums y = sums_begin(job, to, at);
    gemm_nt(&(Gemm){.m = at.rows, .n = at.cols, .k = a->x.cols, .alpha = 1, .type = panel->type,
                    .a = tensor_at(&a->x, at.row, 0), .lda = a->x.stride,
                    .b = panel_at(panel, at.col, 0), .ldb = panel->stride, .c = y.c,
                    .ldc = y.ld});
    if (part_rank(p) > 0)
        gemm_nt(&(Gemm){.m = at.rows, .n = at.cols, .k = p->a.rows, .alpha = 1, .beta = 1,
                        .type = a->h.dtype, .a = tensor_at(&a->h, at.row, column),
                        .lda = a->h.stride, .b = tensor_at(&job->b[i], at.col, 0),
                        .ldb = job->b[i].stride, .c = y.c, .ldc = y.ld});
    scale_outputs(job, i, at, y);
    if (to == &p->y)
        add_bias(job->cpu->kernels, p, at, y);
    sums_end(job, to, at, y);
}

static void part_fwd(Backend *backend, const Job *job, int i, int64_t column)
{
    const CpuState *cpu = job->cpu;
    const LinearPart *p = &job->args->part[i];
    const int64_t T = job->args->x.rows, out = p->w->rows, tall = piece_rows(job);
    const PanelPlan plan = panel_plan(backend, p->w, PANEL_ROWS_ARE_OUTPUTS, cpu->panel_floats);
    for (int64_t begin = 0; begin < out; begin += plan.rows) {
        const Panel panel = panel_load(backend, p->w, &plan, begin,
                                       layout_f32(job->call, job->at.panel));
        const int64_t width = even_piece(panel.end - panel.begin, PIECE_COLS);
        const int64_t across = ceil_div(panel.end - panel.begin, width);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
        for (int64_t k = 0; k < ceil_div(T, tall) * across; k++) {
            const int64_t row = k / across * tall, col = begin + k % across * width;
            piece_fwd(job, i, column, &panel,
                      (Piece){row, min_i64(tall, T - row), col,
                              min_i64(width, panel.end - col)});
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

/* Row t of x, rounded. */
static Rounded rounded_row(const Job *job, int64_t t)
{
    const int64_t cols = job->args->x.cols, blocks = cols / QB_BLOCK;
    int16_t *q = (int16_t *)(void *)layout_f32(job->call, job->at.q);
    return (Rounded){q + t * cols, layout_f32(job->call, job->at.scale) + t * blocks,
                     layout_f32(job->call, job->at.sum) + t * blocks};
}

/* y of rows col .. col + n of the weight, for all tokens, without the low-rank part. */
static void stored_rows(const Job *job, const LinearPart *p, int64_t col, int64_t n)
{
    const LinearArgs *a = job->args;
    const Tensor *to = outputs(p);
    const uint8_t *rows = weight_row(p->w, col);
    const size_t row_bytes = dtype_row_bytes(p->w->dtype, p->w->cols);
    if (!dot_blocks_takes(p->w->dtype)) {
        dot_into(job->cpu->kernels,
                 (DotRows){.rows = rows, .dtype = p->w->dtype, .n_rows = n,
                           .row_bytes = row_bytes, .cols = p->w->cols},
                 tensor_f32(&a->x), a->x.stride, a->x.rows, tensor_f32(to) + col, to->stride);
        return;
    }
    for (int64_t t = 0; t < a->x.rows; t++)
        job->cpu->kernels->dot_blocks(
            &(DotBlocks){.rows = rows, .dtype = p->w->dtype, .n_rows = n, .row_bytes = row_bytes,
                         .cols = p->w->cols, .x = rounded_row(job, t),
                         .y = tensor_row(to, t) + col});
}

static void part_fwd_few(const Job *job, int i_part, int64_t column)
{
    const CpuState *cpu = job->cpu;
    const LinearArgs *a = job->args;
    const LinearPart *p = &a->part[i_part];
    const Tensor *to = outputs(p);
    const int64_t T = a->x.rows, out = p->w->rows, rank = part_rank(p);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < out; i += DOT_BATCH) {
        const int64_t n = min_i64(DOT_BATCH, out - i);
        const Piece at = {0, T, i, n};
        const Sums y = {tensor_f32(to) + i, to->stride};
        stored_rows(job, p, i, n);
        float low[FEW_ROWS][DOT_BATCH];
        if (rank > 0)
            dot_into(cpu->kernels,
                     (DotRows){.rows = (const uint8_t *)tensor_row(&p->b, i), .dtype = DTYPE_F32,
                               .n_rows = n, .row_bytes = (size_t)p->b.stride * sizeof(float),
                               .cols = rank},
                     tensor_f32(&a->h) + column, a->h.stride, T, low[0], DOT_BATCH);
        for (int64_t t = 0; rank > 0 && t < T; t++)
            cpu->kernels->axpy(y.c + t * y.ld, 1.0f, low[t], n);
        scale_outputs(job, i_part, at, y);
        if (to == &p->y)
            add_bias(cpu->kernels, p, at, y);
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
    const LinearArgs *a = &call->linear;
    const int64_t T = a->x.rows;
    const bool few = takes_rows_as_stored(a);
    check(a);
    const Job job = job_make(backend, call, PASS_FWD);
    for (int64_t t = 0; rounds_x(a) && t < T; t++)
        job.cpu->kernels->round_blocks(tensor_row(&a->x, t), a->x.cols, rounded_row(&job, t));
#pragma omp parallel for schedule(dynamic, 1) num_threads(job.cpu->threads)
    for (int64_t row = 0; row < T; row += PIECE_ROWS) {
        int64_t column = 0;
        for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
            if (part_rank(&a->part[i]) == 0)
                continue;
            if (few)
                lowrank_in_few(job.cpu, a, &a->part[i], column);
            else
                lowrank_in(&job, i, column, row, min_i64(PIECE_ROWS, T - row));
        }
    }
    int64_t column = 0;
    for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
        if (tensor_is_empty(outputs(&a->part[i])))
            continue;
        if (few)
            part_fwd_few(&job, i, column);
        else
            part_fwd(backend, &job, i, column);
    }
}

/* ==== Backward ==== */

/* dh: [T, total rank] = scale_i dy_i B_i side by side. */
static void make_dh(const Job *job, const Tensor *dh)
{
    const LinearArgs *a = job->args;
    const int64_t T = a->x.rows;
#pragma omp parallel for schedule(dynamic, 1) num_threads(job->cpu->threads)
    for (int64_t row = 0; row < T; row += PIECE_ROWS) {
        int64_t column = 0;
        for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
            const LinearPart *p = &a->part[i];
            for (int64_t r = 0; r < part_rank(p); r += PIECE_COLS) {
                const Piece at = {row, min_i64(PIECE_ROWS, T - row), column + r,
                                  min_i64(PIECE_COLS, part_rank(p) - r)};
                const Sums sums = sums_begin(job, dh, at);
                gemm_nn(&(Gemm){.m = at.rows, .n = at.cols, .k = p->b.rows, .alpha = p->scale,
                                .type = job->dy[i].dtype, .a = tensor_at(&job->dy[i], row, 0),
                                .lda = job->dy[i].stride, .b = tensor_at(&job->b[i], 0, r),
                                .ldb = job->b[i].stride, .c = sums.c, .ldc = sums.ld});
                sums_end(job, dh, at, sums);
            }
        }
    }
}

/* dx (= or +=) dy[:, panel] W[panel, :]. */
static void dx_panel(const Job *job, const Tensor *dy, const Panel *panel, const Tensor *dx,
                     float beta)
{
    const int64_t T = dx->rows, in = dx->cols, tall = piece_rows(job);
    const int64_t width = even_piece(in, PIECE_COLS), across = ceil_div(in, width);
#pragma omp parallel for schedule(dynamic, 1) num_threads(job->cpu->threads)
    for (int64_t i = 0; i < ceil_div(T, tall) * across; i++) {
        const int64_t row = i / across * tall, col = i % across * width;
        gemm_nn(&(Gemm){.m = min_i64(tall, T - row), .n = min_i64(width, in - col),
                        .k = panel->end - panel->begin, .alpha = 1, .beta = beta,
                        .type = panel->type, .a = tensor_at(dy, row, panel->begin),
                        .lda = dy->stride, .b = panel_at(panel, panel->begin, col),
                        .ldb = panel->stride, .c = tensor_row(dx, row) + col,
                        .ldc = dx->stride});
    }
}

/* dx += dh_i A_i for all parts, and to its place. */
static void dx_finish(const Job *job, const Tensor *dh, const Tensor *dx)
{
    const LinearArgs *a = job->args;
    const int64_t T = a->x.rows, in = a->x.cols;
#pragma omp parallel for schedule(dynamic, 1) num_threads(job->cpu->threads)
    for (int64_t row = 0; row < T; row += PIECE_ROWS) {
        const int64_t rows = min_i64(PIECE_ROWS, T - row);
        int64_t column = 0;
        for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
            if (part_rank(&a->part[i]) > 0)
                gemm_nn(&(Gemm){.m = rows, .n = in, .k = part_rank(&a->part[i]), .alpha = 1,
                                .beta = 1, .type = dh->dtype, .a = tensor_at(dh, row, column),
                                .lda = dh->stride, .b = tensor_at(&job->a[i], 0, 0),
                                .ldb = job->a[i].stride, .c = tensor_row(dx, row),
                                .ldc = dx->stride});
        }
        if (!tensor_is_f32(&a->dx))
            store_rows(job->cpu->kernels, tensor_row(dx, row), dx->stride, &a->dx, row, 0, rows,
                       in);
    }
}

static void make_dx(Backend *backend, const Job *job, const Tensor *dh)
{
    const LinearArgs *a = job->args;
    Tensor dx = a->dx;
    if (!tensor_is_f32(&a->dx))
        dx = tensor_make(layout_f32(job->call, job->at.dx), DTYPE_F32, dx.rows, dx.cols);
    float beta = 0;
    for (int i = 0; i < a->n_parts; i++) {
        const LinearPart *p = &a->part[i];
        const PanelPlan plan =
            panel_plan(backend, p->w, PANEL_ROWS_ARE_INPUTS, job->cpu->panel_floats);
        for (int64_t begin = 0; begin < p->w->rows; begin += plan.rows) {
            const Panel panel = panel_load(backend, p->w, &plan, begin,
                                           layout_f32(job->call, job->at.panel));
            dx_panel(job, &job->dy[i], &panel, &dx, beta);
            beta = 1;
        }
    }
    if (!tensor_is_empty(dh) || !tensor_is_f32(&a->dx))
        dx_finish(job, dh, &dx);
}

/* d[i, j] += sum over tokens of u[t, i] v[t, j], partials of PIECE_ROWS tokens in order. */
static void outer_sum(const CpuState *cpu, const Tensor *d, Tensor u, Tensor v, int64_t width)
{
    must(d->rows == u.cols && d->cols == v.cols && u.rows == v.rows && u.dtype == v.dtype);
    const int64_t tall = even_piece(d->rows, PIECE_COLS), down = ceil_div(d->rows, tall);
    const int64_t wide = even_piece(d->cols, width), across = ceil_div(d->cols, wide);
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t i = 0; i < down * across; i++) {
        const int64_t row = i / across * tall, col = i % across * wide;
        for (int64_t t = 0; t < u.rows; t += PIECE_ROWS)
            gemm_tn(&(Gemm){.m = min_i64(tall, d->rows - row), .n = min_i64(wide, d->cols - col),
                            .k = min_i64(PIECE_ROWS, u.rows - t), .alpha = 1, .beta = 1,
                            .type = u.dtype, .a = tensor_at(&u, t, row), .lda = u.stride,
                            .b = tensor_at(&v, t, col), .ldb = v.stride,
                            .c = tensor_row(d, row) + col, .ldc = d->stride});
    }
}

/* dbias += column sums of dy, partials of PIECE_ROWS tokens in order. */
static void make_dbias(const CpuState *cpu, const LinearPart *p)
{
    enum { COLUMNS = 64 };
    const CpuKernels *kernels = cpu->kernels;
    const int64_t T = p->dy.rows, out = p->dy.cols;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t col = 0; col < out; col += COLUMNS) {
        const int64_t n = min_i64(COLUMNS, out - col);
        for (int64_t row = 0; row < T; row += PIECE_ROWS) {
            float partial[COLUMNS] = {0}, wide[COLUMNS];
            for (int64_t t = row; t < min_i64(row + PIECE_ROWS, T); t++) {
                kernels->dequant(p->dy.dtype, tensor_at(&p->dy, t, col), wide, n);
                kernels->axpy(partial, 1.0f, wide, n);
            }
            kernels->axpy(tensor_f32(&p->dbias) + col, 1.0f, partial, n);
        }
    }
}

/* dy of part i times gain, and dmagnitude += column sums of dy product / norm, partials of
 * PIECE_ROWS tokens in order. */
static void make_scaled_dy(Job *job, int i)
{
    enum { COLUMNS = 64 };
    const CpuKernels *kernels = job->cpu->kernels;
    const LinearPart *p = &job->args->part[i];
    const int64_t T = p->dy.rows, out = p->dy.cols;
    const bool trained = !tensor_is_empty(&p->dmagnitude);
    must(!trained || !tensor_is_empty(&p->product));
    job->dy[i] = tensor_make(layout_f32(job->call, job->at.dy[i]), p->dy.dtype, T, out);
#pragma omp parallel for schedule(dynamic, 1) num_threads(job->cpu->threads)
    for (int64_t col = 0; col < out; col += COLUMNS) {
        const int64_t n = min_i64(COLUMNS, out - col);
        const float *gain = job->gain[i] + col, *norm = tensor_f32(&p->norm) + col;
        for (int64_t row = 0; row < T; row += PIECE_ROWS) {
            float partial[COLUMNS] = {0}, dy[COLUMNS], product[COLUMNS] = {0};
            for (int64_t t = row; t < min_i64(row + PIECE_ROWS, T); t++) {
                kernels->dequant(p->dy.dtype, tensor_at(&p->dy, t, col), dy, n);
                if (trained)
                    kernels->dequant(p->product.dtype, tensor_at(&p->product, t, col), product, n);
                for (int64_t j = 0; j < n; j++) {
                    partial[j] += dy[j] * product[j];
                    dy[j] *= gain[j];
                }
                if (tensor_is_f32(&job->dy[i]))
                    memcpy(tensor_row(&job->dy[i], t) + col, dy, (size_t)n * sizeof(float));
                else
                    kernels->to_bf16(dy, tensor_at(&job->dy[i], t, col), n);
            }
            for (int64_t j = 0; trained && j < n; j++)
                tensor_f32(&p->dmagnitude)[col + j] += partial[j] / norm[j];
        }
    }
}

/* Columns `first` .. `first + count` of x. */
static Tensor columns(const Tensor *x, int64_t first, int64_t count)
{
    Tensor t = *x;
    t.data = tensor_at(x, 0, first);
    t.cols = count;
    return t;
}

void cpu_linear_bwd(Backend *backend, const OpCall *call)
{
    const LinearArgs *a = &call->linear;
    check(a);
    Job job = job_make(backend, call, PASS_BWD);
    for (int i = 0; i < a->n_parts; i++)
        if (job.gain[i] != NULL)
            make_scaled_dy(&job, i);
    Tensor dh = {0};
    if (wants_dh(a)) {
        dh = tensor_make(layout_f32(call, job.at.dh), a->x.dtype, a->x.rows, total_rank(a));
        make_dh(&job, &dh);
    }
    if (!tensor_is_empty(&a->dx))
        make_dx(backend, &job, &dh);
    int64_t column = 0;
    for (int i = 0; i < a->n_parts; column += part_rank(&a->part[i]), i++) {
        const LinearPart *p = &a->part[i];
        const int64_t r = part_rank(p);
        if (!tensor_is_empty(&p->dw))
            outer_sum(job.cpu, &p->dw, job.dy[i], a->x, PIECE_COLS);
        if (!tensor_is_empty(&p->dbias))
            make_dbias(job.cpu, p);
        if (!tensor_is_empty(&p->db))
            outer_sum(job.cpu, &p->db, job.dy[i], columns(&a->h, column, r), PIECE_COLS);
        if (!tensor_is_empty(&p->da))
            outer_sum(job.cpu, &p->da, columns(&dh, column, r), a->x, THIN_COLS);
    }
}
