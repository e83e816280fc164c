/* trainer.c — a run from its options to its adapter folder: opening, the step loop, saving, events.
 *
 * Order of a run:
 *   1 check options, read the checkpoint to go on from (both before anything large is taken)
 *   2 plan memory; take slabs of exactly the planned bytes; place model and adapter
 *   3 per step: the data of all its microbatches, step.c, one event; a checkpoint when it is due
 *   4 save: the last checkpoint, then the adapter folder
 * From the end of the first step on nothing is allocated in the loop, and at the end the slabs'
 * fill marks equal the plan; both are `must`s here.
 */
#include "train/train.h"

#include "core/file.h"
#include "core/log.h"
#include "core/os.h"
#include "model/full.h"
#include "train/output.h"
#include "train/plan.h"
#include "train/resume.h"
#include "train/step.h"

#include <math.h>
#include <string.h>

enum { TRAIN_MAX_STEPS = 100 * 1000 * 1000, TRAIN_MAX_ACCUMULATION = 65536 };
/* Weight of the newest step in the smoothed time of a step. */
static const double smoothing = 0.2;

typedef struct Run {
    const TrainOptions *options;
    Model *model;
    Adapter *adapter;
    const Dataset *dataset;
    Backend *backend;
    Arena *out;
    TrainResult *result;

    Arena host, records, scratch; /* run; the tape's; rewound after each use */
    OutputFolder folder;          /* as long as the run, when the caller does not hold it */
    StepSlabs slabs;
    Packer *packer;
    Microbatch *microbatches; /* [accumulation] */
    Stepper stepper;
    Heat heat;
    Arena vectors_arena;  /* empty where the host reads the backend's memory in place */
    TrainVectors vectors; /* what checkpoints are written from */

    CheckpointState state; /* where the run stands; numbers is owned */
    float *losses;         /* [steps], in out */
    int64_t steps;
    int64_t first_step;    /* steps done before this process */
    int64_t saved_step;    /* of the last committed checkpoint */
    int64_t placed_step;   /* when memory was last taken */
    int32_t batch_size;    /* asked for, or chosen at the start of the run */
    int32_t accumulation;  /* microbatches a step: the option's, times what halvings took away */
    size_t host_base;      /* of host, before the data's memory */
    double last_loss;
    double start, step_seconds; /* step_seconds: smoothed */
    double machine_flops;       /* measured product rate; 0 = not known */
    bool stop_announced;

    size_t host_mark, records_peak; /* after the first step */
} Run;

/* ---- events ----------------------------------------------------------------------------- */

/* Where the slabs lie: the process's peak, or what of the device is in use. */
static uint64_t memory_in_use(const Run *run)
{
    size_t total;
    if (run->backend->memory_used != NULL)
        return run->backend->memory_used(run->backend, &total);
    return os_process_peak();
}

static void emit(const Run *run, Event event)
{
    event.run_id = run->options->run_id;
    event.step = run->state.step;
    event.steps = run->steps;
    event.seconds = os_now() - run->start;
    event.memory_bytes = (int64_t)memory_in_use(run);
    if (run->options->sink != NULL)
        run->options->sink(run->options->sink_context, &event);
}

static bool stop_asked(const Run *run)
{
    return run->options->stop != NULL && *run->options->stop != 0;
}

/* Between microbatches: says at once that a stop was heard, though the step is finished first. */
static void announce_stop(void *context)
{
    Run *run = context;
    if (!stop_asked(run) || run->stop_announced)
        return;
    run->stop_announced = true;
    emit(run, (Event){.kind = EVENT_STOPPING});
}

static double epochs_done(const Run *run)
{
    const double microbatches = (double)packer_microbatches(run->packer);
    return (double)run->state.cursor.epoch + (double)run->state.cursor.microbatch / microbatches;
}

static void emit_step(Run *run, const StepStats *stats, double lr, double seconds)
{
    run->step_seconds = run->state.step == run->first_step + 1
                            ? seconds
                            : run->step_seconds + smoothing * (seconds - run->step_seconds);
    /* Once, and after a step: a processor that has just woken up shows half of what it can. */
    if (run->state.step == run->first_step + 1 && run->backend->peak_flops != NULL)
        run->machine_flops = run->backend->peak_flops(run->backend);
    const double rate = seconds > 0 ? (double)stats->tokens / seconds : 0;
    const double machine = run->machine_flops;
    const double loss_share = (double)stats->loss_tokens / (double)stats->tokens;
    const double flops =
        model_train_flops(run->stepper.setup.model, stats->mean_context, loss_share);
    emit(run, (Event){
        .kind = EVENT_STEP, .loss = stats->loss, .lr = lr, .grad_norm = stats->grad_norm,
        .tokens_per_second = rate, .peak_share = machine > 0 ? fmin(1, flops * rate / machine) : 0,
        .seconds_left = run->step_seconds * (double)(run->steps - run->state.step),
        .step_tokens = stats->tokens, .loss_tokens = stats->loss_tokens,
        .epoch = epochs_done(run),
    });
}

/* ---- opening ---------------------------------------------------------------------------- */

static bool setting(bool good, const char *what, Err *err)
{
    return good || err_set(err, ERR_CONFIG_INVALID_SETTING, "%s", what);
}

static bool check_data(const Dataset *dataset, const TrainOptions *options, Err *err)
{
    if (dataset->n_examples == 0)
        return err_set(err, ERR_INPUT_DATASET_VALIDATION_FAILED, "the dataset has no examples");
    for (int64_t i = 0; i < dataset->n_examples; i++) {
        const Example *example = &dataset->examples[i];
        if (example->n_loss <= 0)
            return err_set(err, ERR_INPUT_DATASET_VALIDATION_FAILED,
                           "the example of line %d has no token that carries loss", example->line);
        if (example->len > options->max_seq_length)
            return err_set(err, ERR_CONFIG_INVALID_SETTING,
                           "the example of line %d has %d tokens, more than the sequence length %d",
                           example->line, example->len, options->max_seq_length);
    }
    return true;
}

static bool check_options(const TrainOptions *o, const Dataset *dataset, Err *err)
{
    must(o->run_id != NULL && o->output != NULL && o->base_name != NULL);
    const bool timed = o->steps > 0 || (o->steps == 0 && isfinite(o->epochs) && o->epochs > 0);
    return setting(timed && o->steps <= TRAIN_MAX_STEPS,
                   "steps must be from 1 to 100,000,000, or 0 with a positive number of epochs",
                   err) &&
           setting(o->batch_size >= 0, "the batch size must not be negative", err) &&
           setting(o->accumulation >= 1 && o->accumulation <= TRAIN_MAX_ACCUMULATION,
                   "gradient accumulation must be from 1 to 65,536", err) &&
           setting(o->max_seq_length >= 1, "the sequence length must be positive", err) &&
           setting(isfinite(o->lr) && o->lr >= 0, "the learning rate must not be negative", err) &&
           setting(isfinite(o->weight_decay) && o->weight_decay >= 0,
                   "the weight decay must not be negative", err) &&
           setting(isfinite(o->max_grad_norm) && o->max_grad_norm >= 0,
                   "the largest gradient norm must not be negative", err) &&
           setting(o->warmup_steps >= 0, "warm-up steps must not be negative", err) &&
           setting(o->save_steps >= 0, "the save interval must not be negative", err) &&
           check_data(dataset, o, err);
}

static CheckpointOwner owner_of(const Run *run)
{
    return (CheckpointOwner){.model = run->model, .adapter = run->adapter,
                             .backend = run->backend, .base_name = run->options->base_name};
}

static void init_values(Run *run)
{
    if (adapter_has(run->adapter, ADAPTER_FULL)) {
        full_init_values(run->adapter, run->model, run->vectors.values);
        return;
    }
    adapter_init_values(run->adapter, run->options->seed, run->vectors.values);
    adapter_init_magnitudes(run->adapter, run->model, run->vectors.values);
}

/* Fills vectors and state: from the checkpoint, or as a first step needs them. */
static bool load_start(Run *run, Err *err)
{
    const size_t n = (size_t)run->adapter->n_params;
    run->vectors = (TrainVectors){
        .values = arena_array(&run->vectors_arena, float, n),
        .m = arena_array(&run->vectors_arena, float, n),
        .v = arena_array(&run->vectors_arena, float, n),
    };
    const float *start = run->options->start_values;
    if (run->options->resume_from == NULL && start != NULL) {
        memcpy(run->vectors.values, start, n * sizeof *start);
    } else if (run->options->resume_from == NULL) {
        init_values(run);
    } else {
        const CheckpointOwner owner = owner_of(run);
        CheckpointState loaded;
        if (!checkpoint_load(run->options->resume_from, &owner, &loaded, &run->vectors,
                             &run->host, err))
            return false;
        run->state = loaded;
    }
    run->first_step = run->saved_step = run->state.step;
    return true;
}

int32_t train_halved(int32_t batch_size)
{
    for (int32_t half = batch_size / 2; half > 0; half--) {
        if (batch_size % half == 0)
            return half;
    }
    return 0;
}

/* Decides batch size and segments. A resumed run keeps the batch size that it was started with, and
 * what running out of memory has made of it. */
static bool make_plan(Run *run, Err *err)
{
    TrainOptions options = *run->options;
    run->host_base = arena_mark(&run->host);
    if (options.batch_size == 0)
        options.batch_size = run->batch_size;
    if (options.batch_size == 0 && run->state.numbers != NULL)
        options.batch_size = resume_batch_size(run->state.numbers);
    run->batch_size = options.batch_size;
    for (int32_t i = 0; i < run->state.halvings && options.batch_size > 1; i++)
        options.batch_size = train_halved(options.batch_size);
    MemoryPlan *plan = &run->result->plan;
    if (!train_plan(run->model, run->adapter, run->dataset, run->backend, &options, plan, err))
        return false;
    if (run->batch_size == 0)
        run->batch_size = plan->batch_size;
    run->accumulation = options.accumulation * (run->batch_size / plan->batch_size);
    /* What the process holds now includes the start vectors; in host memory they move into the
     * run's slab and are given back before the first step. A new run's moments are untouched. */
    const bool fresh = options.resume_from == NULL && run->state.step == 0;
    const size_t vectors = fresh ? 1 : 3;
    const size_t bytes = vectors * (size_t)run->adapter->n_params * sizeof(float);
    if (run->backend->traits.memory == MEMORY_HOST && plan->other > bytes)
        plan->other -= bytes;
    return true;
}

static bool make_data(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    const MemoryPlan *plan = &run->result->plan;
    const PackOptions pack = plan_pack_options(o, plan->batch_size);
    run->packer = packer_make(run->dataset, &pack, &run->host);
    must(packer_tokens(run->packer) == plan->tokens);
    run->microbatches = arena_array(&run->host, Microbatch, run->accumulation);
    for (int32_t i = 0; i < run->accumulation; i++)
        microbatch_make(&run->microbatches[i], plan->tokens, &run->host);
    run->steps = o->steps;
    if (o->steps == 0) {
        const int64_t per_epoch = ceil_div(packer_microbatches(run->packer), run->accumulation);
        const double steps = ceil(o->epochs * (double)per_epoch);
        if (!setting(steps <= TRAIN_MAX_STEPS, "the epochs ask for more than 100,000,000 steps",
                     err))
            return false;
        run->steps = max_i64(1, (int64_t)steps);
    }
    return true;
}

/* The state of a run that starts or goes on: what was loaded belongs to this very run. */
static bool make_state(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    Json *numbers =
        resume_numbers(o, run->steps, run->batch_size, run->dataset, run->model);
    Json *loaded = run->state.numbers;
    const bool ok = loaded == NULL ||
                    checkpoint_compare(o->resume_from, "", loaded, numbers, err);
    json_free(loaded);
    run->state.numbers = numbers;
    run->losses = arena_array(run->out, float, run->steps);
    if (!ok)
        return false;
    if (run->state.step > run->steps)
        return err_set(err, ERR_STATE_CHECKPOINT_INVALID,
                       "checkpoint '%s' is at step %lld of a run of %lld steps", o->resume_from,
                       (long long)run->state.step, (long long)run->steps);
    for (int64_t i = 0; i < run->state.step; i++)
        run->losses[i] = run->state.losses[i];
    if (run->state.step > 0)
        run->last_loss = (double)run->losses[run->state.step - 1];
    run->state.losses = run->losses;
    run->state.run_id = o->run_id;
    run->state.options_json = o->options_json;
    return true;
}

static bool place(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    const MemoryPlan *plan = &run->result->plan;
    Backend *backend = run->backend;
    backend->traits.weights = plan->storage;
    if (!backend->slab_open(backend, &run->slabs.weights, plan->weights, err) ||
        !backend->slab_open(backend, &run->slabs.run, plan->run, err) ||
        !backend->slab_open(backend, &run->slabs.step, plan->step, err) ||
        (plan->host > 0 &&
         !backend->host_slab_open(backend, &run->slabs.host, plan->host, err)))
        return false;
    const StepSetup setup = {
        .model = run->model, .adapter = run->adapter, .backend = backend,
        .tokens = plan->tokens, .max_loss = packer_max_loss(run->packer),
        .n_positions = plan_positions(run->dataset), .segments = plan->segments,
        .weight_decay = o->weight_decay, .max_grad_norm = o->max_grad_norm,
        .profile = o->profile,
    };
    step_place(&run->stepper, &setup, &run->slabs, &run->host, &run->records);
    step_load(&run->stepper, &run->vectors);
    if (backend->traits.memory == MEMORY_HOST) {
        const Adapter *adapter = run->adapter;
        run->vectors = (TrainVectors){adapter->values, adapter->m, adapter->v};
        arena_close(&run->vectors_arena);
    }
    run->placed_step = run->state.step;
    return true;
}

/* Gives back what place and make_data took; the vectors stay. */
static void unplace(Run *run)
{
    Backend *backend = run->backend;
    Arena *const slabs[] = {&run->slabs.step, &run->slabs.run, &run->slabs.weights};
    for (size_t i = 0; i < COUNT_OF(slabs); i++) {
        if (slabs[i]->capacity > 0)
            backend->slab_close(backend, slabs[i]);
    }
    if (run->slabs.host.capacity > 0)
        backend->host_slab_close(backend, &run->slabs.host);
    run->model->backend = NULL;
    run->model->weights = NULL;
    run->adapter->values = run->adapter->grads = run->adapter->m = run->adapter->v = NULL;
}

/* Values and moments out of the slabs that are about to go. */
static bool keep_vectors(Run *run, Err *err)
{
    step_store(&run->stepper, &run->vectors);
    if (run->vectors_arena.capacity > 0)
        return true; /* they were in an arena of their own all the time */
    if (!arena_open(&run->vectors_arena, 0, err))
        return false;
    const size_t n = (size_t)run->adapter->n_params;
    float *const from[] = {run->vectors.values, run->vectors.m, run->vectors.v};
    float *to[3];
    for (size_t i = 0; i < COUNT_OF(from); i++) {
        to[i] = arena_array(&run->vectors_arena, float, n);
        memcpy(to[i], from[i], n * sizeof(float));
    }
    run->vectors = (TrainVectors){to[0], to[1], to[2]};
    return true;
}

/* A smaller batch, with memory planned anew and not yet taken. why: what ran out. */
static bool halve(Run *run, const Err *why, Err *err)
{
    const int32_t batch = run->result->plan.batch_size;
    unplace(run);
    if (run->options->no_oom_recovery) {
        err_set(err, ERR_RUNTIME_GPU_OOM, "%s", why->message);
        return false;
    }
    const int32_t half = train_halved(batch);
    if (run->state.halvings >= TRAIN_MAX_HALVINGS || half == 0)
        return err_set(err, ERR_RUNTIME_OOM_RECOVERY_EXHAUSTED,
                       "memory ran out at batch size %d after %d recoveries: %s", batch,
                       run->state.halvings, why->message);
    run->state.halvings++;
    run->state.cursor.microbatch *= batch / half;
    arena_rewind(&run->host, run->host_base);
    arena_rewind(&run->records, 0);
    if (!make_plan(run, err) || !make_data(run, err))
        return false;
    log_warn("oom_recovery_adjust", "step=%lld batch_size=%d->%d accumulation=%d reason=\"%s\"",
             (long long)run->state.step + 1, batch, run->result->plan.batch_size,
             run->accumulation, why->message);
    emit(run, (Event){.kind = EVENT_OOM_RECOVERY, .batch_size = run->result->plan.batch_size,
                      .accumulation = run->accumulation});
    return true;
}

/* place, with ever smaller batches while memory runs out. */
static bool place_what_fits(Run *run, Err *err)
{
    for (;;) {
        Err why = {0};
        if (place(run, &why))
            return true;
        if (why.code != ERR_RUNTIME_OUT_OF_MEMORY) {
            *err = why;
            return false;
        }
        if (!halve(run, &why, err))
            return false;
    }
}

static bool open_output(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    return o->output_held || output_open(&run->folder, o->output, o->run_id, NULL, NULL, err);
}

static bool run_open(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    if (!check_options(o, run->dataset, err) || !arena_open(&run->host, 0, err) ||
        !arena_open(&run->records, 0, err) || !arena_open(&run->scratch, 0, err) ||
        !arena_open(&run->vectors_arena, 0, err) || !open_output(run, err) ||
        !load_start(run, err) || !make_plan(run, err) || !make_data(run, err) ||
        !make_state(run, err) || !place_what_fits(run, err))
        return false;
    if (o->heat.critical > 0 && (run->backend->memory_used != NULL || heat_is_forced()))
        heat_open(&run->heat, o->gpu_index);
    emit(run, (Event){.kind = o->resume_from != NULL ? EVENT_RUN_RESUMED : EVENT_RUN_STARTED,
                      .path = o->resume_from});
    return true;
}

static void run_close(Run *run)
{
    heat_close(&run->heat);
    json_free(run->state.numbers);
    unplace(run);
    arena_close(&run->scratch);
    arena_close(&run->records);
    output_close(&run->folder);
    arena_close(&run->vectors_arena);
    arena_close(&run->host);
}

/* ---- saving ----------------------------------------------------------------------------- */

static bool save_checkpoint(Run *run, Err *err)
{
    if (run->slabs.run.capacity > 0) /* else keep_vectors has them */
        step_store(&run->stepper, &run->vectors);
    const CheckpointOwner owner = owner_of(run);
    if (!checkpoint_save(run->options->output, &owner, &run->state, &run->vectors, &run->scratch,
                         err))
        return false;
    run->saved_step = run->state.step;
    const size_t mark = arena_mark(&run->scratch);
    emit(run, (Event){.kind = EVENT_CHECKPOINT,
                      .path = checkpoint_path(run->options->output, run->state.step,
                                              &run->scratch)});
    arena_rewind(&run->scratch, mark);
    return true;
}

static bool save_adapter(Run *run, Err *err)
{
    const ErrCode code = ERR_RUNTIME_IO_FAILED;
    const char *path = path_join(run->out, run->options->output, ADAPTER_FOLDER);
    Err why = {0};
    const char *partial = folder_begin(path, &run->scratch, code, &why);
    const bool ok = partial != NULL &&
                    adapter_save_peft(run->adapter, run->model, run->vectors.values,
                                      run->options->base_name, partial, &why) &&
                    file_write_atomic(path_join(&run->scratch, partial, RUN_ID_FILE),
                                      str_of(run->options->run_id), code, &why) &&
                    folder_commit(path, code, &why);
    arena_rewind(&run->scratch, 0);
    if (!ok) {
        folder_abandon(path);
        return err_set(err, why.code, "cannot write the adapter '%s': %s", path, why.message);
    }
    run->result->adapter_path = path;
    return true;
}

/* The file that says whose it is makes the folder whole: output.c sets one without it aside. */
static bool save_model(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    const char *path = path_join(run->out, o->output, MODEL_FOLDER);
    Err why = {0};
    const bool ok = o->save_model(o->save_context, run->vectors.values, path, &why) &&
                    file_write_atomic(path_join(&run->scratch, path, RUN_ID_FILE),
                                      str_of(o->run_id), ERR_RUNTIME_IO_FAILED, &why);
    arena_rewind(&run->scratch, 0);
    if (!ok)
        return err_set(err, why.code, "cannot write the model '%s': %s", path, why.message);
    run->result->adapter_path = path;
    return true;
}

/* ---- the loop --------------------------------------------------------------------------- */

/* After the first step of this process every mark stays where it is. */
static void check_allocation(Run *run)
{
    if (run->state.step == run->placed_step + 1) {
        run->host_mark = arena_mark(&run->host);
        run->records_peak = run->records.peak;
    }
    must(arena_mark(&run->host) == run->host_mark);
    must(run->records.peak == run->records_peak);
    must(arena_mark(&run->scratch) == 0);
}

/* A loss that is not a number comes from some row, or from what came before: says which rows. */
static void name_rows(const Run *run, int32_t microbatch, Err *err)
{
    const DataCursor at = {run->state.cursor.epoch, run->state.cursor.microbatch + microbatch};
    const Err plain = *err;
    Buf rows = {0};
    packer_name_rows(run->packer, &at, &rows);
    *err = (Err){0};
    err_set(err, plain.code, "%s (%s)", plain.message, rows.data);
    buf_free(&rows);
}

static bool one_step(Run *run, Err *err)
{
    const TrainOptions *o = run->options;
    const double start = os_now();
    const int64_t step = run->state.step + 1;
    const DataCursor before = run->state.cursor;
    const int32_t n = (int32_t)min_i64(run->accumulation,
                                       packer_left(run->packer, &run->state.cursor));
    for (int32_t i = 0; i < n; i++)
        packer_next(run->packer, &run->state.cursor, &run->microbatches[i]);
    const StepInput input = {
        .microbatches = run->microbatches, .n_microbatches = n, .step = step,
        .lr = schedule_lr(o->schedule, o->lr, step, o->warmup_steps, run->steps),
        .poll = announce_stop, .poll_context = run,
    };
    StepStats stats;
    if (!step_run(&run->stepper, &input, &stats, err)) {
        run->state.cursor = before;
        if (stats.bad_microbatch >= 0)
            name_rows(run, stats.bad_microbatch, err);
        return false;
    }
    run->state.step = step;
    run->state.loss_sum += stats.loss;
    run->state.tokens += stats.tokens;
    run->losses[step - 1] = (float)stats.loss;
    run->last_loss = stats.loss;
    emit_step(run, &stats, input.lr, os_now() - start);
    check_allocation(run);
    return true;
}

static int look_at_heat(Run *run)
{
    const int degrees = heat_look(&run->heat);
    if (degrees > run->result->gpu_max_temp)
        run->result->gpu_max_temp = degrees;
    return degrees;
}

/* Waits while the GPU is hot; a stop ends the wait, too. */
static bool cool_down(Run *run, int degrees, Err *err)
{
    const HeatLimits *limits = &run->options->heat;
    const double poll = fmin(1, fmax(limits->poll_seconds, 0.01)), start = os_now();
    log_warn("heat_pause", "degrees=%d until=%.0f", degrees, limits->resume);
    emit(run, (Event){.kind = EVENT_PAUSED, .temperature = degrees});
    while (degrees >= limits->resume && !stop_asked(run)) {
        const double waited = os_now() - start;
        if (degrees >= heat_emergency)
            return err_set(err, ERR_RUNTIME_GPU_TEMPERATURE_CRITICAL, "the GPU has %d degrees",
                           degrees);
        if (limits->max_pause > 0 && waited > limits->max_pause)
            return err_set(err, ERR_RUNTIME_GPU_TEMPERATURE_CRITICAL,
                           "the GPU still has %d degrees after %.0f seconds", degrees, waited);
        os_sleep(poll);
        degrees = look_at_heat(run);
    }
    run->result->paused_seconds += os_now() - start;
    log_info("heat_over", "degrees=%d seconds=%.1f", degrees, os_now() - start);
    return true;
}

static bool mind_the_heat(Run *run, Err *err)
{
    const HeatLimits *limits = &run->options->heat;
    const double now = os_now();
    if (run->heat.device == NULL || now < run->heat.next_look)
        return true;
    run->heat.next_look = now + limits->poll_seconds;
    const int degrees = look_at_heat(run);
    return degrees < limits->critical || cool_down(run, degrees, err);
}

/* The step that failed has changed nothing, so what was learnt before it can be kept, unless it is
 * what the failure comes from. Memory after any other error of a device is not to be trusted. */
static void keep_last_state(Run *run, ErrCode code)
{
    const bool intact = code == ERR_RUNTIME_TRAINING_DIVERGED || code == ERR_RUNTIME_GPU_OOM ||
                        code == ERR_RUNTIME_GPU_TEMPERATURE_CRITICAL ||
                        code == ERR_RUNTIME_OOM_RECOVERY_EXHAUSTED;
    if (!intact || run->state.step <= run->saved_step)
        return;
    if (run->slabs.run.capacity > 0)
        step_store(&run->stepper, &run->vectors);
    for (int64_t i = 0; i < run->adapter->n_params; i++) {
        if (!isfinite(run->vectors.values[i]) || !isfinite(run->vectors.v[i]))
            return;
    }
    Err err = {0};
    if (!save_checkpoint(run, &err))
        log_warn("state_not_kept", "reason=\"%s\"", err.message);
}

/* After a step that ran out of memory before it changed anything: ready to do it again. */
static bool recover(Run *run, const Err *why, Err *err)
{
    return keep_vectors(run, err) && halve(run, why, err) && place_what_fits(run, err);
}

static bool run_loop(Run *run, Err *err)
{
    const int64_t every = run->options->save_steps;
    while (run->state.step < run->steps && !stop_asked(run)) {
        Err why = {0};
        if (!mind_the_heat(run, &why) || !one_step(run, &why)) {
            if (why.code == ERR_RUNTIME_OUT_OF_MEMORY && recover(run, &why, err))
                continue;
            if (!err_is_set(err))
                *err = why;
            keep_last_state(run, err->code);
            return false;
        }
        if (every > 0 && run->state.step % every == 0 && !save_checkpoint(run, err))
            return false;
    }
    announce_stop(run);
    return true;
}

static bool run_save(Run *run, Err *err)
{
    if (run->state.step == 0) /* stopped before the first step: nothing was learnt */
        return true;
    if (run->state.step > run->saved_step && !save_checkpoint(run, err))
        return false;
    step_store(&run->stepper, &run->vectors);
    if (run->options->end_values != NULL)
        memcpy(run->options->end_values, run->vectors.values,
               (size_t)run->adapter->n_params * sizeof(float));
    return adapter_has(run->adapter, ADAPTER_FULL) ? save_model(run, err) : save_adapter(run, err);
}

/* ---- the end ---------------------------------------------------------------------------- */

static void fill_result(Run *run, bool ok)
{
    TrainResult *result = run->result;
    result->status = !ok                             ? RUN_FAILED
                     : run->state.step == run->steps ? RUN_COMPLETED
                                                     : RUN_INTERRUPTED;
    result->steps = run->state.step;
    result->final_loss = run->state.step > 0 ? run->state.loss_sum / (double)run->state.step : 0;
    result->last_loss = run->last_loss;
    result->seconds = os_now() - run->start;
    result->tokens = run->state.tokens;
    result->losses = run->losses;
    result->n_losses = run->losses != NULL ? run->state.step : 0;
    if (run->saved_step > run->first_step)
        result->checkpoint_path = checkpoint_path(run->options->output, run->saved_step, run->out);
    else if (run->options->resume_from != NULL && run->first_step > 0)
        result->checkpoint_path = arena_strdup(run->out, run->options->resume_from);
    result->used_weights = run->slabs.weights.peak;
    result->used_run = run->slabs.run.peak;
    result->used_step = run->slabs.step.peak;
    if (run->backend->memory_used != NULL && run->slabs.step.capacity > 0)
        result->device_used = (size_t)memory_in_use(run);
    if (run->options->profile && run->stepper.tape != NULL) {
        for (int pass = 0; pass < PASS_COUNT; pass++)
            memcpy(result->op_times[pass], tape_times(run->stepper.tape, (Pass)pass),
                   sizeof result->op_times[pass]);
    }
}

/* The plan was the program: real peaks equal it to the byte once a step has run. */
static void check_plan(const Run *run)
{
    const TrainResult *result = run->result;
    if (run->state.step == run->placed_step || run->slabs.run.capacity == 0)
        return;
    must(result->used_weights == result->plan.weights);
    must(result->used_run == result->plan.run);
    must(result->used_step == result->plan.step);
    must(run->slabs.host.peak == result->plan.host);
}

bool train_run(Model *model, Adapter *adapter, const Dataset *dataset, Backend *backend,
               const TrainOptions *options, Arena *out, TrainResult *result, Err *err)
{
    must(model != NULL && adapter != NULL && backend != NULL && result != NULL);
    must(!adapter_has(adapter, ADAPTER_FULL) || options->save_model != NULL);
    *result = (TrainResult){0};
    Run run = {.folder = {{-1}}, .options = options, .model = model, .adapter = adapter,
               .dataset = dataset,
               .backend = backend, .out = out, .result = result, .start = os_now()};
    Err failure = {0};
    const bool ok =
        run_open(&run, &failure) && run_loop(&run, &failure) && run_save(&run, &failure);
    fill_result(&run, ok);
    check_plan(&run);
    emit(&run, (Event){.kind = EVENT_RUN_ENDED, .status = result->status,
                       .error = ok ? NULL : &failure, .loss = run.last_loss,
                       .mean_loss = result->final_loss, .path = result->adapter_path});
    run_close(&run);
    if (!ok && err != NULL && !err_is_set(err))
        *err = failure;
    return ok;
}
