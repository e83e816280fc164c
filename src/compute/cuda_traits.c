/* cuda_traits.c — sizes and dtypes of the CUDA backend, computed without CUDA.
 *
 * The residual stream is bf16 like the activations: the tape then needs one gradient buffer instead
 * of two, and a norm moves 8 bytes an element instead of 12 (src/compute/cuda/NOTES.md has the
 * accuracy that this choice was checked against).
 */
#include "compute/cuda_traits.h"

/* cuBLASLt asks for 32 MiB on Hopper; older cards use less of it. */
static const size_t CUDA_WORKSPACE_BYTES = (size_t)32 << 20;
/* What a context with our kernels and cuBLASLt loaded was seen to take. */
static const size_t CUDA_CONTEXT_BYTES = (size_t)560 << 20;
/* Logits of one chunk: large enough for the products to run at full speed. */
static const size_t LOSS_CHUNK_BYTES = (size_t)512 << 20;
enum { LOSS_CHUNK_STEP = 128, LOSS_CHUNK_MAX = 8192, COLUMN_PIECES_TRAIT = 64 };
enum { SUM_SQUARES_TRAIT = 512 };
/* Keys a block of attention backward owns, and the number of blocks that keeps a card busy. */
enum { ATTENTION_KEYS = 64, ATTENTION_BLOCKS_LEAST = 400 };

static size_t take(size_t *total, int64_t elements, size_t element_bytes)
{
    size_t at = *total;
    must(elements >= 0);
    *total += (size_t)round_up(elements * (int64_t)element_bytes, CUDA_ALIGN);
    return at;
}

int64_t cuda_linear_out(const LinearArgs *args)
{
    int64_t out = 0;
    for (int i = 0; i < args->n_parts; i++)
        out += args->part[i].w->rows;
    return out;
}

int64_t cuda_linear_tail(const LinearArgs *args)
{
    int64_t rank = 0;
    for (int i = 0; i < args->n_parts; i++)
        if (!tensor_is_empty(&args->part[i].a))
            rank += args->part[i].a.rows;
    return round_up(rank, CUDA_ROW_TAIL);
}

LinearScratch cuda_linear_scratch(const LinearArgs *args, Pass pass)
{
    LinearScratch s = {0};
    bool bias = false, da = false, dbias = false;
    for (int i = 0; i < args->n_parts; i++) {
        bias = bias || !tensor_is_empty(&args->part[i].bias);
        da = da || !tensor_is_empty(&args->part[i].da);
        dbias = dbias || !tensor_is_empty(&args->part[i].dbias);
    }
    if (pass == PASS_FWD && bias)
        s.bias = take(&s.total, cuda_linear_out(args), 2);
    if (pass == PASS_BWD && da)
        s.da = take(&s.total, cuda_linear_tail(args) * args->x.cols, 4);
    if (pass == PASS_BWD && dbias)
        s.partials = take(&s.total, COLUMN_PIECES_TRAIT * cuda_linear_out(args), 4);
    return s;
}

AttentionScratch cuda_attention_scratch(const AttentionArgs *args)
{
    const int64_t wide = (int64_t)args->n_heads * args->head_dim;
    AttentionScratch s = {.splits = 1};
    s.delta = take(&s.total, args->n_heads * args->q.rows, 4);
    if (args->n_kv_heads * ceil_div(args->k.rows, ATTENTION_KEYS) >= ATTENTION_BLOCKS_LEAST)
        return s;
    s.splits = args->n_heads / args->n_kv_heads;
    if (s.splits > 1) {
        s.dk_parts = take(&s.total, args->k.rows * wide, 2);
        s.dv_parts = take(&s.total, args->k.rows * wide, 2);
    }
    return s;
}

LossScratch cuda_loss_scratch(const CrossEntropyArgs *args)
{
    LossScratch s = {.stride = round_up(args->w->rows, 64)};
    int64_t fit = (int64_t)LOSS_CHUNK_BYTES / (s.stride * 2) / LOSS_CHUNK_STEP * LOSS_CHUNK_STEP;
    fit = max_i64(LOSS_CHUNK_STEP, min_i64(fit, LOSS_CHUNK_MAX));
    s.chunk = min_i64(fit, args->nll.rows);
    s.rows = take(&s.total, s.chunk * args->x.cols, 2);
    s.logits = take(&s.total, s.chunk * s.stride, 2);
    return s;
}

static size_t scratch_bytes(const Backend *backend, const OpCall *call, Pass pass)
{
    (void)backend;
    size_t total = 0;
    switch (call->op) {
    case OP_linear:
        return cuda_linear_scratch(&call->linear, pass).total;
    case OP_cross_entropy:
        return pass == PASS_FWD ? cuda_loss_scratch(&call->cross_entropy).total : 0;
    case OP_rmsnorm:
        if (pass == PASS_BWD && !tensor_is_empty(&call->rmsnorm.dw))
            take(&total, COLUMN_PIECES_TRAIT * call->rmsnorm.w.cols, 4);
        return total;
    case OP_attention:
        return pass == PASS_BWD ? cuda_attention_scratch(&call->attention).total : 0;
    case OP_sum_squares:
        take(&total, SUM_SQUARES_TRAIT, sizeof(double));
        return total;
    default:
        return 0;
    }
}

static size_t group_bytes(const Backend *backend, Weight *const *weights, int n, int64_t rank)
{
    (void)backend;
    int64_t tail = round_up(rank, CUDA_ROW_TAIL), rows = tail;
    must(n >= 1 && rank >= 0);
    for (int i = 0; i < n; i++)
        rows += weights[i]->rows;
    size_t total = 0;
    take(&total, rows * (weights[0]->cols + tail), 2);
    return total;
}

static size_t weight_bytes(const Backend *backend, const Weight *weight)
{
    Weight copy = *weight;
    Weight *const one[1] = {&copy};
    return group_bytes(backend, one, 1, 0);
}

/* What the kernels of this plug-in are compiled for. */
static bool supports(const Backend *backend, const ComputeNeeds *needs, Err *err)
{
    static const int head_dims[] = {16, 32, 64, 128};
    (void)backend;
    bool head = false;
    for (size_t i = 0; i < COUNT_OF(head_dims); i++)
        head = head || head_dims[i] == needs->head_dim;
    if (!head)
        err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                "the CUDA backend has no attention for heads of %d elements (16, 32, 64, 128)",
                needs->head_dim);
    else if (needs->widest_norm > CUDA_NORM_MAX_COLS)
        err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                "the CUDA backend has no norm over %lld elements (up to %d)",
                (long long)needs->widest_norm, CUDA_NORM_MAX_COLS);
    else
        return true;
    return err_hint(err, "Train this model with --device cpu");
}

static void op_without_device(Backend *backend, const OpCall *call)
{
    (void)backend;
    (void)call;
    must(!"an op of the CUDA backend ran without a device");
}

void backend_traits_cuda(Backend *backend)
{
    *backend = (Backend){
        .traits = {.name = "cuda", .memory = MEMORY_DEVICE, .row_tail_multiple = CUDA_ROW_TAIL,
                   .fixed_bytes = CUDA_WORKSPACE_BYTES, .context_bytes = CUDA_CONTEXT_BYTES,
                   .activation = DTYPE_BF16, .residual = DTYPE_BF16},
        .scratch = scratch_bytes,
        .weight_bytes = weight_bytes,
        .group_bytes = group_bytes,
        .supports = supports,
    };
    for (int op = 0; op < OP_COUNT; op++)
        backend->run[PASS_FWD][op] = op_without_device;
    static const OpId with_backward[] = {OP_embed, OP_rmsnorm, OP_linear, OP_rope, OP_attention,
                                         OP_glu, OP_cross_entropy};
    for (size_t i = 0; i < COUNT_OF(with_backward); i++)
        backend->run[PASS_BWD][with_backward[i]] = op_without_device;
}
