/* model_run.h — one model with an adapter on a backend, as a test drives it: laid out, filled, run
 * forward and backward, updated. The layout is a function of the backend only, so the same code
 * measures on the plan backend and computes on the real one.
 *
 * Header only, for tests/golden/test_model_*.c; include after test_support.h.
 */
#ifndef TESTS_GOLDEN_MODEL_RUN_H
#define TESTS_GOLDEN_MODEL_RUN_H

#include "model/adapter.h"

#include <math.h>

enum { RUN_MAX_TOKENS = 1024 };

/* Host side of a microbatch of T tokens. */
typedef struct Flat {
    int32_t tokens[RUN_MAX_TOKENS], positions[RUN_MAX_TOKENS], kv_begin[RUN_MAX_TOKENS],
        kv_end[RUN_MAX_TOKENS], q_end[RUN_MAX_TOKENS], rows[RUN_MAX_TOKENS],
        targets[RUN_MAX_TOKENS];
    int64_t n; /* T */
    int32_t n_loss;
} Flat;

/* Three sequences and padding, ids below vocab; every token but the first of a sequence is a
 * target. */
static inline void flat_fill(Flat *flat, int32_t vocab)
{
    static const int32_t lengths[] = {40, 61, 20};
    *flat = (Flat){.n = 128};
    int32_t at = 0;
    for (size_t s = 0; s < COUNT_OF(lengths); s++) {
        const int32_t begin = at;
        for (int32_t i = 0; i < lengths[s]; i++, at++) {
            flat->tokens[at] = (at * 31 + 7) % vocab;
            flat->positions[at] = i;
            flat->kv_begin[at] = begin;
            flat->kv_end[at] = at + 1;
            flat->q_end[at] = begin + lengths[s];
            if (i > 0) {
                flat->rows[flat->n_loss] = at - 1;
                flat->targets[flat->n_loss++] = flat->tokens[at];
            }
        }
    }
    for (; at < flat->n; at++) {
        flat->kv_begin[at] = at;
        flat->kv_end[at] = flat->q_end[at] = at + 1;
    }
}

typedef struct Slabs {
    Arena weights, run, step, host;
} Slabs;

typedef struct SlabBytes {
    size_t weights, run, step, host;
} SlabBytes;

typedef struct ModelRun {
    Arena host, records;
    Model model;
    Adapter *adapter;
    float *values; /* host, as loaded */
    Backend backend;
    Slabs slabs;
    SegmentMode segments;
    int64_t n_tokens;
    Tape *tape;
    int32_t *ints[7]; /* device: the arrays of Flat, in order */
    StepState *state;
    double *sum_squares;
    Tensor nll;
    bool replayed;   /* play passes after the first from a recording (backends that have them) */
    void *recording; /* of run_pass */
} ModelRun;

static inline void run_fail(const Err *err)
{
    if (err_is_set(err))
        fail_msg("%s", err->message);
}

/* Everything that lives as long as the run. */
static inline void run_lay_out(ModelRun *run, Backend *backend)
{
    run->model.adapter = run->adapter;
    Arena *host_slab = backend->host_slab_open == NULL ? NULL : &run->slabs.host;
    model_place(&run->model, backend, &run->slabs.weights, host_slab, run->n_tokens);
    if (run->adapter != NULL)
        adapter_place(run->adapter, backend, ADAPTER_TRAINED, &run->slabs.run);
    for (int i = 0; i < 7; i++)
        run->ints[i] = arena_push(&run->slabs.run, (size_t)run->n_tokens * sizeof(int32_t));
    run->state = arena_push(&run->slabs.run, sizeof(StepState));
    run->sum_squares = arena_push(&run->slabs.run, sizeof(double));
    run->nll = tensor_make(NULL, DTYPE_F32, run->n_tokens, 1);
    run->nll.data = arena_push(&run->slabs.run, tensor_bytes(&run->nll));
    run->tape = tape_make(backend, &run->records, &run->slabs.step);
    if (host_slab != NULL)
        tape_offload_to(run->tape, host_slab);
}

static inline void run_slabs(ModelRun *run, Backend *backend, SlabBytes bytes)
{
    Err err = {0};
    Slabs *slabs = &run->slabs;
    bool ok = backend->slab_open(backend, &slabs->weights, bytes.weights, &err) &&
              backend->slab_open(backend, &slabs->run, bytes.run, &err) &&
              backend->slab_open(backend, &slabs->step, bytes.step, &err) &&
              (backend->host_slab_open == NULL ||
               backend->host_slab_open(backend, &slabs->host, bytes.host, &err));
    if (!ok)
        run_fail(&err);
}

static inline Value *run_forward(ModelRun *run, TapeMode mode, int64_t n_tokens)
{
    tape_begin(run->tape, mode, run->segments);
    DecoderInput input = {.tokens = run->ints[0], .positions = run->ints[1], .n_tokens = n_tokens,
                          .spans = {run->ints[2], run->ints[3], run->ints[4]}};
    return decoder_forward(&run->model, run->tape, &input, NULL);
}

static inline void run_upload(ModelRun *run, const Flat *flat)
{
    const int32_t *host[7] = {flat->tokens, flat->positions, flat->kv_begin, flat->kv_end,
                              flat->q_end,  flat->rows,      flat->targets};
    assert_int_equal(flat->n, run->n_tokens);
    for (int i = 0; i < 7; i++)
        run->backend.upload(&run->backend, run->ints[i], host[i],
                            (size_t)flat->n * sizeof(int32_t));
}

/* Logits of `n` rows of a forward pass, from `row` on. Memory from `out`: the step slab is planned
 * to the byte and has none to spare. */
static inline Tensor run_logits(ModelRun *run, const Value *hidden, int64_t row, int64_t n,
                                Arena *out)
{
    Tensor logits = tensor_make(NULL, DTYPE_F32, n, run->model.config.vocab), x = hidden->x;
    logits.data = arena_push(out, tensor_bytes(&logits));
    x.data = tensor_f32(&x) + row * x.stride;
    x.rows = n;
    OpCall call = {.op = OP_linear};
    call.linear = (LinearArgs){.x = x, .n_parts = 1};
    call.linear.part[0] = (LinearPart){.w = &run->model.head, .y = logits};
    call.scratch = arena_push(out, run->backend.scratch(&run->backend, &call, PASS_FWD));
    run->backend.run[PASS_FWD][OP_linear](&run->backend, &call);
    return logits;
}

/* Forward, loss and backward over what has been uploaded. */
static inline void run_pass(ModelRun *run)
{
    Value *hidden = run_forward(run, TAPE_TRAIN, run->n_tokens);
    LossRows loss = {.rows = run->ints[5], .targets = run->ints[6], .max_rows = run->n_tokens,
                     .step = run->state, .nll = run->nll};
    Tensor dhead = {0};
    if (run->model.grads != NULL)
        dhead = run->model.config.tied ? run->model.grads->embed : run->model.grads->head;
    tape_cross_entropy(run->tape, hidden, &run->model.head, dhead, loss);
    tape_backward(run->tape);
}

/* Peaks of the slabs when the run of T tokens is done on the plan. */
static inline SlabBytes run_plan(ModelRun *run)
{
    Backend plan;
    const size_t most = PLAN_SLAB_BYTES;
    backend_open_plan(&plan, &run->backend);
    run_slabs(run, &plan, (SlabBytes){most, most, most, most});
    size_t mark = arena_mark(&run->records);
    run_lay_out(run, &plan);
    linear_refresh_all(&run->model, run->tape);
    run_pass(run);
    const SlabBytes bytes = {run->slabs.weights.peak, run->slabs.run.peak, run->slabs.step.peak,
                             run->slabs.host.peak};
    run->slabs = (Slabs){0};
    arena_rewind(&run->records, mark);
    plan.close(&plan);
    return bytes;
}

/* Opens model and adapter (NULL = none; its values are uploaded) on an open backend, which the run
 * then owns, and lays them out for T tokens in slabs of exactly the planned size. */
static inline void run_open_on(ModelRun *run, Backend backend, const char *model,
                               const char *adapter, SegmentMode segments, int64_t n_tokens)
{
    Err err = {0};
    *run = (ModelRun){.segments = segments, .n_tokens = n_tokens, .backend = backend};
    if (!arena_open(&run->host, 0, &err) || !arena_open(&run->records, 0, &err) ||
        !model_open(&run->model, model, &run->host, &err))
        run_fail(&err);
    if (adapter != NULL)
        run->adapter = adapter_load_peft(&run->model, adapter, &run->values, &run->host, &err);
    run_fail(&err);
    const SlabBytes bytes = run_plan(run);
    run_slabs(run, &run->backend, bytes);
    run_lay_out(run, &run->backend);
    if (adapter != NULL) {
        run->backend.upload(&run->backend, run->adapter->values, run->values,
                            (size_t)run->adapter->n_params * sizeof(float));
        linear_refresh_all(&run->model, run->tape);
    }
}

static inline void run_open(ModelRun *run, const char *model, const char *adapter,
                            SegmentMode segments, int64_t n_tokens)
{
    Err err = {0};
    Backend cpu;
    if (!backend_open_cpu(&cpu, &err))
        run_fail(&err);
    run_open_on(run, cpu, model, adapter, segments, n_tokens);
}

static inline void run_close(ModelRun *run)
{
    run->backend.slab_close(&run->backend, &run->slabs.weights);
    run->backend.slab_close(&run->backend, &run->slabs.run);
    run->backend.slab_close(&run->backend, &run->slabs.step);
    if (run->backend.host_slab_close != NULL)
        run->backend.host_slab_close(&run->backend, &run->slabs.host);
    model_close(&run->model);
    run->backend.close(&run->backend);
    arena_close(&run->records);
    arena_close(&run->host);
}

/* One microbatch whose loss counts 1/of_loss a token; gradients add to what is there. Returns the
 * sum of its tokens' losses. */
static inline double run_microbatch(ModelRun *run, const Flat *flat, int32_t of_loss, int32_t step)
{
    run_upload(run, flat);
    StepState state = {.lr = 1e-3f, .inv_loss_tokens = 1.0f / (float)of_loss, .step = step,
                       .n_loss = flat->n_loss};
    run->backend.upload(&run->backend, run->state, &state, sizeof state);
    Backend *backend = &run->backend;
    if (run->replayed && run->recording == NULL && step > 1) {
        backend->record_begin(backend);
        run_pass(run);
        run->recording = backend->record_end(backend);
        assert_non_null(run->recording);
    }
    if (run->recording != NULL)
        backend->replay(backend, run->recording);
    else
        run_pass(run);
    float nll[RUN_MAX_TOKENS];
    run->backend.download(&run->backend, nll, run->nll.data, (size_t)flat->n * sizeof(float));
    double sum = 0;
    for (int32_t i = 0; i < flat->n_loss; i++)
        sum += nll[i];
    return sum;
}

/* AdamW with the golden script's numbers; gradients are zero afterwards. */
static inline void run_update(ModelRun *run)
{
    Adapter *a = run->adapter;
    OpCall norm = {.op = OP_sum_squares};
    norm.sum_squares = (SumSquaresArgs){.x = a->grads, .n = a->n_params, .out = run->sum_squares};
    tape_run(run->tape, &norm, PASS_FWD);
    OpCall adamw = {.op = OP_adamw};
    adamw.adamw = (AdamwArgs){.p = a->values, .g = a->grads, .m = a->m, .v = a->v,
                              .n = a->n_params, .step = run->state,
                              .sum_squares = run->sum_squares, .max_norm = 1.0f, .beta1 = 0.9f,
                              .beta2 = 0.999f, .eps = 1e-8f, .decay = 0.01f};
    tape_run(run->tape, &adamw, PASS_FWD);
    linear_refresh_all(&run->model, run->tape);
}

#endif
