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
/* A slice of a head, which is made wide at each use where it is packed. As many slices where it is
 * not, so that the sums are the same. */
static const size_t LOSS_SLICE_BYTES = (size_t)320 << 20;
enum { LOSS_SLICE_STEP = 64 };
enum { LOSS_CHUNK_STEP = 128, LOSS_CHUNK_MAX = 8192, COLUMN_PIECES_TRAIT = 64 };
enum { SUM_SQUARES_TRAIT = 512 };
/* Blocks of a thin product: two a multiprocessor of a large card, all of them resident. */
enum { THIN_BLOCKS = 256, THIN_STRIP_STEP = 32 };
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

static int64_t part_rank(const LinearPart *part)
{
    return tensor_is_empty(&part->a) ? 0 : part->a.rows;
}

static int64_t rank_max(const LinearArgs *args)
{
    int64_t rank = 0;
    for (int i = 0; i < args->n_parts; i++)
        rank = max_i64(rank, part_rank(&args->part[i]));
    return rank;
}

/* Whether cuda_thin.cu takes these shapes: 16-byte pieces, and few enough ranks for registers. */
static bool is_thin(const LinearArgs *args)
{
    bool whole = args->x.cols % 8 == 0;
    for (int i = 0; i < args->n_parts; i++)
        whole = whole && args->part[i].w->rows % 8 == 0 && part_rank(&args->part[i]) % 8 == 0;
    return whole && rank_max(args) <= THIN_MAX_RANK && cuda_linear_tail(args) <= THIN_MAX_TAIL;
}

int64_t cuda_thin_chunks(const LinearArgs *args)
{
    int64_t chunks = 0;
    for (int i = 0; i < args->n_parts; i++)
        if (part_rank(&args->part[i]) > 0)
            chunks += ceil_div(args->part[i].w->rows, THIN_CHUNK);
    return chunks;
}

int64_t cuda_thin_strip_rows(int64_t rows, int64_t n_chunks)
{
    assert(rows > 0 && n_chunks > 0);
    return round_up(ceil_div(rows, max_i64(1, THIN_BLOCKS / n_chunks)), THIN_STRIP_STEP);
}

/* Elements of the column partials of a matrix [rows, cols]. */
static int64_t column_partials(int64_t rows, int64_t cols, int64_t n_chunks, int64_t rank)
{
    return ceil_div(rows, cuda_thin_strip_rows(rows, n_chunks)) * round_up(rank, 16) * cols;
}

static void take_lowrank(LinearScratch *s, const LinearArgs *args)
{
    const int64_t tail = cuda_linear_tail(args), rows = args->x.rows, cols = args->x.cols;
    s->thin = is_thin(args);
    if (!s->thin) {
        s->da = take(&s->total, tail * cols, 4);
        return;
    }
    const int64_t rank = rank_max(args), chunks = cuda_thin_chunks(args);
    const int64_t of_dy = column_partials(rows, cuda_linear_out(args), chunks, rank);
    const int64_t of_x = column_partials(rows, cols, ceil_div(cols, THIN_CHUNK), tail);
    s->row_partials = take(&s->total, chunks * rows * round_up(rank, 16), 4);
    s->column_partials = s->da = take(&s->total, max_i64(of_dy, of_x), 4);
}

LinearScratch cuda_linear_scratch(const LinearArgs *args, Pass pass)
{
    LinearScratch s = {0};
    bool bias = false, dbias = false;
    for (int i = 0; i < args->n_parts; i++) {
        bias = bias || !tensor_is_empty(&args->part[i].bias);
        dbias = dbias || !tensor_is_empty(&args->part[i].dbias);
    }
    if (pass == PASS_FWD && bias)
        s.bias = take(&s.total, cuda_linear_out(args), 2);
    if (pass == PASS_BWD && cuda_linear_tail(args) > 0)
        take_lowrank(&s, args);
    if (pass == PASS_BWD && dbias)
        s.partials = take(&s.total, COLUMN_PIECES_TRAIT * cuda_linear_out(args), 4);
    return s;
}

AttentionScratch cuda_attention_scratch(const AttentionArgs *args)
{
    const int64_t wide = (int64_t)args->n_heads * args->head_dim;
    AttentionScratch s = {.splits = 1};
    s.delta = take(&s.total, 2 * args->n_heads * round_up(args->q.rows, ATTENTION_KEYS), 4);
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
    const int64_t slices = ceil_div(args->w->rows * args->w->cols * 2, (int64_t)LOSS_SLICE_BYTES);
    s.slice = round_up(ceil_div(args->w->rows, slices), LOSS_SLICE_STEP);
    s.rows = take(&s.total, s.chunk * args->x.cols, 2);
    s.logits = take(&s.total, s.chunk * s.stride, 2);
    if (s.slice < args->w->rows && !tensor_is_empty(&args->dx))
        s.sums = take(&s.total, s.chunk * args->x.cols, 4);
    return s;
}

static bool any_packed(const Weight *const *weights, int n)
{
    bool packed = false;
    for (int i = 0; i < n; i++)
        packed = packed || !dtype_is_plain(weights[i]->dtype);
    return packed;
}

GroupLayout cuda_group_layout(const BackendTraits *traits, const Weight *const *weights, int n,
                              int64_t rank)
{
    must(n >= 1 && n <= LINEAR_MAX_PARTS && rank >= 0);
    GroupLayout layout = {.cols = weights[0]->cols, .tail = round_up(rank, CUDA_ROW_TAIL)};
    const int64_t ld = layout.cols + layout.tail;
    layout.packed = traits->weights == WEIGHTS_PACKED && any_packed(weights, n);
    for (int i = 0; i < n; i++) {
        const Weight *w = weights[i];
        layout.rows += w->rows;
        if (layout.packed)
            layout.part[i] = take(&layout.total, w->rows,
                                  dtype_row_bytes(w->dtype, w->cols));
    }
    if (layout.packed) {
        layout.b_stride = layout.tail;
        layout.b = take(&layout.total, layout.rows * layout.tail, 2);
        layout.a = take(&layout.total, layout.tail * ld, 2);
        return layout;
    }
    layout.b_stride = ld;
    layout.b = (size_t)layout.cols * 2;
    layout.a = (size_t)(layout.rows * ld) * 2;
    take(&layout.total, (layout.rows + layout.tail) * ld, 2);
    return layout;
}

size_t cuda_panel_bytes(const GroupLayout *layout)
{
    size_t total = 0;
    if (layout->packed)
        take(&total, (layout->rows + layout->tail) * (layout->cols + layout->tail), 2);
    return total;
}

/* Of the product with the weights in a call: forward unless y is not wanted, backward for dx. */
static size_t linear_panel(const BackendTraits *traits, const LinearArgs *args, Pass pass)
{
    const Weight *weights[LINEAR_MAX_PARTS] = {0};
    const bool used = pass == PASS_FWD ? !tensor_is_empty(&args->part[0].y)
                                       : !tensor_is_empty(&args->dx);
    for (int i = 0; i < args->n_parts; i++)
        weights[i] = args->part[i].w;
    const GroupLayout layout =
        cuda_group_layout(traits, weights, args->n_parts, cuda_linear_tail(args));
    return used ? cuda_panel_bytes(&layout) : 0;
}

/* Of one slice of the head. */
static size_t head_panel(const BackendTraits *traits, const CrossEntropyArgs *args)
{
    const int64_t slice = cuda_loss_scratch(args).slice;
    const Weight *head = args->w;
    GroupLayout layout = cuda_group_layout(traits, &head, 1, 0);
    layout.rows = min_i64(layout.rows, slice);
    return cuda_panel_bytes(&layout);
}

static size_t scratch_bytes(const Backend *backend, const OpCall *call, Pass pass)
{
    const BackendTraits *traits = &backend->traits;
    size_t total = 0;
    switch (call->op) {
    case OP_linear:
        return cuda_linear_scratch(&call->linear, pass).total +
               linear_panel(traits, &call->linear, pass);
    case OP_cross_entropy:
        if (pass == PASS_BWD)
            return 0;
        return cuda_loss_scratch(&call->cross_entropy).total +
               head_panel(traits, &call->cross_entropy);
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
    const Weight *parts[LINEAR_MAX_PARTS] = {0};
    must(n >= 1 && n <= LINEAR_MAX_PARTS);
    for (int i = 0; i < n; i++)
        parts[i] = weights[i];
    return cuda_group_layout(&backend->traits, parts, n, rank).total;
}

static size_t weight_bytes(const Backend *backend, const Weight *weight)
{
    return cuda_group_layout(&backend->traits, &weight, 1, 0).total;
}

/* What the kernels of this plug-in are compiled for. */
static bool supports(const Backend *backend, const ComputeNeeds *needs, Err *err)
{
    static const int head_dims[] = {16, 32, 64, 80, 128, 256};
    (void)backend;
    bool head = false;
    for (size_t i = 0; i < COUNT_OF(head_dims); i++)
        head = head || head_dims[i] == needs->head_dim;
    if (!head)
        err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                "the CUDA backend has no attention for heads of %d elements "
                "(16, 32, 64, 80, 128, 256)",
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
    backend->run[PASS_FWD][OP_row_norms] = NULL; /* no kernel yet, nor magnitudes in linears */
    static const OpId with_backward[] = {OP_embed, OP_rmsnorm, OP_linear, OP_rope, OP_attention,
                                         OP_glu, OP_cross_entropy};
    for (size_t i = 0; i < COUNT_OF(with_backward); i++)
        backend->run[PASS_BWD][with_backward[i]] = op_without_device;
}
