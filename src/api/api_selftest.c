/* api_selftest.c — bp_selftest_json: what must not change a run's numbers, tried on this machine
 * with this model: a second run, the number of threads, recomputation (same bits); packing,
 * accumulation, merging the adapter (same numbers, but for the order of sums).
 *
 * Every run is the trainer's own step (train/step.h) over the same few sequences of made-up tokens,
 * with an adapter whose B is not zero. Limits: sums of the type of the activations, which differ in
 * order only.
 */
#include "api/handle.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "core/thread.h"
#include "export/merge.h"
#include "model/full.h"
#include "model/generate.h"
#include "train/plan.h"
#include "train/step.h"

enum { SEQUENCES = 4, LENGTH = 32, RANK = 8, STEPS = 2, SEED = 1 };

typedef struct Selftest {
    bp_trainer *t;
    Arena arena;
    Adapter *adapter;
    float *start, *zero; /* host vectors: where every run begins */
    Dataset dataset;
    Dtype activation; /* of the backend */
    Json *rows;
    bool all_hold;
} Selftest;

/* How a run differs from the first one. */
typedef struct Variant {
    int threads; /* 0 = as given */
    bool packing;
    int32_t rows, accumulation;
    SegmentMode segments;
} Variant;

typedef struct Outcome {
    double loss, grad_norm; /* of the first step */
    float *values;          /* host, after all steps */
} Outcome;

static void make_dataset(Selftest *s)
{
    Dataset *d = &s->dataset;
    Example *examples = arena_array(&s->arena, Example, SEQUENCES);
    int32_t *tokens = arena_array(&s->arena, int32_t, SEQUENCES * LENGTH);
    uint8_t *loss = arena_array(&s->arena, uint8_t, SEQUENCES * LENGTH);
    const uint64_t vocab = (uint64_t)s->t->model.config.vocab;
    for (int i = 0; i < SEQUENCES; i++) {
        /* All of different lengths; the first token of a sequence is nobody's target. */
        Example *e = &examples[i];
        *e = (Example){.start = d->n_tokens, .len = LENGTH - 5 * i, .line = i + 1};
        for (int64_t at = e->start; at < e->start + e->len; at++) {
            tokens[at] = (int32_t)rng_below(SEED, RNG_SAMPLE, 1, (uint64_t)at, vocab);
            loss[at] = at > e->start;
            e->n_loss += loss[at];
        }
        d->n_tokens += e->len;
        d->n_loss += e->n_loss;
    }
    d->examples = examples;
    d->n_examples = SEQUENCES;
    d->tokens = tokens;
    d->loss = loss;
}

/* A as training starts with it, B as large. */
static void make_start(Selftest *s)
{
    const int64_t n = s->adapter->n_params;
    s->start = arena_array(&s->arena, float, n);
    s->zero = arena_array(&s->arena, float, n);
    adapter_init_values(s->adapter, SEED, s->start);
    for (int64_t i = 0; i < s->adapter->n_layers * ROLE_LINEAR_COUNT; i++) {
        const AdapterPair *pair = &s->adapter->pairs[i];
        for (int64_t j = 0; pair->present && j < pair->out * s->adapter->config.r; j++)
            s->start[pair->b_offset + j] =
                0.02f * (2 * rng_uniform(SEED, RNG_SAMPLE, 2, (uint64_t)(pair->b_offset + j)) - 1);
    }
}

static bool selftest_open(Selftest *s, bp_trainer *t)
{
    *s = (Selftest){.t = t, .rows = json_new_array(), .all_hold = true};
    AdapterConfig config = {.r = RANK, .alpha = RANK, .targets = ADAPTER_ALL_LINEAR};
    if (!arena_open(&s->arena, 0, &t->err) || !handle_load(t))
        return false;
    s->adapter = adapter_make(&t->model, &config, &s->arena, &t->err);
    if (s->adapter == NULL)
        return false;
    make_dataset(s);
    make_start(s);
    return true;
}

/* ---- one run ----------------------------------------------------------------------------- */

typedef struct Trial {
    Arena host, records;
    Backend backend;
    StepSlabs slabs;
    Stepper stepper;
} Trial;

static void trial_close(Selftest *s, Trial *trial)
{
    Backend *b = &trial->backend;
    Arena *const slabs[] = {&trial->slabs.weights, &trial->slabs.run, &trial->slabs.step};
    for (size_t i = 0; i < COUNT_OF(slabs); i++)
        if (slabs[i]->capacity > 0)
            b->slab_close(b, slabs[i]);
    if (trial->slabs.host.capacity > 0)
        b->host_slab_close(b, &trial->slabs.host);
    if (b->close != NULL)
        b->close(b);
    s->t->model.backend = NULL;
    s->t->model.adapter = NULL;
    s->adapter->values = s->adapter->grads = s->adapter->m = s->adapter->v = NULL;
    arena_close(&trial->records);
    arena_close(&trial->host);
}

static bool trial_steps(const Variant *v, Trial *trial, Packer *packer, Outcome *out, Err *err)
{
    Microbatch mbs[SEQUENCES];
    DataCursor cursor = {0};
    must(v->accumulation <= SEQUENCES && packer_microbatches(packer) == v->accumulation);
    for (int32_t i = 0; i < v->accumulation; i++) {
        microbatch_make(&mbs[i], packer_tokens(packer), &trial->host);
        packer_next(packer, &cursor, &mbs[i]);
    }
    for (int64_t step = 1; step <= STEPS; step++) {
        StepStats stats;
        const StepInput input = {.microbatches = mbs, .n_microbatches = v->accumulation,
                                 .step = step, .lr = 1e-3};
        if (!step_run(&trial->stepper, &input, &stats, err))
            return false;
        if (step == 1) {
            out->loss = stats.loss;
            out->grad_norm = stats.grad_norm;
        }
    }
    return true;
}

static bool trial_run(Selftest *s, const Variant *v, Trial *trial, Outcome *out, Err *err)
{
    Backend *b = &trial->backend;
    MemoryPlan plan;
    const TrainOptions options = {.batch_size = v->rows, .max_seq_length = LENGTH,
                                  .packing = v->packing, .max_grad_norm = 1,
                                  .segments = v->segments};
    if (!train_plan(&s->t->model, s->adapter, &s->dataset, b, &options, &plan, err))
        return false;
    const PackOptions pack = plan_pack_options(&options, v->rows);
    Packer *packer = packer_make(&s->dataset, &pack, &trial->host);
    if (!b->slab_open(b, &trial->slabs.weights, plan.weights, err) ||
        !b->slab_open(b, &trial->slabs.run, plan.run, err) ||
        !b->slab_open(b, &trial->slabs.step, plan.step, err) ||
        (plan.host > 0 && !b->host_slab_open(b, &trial->slabs.host, plan.host, err)))
        return false;
    const StepSetup setup = {.model = &s->t->model, .adapter = s->adapter, .backend = b,
                             .tokens = packer_tokens(packer),
                             .max_loss = packer_max_loss(packer),
                             .n_positions = plan_positions(&s->dataset),
                             .segments = plan.segments, .max_grad_norm = 1};
    step_place(&trial->stepper, &setup, &trial->slabs, &trial->host, &trial->records);
    step_load(&trial->stepper, &(TrainVectors){s->start, s->zero, s->zero});
    if (!trial_steps(v, trial, packer, out, err))
        return false;
    const int64_t n = s->adapter->n_params;
    out->values = arena_array(&s->arena, float, n);
    b->download(b, out->values, s->adapter->values, (size_t)n * sizeof(float));
    return true;
}

static bool run(Selftest *s, const Variant *v, Outcome *out)
{
    bp_trainer *t = s->t;
    Trial trial = {0};
    assert(v->rows >= 1 && v->accumulation >= 1);
    bool ok = arena_open(&trial.host, 0, &t->err) && arena_open(&trial.records, 0, &t->err) &&
              handle_backend(t, handle_activation(t), &trial.backend);
    if (ok && v->threads > 0 && trial.backend.traits.memory == MEMORY_HOST) {
        trial.backend.close(&trial.backend);
        threads_set(v->threads);
        ok = backend_open_cpu_as(&trial.backend, handle_activation(t), &t->err);
    }
    s->activation = trial.backend.traits.activation;
    ok = ok && trial_run(s, v, &trial, out, &t->err);
    trial_close(s, &trial);
    threads_set((int)settings_int(&t->settings, OPTION_THREADS, 0));
    return ok;
}

/* ---- the table --------------------------------------------------------------------------- */

static void report(Selftest *s, const char *name, double measured, double limit)
{
    const bool holds = measured <= limit;
    Json *row = json_new_object();
    json_put(row, "name", json_new_text(name));
    json_put(row, "difference", json_new_double(measured));
    json_put(row, "limit", json_new_double(limit));
    json_put(row, "holds", json_new_bool(holds));
    json_add(s->rows, row);
    s->all_hold = s->all_hold && holds;
}

/* Sums of some thousand products, a few in a row; bf16 rounds every value on its way. */
static double limit_of(const Selftest *s)
{
    return s->activation == DTYPE_F32 ? 2e-5 : 2e-2;
}

static double relative(double a, double b)
{
    return fabs(a - b) / fmax(fabs(b), 1e-30);
}

/* 0 when all bits are the same. */
static double bits_differ(const Selftest *s, const Outcome *a, const Outcome *b)
{
    const size_t bytes = (size_t)s->adapter->n_params * sizeof(float);
    return a->loss == b->loss && memcmp(a->values, b->values, bytes) == 0 ? 0 : 1;
}

static bool compare_runs(Selftest *s)
{
    const Variant whole = {0, true, SEQUENCES, 1, SEGMENT_KEEP};
    const struct {
        const char *name;
        Variant variant;
        bool bits;
    } trials[] = {
        {"a second run: same bits", whole, true},
        {"one thread: same bits", {1, true, SEQUENCES, 1, SEGMENT_KEEP}, true},
        {"activations recomputed: same bits", {0, true, SEQUENCES, 1, SEGMENT_RECOMPUTE}, true},
        {"unpacked: same loss and gradient", {0, false, SEQUENCES, 1, SEGMENT_KEEP}, false},
        {"accumulated over 4 microbatches: same loss and gradient",
         {0, false, 1, SEQUENCES, SEGMENT_KEEP}, false},
    };
    Outcome first, other;
    if (!run(s, &whole, &first))
        return false;
    for (size_t i = 0; i < COUNT_OF(trials); i++) {
        if (!run(s, &trials[i].variant, &other))
            return false;
        report(s, trials[i].name,
               trials[i].bits ? bits_differ(s, &first, &other)
                              : fmax(relative(other.loss, first.loss),
                                     relative(other.grad_norm, first.grad_norm)),
               trials[i].bits ? 0 : limit_of(s));
    }
    return true;
}

/* The model with the adapter in its weights, f32. */
static Model *merge_model(Selftest *s)
{
    const Model *model = &s->t->model;
    const Adapter *all = full_make(model, &s->arena);
    float *values = arena_array(&s->arena, float, all->n_params);
    full_init_values(all, model, values);
    for (int64_t i = 0; i < all->n_weights; i++) {
        const FullParam *p = &all->weights[i];
        if (p->role >= ROLE_LINEAR_COUNT)
            continue;
        const MergeSource source = merge_source(model, s->adapter, s->start, p->layer, p->role,
                                                model->config.pairing);
        const size_t mark = arena_mark(&s->arena);
        float *scratch = arena_array(&s->arena, float, p->rows * p->cols);
        merge_rows(&source, 0, p->rows, scratch, values + p->offset);
        arena_rewind(&s->arena, mark);
    }
    return full_view(model, all, values, &s->arena);
}

static bool compare_merged(Selftest *s)
{
    bp_trainer *t = s->t;
    Backend backend = {0};
    double beside = 0, merged = 0;
    const int32_t *ids = s->dataset.tokens;
    if (!handle_backend(t, handle_activation(t), &backend))
        return false;
    t->model.adapter = s->adapter;
    bool ok = evaluate_nll(&t->model, &backend, ids, LENGTH, s->start, &beside, &t->err);
    t->model.adapter = NULL;
    ok = ok && evaluate_nll(merge_model(s), &backend, ids, LENGTH, NULL, &merged, &t->err);
    backend.close(&backend);
    if (ok)
        report(s, "adapter merged: same loss", relative(merged, beside), limit_of(s));
    return ok;
}

const char *bp_selftest_json(bp_trainer *t, const char *model)
{
    Selftest s;
    if (!handle_ok(t) || !settings_set(&t->settings, OPTION_MODEL, model, FROM_CALLER, &t->err)) {
        handle_fail(t);
        return NULL;
    }
    bool ok = selftest_open(&s, t);
    ok = ok && compare_runs(&s) && compare_merged(&s);
    Json *json = json_new_object();
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "model", json_new_text(model));
    json_put(json, "checks", s.rows);
    json_put(json, "all_hold", json_new_bool(ok && s.all_hold));
    arena_close(&s.arena);
    if (!ok) {
        json_free(json);
        handle_fail(t);
        return NULL;
    }
    return handle_json(t, json);
}
