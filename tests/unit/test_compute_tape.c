/* test_compute_tape.c — what the tape asks of a backend: order of calls, which gradients, where
 * memory lies; on a backend that computes nothing but writes down every call.
 *
 * The model is two segments and a final norm, as a transformer block with one layer: attention-like
 * (qkv group, rope, attention, closing linear) and feed-forward-like (gate/up group, glu, closing
 * linear).
 */
#include "test_support.h"

#include "compute/tape.h"

enum { T = 8, C = 64, H = 4, G = 2, D = 16, F = 96, V = 32, R = 4, LOG_MAX = 64 };

typedef struct Logged {
    OpCall call;
    Pass pass;
} Logged;

typedef struct Log {
    Logged calls[LOG_MAX];
    int n;
    char copies[256]; /* "begin slot" and "wait slot" of copies, in order */
} Log;

static void log_call(Backend *backend, const OpCall *call, Pass pass)
{
    Log *log = backend->state;
    must(log->n < LOG_MAX);
    log->calls[log->n++] = (Logged){*call, pass};
}

static void log_fwd(Backend *backend, const OpCall *call) { log_call(backend, call, PASS_FWD); }
static void log_bwd(Backend *backend, const OpCall *call) { log_call(backend, call, PASS_BWD); }

/* Odd sizes, different for each op and pass, so that a missing or doubled one shows. */
static size_t scratch_bytes(const Backend *backend, const OpCall *call, Pass pass)
{
    (void)backend;
    return 100 * (size_t)call->op + 77 * (size_t)pass + (call->op == OP_attention ? 1000 : 1);
}

static bool slab_open(Backend *backend, Arena *slab, size_t bytes, Err *err)
{
    (void)backend;
    return arena_open(slab, bytes, err);
}

static void host_slab_close(Backend *backend, Arena *slab)
{
    (void)backend;
    arena_close(slab);
}

static void log_copy(Backend *backend, const char *what, int slot)
{
    Log *log = backend->state;
    const size_t length = strlen(log->copies);
    snprintf(log->copies + length, sizeof log->copies - length, "%s%s%d", length == 0 ? "" : " ",
             what, slot);
}

static void copy_begin(Backend *backend, int slot, void *dst, const void *src, size_t bytes)
{
    must(dst != NULL && src != NULL && bytes > 0);
    log_copy(backend, "begin", slot);
}

static void copy_wait(Backend *backend, int slot)
{
    log_copy(backend, "wait", slot);
}

static const char *finish(Backend *backend)
{
    (void)backend;
    return NULL;
}

typedef struct Machine {
    Backend backend;
    Log log;
    Arena host, step, params, host_slab;
    Tape *tape;
} Machine;

/* tail 0: f32 throughout; else bf16 activations, f32 residual, and that row tail. */
static void machine_open(Machine *m, int tail)
{
    Err err = {0};
    *m = (Machine){0};
    m->backend = (Backend){.traits = {.name = "log", .row_tail_multiple = tail,
                                      .activation = tail == 0 ? DTYPE_F32 : DTYPE_BF16,
                                      .residual = DTYPE_F32},
                           .state = &m->log, .scratch = scratch_bytes, .slab_open = slab_open,
                           .finish = finish};
    for (int op = 0; op < OP_COUNT; op++) {
        m->backend.run[PASS_FWD][op] = log_fwd;
        m->backend.run[PASS_BWD][op] = log_bwd;
    }
    assert_true(arena_open(&m->host, 0, &err) && arena_open(&m->params, 0, &err));
    assert_true(slab_open(&m->backend, &m->step, 64 << 20, &err));
    m->tape = tape_make(&m->backend, &m->host, &m->step);
}

/* With memory of its own beside the host's. */
static void machine_open_device(Machine *m, int tail)
{
    machine_open(m, tail);
    Err err = {0};
    m->backend.traits.memory = MEMORY_DEVICE;
    m->backend.host_slab_open = slab_open;
    m->backend.host_slab_close = host_slab_close;
    m->backend.copy_begin = copy_begin;
    m->backend.copy_wait = copy_wait;
    assert_true(slab_open(&m->backend, &m->host_slab, 64 << 20, &err));
    tape_offload_to(m->tape, &m->host_slab);
}

static void machine_close(Machine *m)
{
    arena_close(&m->host_slab);
    arena_close(&m->host);
    arena_close(&m->params);
    arena_close(&m->step);
}

static Weight weight_of(int64_t rows, int64_t cols)
{
    static const float bytes[1];
    return (Weight){.source = bytes, .data = bytes, .dtype = DTYPE_F32, .rows = rows, .cols = cols};
}

static ParamRef param_of(Machine *m, int64_t rows, int64_t cols, bool trained)
{
    ParamRef p = {.value = tensor_make(NULL, DTYPE_F32, rows, cols)};
    p.value.data = arena_push(&m->params, tensor_bytes(&p.value));
    if (trained) {
        p.grad = p.value;
        p.grad.data = arena_push(&m->params, tensor_bytes(&p.value));
    }
    return p;
}

typedef struct Net {
    Weight embed, q, k, v, o, gate, up, down, head;
    ParamRef norm;
    ParamRef a[7], b[7]; /* q k v o gate up down; empty = no low-rank part */
    Tensor dtable, nll, rope;
    bool base_trained;
} Net;

static void net_make(Machine *m, Net *net, unsigned targets)
{
    const int64_t out[7] = {H * D, G * D, G * D, C, F, F, C}, in[7] = {C, C, C, H * D, C, C, F};
    *net = (Net){.embed = weight_of(V, C), .q = weight_of(H * D, C), .k = weight_of(G * D, C),
                 .v = weight_of(G * D, C), .o = weight_of(C, H * D), .gate = weight_of(F, C),
                 .up = weight_of(F, C), .down = weight_of(C, F), .head = weight_of(V, C)};
    net->norm = param_of(m, 1, C, false);
    for (int i = 0; i < 7; i++) {
        if ((targets >> i & 1u) == 0)
            continue;
        net->a[i] = param_of(m, R, in[i], true);
        net->b[i] = param_of(m, out[i], R, true);
    }
    net->nll = param_of(m, T, 1, false).value;
    net->rope = param_of(m, T, D, false).value;
}

static int64_t rank_of(const Net *net, int first, int n)
{
    int64_t rank = 0;
    for (int i = first; i < first + n; i++)
        rank += tensor_is_empty(&net->a[i].value) ? 0 : R;
    return rank;
}

static int64_t widest_of(const Net *net, Tape *tape)
{
    const Backend *backend = tape_backend(tape);
    return max_i64(C + backend_row_tail(backend, rank_of(net, 0, 3)),
                   F + backend_row_tail(backend, rank_of(net, 6, 1)));
}

static LinearSpec spec_of(const Net *net, const Weight *w, int i)
{
    return (LinearSpec){.w = w, .a = net->a[i], .b = net->b[i], .scale = 2};
}

static Value *net_forward(Machine *m, const Net *net, TapeMode mode, SegmentMode segments)
{
    static const int32_t ints[T];
    Tape *t = m->tape;
    AttentionShape shape = {H, G, D, 0.25f};
    AttentionSpans spans = {ints, ints, ints};
    Value *qkv[3], *gu[2];
    tape_begin(t, mode, segments);
    int64_t closing = max_i64(rank_of(net, 3, 1), rank_of(net, 6, 1));
    const StreamSpec stream = {.table = &net->embed, .dtable = net->dtable, .scale = 1,
                               .rank = closing, .widest = widest_of(net, t)};
    tape_stream_begin(t, &stream, ints, T);
    Value *n1 = tape_segment(t, net->norm, 1e-5f, rank_of(net, 0, 3));
    LinearSpec three[3] = {spec_of(net, &net->q, 0), spec_of(net, &net->k, 1),
                           spec_of(net, &net->v, 2)};
    tape_linear(t, n1, three, 3, qkv);
    tape_rope(t, qkv[0], qkv[1], net->rope, ints, D, ROPE_HALVES);
    Value *att = tape_attention(t, qkv[0], qkv[1], qkv[2], shape, spans, rank_of(net, 3, 1));
    LinearSpec o = spec_of(net, &net->o, 3);
    tape_add_linear(t, att, &o);
    Value *n2 = tape_segment(t, net->norm, 1e-5f, rank_of(net, 4, 2));
    LinearSpec two[2] = {spec_of(net, &net->gate, 4), spec_of(net, &net->up, 5)};
    tape_linear(t, n2, two, 2, gu);
    Value *glu = tape_glu(t, gu[0], gu[1], ACT_SILU, rank_of(net, 6, 1));
    LinearSpec down = spec_of(net, &net->down, 6);
    tape_add_linear(t, glu, &down);
    return tape_segment(t, net->norm, 1e-5f, 0);
}

static void net_train(Machine *m, const Net *net, SegmentMode segments)
{
    static const int32_t ints[T];
    static const StepState state;
    m->log.n = 0;
    m->log.copies[0] = '\0';
    Value *hidden = net_forward(m, net, TAPE_TRAIN, segments);
    LossRows loss = {.rows = ints, .targets = ints, .max_rows = T, .step = &state,
                     .nll = net->nll};
    tape_cross_entropy(m->tape, hidden, &net->head, (Tensor){0}, loss);
    tape_backward(m->tape);
}

static void assert_order(const Log *log, const char *want)
{
    Buf got = {0};
    for (int i = 0; i < log->n; i++)
        buf_printf(&got, "%s%s%s", i == 0 ? "" : " ", log->calls[i].pass == PASS_BWD ? "-" : "",
                   op_name(log->calls[i].call.op));
    assert_string_equal(got.data, want);
    buf_free(&got);
}

static const OpCall *nth(const Log *log, Pass pass, OpId op, int n)
{
    for (int i = 0; i < log->n; i++)
        if (log->calls[i].pass == pass && log->calls[i].call.op == op && n-- == 0)
            return &log->calls[i].call;
    fail_msg("no such call of %s", op_name(op));
    return NULL;
}

#define FORWARD "embed rmsnorm linear rope attention linear rmsnorm linear glu linear rmsnorm"

/* ---- tests ---- */

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(op_name(OP_embed), "embed");
    assert_string_equal(op_name(OP_lowrank_refresh), "lowrank_refresh");
}

static void test_order(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_KEEP);
    assert_order(&m.log, FORWARD " cross_entropy -rmsnorm -linear -glu -linear -rmsnorm"
                                 " -linear -attention -rope -linear");
    net_train(&m, &net, SEGMENT_RECOMPUTE);
    assert_order(&m.log, FORWARD " cross_entropy -rmsnorm"
                                 " rmsnorm linear glu linear -linear -glu -linear -rmsnorm"
                                 " rmsnorm linear rope attention linear"
                                 " -linear -attention -rope -linear");
    net_train(&m, &net, SEGMENT_REMAKE);
    assert_order(&m.log, FORWARD " cross_entropy -rmsnorm glu -linear -glu rmsnorm -linear -rmsnorm"
                                 " -linear -attention -rope rmsnorm -linear");
    net_train(&m, &net, SEGMENT_REMAKE + 1); /* the first segment alone is recomputed */
    assert_int_equal(tape_segments(m.tape), 2);
    assert_order(&m.log, FORWARD " cross_entropy -rmsnorm glu -linear -glu rmsnorm -linear -rmsnorm"
                                 " rmsnorm linear rope attention linear"
                                 " -linear -attention -rope -linear");
    net_train(&m, &net, SEGMENT_OFFLOAD); /* this backend has nowhere to put streams */
    assert_order(&m.log, FORWARD " cross_entropy -rmsnorm"
                                 " rmsnorm linear glu linear -linear -glu -linear -rmsnorm"
                                 " rmsnorm linear rope attention linear"
                                 " -linear -attention -rope -linear");
    assert_string_equal(m.log.copies, "");
    machine_close(&m);
}

/* Inputs of linears share one place, and x A^T, where it lies beside them, is made again too. */
static void test_remade_inputs(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 16);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_REMAKE);
    const Log *log = &m.log;
    assert_order(log, FORWARD " cross_entropy -rmsnorm glu linear -linear -glu"
                              " rmsnorm linear -linear -rmsnorm"
                              " -linear -attention -rope rmsnorm linear -linear");
    const void *shared = nth(log, PASS_FWD, OP_rmsnorm, 0)->rmsnorm.y.data;
    assert_ptr_equal(nth(log, PASS_FWD, OP_rmsnorm, 1)->rmsnorm.y.data, shared);
    assert_ptr_equal(nth(log, PASS_FWD, OP_glu, 0)->glu.y.data, shared);
    assert_ptr_equal(nth(log, PASS_FWD, OP_glu, 1)->glu.y.data, shared);
    const RmsnormArgs *again = &nth(log, PASS_FWD, OP_rmsnorm, 3)->rmsnorm;
    assert_ptr_equal(again->y.data, shared);
    assert_ptr_equal(again->x.data, nth(log, PASS_FWD, OP_rmsnorm, 1)->rmsnorm.sum.data);
    assert_null(again->delta.data);
    const LinearArgs *hidden = &nth(log, PASS_FWD, OP_linear, 5)->linear; /* of gate and up */
    assert_true(hidden->part[0].y.data == NULL && hidden->part[1].y.data == NULL);
    assert_ptr_equal(hidden->h.data, nth(log, PASS_BWD, OP_linear, 1)->linear.h.data);
    machine_close(&m);
}

/* Streams lie in two buffers by turns; a buffer is written again only when its copy is over. */
static void test_offloaded_streams(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open_device(&m, 0);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_OFFLOAD);
    /* s_0 s_1 (s_0 off) s_2 | s_2 is there, s_0 comes back, s_1 is there, s_0 */
    assert_string_equal(m.log.copies, "begin0 begin1 wait0 begin0 wait0 begin0 wait1 wait0");
    const size_t stream = (size_t)T * C * sizeof(float);
    assert_int_equal(m.host_slab.peak, 3 * stream);
    const RmsnormArgs *norm[3];
    for (int i = 0; i < 3; i++)
        norm[i] = &nth(&m.log, PASS_FWD, OP_rmsnorm, i)->rmsnorm;
    assert_ptr_equal(norm[2]->sum.data, norm[0]->x.data);
    assert_ptr_not_equal(norm[1]->sum.data, norm[0]->x.data);
    net_train(&m, &net, SEGMENT_RECOMPUTE + 1); /* s_0 alone, whose buffer nobody needs */
    assert_string_equal(m.log.copies, "begin0 wait0");
    net_make(&m, &net, 1u << 6); /* the last linear alone: backward ends before s_0 is asked for */
    net_train(&m, &net, SEGMENT_OFFLOAD);
    assert_string_equal(m.log.copies, "begin0 begin1 wait0 begin0 wait0 begin0 wait1 wait0");
    machine_close(&m);
}

static void test_nothing_wanted_costs_nothing(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 1u << 5); /* the up projection alone: no dx of its group, no first segment */
    net_train(&m, &net, SEGMENT_RECOMPUTE);
    assert_order(&m.log, FORWARD " cross_entropy -rmsnorm rmsnorm linear glu -linear -glu -linear");
    assert_null(nth(&m.log, PASS_BWD, OP_linear, 1)->linear.dx.data);
    const LinearArgs *down = &nth(&m.log, PASS_BWD, OP_linear, 0)->linear;
    assert_non_null(down->dx.data);
    net_make(&m, &net, 0); /* nothing trained: only forward, and no gradient of the loss */
    net_train(&m, &net, SEGMENT_KEEP);
    assert_order(&m.log, FORWARD " cross_entropy");
    assert_null(nth(&m.log, PASS_FWD, OP_cross_entropy, 0)->cross_entropy.dx.data);
    machine_close(&m);
}

static void test_embedding_trained(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 0);
    net.dtable = param_of(&m, V, C, false).value;
    net_train(&m, &net, SEGMENT_KEEP);
    const Log *log = &m.log;
    assert_int_equal(log->calls[log->n - 1].call.op, OP_embed);
    const RmsnormArgs *first = &nth(log, PASS_BWD, OP_rmsnorm, 2)->rmsnorm;
    const RmsnormArgs *last = &nth(log, PASS_BWD, OP_rmsnorm, 0)->rmsnorm;
    assert_true(last->dx_beta == 0 && first->dx_beta == 1);
    assert_ptr_equal(last->dx.data, first->dx.data);
    assert_ptr_equal(log->calls[log->n - 1].call.embed.dy.data, first->dx.data);
    machine_close(&m);
}

/* Same dtypes: the stream's gradient is the delta buffer. Different: a copy in each dtype. */
static void test_stream_gradient(void **state)
{
    (void)state;
    for (int tail = 0; tail <= 16; tail += 16) {
        Machine m;
        Net net;
        machine_open(&m, tail);
        net_make(&m, &net, 0x7f);
        net_train(&m, &net, SEGMENT_RECOMPUTE);
        const RmsnormArgs *norm = &nth(&m.log, PASS_BWD, OP_rmsnorm, 0)->rmsnorm;
        const Tensor dy = nth(&m.log, PASS_BWD, OP_linear, 0)->linear.part[0].dy;
        const Tensor *twin = tail == 0 ? &norm->dx : &norm->ddelta;
        assert_ptr_equal(dy.data, twin->data);
        assert_int_equal(dy.stride, C + tail);
        assert_int_equal(norm->dx.dtype, DTYPE_F32);
        assert_int_equal(dy.dtype, m.backend.traits.activation);
        assert_true(tail == 0 ? norm->ddelta.data == NULL : norm->ddelta.data != norm->dx.data);
        machine_close(&m);
    }
}

/* h is the row tail of x, and gradients of a group have room for theirs. */
static void test_row_tails(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 16);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_KEEP);
    for (int i = 0; i < 4; i++) {
        const LinearArgs *fwd = &nth(&m.log, PASS_FWD, OP_linear, i)->linear;
        assert_ptr_equal(fwd->h.data, (uint16_t *)fwd->x.data + fwd->x.cols);
        assert_int_equal(fwd->h.cols, fwd->n_parts * R);
        assert_int_equal(fwd->h.stride, fwd->x.stride);
        assert_int_equal(fwd->x.stride, fwd->x.cols + 16);
    }
    const LinearArgs *qkv = &nth(&m.log, PASS_BWD, OP_linear, 3)->linear;
    const LinearPart *part = qkv->part;
    assert_ptr_equal((uint16_t *)part[0].dy.data + H * D, part[1].dy.data);
    assert_ptr_equal((uint16_t *)part[1].dy.data + G * D, part[2].dy.data);
    assert_int_equal(part[0].dy.stride, H * D + 2 * G * D + 16);
    machine_close(&m);
}

static void test_glu_gradient_in_place(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_KEEP);
    const GluArgs *glu = &nth(&m.log, PASS_BWD, OP_glu, 0)->glu;
    assert_ptr_equal(glu->dgate.data, glu->gate.data);
    assert_ptr_equal(glu->dup.data, glu->up.data);
    assert_ptr_not_equal(glu->dy.data, glu->y.data);
    machine_close(&m);
}

/* The second time, inner values have the addresses of the first, s is read and not written, and
 * the closing op spares delta, which holds a gradient by then. */
static void test_replay_addresses(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_RECOMPUTE);
    const Log *log = &m.log;
    const RmsnormArgs *first = &nth(log, PASS_FWD, OP_rmsnorm, 1)->rmsnorm;
    const RmsnormArgs *again = &nth(log, PASS_FWD, OP_rmsnorm, 3)->rmsnorm;
    assert_non_null(first->delta.data);
    assert_null(again->delta.data);
    assert_null(again->sum.data);
    assert_ptr_equal(again->x.data, first->sum.data);
    assert_ptr_equal(again->y.data, first->y.data);
    assert_ptr_equal(again->rstd.data, first->rstd.data);
    const OpCall *glu = nth(log, PASS_FWD, OP_glu, 0), *glu2 = nth(log, PASS_FWD, OP_glu, 1);
    assert_ptr_equal(glu->glu.y.data, glu2->glu.y.data);
    const LinearArgs *down = &nth(log, PASS_FWD, OP_linear, 3)->linear;
    const LinearArgs *down2 = &nth(log, PASS_FWD, OP_linear, 5)->linear;
    assert_ptr_equal(down->h.data, down2->h.data);
    assert_ptr_not_equal(down->part[0].y.data, down2->part[0].y.data);
    machine_close(&m);
}

/* Every pass lays memory out alike, and the plan knows its size without running it. */
static void test_plan_and_peaks(void **state)
{
    (void)state;
    static const SegmentMode modes[] = {SEGMENT_KEEP, SEGMENT_REMAKE + 1, SEGMENT_RECOMPUTE,
                                        SEGMENT_RECOMPUTE + 1, SEGMENT_OFFLOAD};
    size_t peaks[2][COUNT_OF(modes)] = {{0}};
    for (int tail = 0; tail <= 16; tail += 16) {
        for (size_t mode = 0; mode < COUNT_OF(modes); mode++) {
            Machine m;
            Net net;
            machine_open_device(&m, tail);
            net_make(&m, &net, 0x7f);
            net_train(&m, &net, modes[mode]);
            size_t once = m.step.peak;
            static Log before;
            before = m.log;
            net_train(&m, &net, modes[mode]);
            assert_int_equal(m.step.peak, once);
            assert_int_equal(before.n, m.log.n);
            for (int i = 0; i < before.n; i++)
                assert_ptr_equal(before.calls[i].call.scratch, m.log.calls[i].call.scratch);

            Machine planned = m;
            Err err = {0};
            backend_open_plan(&planned.backend, &m.backend);
            assert_true(arena_open(&planned.host, 0, &err));
            planned.backend.slab_open(&planned.backend, &planned.step, PLAN_SLAB_BYTES, &err);
            planned.backend.host_slab_open(&planned.backend, &planned.host_slab, PLAN_SLAB_BYTES,
                                           &err);
            planned.tape = tape_make(&planned.backend, &planned.host, &planned.step);
            tape_offload_to(planned.tape, &planned.host_slab);
            net_train(&planned, &net, modes[mode]);
            assert_int_equal(planned.step.peak, once);
            assert_int_equal(planned.host_slab.peak, m.host_slab.peak);
            assert_true((m.host_slab.peak > 0) == (modes[mode] > SEGMENT_RECOMPUTE));
            peaks[tail != 0][mode] = once;
            arena_close(&planned.host);
            machine_close(&m);
        }
    }
    for (int i = 0; i < 2; i++)
        assert_true(peaks[i][2] <= peaks[i][1] && peaks[i][1] < peaks[i][0]);
    assert_true(peaks[1][0] < peaks[0][0]); /* bf16 */
}

static void test_infer(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 0x7f);
    net_forward(&m, &net, TAPE_INFER, SEGMENT_KEEP);
    assert_order(&m.log, FORWARD);
    for (int i = 0; i < 3; i++) {
        const RmsnormArgs *norm = &nth(&m.log, PASS_FWD, OP_rmsnorm, i)->rmsnorm;
        assert_null(norm->rstd.data);
        assert_ptr_equal(norm->x.data, nth(&m.log, PASS_FWD, OP_embed, 0)->embed.y.data);
        assert_ptr_equal(norm->sum.data, i == 0 ? NULL : norm->x.data);
        assert_ptr_equal(norm->y.data, nth(&m.log, PASS_FWD, OP_rmsnorm, 0)->rmsnorm.y.data);
    }
    assert_null(nth(&m.log, PASS_FWD, OP_attention, 0)->attention.lse.data);
    size_t infer = m.step.peak;
    net_train(&m, &net, SEGMENT_RECOMPUTE);
    assert_true(infer < m.step.peak);
    machine_close(&m);
}

static void test_profile(void **state)
{
    (void)state;
    Machine m;
    Net net;
    machine_open(&m, 0);
    net_make(&m, &net, 0x7f);
    net_train(&m, &net, SEGMENT_KEEP);
    assert_int_equal(tape_times(m.tape, PASS_FWD)[OP_linear].calls, 0);
    tape_profile(m.tape, true);
    net_train(&m, &net, SEGMENT_KEEP);
    assert_int_equal(tape_times(m.tape, PASS_FWD)[OP_linear].calls, 4);
    assert_int_equal(tape_times(m.tape, PASS_BWD)[OP_attention].calls, 1);
    assert_true(tape_times(m.tape, PASS_FWD)[OP_linear].seconds >= 0);
    machine_close(&m);
}

/* ---- misuse aborts ---- */

static void segment_without_closing(void *context)
{
    Machine *m = context;
    Weight table = weight_of(V, C);
    static const int32_t tokens[T];
    ParamRef norm = param_of(m, 1, C, false);
    tape_begin(m->tape, TAPE_TRAIN, SEGMENT_KEEP);
    const StreamSpec stream = {.table = &table, .scale = 1};
    tape_stream_begin(m->tape, &stream, tokens, T);
    tape_segment(m->tape, norm, 1e-5f, 0);
    tape_segment(m->tape, norm, 1e-5f, 0);
}

static void backward_without_loss(void *context)
{
    Machine *m = context;
    Net net;
    net_make(m, &net, 0x7f);
    net_forward(m, &net, TAPE_TRAIN, SEGMENT_KEEP);
    tape_backward(m->tape);
}

static void op_that_is_lacking(void *context)
{
    Machine *m = context;
    Net net;
    m->backend.run[PASS_FWD][OP_glu] = NULL;
    net_make(m, &net, 0x7f);
    net_forward(m, &net, TAPE_INFER, SEGMENT_KEEP);
}

static void test_misuse(void **state)
{
    (void)state;
    Machine m;
    machine_open(&m, 0);
    assert_aborts(segment_without_closing, &m);
    assert_aborts(backward_without_loss, &m);
    assert_aborts(op_that_is_lacking, &m);
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_remade_inputs),
        cmocka_unit_test(test_offloaded_streams),
        cmocka_unit_test(test_nothing_wanted_costs_nothing),
        cmocka_unit_test(test_embedding_trained),
        cmocka_unit_test(test_stream_gradient),
        cmocka_unit_test(test_row_tails),
        cmocka_unit_test(test_glu_gradient_in_place),
        cmocka_unit_test(test_replay_addresses),
        cmocka_unit_test(test_plan_and_peaks),
        cmocka_unit_test(test_infer),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
