/* cuda_linear.c — linear groups over the bordered layout of cuda_state.h: one big product forward,
 * one backward; the low-rank parts ride in the row tails of x and dy.
 *
 * Thin products: h = x (scale A)^T for all parts at once, since they share x. Backward, while ranks
 * are small (cuda_traits.c), dh = dy B and dB are one pass over dy, dA is one over x
 * (cuda_thin.cu). Else by cuBLAS: dA for all parts at once; dh for all at once while the total rank
 * is small (the zero blocks cost nothing next to reading dy), else by part; dB by part.
 */
#include "compute/cuda/cuda_kernels.h"
#include "compute/cuda/cuda_state.h"
#include "compute/cuda_traits.h"

enum { STACKED_RANK_MAX = 128 };

static uint8_t *at_element(const void *base, int64_t index, int bytes)
{
    return (uint8_t *)(uintptr_t)base + index * bytes;
}

static int64_t part_rank(const LinearPart *part)
{
    return tensor_is_empty(&part->a) ? 0 : part->a.rows;
}

/* Checks the call against its block: parts in order, columns of one matrix, tails in place. */
static const WeightBlock *block_of(const LinearArgs *args, const Tensor *first)
{
    const WeightBlock *block = args->part[0].w->packed;
    must(block != NULL && args->n_parts == block->n_parts && args->x.cols == block->cols);
    must(args->x.dtype == DTYPE_BF16 && args->x.stride % 8 == 0 && first->stride >= block->rows);
    must(cuda_linear_tail(args) == 0 || cuda_linear_tail(args) == block->tail);
    if (cuda_linear_tail(args) > 0) {
        must(args->x.stride >= block->ld);
        must(args->h.data == cuda_column(&args->x, args->x.cols));
    }
    for (int i = 0; i < args->n_parts; i++)
        must(args->part[i].w->packed == block);
    return block;
}

static const void *stacked_bias(CudaState *state, const OpCall *call)
{
    const LinearArgs *args = &call->linear;
    const LinearScratch scratch = cuda_linear_scratch(args, PASS_FWD);
    uint8_t *bias = (uint8_t *)call->scratch + scratch.bias;
    bool any = false;
    for (int i = 0; i < args->n_parts; i++)
        any = any || !tensor_is_empty(&args->part[i].bias);
    if (!any)
        return NULL;
    RoundPieces pieces = {.n = args->n_parts};
    int64_t row = 0;
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        pieces.piece[i] = (RoundPiece){
            .src = tensor_is_empty(&part->bias) ? NULL : tensor_f32(&part->bias),
            .dst = bias + row * 2, .rows = 1, .cols = part->w->rows, .scale = 1.0f};
        row += part->w->rows;
    }
    kernel_round_pieces(state->stream, &pieces);
    return bias;
}

/* A packed block's panel lies at the end of the call's scratch. */
static const void *weight_matrix(CudaState *state, const OpCall *call, const WeightBlock *block,
                                 Pass pass)
{
    const size_t before = cuda_linear_scratch(&call->linear, pass).total;
    return cuda_weight_matrix(state, block, (uint8_t *)call->scratch + before);
}

void cuda_linear_fwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const LinearArgs *args = &call->linear;
    const Tensor *x = &args->x, *y = &args->part[0].y;
    const WeightBlock *block = block_of(args, y);
    const int64_t tail = cuda_linear_tail(args);
    const bool f32 = y->dtype == DTYPE_F32; /* logits of generation */
    const void *bias = stacked_bias(state, call);
    must((f32 ? bias == NULL : y->dtype == DTYPE_BF16) && y->rows == x->rows);
    if (tail > 0)
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_NT, .out = GEMM_STORE_BF16, .m = x->rows, .n = tail, .k = block->cols,
            .a = x->data, .lda = x->stride, .b = block->a, .ldb = block->ld, .c = args->h.data,
            .ldc = x->stride});
    if (tensor_is_empty(y))
        return;
    cuda_gemm(state, &(GemmCall){
        .form = GEMM_NT, .out = f32 ? GEMM_STORE_F32 : GEMM_STORE_BF16, .m = x->rows,
        .n = block->rows, .k = block->cols + tail, .a = x->data, .lda = x->stride,
        .b = weight_matrix(state, call, block, PASS_FWD), .ldb = block->ld, .c = y->data,
        .ldc = y->stride, .bias = bias});
    cuda_check(state, cudaGetLastError());
}

/* dh = dy B into dy's tail. */
static void hidden_gradient(CudaState *state, const LinearArgs *args, const WeightBlock *block)
{
    const Tensor *dy = &args->part[0].dy;
    uint8_t *dh = at_element(dy->data, block->rows, 2);
    GemmCall gemm = {.form = GEMM_NN, .out = GEMM_STORE_BF16, .m = dy->rows, .lda = dy->stride,
                     .ldb = block->b_stride, .ldc = dy->stride};
    if (block->tail <= STACKED_RANK_MAX || args->n_parts == 1) {
        gemm.n = block->tail;
        gemm.k = block->rows;
        gemm.a = dy->data;
        gemm.b = block->b;
        gemm.c = dh;
        cuda_gemm(state, &gemm);
        return;
    }
    int64_t row = 0, column = 0;
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        const bool last = i == args->n_parts - 1;
        gemm.n = last ? block->tail - column : part_rank(part); /* the last one clears the rest */
        gemm.k = part->w->rows;
        gemm.a = at_element(dy->data, row, 2);
        gemm.b = at_element(block->b, row * block->b_stride + column, 2);
        gemm.c = at_element(dh, column, 2);
        if (gemm.n > 0)
            cuda_gemm(state, &gemm);
        row += part->w->rows;
        column += part_rank(part);
    }
}

/* dB_i += dy_i^T h_i;  dA_i += scale_i dh_i^T x. */
static void lowrank_gradients(CudaState *state, const OpCall *call, const WeightBlock *block)
{
    const LinearArgs *args = &call->linear;
    const Tensor *dy = &args->part[0].dy, *x = &args->x;
    const LinearScratch scratch = cuda_linear_scratch(args, PASS_BWD);
    float *da = (float *)at_element(call->scratch, (int64_t)scratch.da, 1);
    bool want_da = false;
    for (int i = 0; i < args->n_parts; i++)
        want_da = want_da || !tensor_is_empty(&args->part[i].da);
    if (want_da)
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_TN, .out = GEMM_STORE_F32, .m = block->tail, .n = block->cols,
            .k = x->rows, .a = at_element(dy->data, block->rows, 2), .lda = dy->stride,
            .b = x->data, .ldb = x->stride, .c = da, .ldc = block->cols});
    int64_t row = 0, column = 0;
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        if (!tensor_is_empty(&part->db))
            cuda_gemm(state, &(GemmCall){
                .form = GEMM_TN, .out = GEMM_ADD_F32, .m = part->w->rows, .n = part_rank(part),
                .k = x->rows, .a = at_element(dy->data, row, 2), .lda = dy->stride,
                .b = at_element(args->h.data, column, 2), .ldb = x->stride, .c = part->db.data,
                .ldc = part->db.stride});
        if (!tensor_is_empty(&part->da))
            kernel_add_scaled(state->stream, da + column * block->cols, block->cols,
                              tensor_f32(&part->da), part->da.stride, part_rank(part),
                              block->cols, part->scale);
        row += part->w->rows;
        column += part_rank(part);
    }
}

static_assert((int)THIN_CHUNK == (int)THIN_COLUMNS && (int)THIN_MAX_RANK == (int)THIN_RANK_ROWS &&
                  (int)THIN_MAX_TAIL == (int)THIN_RANK_COLUMNS,
              "the plan and the kernels cut alike");

/* dh and dB in one pass over dy. */
static void thin_of_dy(CudaState *state, const OpCall *call, const WeightBlock *block)
{
    const LinearArgs *args = &call->linear;
    const Tensor *dy = &args->part[0].dy;
    const LinearScratch scratch = cuda_linear_scratch(args, PASS_BWD);
    ThinKernel kernel = {
        .x = dy->data, .x_stride = dy->stride, .rows = dy->rows, .cols = block->rows,
        .h = args->h.data, .h_stride = args->x.stride, .h_cols = (int)block->tail,
        .b = block->b, .b_stride = block->b_stride,
        .row_out = at_element(dy->data, block->rows, 2), .row_out_stride = dy->stride,
        .row_partials = (float *)at_element(call->scratch, (int64_t)scratch.row_partials, 1),
        .column_partials = (float *)at_element(call->scratch, (int64_t)scratch.column_partials, 1)};
    int column = 0, rank_at = 0;
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        const int columns = (int)part->w->rows, rank = (int)part_rank(part);
        if (rank > 0) {
            kernel.part[kernel.n_parts++] = (ThinPart){column, columns, rank_at, rank,
                                                       kernel.n_chunks};
            kernel.n_chunks += (int)ceil_div(columns, THIN_COLUMNS);
            kernel.rank_max = rank > kernel.rank_max ? rank : kernel.rank_max;
        }
        if (!tensor_is_empty(&part->db))
            kernel.out[kernel.n_outs++] = (ThinOut){
                .to = tensor_f32(&part->db), .column_stride = part->db.stride, .rank_stride = 1,
                .column = column, .columns = columns, .rank = rank, .scale = 1.0f};
        column += columns;
        rank_at += rank;
    }
    must(kernel.n_chunks == cuda_thin_chunks(args));
    assert(column == block->rows && rank_at <= block->tail);
    kernel.strip_rows = (int)cuda_thin_strip_rows(dy->rows, kernel.n_chunks);
    kernel_thin(state->stream, &kernel);
}

/* dA in one pass over x. */
static void thin_of_x(CudaState *state, const OpCall *call, const WeightBlock *block)
{
    const LinearArgs *args = &call->linear;
    const Tensor *dy = &args->part[0].dy, *x = &args->x;
    const LinearScratch scratch = cuda_linear_scratch(args, PASS_BWD);
    const int columns = (int)x->cols, tail = (int)block->tail;
    ThinKernel kernel = {
        .x = x->data, .x_stride = x->stride, .rows = x->rows, .cols = x->cols,
        .h = at_element(dy->data, block->rows, 2), .h_stride = dy->stride, .h_cols = tail,
        .column_partials = (float *)at_element(call->scratch, (int64_t)scratch.column_partials, 1),
        .rank_max = tail, .n_parts = 1, .n_chunks = (int)ceil_div(columns, THIN_COLUMNS),
        .part = {{0, columns, 0, tail, 0}}};
    kernel.strip_rows = (int)cuda_thin_strip_rows(x->rows, kernel.n_chunks);
    int rank_at = 0;
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        const int rank = (int)part_rank(part);
        if (!tensor_is_empty(&part->da))
            kernel.out[kernel.n_outs++] = (ThinOut){
                .to = tensor_f32(&part->da), .column_stride = 1, .rank_stride = part->da.stride,
                .columns = columns, .rank_at = rank_at, .rank = rank, .scale = part->scale};
        rank_at += rank;
    }
    assert(rank_at <= tail);
    if (kernel.n_outs > 0)
        kernel_thin(state->stream, &kernel);
}

/* Everything that backward makes of the low-rank parts but dx: dh, dB, dA. */
static void lowrank_backward(CudaState *state, const OpCall *call, const WeightBlock *block)
{
    const LinearArgs *args = &call->linear;
    int64_t rank = 0;
    for (int i = 0; i < args->n_parts; i++)
        rank = max_i64(rank, part_rank(&args->part[i]));
    if (cuda_linear_scratch(args, PASS_BWD).thin &&
        kernel_thin_shared((int)rank, 1) <= state->shared_bytes) {
        thin_of_dy(state, call, block);
        thin_of_x(state, call, block);
        return;
    }
    hidden_gradient(state, args, block);
    lowrank_gradients(state, call, block);
}

/* Trained weights and biases. */
static void full_gradients(CudaState *state, const OpCall *call)
{
    const LinearArgs *args = &call->linear;
    const LinearScratch scratch = cuda_linear_scratch(args, PASS_BWD);
    float *partials = (float *)at_element(call->scratch, (int64_t)scratch.partials, 1);
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        if (!tensor_is_empty(&part->dw))
            cuda_gemm(state, &(GemmCall){
                .form = GEMM_TN, .out = GEMM_ADD_F32, .m = part->w->rows, .n = args->x.cols,
                .k = args->x.rows, .a = part->dy.data, .lda = part->dy.stride, .b = args->x.data,
                .ldb = args->x.stride, .c = part->dw.data, .ldc = part->dw.stride});
        if (!tensor_is_empty(&part->dbias))
            kernel_column_sum(state->stream,
                              (DeviceMatrix){part->dy.data, part->dy.stride, 0}, part->dy.rows,
                              part->dy.cols, tensor_f32(&part->dbias), partials);
    }
}

void cuda_linear_bwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const LinearArgs *args = &call->linear;
    const Tensor *dy = &args->part[0].dy;
    const WeightBlock *block = block_of(args, dy);
    const int64_t tail = cuda_linear_tail(args);
    must(dy->dtype == DTYPE_BF16 && (tail == 0 || dy->stride >= block->rows + tail));
    if (tail > 0)
        lowrank_backward(state, call, block);
    full_gradients(state, call);
    if (!tensor_is_empty(&args->dx)) {
        must(args->dx.dtype == DTYPE_BF16);
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_NN, .out = GEMM_STORE_BF16, .m = dy->rows, .n = block->cols,
            .k = block->rows + tail, .a = dy->data, .lda = dy->stride,
            .b = weight_matrix(state, call, block, PASS_BWD), .ldb = block->ld,
            .c = args->dx.data, .ldc = args->dx.stride});
    }
    cuda_check(state, cudaGetLastError());
}

void cuda_lowrank_refresh(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const LowrankRefreshArgs *args = &call->lowrank_refresh;
    const WeightBlock *block = args->part[0].w->packed;
    must(block != NULL && args->n_parts == block->n_parts);
    RoundPieces pieces = {0};
    int64_t row = 0, column = 0;
    for (int i = 0; i < args->n_parts; i++) {
        const LinearPart *part = &args->part[i];
        const int64_t r = part_rank(part);
        must(column + r <= block->tail);
        if (r > 0) {
            pieces.piece[pieces.n++] = (RoundPiece){
                .src = tensor_f32(&part->a), .src_stride = part->a.stride,
                .dst = at_element(block->a, column * block->ld, 2),
                .dst_stride = block->ld, .rows = r, .cols = block->cols, .scale = part->scale};
            pieces.piece[pieces.n++] = (RoundPiece){
                .src = tensor_f32(&part->b), .src_stride = part->b.stride,
                .dst = at_element(block->b, row * block->b_stride + column, 2),
                .dst_stride = block->b_stride, .rows = part->w->rows, .cols = r, .scale = 1.0f};
        }
        row += part->w->rows;
        column += r;
    }
    kernel_round_pieces(state->stream, &pieces);
    cuda_check(state, cudaGetLastError());
}
