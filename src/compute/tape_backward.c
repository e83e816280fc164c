/* tape_backward.c — the way back: segments from the last to the first, the records of each in
 * reverse. Gradients of activations live above the segment's own values on the step arena and are
 * given back with it; only the stream's gradient (dres, and delta as its twin in the activation
 * dtype) lasts from segment to segment.
 */
#include "compute/tape.h"

#include "compute/tape_impl.h"

/* ---- calls that run again ---- */

static void run_again(Tape *tape, const TapeSegment *segment, const Record *record)
{
    OpCall call = record->call;
    if (record == segment->first) { /* s is already there; delta is not */
        call.rmsnorm.x = segment->s;
        call.rmsnorm.delta = call.rmsnorm.sum = (Tensor){0};
    }
    tape_run(tape, &call, PASS_FWD);
}

/* A linear only for what it saves: x A^T, and products before they are scaled. */
static void hidden_again(Tape *tape, const Record *record)
{
    OpCall call = record->call;
    if (tensor_is_empty(&call.linear.h))
        return; /* no low-rank part, so no magnitude either */
    for (int i = 0; i < call.linear.n_parts; i++)
        call.linear.part[i].y.data = NULL;
    tape_run(tape, &call, PASS_FWD);
}

/* What a linear reads, and its own row tail there, where other values have lain since. */
static void remake_input(Tape *tape, const TapeSegment *segment, const Record *reader)
{
    const Record *remaker = reader->in[0]->remaker;
    if (remaker == NULL)
        return;
    run_again(tape, segment, remaker);
    if (tape->backend->traits.row_tail_multiple != 0)
        hidden_again(tape, reader);
}

/* Runs the closing op again only for what it saves (h, product, rstd); its output is dead, and
 * delta already holds a gradient. */
static void replay_closing(Tape *tape, const Record *record)
{
    if (record->call.op == OP_linear) {
        hidden_again(tape, record);
        return;
    }
    OpCall call = record->call;
    size_t mark = arena_mark(tape->step);
    call.rmsnorm.y = tape_push(tape, tape->delta.dtype, tape->n_tokens, tape->n_cols, 0);
    tape_run(tape, &call, PASS_FWD);
    arena_rewind(tape->step, mark);
}

/* Makes the inner values of a segment again, where they were. */
static void replay(Tape *tape, const TapeSegment *segment)
{
    must(segment->closed && arena_mark(tape->step) == segment->inner_mark);
    arena_push(tape->step, segment->inner_bytes);
    for (Record *record = segment->first; record != segment->last; record = record->next)
        run_again(tape, segment, record);
    replay_closing(tape, segment->last);
}

/* ---- the records of a segment ---- */

/* Where the gradient of a value goes. A value has one consumer, so it is asked for once.
 * Siblings of
 * a linear group share a matrix with the layout of their outputs. */
static Tensor gradient_of(Tape *tape, Value *value)
{
    if (!value->wants_grad)
        return (Tensor){0};
    must(tensor_is_empty(&value->dx));
    GradGroup *group = value->group;
    Dtype dtype = tape->backend->traits.activation;
    if (group == NULL) {
        value->dx = tape_push(tape, dtype, value->x.rows, value->x.cols, 0);
        return value->dx;
    }
    if (tensor_is_empty(&group->dy))
        group->dy = tape_push(tape, dtype, group->y.rows, group->y.cols,
                              group->y.stride - group->y.cols);
    value->dx = tensor_columns(group->dy, value->column, value->x.cols);
    return value->dx;
}

static void backward_rmsnorm(Tape *tape, Record *record, Tensor dy)
{
    RmsnormArgs *args = &record->call.rmsnorm;
    args->dy = dy;
    args->dx = gradient_of(tape, record->in[0]);
    args->dx_beta = 0;
    tape_run(tape, &record->call, PASS_BWD);
}

/* The record that opened the segment: its gradient joins the stream's. */
static void backward_segment_norm(Tape *tape, TapeSegment *segment, float dx_beta)
{
    Record *record = segment->first;
    RmsnormArgs *args = &record->call.rmsnorm;
    must(record->call.op == OP_rmsnorm && !tensor_is_empty(&record->out[0]->dx));
    args->dy = record->out[0]->dx;
    if (segment->stream_wants) {
        args->dx = tape->dres;
        args->dx_beta = dx_beta;
        if (tape->dres.data != tape->delta.data)
            args->ddelta = tape->delta;
    }
    tape_run(tape, &record->call, PASS_BWD);
}

/* Of a linear's output. Where its columns were consumed one by one, they have filled the group. */
static Tensor output_gradient(const Value *out)
{
    if (!tensor_is_empty(&out->dx))
        return out->dx;
    must(out->group != NULL && !tensor_is_empty(&out->group->dy));
    return tensor_columns(out->group->dy, out->column, out->x.cols);
}

/* dy of a closing op is the stream's gradient as the activation dtype holds it. */
static void backward_linear(Tape *tape, const TapeSegment *segment, Record *record)
{
    LinearArgs *args = &record->call.linear;
    remake_input(tape, segment, record);
    for (int i = 0; i < args->n_parts; i++) {
        const Value *out = record->out[i];
        args->part[i].dy = out == NULL ? tape->delta : output_gradient(out);
    }
    args->dx = gradient_of(tape, record->in[0]);
    tape_run(tape, &record->call, PASS_BWD);
}

static void backward_rope(Tape *tape, Record *record)
{
    record->call.rope.dq = record->in[0]->dx;
    record->call.rope.dk = record->in[1]->dx;
    tape_run(tape, &record->call, PASS_BWD);
}

static void backward_attention(Tape *tape, Record *record)
{
    AttentionArgs *args = &record->call.attention;
    args->dy = record->out[0]->dx;
    args->dq = gradient_of(tape, record->in[0]);
    args->dk = gradient_of(tape, record->in[1]);
    args->dv = gradient_of(tape, record->in[2]);
    tape_run(tape, &record->call, PASS_BWD);
}

static void backward_glu(Tape *tape, Record *record)
{
    GluArgs *args = &record->call.glu;
    Value *gate = record->in[0], *up = record->in[1];
    /* Nothing reads gate and up after this: when they are all of their group, their matrix becomes
     * its own gradient. */
    if (gate->group != NULL && gate->group == up->group && gate->group->n_parts == 2)
        gate->group->dy = gate->group->y;
    args->dy = record->out[0]->dx;
    args->dgate = gradient_of(tape, gate);
    args->dup = gradient_of(tape, up);
    tape_run(tape, &record->call, PASS_BWD);
}

static void backward_record(Tape *tape, const TapeSegment *segment, Record *record)
{
    if (!record->wants)
        return;
    switch (record->call.op) {
    case OP_rmsnorm: {
        const Value *out = record->out[0];
        bool closing = out->x.data == tape->delta.data;
        backward_rmsnorm(tape, record, closing ? tape->delta : out->dx);
        break;
    }
    case OP_linear:
        backward_linear(tape, segment, record);
        break;
    case OP_rope:
        backward_rope(tape, record);
        break;
    case OP_attention:
        backward_attention(tape, record);
        break;
    case OP_glu:
        backward_glu(tape, record);
        break;
    default:
        must(false); /* not recorded by tape.c */
    }
}

static bool segment_wants(const TapeSegment *segment)
{
    for (const Record *record = segment->first; record != NULL; record = record->next)
        if (record->wants)
            return true;
    return false;
}

/* ---- the streams of offloaded segments ---- */

/* `dead` was walked through: its buffer takes the stream of the segment before the previous one. */
static void fetch_begin(Tape *tape, const TapeSegment *dead)
{
    const TapeSegment *next = dead->prev == NULL ? NULL : dead->prev->prev;
    if (dead->stashed != NULL && next != NULL)
        slot_copy(tape, next->slot, next->s.data, next->stashed);
}

/* Copies that nobody asked for any more: the first segments may have nothing to train. */
static void fetch_end(Tape *tape)
{
    for (int slot = 0; slot < STREAM_SLOTS; slot++)
        slot_wait(tape, slot);
}

void tape_backward(Tape *tape)
{
    must(tape->mode == TAPE_TRAIN && tape->loss_done);
    must(tape->segment != NULL && !tape->segment->closed); /* the final norm */
    float dx_beta = 0; /* the final norm is the first to write the stream's gradient */
    for (TapeSegment *segment = tape->segment; segment != NULL; segment = segment->prev) {
        if (!segment_wants(segment))
            break; /* nothing trained below either */
        if (segment->stashed != NULL)
            slot_wait(tape, segment->slot);
        if (segment->closed && segment->stage >= SEGMENT_RECOMPUTE)
            replay(tape, segment);
        for (Record *record = segment->last; record != segment->first; record = record->prev)
            backward_record(tape, segment, record);
        if (segment->first->wants)
            backward_segment_norm(tape, segment, dx_beta);
        dx_beta = 1;
        fetch_begin(tape, segment);
        if (segment->prev != NULL)
            arena_rewind(tape->step, segment->s_mark);
    }
    fetch_end(tape);
    if (!tensor_is_empty(&tape->embed->call.embed.dtable)) {
        tape->embed->call.embed.dy = tape->dres;
        tape_run(tape, &tape->embed->call, PASS_BWD);
    }
    tape->loss_done = false;
}
