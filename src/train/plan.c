/* plan.c — the memory of a run, measured by running its first step on the plan backend, and the
 * choices that follow from it: batch size, and what stays of the segments.
 *
 * Nothing here computes sizes: step.c places and runs one step whose ops do nothing and whose slabs
 * are imaginary, and the fill marks of the arenas are the answer. trainer.c then asks for slabs of
 * exactly these bytes.
 */
#include "train/plan.h"

#include "core/log.h"
#include "core/os.h"
#include "train/step.h"

enum { PLAN_MAX_BATCH = 8 };
/* Above so many weights, training all of them is refused by a name of its own when memory is short;
 * below, a machine with more of it is the answer. */
static const int64_t FULL_ALWAYS_TRIED = 3000000000;
/* Left to others when the limit is what the system says is available. */
static const uint64_t reserve_bytes = (uint64_t)256 << 20;

int64_t plan_positions(const Dataset *dataset)
{
    int64_t longest = 1;
    for (int64_t i = 0; i < dataset->n_examples; i++)
        longest = max_i64(longest, dataset->examples[i].len);
    return longest;
}

PackOptions plan_pack_options(const TrainOptions *options, int32_t batch_size)
{
    assert(batch_size > 0);
    return (PackOptions){.rows = batch_size, .max_seq_length = options->max_seq_length,
                         .packing = options->packing,
                         .curriculum = options->curriculum, .seed = options->seed};
}

/* Bytes of one weight as it lies in its file. */
static size_t weight_bytes(const Weight *weight)
{
    if (weight->rows == 0)
        return 0;
    return (size_t)weight->rows * dtype_row_bytes(weight->dtype, weight->cols);
}

/* Everything that is not in a slab. In ordinary memory: what the process holds now and the pages of
 * the base that a step reads. On a device: its context and workspace; what such a run needs of the
 * host (parameters and moments once more, pages that the system may drop) is not counted. */
static size_t other_bytes(const Model *model, const Adapter *adapter, const Backend *backend)
{
    if (backend->traits.memory == MEMORY_DEVICE)
        return backend->traits.fixed_bytes + backend->traits.context_bytes;
    size_t bytes = (size_t)os_process_peak();
    if (adapter_has(adapter, ADAPTER_FULL)) /* the file is read once, before the first step */
        return bytes + backend->traits.fixed_bytes + backend->traits.context_bytes;
    for (int64_t i = 0; i < model->config.n_layers; i++) {
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            bytes += weight_bytes(&model->layers[i].linear[role]);
    }
    bytes += weight_bytes(&model->embed);
    if (!model->config.tied)
        bytes += weight_bytes(&model->head);
    return bytes + backend->traits.fixed_bytes + backend->traits.context_bytes;
}

/* Host memory of a measurement. */
typedef struct PlanArenas {
    Arena host, records;
} PlanArenas;

/* What stays the same from candidate to candidate. */
typedef struct PlanSubject {
    Model *model;
    Adapter *adapter;
    const Dataset *dataset;
    Backend *backend;
    const TrainOptions *options;
    WeightStorage weights; /* of the candidates being tried */
} PlanSubject;

static bool run_once(const StepSetup *setup, StepSlabs *slabs, PlanArenas *arenas,
                     int32_t *n_segments, Err *err)
{
    Stepper stepper;
    step_place(&stepper, setup, slabs, &arenas->host, &arenas->records);
    float *vector = arena_push(&arenas->host, (size_t)setup->adapter->n_params * sizeof(float));
    step_load(&stepper, &(TrainVectors){vector, vector, vector}); /* not read on the plan */
    Microbatch mb;
    microbatch_make(&mb, setup->tokens, &arenas->host);
    mb.n_loss = setup->max_loss; /* the plan assumes that every row carries loss */
    mb.n_used = 0;
    StepStats stats;
    const StepInput input = {.microbatches = &mb, .n_microbatches = 1, .step = 1, .lr = 0};
    const bool ok = step_run(&stepper, &input, &stats, err);
    *n_segments = tape_segments(stepper.tape);
    return ok;
}

static bool open_host_slab(Backend *backend, Arena *slab, Err *err)
{
    return backend->host_slab_open == NULL ||
           backend->host_slab_open(backend, slab, PLAN_SLAB_BYTES, err);
}

/* The plan of one candidate. The model and the adapter are left unplaced. */
static bool measure(const PlanSubject *subject, int32_t batch_size, SegmentMode segments,
                    PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    const size_t host_mark = arena_mark(&arenas->host);
    const PackOptions pack = plan_pack_options(subject->options, batch_size);
    Packer *packer = packer_make(subject->dataset, &pack, &arenas->host);
    Backend imaginary = {0};
    subject->backend->traits.weights = subject->weights;
    backend_open_plan(&imaginary, subject->backend);
    StepSlabs slabs = {0};
    const StepSetup setup = {
        .model = subject->model, .adapter = subject->adapter, .backend = &imaginary,
        .tokens = packer_tokens(packer), .max_loss = packer_max_loss(packer),
        .n_positions = plan_positions(subject->dataset), .segments = segments,
        .weight_decay = subject->options->weight_decay,
        .max_grad_norm = subject->options->max_grad_norm,
    };
    int32_t n_segments = 0;
    const bool ok = imaginary.slab_open(&imaginary, &slabs.weights, PLAN_SLAB_BYTES, err) &&
                    imaginary.slab_open(&imaginary, &slabs.run, PLAN_SLAB_BYTES, err) &&
                    imaginary.slab_open(&imaginary, &slabs.step, PLAN_SLAB_BYTES, err) &&
                    open_host_slab(&imaginary, &slabs.host, err) &&
                    run_once(&setup, &slabs, arenas, &n_segments, err);
    *plan = (MemoryPlan){
        .weights = slabs.weights.peak, .run = slabs.run.peak, .step = slabs.step.peak,
        .host = slabs.host.peak,
        .batch_size = batch_size, .tokens = setup.tokens,
        .segments = segments, .n_segments = n_segments, .storage = subject->weights,
        .other = other_bytes(subject->model, subject->adapter, subject->backend),
    };
    imaginary.slab_close(&imaginary, &slabs.weights);
    imaginary.slab_close(&imaginary, &slabs.run);
    imaginary.slab_close(&imaginary, &slabs.step);
    if (slabs.host.capacity > 0)
        imaginary.host_slab_close(&imaginary, &slabs.host);
    imaginary.close(&imaginary);
    subject->model->backend = NULL;
    subject->model->weights = NULL;
    subject->adapter->values = subject->adapter->grads = NULL;
    subject->adapter->m = subject->adapter->v = NULL;
    arena_rewind(&arenas->host, host_mark);
    arena_rewind(&arenas->records, 0);
    return ok;
}

/* On a device, what has been taken so far is its context and workspace, which a plan counts. */
static uint64_t memory_limit(const TrainOptions *options, Backend *backend)
{
    if (options->memory_limit != 0)
        return options->memory_limit;
    if (backend->memory_used != NULL) {
        size_t total = 0;
        const size_t used = backend->memory_used(backend, &total);
        const size_t mine = backend->traits.fixed_bytes + backend->traits.context_bytes;
        const uint64_t left = used < total ? total - used : 0;
        return mine + (left > reserve_bytes ? left - reserve_bytes : 0);
    }
    const uint64_t available = os_memory_available();
    if (available == 0)
        return UINT64_MAX; /* unknown: the system will say */
    const uint64_t mine = os_process_peak(); /* no longer counted as available */
    return available + mine - (available > 2 * reserve_bytes ? reserve_bytes : available / 2);
}

static size_t total_bytes(const MemoryPlan *plan)
{
    return plan->weights + plan->run + plan->step + plan->other;
}

/* Packs of one epoch: a larger batch than that would repeat nothing and hold nothing more. */
static int64_t count_packs(const PlanSubject *subject, PlanArenas *arenas)
{
    const size_t mark = arena_mark(&arenas->host);
    const PackOptions pack = plan_pack_options(subject->options, 1);
    const int64_t packs = packer_microbatches(
        packer_make(subject->dataset, &pack, &arenas->host));
    arena_rewind(&arenas->host, mark);
    return packs;
}

static bool too_large(const MemoryPlan *plan, const Adapter *adapter, uint64_t limit, Err *err)
{
    const double mib = 1.0 / (1024.0 * 1024.0);
    const bool large = adapter_has(adapter, ADAPTER_FULL) && adapter->n_params > FULL_ALWAYS_TRIED;
    err_set(err, large ? ERR_RUNTIME_FULL_FT_MODEL_TOO_LARGE : ERR_RUNTIME_OUT_OF_MEMORY,
            "the run needs %.0f MiB of memory at batch size %d and %.0f MiB can be had "
            "(weights %.0f, parameters %.0f, activations %.0f, the rest %.0f)",
            (double)total_bytes(plan) * mib, plan->batch_size, (double)limit * mib,
            (double)plan->weights * mib, (double)plan->run * mib, (double)plan->step * mib,
            (double)plan->other * mib);
    return false;
}

typedef enum Fit { FIT_ERROR, FIT_NO, FIT_YES } Fit;

static Fit try_plan(const PlanSubject *subject, int32_t batch, SegmentMode segments, uint64_t limit,
                    PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    if (!measure(subject, batch, segments, arenas, plan, err))
        return FIT_ERROR;
    return total_bytes(plan) <= limit ? FIT_YES : FIT_NO;
}

/* All modes of n segments in order, from 0: the first that differs from its predecessor by one
 * segment's memory. */
static SegmentMode mode_at(int32_t index, int32_t n_segments)
{
    return index / n_segments * SEGMENT_STAGE + index % n_segments;
}

static int32_t mode_index(SegmentMode mode, int32_t n_segments)
{
    const int32_t further = mode % SEGMENT_STAGE;
    return mode / SEGMENT_STAGE * n_segments + (further < n_segments ? further : n_segments);
}

/* *plan fits and does not at `wanted`: the first mode between the two that fits. */
static bool give_up_least(const PlanSubject *subject, SegmentMode wanted, uint64_t limit,
                          PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    const int32_t n = plan->n_segments;
    int32_t too_few = mode_index(wanted, n), enough = mode_index(plan->segments, n);
    while (enough - too_few > 1) {
        const int32_t middle = too_few + (enough - too_few) / 2;
        MemoryPlan tried;
        const Fit fit = try_plan(subject, plan->batch_size, mode_at(middle, n), limit, arenas,
                                 &tried, err);
        if (fit == FIT_ERROR)
            return false;
        if (fit == FIT_NO) {
            too_few = middle;
            continue;
        }
        enough = middle;
        *plan = tried;
    }
    return true;
}

static SegmentMode next_stage(SegmentMode mode)
{
    return (mode / SEGMENT_STAGE + 1) * SEGMENT_STAGE;
}

/* Candidates in the order in which they are wanted, from one segment mode to another: a stage costs
 * more time than a smaller batch does. Recomputing costs most and by the segment: where it is not
 * asked for, the smallest batch recomputes fewest. */
static Fit choose_between(const PlanSubject *subject, SegmentMode first, SegmentMode last,
                          uint64_t limit, PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    const TrainOptions *options = subject->options;
    int32_t most = options->batch_size, least = options->batch_size;
    if (options->batch_size == 0) {
        const int64_t packs = count_packs(subject, arenas);
        for (most = PLAN_MAX_BATCH; most > 1 && most / 2 >= packs;)
            most /= 2;
        least = 1;
    }
    SegmentMode before = first;
    for (SegmentMode mode = first; mode <= last; mode = next_stage(mode)) {
        const int32_t largest = mode == SEGMENT_RECOMPUTE && mode > first ? least : most;
        for (int32_t batch = largest; batch >= least; batch /= 2) {
            const Fit fit = try_plan(subject, batch, mode, limit, arenas, plan, err);
            if (fit == FIT_NO)
                continue;
            if (fit == FIT_YES && mode > first &&
                !give_up_least(subject, before, limit, arenas, plan, err))
                return FIT_ERROR;
            return fit;
        }
        before = mode;
    }
    return FIT_NO;
}

static bool has_packed_weights(const Model *model)
{
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
            const Weight *weight = &model->layers[layer].linear[role];
            if (weight->rows > 0 && !dtype_is_plain(weight->dtype))
                return true;
        }
    }
    return false;
}

/* *plan is the first candidate that fits. */
static bool choose(PlanSubject *subject, PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    const TrainOptions *options = subject->options;
    const uint64_t limit = memory_limit(options, subject->backend);
    const bool device = subject->backend->traits.memory == MEMORY_DEVICE;
    const SegmentMode last = device ? SEGMENT_OFFLOAD : SEGMENT_RECOMPUTE;
    const SegmentMode first = options->segments < last ? options->segments : last;
    Fit fit = FIT_NO;
    if (device && options->weights == WEIGHTS_WIDENED && has_packed_weights(subject->model)) {
        const SegmentMode cheap = first > SEGMENT_REMAKE ? first : SEGMENT_REMAKE;
        fit = choose_between(subject, first, cheap, limit, arenas, plan, err);
        subject->weights = WEIGHTS_PACKED;
    }
    if (fit == FIT_NO)
        fit = choose_between(subject, first, last, limit, arenas, plan, err);
    return fit == FIT_YES || (fit == FIT_NO && too_large(plan, subject->adapter, limit, err));
}

bool train_plan(Model *model, Adapter *adapter, const Dataset *dataset, Backend *backend,
                const TrainOptions *options, MemoryPlan *plan, Err *err)
{
    must(dataset->n_examples > 0 && options->batch_size >= 0);
    PlanSubject subject = {.model = model, .adapter = adapter, .dataset = dataset,
                           .backend = backend, .options = options, .weights = options->weights};
    PlanArenas arenas = {0};
    const bool ok = adapter_fits_backend(adapter, backend, err) &&
                    model_fits_backend(model, backend, err) &&
                    arena_open(&arenas.host, 0, err) && arena_open(&arenas.records, 0, err) &&
                    choose(&subject, &arenas, plan, err);
    arena_close(&arenas.records);
    arena_close(&arenas.host);
    if (ok)
        log_debug("memory_plan", "weights=%zu run=%zu step=%zu host=%zu other=%zu batch=%d "
                  "tokens=%d segments=%d stage=%d further=%d packed=%d", plan->weights, plan->run,
                  plan->step, plan->host, plan->other, plan->batch_size, plan->tokens,
                  plan->n_segments, plan->segments / SEGMENT_STAGE,
                  plan->segments % SEGMENT_STAGE, plan->storage == WEIGHTS_PACKED);
    return ok;
}
