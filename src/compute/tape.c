/* tape.c — the forward half of the tape: values, records, and the memory of segments as it grows.
 *
 * Every function lays out the result, fills one OpCall, runs it and, in training, keeps it. The
 * layout of the step arena is drawn in tape_impl.h; walking back is in tape_backward.c.
 */
#include "compute/tape.h"

#include "compute/tape_impl.h"
#include "core/os.h"

Tape *tape_make(Backend *backend, Arena *host, Arena *step)
{
    must(backend != NULL && host != NULL && step != NULL && host != step);
    Tape *tape = arena_new(host, Tape);
    tape->backend = backend;
    tape->host = host;
    tape->step = step;
    tape->host_mark = arena_mark(host);
    tape->step_mark = arena_mark(step);
    return tape;
}

Backend *tape_backend(Tape *tape)
{
    return tape->backend;
}

void tape_offload_to(Tape *tape, Arena *host_slab)
{
    must(tape->host_slab == NULL && tape->n_tokens == 0);
    if (tape->backend->copy_begin == NULL)
        return;
    tape->host_slab = host_slab;
    tape->host_slab_mark = arena_mark(host_slab);
}

void tape_begin(Tape *tape, TapeMode mode, SegmentMode segment_mode)
{
    must(segment_mode >= SEGMENT_KEEP && segment_mode <= SEGMENT_OFFLOAD);
    arena_rewind(tape->host, tape->host_mark);
    arena_rewind(tape->step, tape->step_mark);
    if (tape->host_slab != NULL)
        arena_rewind(tape->host_slab, tape->host_slab_mark);
    tape->mode = mode;
    tape->segment_mode = segment_mode;
    tape->n_segments = 0;
    tape->n_tokens = 0;
    tape->stream = tape->delta = tape->dres = tape->shared = (Tensor){0};
    for (int slot = 0; slot < STREAM_SLOTS; slot++) {
        tape->slot_stream[slot] = (Tensor){0};
        tape->slot_busy[slot] = false;
    }
    tape->delta_pending = tape->stream_wants = tape->loss_done = false;
    tape->segment = NULL;
    tape->embed = NULL;
}

int32_t tape_segments(const Tape *tape)
{
    return tape->n_segments > 0 ? tape->n_segments - 1 : 0;
}

void tape_profile(Tape *tape, bool on)
{
    tape->profile = on;
}

void tape_watch(Tape *tape, TapeWatch *watch, void *context)
{
    tape->watch = watch;
    tape->watch_context = context;
}

const OpTime *tape_times(const Tape *tape, Pass pass)
{
    must((unsigned)pass < PASS_COUNT);
    return tape->times[pass];
}

void tape_run(Tape *tape, OpCall *call, Pass pass)
{
    Backend *backend = tape->backend;
    must((unsigned)call->op < OP_COUNT && (unsigned)pass < PASS_COUNT);
    OpFn *run = backend->run[pass][call->op];
    must(run != NULL);
    size_t mark = arena_mark(tape->step);
    size_t bytes = backend->scratch(backend, call, pass);
    call->scratch = bytes == 0 ? NULL : arena_push(tape->step, bytes);
    if (tape->profile) {
        backend->finish(backend);
        double start = os_now();
        run(backend, call);
        backend->finish(backend);
        tape->times[pass][call->op].seconds += os_now() - start;
        tape->times[pass][call->op].calls++;
    } else {
        run(backend, call);
    }
    if (tape->watch != NULL)
        tape->watch(tape->watch_context, call, pass);
    arena_rewind(tape->step, mark);
}

Tensor tape_push(Tape *tape, Dtype dtype, int64_t rows, int64_t cols, int64_t tail)
{
    assert(rows > 0 && cols > 0 && tail >= 0 && dtype_is_plain(dtype));
    Tensor matrix = tensor_make(NULL, dtype, rows, cols);
    matrix.stride = cols + tail;
    matrix.data = arena_push(tape->step, tensor_bytes(&matrix));
    return matrix;
}

Tensor tensor_columns(Tensor matrix, int64_t first, int64_t count)
{
    assert(first >= 0 && count > 0 && first + count <= matrix.stride);
    matrix.data = (uint8_t *)matrix.data + dtype_row_bytes(matrix.dtype, first);
    matrix.cols = count;
    return matrix;
}

static bool training(const Tape *tape)
{
    return tape->mode == TAPE_TRAIN;
}

static Dtype activation(const Tape *tape)
{
    return tape->backend->traits.activation;
}

static bool is_trained(const ParamRef *param)
{
    return !tensor_is_empty(&param->grad);
}

static Value *value_make(Tape *tape, Tensor x, bool wants)
{
    Value *value = arena_new(tape->host, Value);
    value->x = x;
    value->wants_grad = wants;
    return value;
}

/* A fresh [T, cols] value with room for the row tail of a group of total rank `rank`. */
static Value *value_push(Tape *tape, int64_t cols, int64_t rank, bool wants)
{
    int64_t tail = backend_row_tail(tape->backend, rank);
    return value_make(tape, tape_push(tape, activation(tape), tape->n_tokens, cols, tail), wants);
}

static SegmentMode stage_of(const Tape *tape, int32_t segment)
{
    const bool further = segment < tape->segment_mode % SEGMENT_STAGE;
    const SegmentMode stage =
        tape->segment_mode / SEGMENT_STAGE * SEGMENT_STAGE + (further ? SEGMENT_STAGE : 0);
    return stage == SEGMENT_OFFLOAD && tape->host_slab == NULL ? SEGMENT_RECOMPUTE : stage;
}

/* The same for a value that `maker` makes in one pass over others and a linear reads. */
static Value *value_push_remade(Tape *tape, int64_t cols, int64_t rank, Record *maker)
{
    const TapeSegment *segment = tape->segment;
    if (!training(tape) || segment->stage != SEGMENT_REMAKE)
        return value_push(tape, cols, rank, maker->wants);
    Tensor x = tensor_columns(tape->shared, 0, cols);
    x.stride = cols + backend_row_tail(tape->backend, rank);
    must(x.stride <= tape->shared.cols);
    Value *value = value_make(tape, x, maker->wants);
    value->remaker = maker;
    return value;
}

static Record *record_make(Tape *tape, OpId op)
{
    Record *record = arena_new(tape->host, Record);
    record->call.op = op;
    return record;
}

/* Runs the call; in training it becomes the last of the open segment. */
static void record_run(Tape *tape, Record *record)
{
    TapeSegment *segment = tape->segment;
    tape_run(tape, &record->call, PASS_FWD);
    if (!training(tape))
        return;
    must(segment != NULL && !segment->closed);
    record->prev = segment->last;
    if (segment->last != NULL)
        segment->last->next = record;
    else
        segment->first = record;
    segment->last = record;
}

/* ---- the stream and its segments ---- */

static Tensor push_stream(Tape *tape)
{
    return tape_push(tape, tape->backend->traits.residual, tape->n_tokens, tape->n_cols, 0);
}

/* What training needs below the segments beside delta. */
static void push_training(Tape *tape, int64_t widest)
{
    const BackendTraits *traits = &tape->backend->traits;
    const SegmentMode mode = tape->segment_mode;
    if (traits->residual != traits->activation)
        tape->dres = push_stream(tape);
    if (mode > SEGMENT_KEEP && mode < SEGMENT_RECOMPUTE)
        tape->shared = tape_push(tape, traits->activation, tape->n_tokens, widest, 0);
    for (int slot = 0; slot < STREAM_SLOTS && stage_of(tape, 0) == SEGMENT_OFFLOAD; slot++)
        tape->slot_stream[slot] = push_stream(tape);
}

void tape_stream_begin(Tape *tape, const StreamSpec *spec, const int32_t *tokens, int64_t n_tokens)
{
    must(tape->n_tokens == 0 && n_tokens > 0 && spec->rank >= 0); /* first call of the pass */
    const int64_t tail = training(tape) ? backend_row_tail(tape->backend, spec->rank) : 0;
    tape->n_tokens = n_tokens;
    tape->n_cols = spec->table->cols;
    tape->delta = tape_push(tape, activation(tape), n_tokens, tape->n_cols, tail);
    tape->dres = tape->delta;
    if (training(tape))
        push_training(tape, spec->widest);
    tape->stream = tape->slot_stream[0];
    if (tensor_is_empty(&tape->stream))
        tape->stream = push_stream(tape);

    tape->embed = record_make(tape, OP_embed);
    tape->embed->call.embed = (EmbedArgs){.table = spec->table, .tokens = tokens,
                                          .scale = spec->scale, .y = tape->stream,
                                          .dtable = spec->dtable};
    tape->stream_wants = training(tape) && !tensor_is_empty(&spec->dtable);
    tape_run(tape, &tape->embed->call, PASS_FWD);
}

static int32_t *push_ints(Tape *tape, int64_t n)
{
    must(tape->n_tokens == n && tape->segment == NULL); /* lies below every segment */
    return arena_push(tape->step, (size_t)n * sizeof(int32_t));
}

AttentionSpans tape_window_spans(Tape *tape, AttentionSpans spans, int window)
{
    int32_t *begin = push_ints(tape, tape->n_tokens);
    int32_t *end = spans.q_end == NULL ? NULL : push_ints(tape, tape->n_tokens);
    OpCall call = {.op = OP_window_spans};
    call.window_spans = (WindowSpansArgs){
        .kv_begin = spans.kv_begin, .kv_end = spans.kv_end, .q_end = spans.q_end,
        .n = tape->n_tokens, .window = window, .begin = begin, .end = end};
    tape_run(tape, &call, PASS_FWD);
    return (AttentionSpans){.kv_begin = begin, .kv_end = spans.kv_end, .q_end = end};
}

const int32_t *tape_rope_rows(Tape *tape, const RopeRowsArgs *args)
{
    OpCall call = {.op = OP_rope_rows};
    call.rope_rows = *args;
    call.rope_rows.rows = push_ints(tape, args->n);
    tape_run(tape, &call, PASS_FWD);
    return call.rope_rows.rows;
}

void slot_copy(Tape *tape, int slot, void *dst, const void *src)
{
    must(!tape->slot_busy[slot]);
    tape->slot_busy[slot] = true;
    tape->backend->copy_begin(tape->backend, slot, dst, src,
                              tensor_bytes(&tape->slot_stream[slot]));
}

void slot_wait(Tape *tape, int slot)
{
    if (tape->slot_busy[slot])
        tape->backend->copy_wait(tape->backend, slot);
    tape->slot_busy[slot] = false;
}

/* Ends the open segment: from here on only its s is sure to stay. */
static void segment_leave(Tape *tape, TapeSegment *segment)
{
    must(segment->closed);
    segment->inner_bytes = arena_mark(tape->step) - segment->inner_mark;
    if (!training(tape) || segment->stage >= SEGMENT_RECOMPUTE)
        arena_rewind(tape->step, segment->inner_mark);
}

/* Where the stream at the beginning of a segment that is not the first goes, in training. */
static Tensor segment_stream(Tape *tape, const TapeSegment *segment)
{
    if (segment->stage != SEGMENT_OFFLOAD)
        return push_stream(tape);
    slot_wait(tape, segment->slot); /* for the stream that lay here */
    return tape->slot_stream[segment->slot];
}

/* The stream of an offloaded segment is whole: off it goes. */
static void stash_stream(Tape *tape, TapeSegment *segment)
{
    if (segment->stage != SEGMENT_OFFLOAD)
        return;
    segment->stashed = arena_push(tape->host_slab, tensor_bytes(&segment->s));
    slot_copy(tape, segment->slot, segment->stashed, segment->s.data);
}

static TapeSegment *segment_enter(Tape *tape)
{
    if (tape->segment != NULL)
        segment_leave(tape, tape->segment);
    TapeSegment *segment = arena_new(tape->host, TapeSegment);
    segment->prev = tape->segment;
    must(tape->n_segments < SEGMENT_STAGE);
    segment->stage = stage_of(tape, tape->n_segments);
    segment->slot = tape->n_segments++ % STREAM_SLOTS;
    segment->stream_wants = tape->stream_wants;
    if (tape->segment == NULL) { /* s_0 is x_0, pushed by tape_stream_begin */
        segment->s_mark = tape->step_mark;
    } else {
        segment->s_mark = arena_mark(tape->step);
        if (training(tape))
            tape->stream = segment_stream(tape, segment);
    }
    segment->s = tape->stream;
    segment->inner_mark = arena_mark(tape->step);
    tape->segment = segment;
    return segment;
}

Value *tape_segment(Tape *tape, ParamRef norm, float eps, int64_t rank)
{
    must(tape->n_tokens > 0 && norm.value.cols == tape->n_cols);
    must(tape->segment == NULL || tape->delta_pending);
    Tensor before = tape->stream;
    TapeSegment *segment = segment_enter(tape);
    Record *record = record_make(tape, OP_rmsnorm);
    record->wants = training(tape) && (segment->stream_wants || is_trained(&norm));
    Value *out = value_push_remade(tape, tape->n_cols, rank, record);
    RmsnormArgs *args = &record->call.rmsnorm;
    *args = (RmsnormArgs){.x = before, .w = norm.value, .eps = eps, .y = out->x, .dw = norm.grad};
    if (tape->delta_pending) {
        args->delta = tape->delta;
        args->sum = segment->s;
    }
    if (training(tape))
        args->rstd = tape_push(tape, DTYPE_F32, tape->n_tokens, 1, 0);
    record->out[0] = out;
    record_run(tape, record);
    stash_stream(tape, segment);
    tape->delta_pending = false;
    return out;
}

/* The closing op has filled delta. */
static void segment_close(Tape *tape, bool wants)
{
    must(!tape->delta_pending && tape->segment != NULL && !tape->segment->closed);
    tape->segment->closed = true;
    tape->delta_pending = true;
    tape->stream_wants = tape->stream_wants || wants;
}

/* ---- ops on values ---- */

static Value *rmsnorm(Tape *tape, Value *x, ParamRef norm, float eps, Value *out)
{
    must(norm.value.cols > 0 && x->x.cols % norm.value.cols == 0);
    Record *record = record_make(tape, OP_rmsnorm);
    record->wants = training(tape) && (x->wants_grad || is_trained(&norm));
    record->in[0] = x;
    record->out[0] = out;
    out->wants_grad = record->wants;
    record->call.rmsnorm = (RmsnormArgs){
        .x = x->x, .w = norm.value, .eps = eps, .y = out->x, .dw = norm.grad};
    if (training(tape))
        record->call.rmsnorm.rstd =
            tape_push(tape, DTYPE_F32, tape->n_tokens, x->x.cols / norm.value.cols, 0);
    record_run(tape, record);
    return out;
}

Value *tape_rmsnorm(Tape *tape, Value *x, ParamRef norm, float eps)
{
    return rmsnorm(tape, x, norm, eps, value_push(tape, x->x.cols, 0, false));
}

void tape_add_rmsnorm(Tape *tape, Value *x, ParamRef norm, float eps)
{
    must(x->x.cols == tape->n_cols && norm.value.cols == tape->n_cols);
    Value *out = rmsnorm(tape, x, norm, eps, value_make(tape, tape->delta, false));
    segment_close(tape, out->wants_grad);
}

static int64_t specs_rank(const LinearSpec *specs, int n_parts)
{
    int64_t rank = 0;
    for (int i = 0; i < n_parts; i++)
        if (!tensor_is_empty(&specs[i].a.value))
            rank += specs[i].a.value.rows;
    return rank;
}

/* Whether anything of the group is trained. */
static bool specs_trained(const LinearSpec *specs, int n_parts)
{
    bool trained = false;
    for (int i = 0; i < n_parts; i++)
        trained = trained || !tensor_is_empty(&specs[i].dw) || is_trained(&specs[i].bias) ||
                  is_trained(&specs[i].a) || is_trained(&specs[i].b) ||
                  is_trained(&specs[i].magnitude);
    return trained;
}

/* Where x A^T goes: the row tail of x where the backend wants one, else a matrix of its own. */
static Tensor lowrank_hidden(Tape *tape, const Value *x, int64_t rank)
{
    if (rank == 0)
        return (Tensor){0};
    int64_t tail = backend_row_tail(tape->backend, rank);
    if (tail == 0)
        return tape_push(tape, activation(tape), tape->n_tokens, rank, 0);
    must(x->group == NULL && x->x.stride >= x->x.cols + tail); /* its maker was told the rank */
    return tensor_columns(x->x, x->x.cols, rank);
}

/* Fills everything of the call but y; y of part i is the next w->rows columns of `matrix`. */
static Record *linear_record(Tape *tape, Value *x, const LinearSpec *specs, int n_parts,
                             Tensor matrix)
{
    Record *record = record_make(tape, OP_linear);
    LinearArgs *args = &record->call.linear;
    record->in[0] = x;
    record->wants = training(tape) && (x->wants_grad || specs_trained(specs, n_parts));
    args->x = x->x;
    args->h = lowrank_hidden(tape, x, specs_rank(specs, n_parts));
    args->n_parts = n_parts;
    int64_t column = 0;
    for (int i = 0; i < n_parts; i++) {
        const LinearSpec *spec = &specs[i];
        must(spec->w->cols == x->x.cols);
        args->part[i] = (LinearPart){
            .w = spec->w, .bias = spec->bias.value, .a = spec->a.value, .b = spec->b.value,
            .scale = spec->scale, .magnitude = spec->magnitude.value, .norm = spec->norm,
            .y = tensor_columns(matrix, column, spec->w->rows), .dw = spec->dw,
            .dbias = spec->bias.grad, .da = spec->a.grad, .db = spec->b.grad,
            .dmagnitude = spec->magnitude.grad};
        if (training(tape) && is_trained(&spec->magnitude))
            args->part[i].product =
                tape_push(tape, activation(tape), tape->n_tokens, spec->w->rows, 0);
        column += spec->w->rows;
    }
    assert(column == matrix.cols);
    return record;
}

void tape_linear(Tape *tape, Value *x, const LinearSpec *parts, int n_parts, Value **out)
{
    must(n_parts >= 1 && n_parts <= LINEAR_MAX_PARTS);
    int64_t cols = 0;
    for (int i = 0; i < n_parts; i++)
        cols += parts[i].w->rows;
    /* The tail is there for the gradient, which may take this very matrix (tape_backward.c). */
    int64_t tail = training(tape) ? backend_row_tail(tape->backend, specs_rank(parts, n_parts)) : 0;
    GradGroup *group = arena_new(tape->host, GradGroup);
    group->y = tape_push(tape, activation(tape), tape->n_tokens, cols, tail);
    group->n_parts = n_parts;
    Record *record = linear_record(tape, x, parts, n_parts, group->y);
    int64_t column = 0;
    for (int i = 0; i < n_parts; i++) {
        out[i] = value_make(tape, record->call.linear.part[i].y, record->wants);
        out[i]->group = group;
        out[i]->column = column;
        column += parts[i].w->rows;
        record->out[i] = out[i];
    }
    record_run(tape, record);
}

void tape_add_linear(Tape *tape, Value *x, const LinearSpec *part)
{
    must(part->w->rows == tape->n_cols);
    must(!training(tape) || tape->delta.stride - tape->n_cols >=
                                backend_row_tail(tape->backend, specs_rank(part, 1)));
    Record *record = linear_record(tape, x, part, 1, tape->delta);
    record_run(tape, record);
    segment_close(tape, record->wants);
}

void tape_split(Tape *tape, Value *x, const int64_t *widths, int n, Value **out)
{
    must(n >= 1 && n <= LINEAR_MAX_PARTS);
    must(x->group != NULL && x->group->n_parts == 1);
    x->group->n_parts = n;
    int64_t column = 0;
    for (int i = 0; i < n; i++) {
        out[i] = value_make(tape, tensor_columns(x->x, column, widths[i]), x->wants_grad);
        out[i]->group = x->group;
        out[i]->column = column;
        column += widths[i];
    }
    must(column == x->x.cols);
}

void tape_rope(Tape *tape, Value *q, Value *k, Tensor table, const int32_t *positions, int head_dim,
               RopePairing pairing)
{
    must(head_dim > 0 && table.cols <= head_dim && table.cols % 2 == 0);
    must(q->x.cols % head_dim == 0 && k->x.cols % head_dim == 0);
    Record *record = record_make(tape, OP_rope);
    record->in[0] = q;
    record->in[1] = k;
    record->wants = q->wants_grad || k->wants_grad;
    record->call.rope = (RopeArgs){.q = q->x, .k = k->x, .table = table, .positions = positions,
                                   .head_dim = head_dim, .rot = (int)table.cols,
                                   .pairing = pairing};
    record_run(tape, record);
}

static Value *attention(Tape *tape, Value *q, Tensor k, Tensor v, AttentionShape shape,
                        AttentionSpans spans, int64_t rank, Record *record)
{
    must(shape.n_kv_heads > 0 && shape.n_heads % shape.n_kv_heads == 0);
    must(q->x.cols == (int64_t)shape.n_heads * shape.head_dim);
    must(k.cols == (int64_t)shape.n_kv_heads * shape.head_dim && v.cols == k.cols);
    Value *out = value_push(tape, q->x.cols, rank, record->wants);
    record->in[0] = q;
    record->out[0] = out;
    record->call.attention = (AttentionArgs){
        .q = q->x, .k = k, .v = v, .y = out->x, .kv_begin = spans.kv_begin, .kv_end = spans.kv_end,
        .q_end = spans.q_end, .n_heads = shape.n_heads, .n_kv_heads = shape.n_kv_heads,
        .head_dim = shape.head_dim, .scale = shape.scale};
    if (training(tape))
        record->call.attention.lse =
            tape_push(tape, DTYPE_F32, shape.n_heads, tape->n_tokens, 0);
    record_run(tape, record);
    return out;
}

Value *tape_attention(Tape *tape, Value *q, Value *k, Value *v, AttentionShape shape,
                      AttentionSpans spans, int64_t rank)
{
    Record *record = record_make(tape, OP_attention);
    record->in[1] = k;
    record->in[2] = v;
    record->wants = q->wants_grad || k->wants_grad || v->wants_grad;
    must(!record->wants || spans.q_end != NULL);
    return attention(tape, q, k->x, v->x, shape, spans, rank, record);
}

Value *tape_attention_cached(Tape *tape, Value *q, Tensor k_cache, Tensor v_cache,
                             AttentionShape shape, AttentionSpans spans, int64_t rank)
{
    must(!training(tape));
    return attention(tape, q, k_cache, v_cache, shape, spans, rank,
                     record_make(tape, OP_attention));
}

void tape_copy_rows(Tape *tape, Value *src, Tensor dst, const int32_t *index)
{
    must(!training(tape) && src->x.cols == dst.cols);
    OpCall call = {.op = OP_copy_rows};
    call.copy_rows = (CopyRowsArgs){.src = src->x, .dst = dst, .index = index};
    tape_run(tape, &call, PASS_FWD);
}

Value *tape_glu(Tape *tape, Value *gate, Value *up, Activation act, int64_t rank)
{
    must(gate->x.cols == up->x.cols);
    Record *record = record_make(tape, OP_glu);
    record->wants = gate->wants_grad || up->wants_grad;
    Value *out = value_push_remade(tape, gate->x.cols, rank, record);
    record->in[0] = gate;
    record->in[1] = up;
    record->out[0] = out;
    record->call.glu = (GluArgs){.act = act, .gate = gate->x, .up = up->x, .y = out->x};
    record_run(tape, record);
    return out;
}

void tape_cross_entropy(Tape *tape, Value *x, const Weight *head, Tensor dhead, LossRows loss)
{
    must(!tape->loss_done && head->cols == x->x.cols);
    must(loss.max_rows > 0 && loss.nll.rows == loss.max_rows && loss.nll.cols == 1);
    OpCall call = {.op = OP_cross_entropy};
    call.cross_entropy = (CrossEntropyArgs){.x = x->x, .w = head, .rows = loss.rows,
                                            .targets = loss.targets, .step = loss.step,
                                            .nll = loss.nll};
    if (training(tape)) {
        /* The gradient is made here, while the logits are at hand. */
        if (x->wants_grad)
            x->dx = tape_push(tape, activation(tape), tape->n_tokens, x->x.cols, 0);
        call.cross_entropy.dx = x->dx;
        call.cross_entropy.dw = dhead;
    }
    tape_run(tape, &call, PASS_FWD);
    tape->loss_done = true;
}
