/* plan.c — the memory of a run, measured by running its first step on the plan backend, and the
 * choices that follow from it: batch size, and whether segments are recomputed.
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

/* Everything that is not in a slab: what the process holds now, the pages of the base that a step
 * reads, a device's own needs, and parameters and moments once more on the host, from where
 * checkpoints of a device are written. */
static size_t other_bytes(const Model *model, const Adapter *adapter, const Backend *backend)
{
    size_t bytes = (size_t)os_process_peak();
    for (int64_t i = 0; i < model->config.n_layers; i++) {
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            bytes += weight_bytes(&model->layers[i].linear[role]);
    }
    bytes += weight_bytes(&model->embed);
    if (!model->config.tied)
        bytes += weight_bytes(&model->head);
    if (backend->traits.memory == MEMORY_DEVICE)
        bytes += 3 * (size_t)adapter->n_params * sizeof(float);
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
    const Backend *backend;
    const TrainOptions *options;
} PlanSubject;

static bool run_once(const StepSetup *setup, StepSlabs *slabs, PlanArenas *arenas, Err *err)
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
    return step_run(&stepper, &input, &stats, err);
}

/* The plan of one candidate. The model and the adapter are left unplaced. */
static bool measure(const PlanSubject *subject, int32_t batch_size, SegmentMode segments,
                    PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    const size_t host_mark = arena_mark(&arenas->host);
    const PackOptions pack = plan_pack_options(subject->options, batch_size);
    Packer *packer = packer_make(subject->dataset, &pack, &arenas->host);
    Backend imaginary = {0};
    backend_open_plan(&imaginary, subject->backend);
    StepSlabs slabs = {0};
    const StepSetup setup = {
        .model = subject->model, .adapter = subject->adapter, .backend = &imaginary,
        .tokens = packer_tokens(packer), .max_loss = packer_max_loss(packer),
        .n_positions = plan_positions(subject->dataset), .segments = segments,
        .weight_decay = subject->options->weight_decay,
        .max_grad_norm = subject->options->max_grad_norm,
    };
    const bool ok = imaginary.slab_open(&imaginary, &slabs.weights, PLAN_SLAB_BYTES, err) &&
                    imaginary.slab_open(&imaginary, &slabs.run, PLAN_SLAB_BYTES, err) &&
                    imaginary.slab_open(&imaginary, &slabs.step, PLAN_SLAB_BYTES, err) &&
                    run_once(&setup, &slabs, arenas, err);
    *plan = (MemoryPlan){
        .weights = slabs.weights.peak, .run = slabs.run.peak, .step = slabs.step.peak,
        .batch_size = batch_size, .tokens = setup.tokens, .segments = segments,
    };
    imaginary.slab_close(&imaginary, &slabs.weights);
    imaginary.slab_close(&imaginary, &slabs.run);
    imaginary.slab_close(&imaginary, &slabs.step);
    imaginary.close(&imaginary);
    subject->model->backend = NULL;
    subject->model->weights = NULL;
    subject->adapter->values = subject->adapter->grads = NULL;
    subject->adapter->m = subject->adapter->v = NULL;
    arena_rewind(&arenas->host, host_mark);
    arena_rewind(&arenas->records, 0);
    return ok;
}

static uint64_t memory_limit(const TrainOptions *options)
{
    if (options->memory_limit != 0)
        return options->memory_limit;
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

static bool too_large(const MemoryPlan *plan, uint64_t limit, Err *err)
{
    const double mib = 1.0 / (1024.0 * 1024.0);
    err_set(err, ERR_RUNTIME_OUT_OF_MEMORY,
            "the run needs %.0f MiB of memory at batch size %d and %.0f MiB can be had "
            "(weights %.0f, parameters %.0f, activations %.0f, the rest %.0f)",
            (double)total_bytes(plan) * mib, plan->batch_size, (double)limit * mib,
            (double)plan->weights * mib, (double)plan->run * mib, (double)plan->step * mib,
            (double)plan->other * mib);
    return false;
}

/* Tries candidates from the most wanted to the last resort; *plan is the first that fits. */
static bool choose(const PlanSubject *subject, PlanArenas *arenas, MemoryPlan *plan, Err *err)
{
    const TrainOptions *options = subject->options;
    const uint64_t limit = memory_limit(options);
    const size_t other = other_bytes(subject->model, subject->adapter, subject->backend);
    int32_t first = options->batch_size, last = options->batch_size;
    if (options->batch_size == 0) {
        const int64_t packs = count_packs(subject, arenas);
        for (first = PLAN_MAX_BATCH; first > 1 && first / 2 >= packs;)
            first /= 2;
        last = 1;
    }
    for (int mode = (int)options->segments; mode <= (int)SEGMENT_RECOMPUTE; mode++) {
        for (int32_t batch = first; batch >= last; batch /= 2) {
            if (!measure(subject, batch, (SegmentMode)mode, arenas, plan, err))
                return false;
            plan->other = other;
            if (total_bytes(plan) <= limit)
                return true;
        }
    }
    return too_large(plan, limit, err);
}

bool train_plan(Model *model, Adapter *adapter, const Dataset *dataset, const Backend *backend,
                const TrainOptions *options, MemoryPlan *plan, Err *err)
{
    must(dataset->n_examples > 0 && options->batch_size >= 0);
    const PlanSubject subject = {model, adapter, dataset, backend, options};
    PlanArenas arenas = {0};
    const bool ok = model_fits_backend(model, backend, err) &&
                    arena_open(&arenas.host, 0, err) && arena_open(&arenas.records, 0, err) &&
                    choose(&subject, &arenas, plan, err);
    arena_close(&arenas.records);
    arena_close(&arenas.host);
    if (ok)
        log_debug("memory_plan", "weights=%zu run=%zu step=%zu other=%zu batch=%d tokens=%d",
                  plan->weights, plan->run, plan->step, plan->other, plan->batch_size,
                  plan->tokens);
    return ok;
}
