/* cuda_ops.c — every op but linear: checks what kernels rely on (dtypes, 16-byte access),
 * translates the call's tensors, enqueues. Ops never fail and never wait; a launch error sticks to
 * the state.
 */
#include "compute/cuda/cuda_kernels.h"
#include "compute/cuda/cuda_state.h"
#include "compute/cuda_traits.h"

static DeviceMatrix device_matrix(const Tensor *t)
{
    if (tensor_is_empty(t))
        return (DeviceMatrix){0};
    must(t->dtype == DTYPE_BF16 || t->dtype == DTYPE_F32);
    must(t->cols % 8 == 0 && t->stride % 8 == 0 && (uintptr_t)t->data % 16 == 0);
    return (DeviceMatrix){t->data, t->stride, t->dtype == DTYPE_F32};
}

/* The same for an activation: bf16. */
static void *activation(const Tensor *t)
{
    const DeviceMatrix matrix = device_matrix(t);
    must(!matrix.is_f32);
    return matrix.data;
}

static void launched(CudaState *state)
{
    cuda_check(state, cudaGetLastError());
}

static const WeightBlock *plain_block(const Weight *w)
{
    const WeightBlock *block = w->packed;
    must(block != NULL && block->n_parts == 1 && block->cols == w->cols && w->cols % 8 == 0);
    return block;
}

static void embed_fwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const EmbedArgs *args = &call->embed;
    const WeightBlock *table = plain_block(args->table);
    cuda_weight_rows(state, table, args->tokens, args->scale, &args->y);
    launched(state);
}

static void embed_bwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const EmbedArgs *args = &call->embed;
    if (tensor_is_empty(&args->dtable))
        return;
    kernel_embed_bwd(state->stream, tensor_f32(&args->dtable), args->dtable.stride, args->tokens,
                     args->scale, device_matrix(&args->dy), args->dy.rows, args->dy.cols);
    launched(state);
}

static RmsnormKernel rmsnorm_kernel(const RmsnormArgs *args)
{
    must(args->w.cols <= CUDA_NORM_MAX_COLS && args->x.cols % args->w.cols == 0);
    must(args->w.cols % 8 == 0);
    const int heads = (int)(args->x.cols / args->w.cols);
    must(heads == 1 || tensor_is_empty(&args->delta));
    must((uintptr_t)args->w.data % 16 == 0);
    RmsnormKernel kernel = {
        .x = device_matrix(&args->x), .delta = device_matrix(&args->delta),
        .sum = device_matrix(&args->sum), .y = device_matrix(&args->y), .w = tensor_f32(&args->w),
        .rstd = tensor_is_empty(&args->rstd) ? NULL : tensor_f32(&args->rstd),
        .rstd_stride = args->rstd.stride, .eps = args->eps,
        .rows = args->x.rows * heads, .cols = args->w.cols, .heads = heads};
    must(kernel.rows <= INT32_MAX);
    must(!kernel.delta.is_f32 && !kernel.y.is_f32);
    must(kernel.delta.data == NULL || kernel.sum.is_f32 == kernel.x.is_f32);
    return kernel;
}

static void rmsnorm_fwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const RmsnormKernel kernel = rmsnorm_kernel(&call->rmsnorm);
    kernel_rmsnorm_fwd(state->stream, &kernel);
    launched(state);
}

static void rmsnorm_bwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const RmsnormArgs *args = &call->rmsnorm;
    RmsnormKernel kernel = rmsnorm_kernel(args);
    must(kernel.rstd != NULL);
    if (kernel.delta.data != NULL)
        kernel.x = kernel.sum; /* s */
    kernel.dy = device_matrix(&args->dy);
    kernel.dx = device_matrix(&args->dx);
    kernel.ddelta = device_matrix(&args->ddelta);
    kernel.dx_beta = args->dx_beta;
    must(!kernel.dy.is_f32 && !kernel.ddelta.is_f32);
    if (!tensor_is_empty(&args->dw))
        kernel_rmsnorm_dw(state->stream, &kernel, tensor_f32(&args->dw), call->scratch);
    if (kernel.dx.data != NULL) {
        must(kernel.dx.is_f32 == kernel.x.is_f32);
        kernel_rmsnorm_bwd(state->stream, &kernel);
    }
    launched(state);
}

static void rope(CudaState *state, const RopeArgs *args, const Tensor *x, float direction)
{
    if (tensor_is_empty(x))
        return;
    must(args->rot % 2 == 0 && args->rot <= args->head_dim && args->table.cols == args->rot);
    const RopeKernel kernel = {
        .x = activation(x), .stride = x->stride, .table = tensor_f32(&args->table),
        .table_stride = args->table.stride, .positions = args->positions, .rows = x->rows,
        .heads = (int)(x->cols / args->head_dim), .head_dim = args->head_dim, .rot = args->rot,
        .interleaved = args->pairing == ROPE_INTERLEAVED, .direction = direction};
    kernel_rope(state->stream, &kernel);
    launched(state);
}

static void rope_fwd(Backend *backend, const OpCall *call)
{
    rope(cuda_state(backend), &call->rope, &call->rope.q, 1.0f);
    rope(cuda_state(backend), &call->rope, &call->rope.k, 1.0f);
}

static void rope_bwd(Backend *backend, const OpCall *call)
{
    rope(cuda_state(backend), &call->rope, &call->rope.dq, -1.0f);
    rope(cuda_state(backend), &call->rope, &call->rope.dk, -1.0f);
}

static void window_spans(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const WindowSpansArgs *args = &call->window_spans;
    must(args->window > 0 && (args->end == NULL) == (args->q_end == NULL));
    kernel_window_spans(state->stream, &(WindowSpansKernel){
        .kv_begin = args->kv_begin, .kv_end = args->kv_end, .q_end = args->q_end,
        .begin = args->begin, .end = args->end, .n = args->n, .window = args->window});
    launched(state);
}

static void rope_rows(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const RopeRowsArgs *args = &call->rope_rows;
    must(args->longest > 0 && args->offset >= 0);
    kernel_rope_rows(state->stream, &(RopeRowsKernel){
        .positions = args->positions, .kv_begin = args->kv_begin, .q_end = args->q_end,
        .rows = args->rows, .n = args->n, .length = args->length, .longest = args->longest,
        .offset = args->offset});
    launched(state);
}

static AttentionKernel attention_kernel(const AttentionArgs *args)
{
    must(kernel_attention_supports(args->head_dim));
    must(args->n_kv_heads > 0 && args->n_heads % args->n_kv_heads == 0);
    return (AttentionKernel){
        .q = activation(&args->q), .k = activation(&args->k), .v = activation(&args->v),
        .y = activation(&args->y), .q_stride = args->q.stride, .k_stride = args->k.stride,
        .v_stride = args->v.stride, .y_stride = args->y.stride,
        .lse = tensor_is_empty(&args->lse) ? NULL : tensor_f32(&args->lse),
        .lse_stride = args->lse.stride,
        .kv_begin = args->kv_begin, .kv_end = args->kv_end, .n_queries = (int)args->q.rows,
        .n_keys = (int)args->k.rows, .n_heads = args->n_heads, .n_kv_heads = args->n_kv_heads,
        .scale = args->scale};
}

/* The Hopper kernels read keys that nobody sees: a cache may hold anything there, but as many keys
 * as queries were all written. */
static bool wants_sm90(const CudaState *state, const AttentionArgs *args)
{
    return state->capability / 10 == 9 && kernel_attention_sm90_supports(args->head_dim) &&
           args->k.rows == args->q.rows;
}

static void attention_fwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const AttentionArgs *args = &call->attention;
    const AttentionKernel kernel = attention_kernel(args);
    if (wants_sm90(state, args))
        cuda_note(state, kernel_attention_fwd_sm90(state->stream, args->head_dim, &kernel));
    else
        kernel_attention_fwd(state->stream, args->head_dim, &kernel);
    launched(state);
}

static void attention_bwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const AttentionArgs *args = &call->attention;
    AttentionKernel kernel = attention_kernel(args);
    must(kernel.lse != NULL && args->q_end != NULL && args->k.rows == args->q.rows);
    kernel.q_end = args->q_end;
    const AttentionScratch scratch = cuda_attention_scratch(args);
    uint8_t *memory = call->scratch;
    kernel.delta = (float *)(void *)(memory + scratch.delta);
    kernel.dk_parts = memory + scratch.dk_parts;
    kernel.dv_parts = memory + scratch.dv_parts;
    kernel.splits = scratch.splits;
    kernel.dy = activation(&args->dy);
    kernel.dq = activation(&args->dq);
    kernel.dk = activation(&args->dk);
    kernel.dv = activation(&args->dv);
    kernel.dy_stride = args->dy.stride;
    kernel.dq_stride = args->dq.stride;
    kernel.dk_stride = args->dk.stride;
    kernel.dv_stride = args->dv.stride;
    if (wants_sm90(state, args))
        cuda_note(state, kernel_attention_bwd_sm90(state->stream, args->head_dim, &kernel));
    else
        kernel_attention_bwd(state->stream, args->head_dim, &kernel);
    launched(state);
}

static GluKernel glu_kernel(const GluArgs *args)
{
    return (GluKernel){.gate = activation(&args->gate), .up = activation(&args->up),
                       .gate_stride = args->gate.stride, .up_stride = args->up.stride,
                       .rows = args->gate.rows, .cols = args->gate.cols,
                       .gelu = args->act == ACT_GELU_TANH};
}

static void glu_fwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    GluKernel kernel = glu_kernel(&call->glu);
    kernel.y = activation(&call->glu.y);
    kernel.y_stride = call->glu.y.stride;
    kernel_glu_fwd(state->stream, &kernel);
    launched(state);
}

static void glu_bwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const GluArgs *args = &call->glu;
    GluKernel kernel = glu_kernel(args);
    kernel.dy = activation(&args->dy);
    kernel.dgate = activation(&args->dgate);
    kernel.dup = activation(&args->dup);
    kernel.dy_stride = args->dy.stride;
    kernel.dgate_stride = args->dgate.stride;
    kernel.dup_stride = args->dup.stride;
    kernel_glu_bwd(state->stream, &kernel);
    launched(state);
}

/* One chunk of loss rows: logits, loss, gradient. */
/* One chunk of loss rows against the head, slice by slice. */
typedef struct LossChunk {
    const OpCall *call;
    const WeightBlock *head;
    LossScratch scratch;
    int64_t first, n; /* rows */
    void *gathered, *logits;
    float *sums;
} LossChunk;

static const void *head_slice(CudaState *state, const LossChunk *chunk, int64_t row, int64_t rows)
{
    return cuda_weight_slice(state, chunk->head, row, rows,
                             (uint8_t *)chunk->call->scratch + chunk->scratch.total);
}

static void loss_logits(CudaState *state, const LossChunk *chunk)
{
    const WeightBlock *w = chunk->head;
    for (int64_t row = 0; row < w->rows; row += chunk->scratch.slice) {
        const int64_t rows = min_i64(chunk->scratch.slice, w->rows - row);
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_NT, .out = GEMM_STORE_BF16, .m = chunk->n, .n = rows, .k = w->cols,
            .a = chunk->gathered, .lda = w->cols, .b = head_slice(state, chunk, row, rows),
            .ldb = w->ld, .c = (uint16_t *)chunk->logits + row, .ldc = chunk->scratch.stride});
    }
}

/* dx of the rows into `gathered`. */
static void loss_gradient(CudaState *state, const LossChunk *chunk)
{
    const WeightBlock *w = chunk->head;
    const bool whole = chunk->scratch.slice >= w->rows;
    for (int64_t row = 0; row < w->rows; row += chunk->scratch.slice) {
        const int64_t rows = min_i64(chunk->scratch.slice, w->rows - row);
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_NN,
            .out = whole ? GEMM_STORE_BF16 : row == 0 ? GEMM_STORE_F32 : GEMM_ADD_F32,
            .m = chunk->n, .n = w->cols, .k = rows, .a = (uint16_t *)chunk->logits + row,
            .lda = chunk->scratch.stride, .b = head_slice(state, chunk, row, rows), .ldb = w->ld,
            .c = whole ? chunk->gathered : chunk->sums, .ldc = w->cols});
    }
    if (whole)
        return;
    RoundPieces pieces = {.n = 1};
    pieces.piece[0] = (RoundPiece){
        .src = chunk->sums, .dst = chunk->gathered, .src_stride = w->cols, .dst_stride = w->cols,
        .rows = chunk->n, .cols = w->cols, .scale = 1};
    kernel_round_pieces(state->stream, &pieces);
}

static void loss_chunk(CudaState *state, const LossChunk *chunk)
{
    const CrossEntropyArgs *args = &chunk->call->cross_entropy;
    const int64_t first = chunk->first, n = chunk->n, cols = args->x.cols;
    const int32_t *rows = args->rows + first, *n_loss = &args->step->n_loss;
    const bool want_dx = !tensor_is_empty(&args->dx), want_dw = !tensor_is_empty(&args->dw);
    kernel_gather_rows(state->stream, args->x.data, args->x.stride, chunk->gathered, rows, n_loss,
                       first, n, cols);
    loss_logits(state, chunk);
    const LossKernel kernel = {
        .logits = chunk->logits, .stride = chunk->scratch.stride, .vocab = chunk->head->rows,
        .targets = args->targets + first, .nll = tensor_f32(&args->nll) + first * args->nll.stride,
        .nll_stride = args->nll.stride,
        .inv_loss_tokens = &args->step->inv_loss_tokens, .n_loss = n_loss, .first_row = first,
        .n_rows = n, .want_gradient = want_dx || want_dw};
    kernel_loss(state->stream, &kernel);
    if (want_dw)
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_TN, .out = GEMM_ADD_F32, .m = chunk->head->rows, .n = cols, .k = n,
            .a = chunk->logits, .lda = chunk->scratch.stride, .b = chunk->gathered, .ldb = cols,
            .c = args->dw.data, .ldc = args->dw.stride});
    if (!want_dx)
        return;
    loss_gradient(state, chunk);
    kernel_scatter_rows(state->stream, chunk->gathered, args->dx.data, args->dx.stride, rows,
                        n_loss, first, n, cols);
}

static void cross_entropy_fwd(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const CrossEntropyArgs *args = &call->cross_entropy;
    must(activation(&args->x) != NULL && args->nll.cols == 1);
    if (!tensor_is_empty(&args->dx)) {
        must(args->dx.dtype == DTYPE_BF16);
        cuda_check(state, cudaMemset2DAsync(args->dx.data, (size_t)args->dx.stride * 2, 0,
                                            (size_t)args->dx.cols * 2, (size_t)args->dx.rows,
                                            state->stream));
    }
    LossChunk chunk = {.call = call, .head = plain_block(args->w),
                       .scratch = cuda_loss_scratch(args)};
    uint8_t *memory = call->scratch;
    chunk.gathered = memory + chunk.scratch.rows;
    chunk.logits = memory + chunk.scratch.logits;
    chunk.sums = (float *)(void *)(memory + chunk.scratch.sums);
    for (; chunk.first < args->nll.rows; chunk.first += chunk.scratch.chunk) {
        chunk.n = min_i64(chunk.scratch.chunk, args->nll.rows - chunk.first);
        loss_chunk(state, &chunk);
    }
    launched(state);
}

static void cross_entropy_bwd(Backend *backend, const OpCall *call)
{
    (void)backend; /* forward made the gradient */
    must(call->op == OP_cross_entropy);
}

static void copy_rows(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const CopyRowsArgs *args = &call->copy_rows;
    kernel_copy_rows(state->stream, activation(&args->src), args->src.stride,
                     activation(&args->dst), args->dst.stride, args->index, args->src.rows,
                     args->src.cols);
    launched(state);
}

static void sum_squares(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const SumSquaresArgs *args = &call->sum_squares;
    kernel_sum_squares(state->stream, args->x, args->n, call->scratch, args->out);
    launched(state);
}

static void adamw(Backend *backend, const OpCall *call)
{
    CudaState *state = cuda_state(backend);
    const AdamwArgs *args = &call->adamw;
    const AdamwKernel kernel = {
        .p = args->p, .g = args->g, .m = args->m, .v = args->v, .n = args->n,
        .lr = &args->step->lr, .step = &args->step->step, .sum_squares = args->sum_squares,
        .max_norm = args->max_norm, .beta1 = args->beta1, .beta2 = args->beta2, .eps = args->eps,
        .decay = args->decay};
    must(args->max_norm == 0 || args->sum_squares != NULL);
    kernel_adamw(state->stream, &kernel);
    launched(state);
}

void cuda_ops_install(Backend *backend)
{
    OpFn **fwd = backend->run[PASS_FWD], **bwd = backend->run[PASS_BWD];
    fwd[OP_embed] = embed_fwd, bwd[OP_embed] = embed_bwd;
    fwd[OP_rmsnorm] = rmsnorm_fwd, bwd[OP_rmsnorm] = rmsnorm_bwd;
    fwd[OP_linear] = cuda_linear_fwd, bwd[OP_linear] = cuda_linear_bwd;
    fwd[OP_rope] = rope_fwd, bwd[OP_rope] = rope_bwd;
    fwd[OP_attention] = attention_fwd, bwd[OP_attention] = attention_bwd;
    fwd[OP_glu] = glu_fwd, bwd[OP_glu] = glu_bwd;
    fwd[OP_cross_entropy] = cross_entropy_fwd, bwd[OP_cross_entropy] = cross_entropy_bwd;
    fwd[OP_window_spans] = window_spans;
    fwd[OP_rope_rows] = rope_rows;
    fwd[OP_copy_rows] = copy_rows;
    fwd[OP_sum_squares] = sum_squares;
    fwd[OP_adamw] = adamw;
    fwd[OP_lowrank_refresh] = cuda_lowrank_refresh;
}
