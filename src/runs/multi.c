/* multi.c — the loop of a session. See multi.h.
 *
 * Before run 1 the base model is scored on every task. Then, for run i:
 *   1 its examples, its learning rate, its start (slao.h: from the run before)
 *   2 train_run in OUT/run_NNN, going on from its newest checkpoint when there is one
 *   3 merge, unless the drift gate forbids it
 *   4 score the merged adapter; the eval gate may take the merge back
 *   5 write OUT/run_NNN/slao: from here on the run is done
 * A process that is killed anywhere comes back to the last step 5, and into the run that it was in.
 */
#include "runs/multi.h"

#include "core/file.h"
#include "core/log.h"
#include "core/os.h"
#include "model/generate.h"
#include "runs/multi_report.h"
#include "runs/multi_state.h"
#include "train/checkpoint.h"
#include "train/output.h"

#include <math.h>
#include <string.h>

typedef struct Session {
    Model *model;
    Adapter *adapter;
    const Dataset *dataset;
    Backend *backend;
    const MultiOptions *options;
    Arena *out;
    MultiResult *result;
    Arena scratch; /* rewound after each run */
    Arena vectors;
    MultiState state;
    float *start, *kept; /* [n_params]: where a run starts; merged before its merge */
    bool announced;      /* the first run_started or run_resumed went out */
    double clock;
} Session;

bool decay_parse(const char *text, LrDecay *decay)
{
    static const char *const names[DECAY_COUNT] = {"linear", "cosine", "constant"};
    assert(text != NULL && decay != NULL);
    for (int i = 0; i < DECAY_COUNT; i++) {
        if (strcmp(names[i], text) == 0) {
            *decay = (LrDecay)i;
            return true;
        }
    }
    return false;
}

double decay_lr(LrDecay decay, double first, double last, int64_t run, int64_t runs)
{
    static const double pi = 3.14159265358979323846;
    must(run >= 1 && run <= runs);
    const double p = runs > 1 ? (double)(run - 1) / (double)(runs - 1) : 0;
    switch (decay) {
    case DECAY_LINEAR: return first + p * (last - first);
    case DECAY_COSINE: return last + 0.5 * (first - last) * (1 + cos(pi * p));
    case DECAY_CONSTANT: return first;
    case DECAY_COUNT: break;
    }
    must(false && "a decay");
    return first;
}

static void say(const Session *s, const char *text)
{
    if (s->options->phase != NULL)
        s->options->phase(s->options->listener, text);
}

static bool stop_asked(const Session *s)
{
    const volatile int *stop = s->options->train.stop;
    return stop != NULL && *stop != 0;
}

/* ---- scoring ---------------------------------------------------------------------------- */

/* Mean loss of the merged adapter, or of the base model, on a task's held-out examples. */
static bool score_task(Session *s, const MultiTask *task, const float *values, double *loss,
                       Err *err)
{
    const int64_t n = min_i64(task->n_held_out, s->options->validation_samples);
    const Dataset *d = s->dataset;
    *loss = NAN;
    if (n == 0)
        return true;
    const size_t mark = arena_mark(&s->scratch);
    MarkedSequence *sequences = arena_array(&s->scratch, MarkedSequence, n);
    for (int64_t i = 0; i < n; i++) {
        const Example *e = &task->held_out[i];
        sequences[i] = (MarkedSequence){d->tokens + e->start, d->loss + e->start, e->len};
    }
    s->model->adapter = values != NULL ? s->adapter : NULL;
    const bool ok = evaluate_marked(s->model, s->backend, sequences, n, values, loss, err);
    s->model->adapter = NULL;
    arena_rewind(&s->scratch, mark);
    return ok;
}

/* values NULL: the base model. *mean: of the tasks. */
static bool score_all(Session *s, const float *values, double *losses, double *mean, Err *err)
{
    const MultiPlan *plan = &s->options->plan;
    double sum = 0;
    for (int64_t i = 0; i < plan->n_tasks; i++) {
        if (!score_task(s, &plan->tasks[i], values, &losses[i], err))
            return false;
        sum += losses[i];
    }
    *mean = sum / (double)plan->n_tasks;
    return true;
}

/* ---- opening ---------------------------------------------------------------------------- */

static bool setting(bool good, const char *what, Err *err)
{
    return good || err_set(err, ERR_CONFIG_INVALID_SETTING, "%s", what);
}

bool multi_check(const MultiOptions *o, Err *err)
{
    const bool scored = o->validation_samples > 0;
    return setting(scored || !o->early_stopping, "early stopping needs validation samples", err) &&
           setting(scored || !o->eval_gate, "the eval gate needs validation samples", err) &&
           setting(o->train.resume_from == NULL, "a session finds its own checkpoints", err) &&
           multi_plan_check(&o->plan, err);
}

/* What decides a session's numbers, beside what its runs check themselves. */
static Json *session_numbers(const Session *s)
{
    const MultiOptions *o = s->options;
    Json *json = json_new_object();
    json_put(json, "dataset_sha256", json_new_text(s->dataset->sha256));
    json_put(json, "runs", json_new_int(o->plan.runs));
    json_put(json, "tasks", json_new_int(o->plan.n_tasks));
    json_put(json, "steps", json_new_int(o->train.steps));
    json_put(json, "samples", json_new_int(o->plan.samples));
    json_put(json, "replay_fraction", json_new_double(o->plan.replay_fraction));
    json_put(json, "replay_strategy", json_new_int((int64_t)o->plan.replay));
    json_put(json, "seed", json_new_int((int64_t)o->train.seed));
    json_put(json, "lr", json_new_double(o->train.lr));
    json_put(json, "final_lr", json_new_double(o->final_lr));
    json_put(json, "lr_decay", json_new_int((int64_t)o->decay));
    json_put(json, "merge_mode", json_new_text(merge_mode_name(o->merge.mode)));
    json_put(json, "scaling_type", json_new_int((int64_t)o->merge.scaling));
    json_put(json, "min_scale", json_new_double(o->merge.min_scale));
    json_put(json, "start_b", json_new_int((int64_t)o->merge.init));
    json_put(json, "use_adaptive_scaling", json_new_bool(o->merge.adaptive));
    json_put(json, "use_layer_scaling", json_new_bool(o->merge.layer_scaling));
    json_put(json, "ties_trim", json_new_double(o->merge.ties_trim));
    json_put(json, "dare_drop_rate", json_new_double(o->merge.dare_drop_rate));
    json_put(json, "dare_seed", json_new_int((int64_t)o->merge.dare_seed));
    json_put(json, "validation_samples", json_new_int(o->validation_samples));
    return json;
}

static bool open_session(Session *s, Err *err)
{
    const MultiOptions *o = s->options;
    if (!multi_check(o, err) || !arena_open(&s->scratch, 0, err) ||
        !arena_open(&s->vectors, 0, err))
        return false;
    const int64_t n = s->adapter->n_params;
    s->start = arena_array(&s->vectors, float, n);
    s->kept = arena_array(&s->vectors, float, n);
    s->state = (MultiState){
        .run_id = o->train.run_id, .numbers = session_numbers(s),
        .runs = arena_array(s->out, MultiRun, o->plan.runs), .n_tasks = o->plan.n_tasks,
        .before = arena_array(s->out, double, o->plan.n_tasks),
        .tuned = arena_array(&s->vectors, float, n), .merged = arena_array(&s->vectors, float, n),
        .n_params = n,
    };
    bool found;
    if (!multi_state_load(o->train.output, o->plan.runs, &s->state, &found, s->out, err))
        return false;
    if (found) {
        log_info("session_resumed", "runs_done=%lld", (long long)s->state.n_runs);
        return true;
    }
    double mean;
    if (o->validation_samples > 0)
        say(s, "Scoring the base model");
    return score_all(s, NULL, s->state.before, &mean, err);
}

/* ---- one run ---------------------------------------------------------------------------- */

/* Inner runs begin and end; the session's listeners hear of it once. */
static void on_event(void *context, const Event *event)
{
    Session *s = context;
    const TrainOptions *o = &s->options->train;
    const bool begins = event->kind == EVENT_RUN_STARTED || event->kind == EVENT_RUN_RESUMED;
    if (event->kind == EVENT_RUN_ENDED || (begins && s->announced) || o->sink == NULL)
        return;
    s->announced = true;
    o->sink(o->sink_context, event);
}

/* OUT/run_NNN, which says whose it is from its first moment on. */
static const char *make_folder(Session *s, int64_t run, Err *err)
{
    const TrainOptions *o = &s->options->train;
    const ErrCode code = ERR_RUNTIME_IO_FAILED;
    const char *folder = output_session_run(o->output, run, &s->scratch);
    if (path_is_folder(folder))
        return folder;
    const char *partial = folder_begin(folder, &s->scratch, code, err);
    const bool ok = partial != NULL &&
                    file_write_atomic(path_join(&s->scratch, partial, RUN_ID_FILE),
                                      str_of(o->run_id), code, err) &&
                    folder_commit(folder, code, err);
    return ok ? folder : NULL;
}

static void note_losses(Session *s, const TrainResult *r)
{
    MultiState *state = &s->state;
    float *all = arena_array(s->out, float, state->n_losses + r->n_losses);
    if (state->n_losses > 0)
        memcpy(all, state->losses, (size_t)state->n_losses * sizeof *all);
    if (r->n_losses > 0)
        memcpy(all + state->n_losses, r->losses, (size_t)r->n_losses * sizeof *all);
    state->losses = all;
    state->n_losses += r->n_losses;
}

/* Trains run `run->run` into state.tuned. A run that diverged is no error: run->failed. */
static bool train_one(Session *s, MultiRun *run, Err *err)
{
    const MultiOptions *o = s->options;
    TrainOptions options = o->train;
    const MultiShare share = multi_share(&o->plan, run->run, &s->scratch);
    const Dataset data = dataset_subset(s->dataset, share.examples, share.n);
    options.output = make_folder(s, run->run, err);
    if (options.output == NULL)
        return false;
    options.output_held = false;
    options.lr = run->lr = decay_lr(o->decay, o->train.lr, o->final_lr, run->run, o->plan.runs);
    options.seed = o->train.seed + (uint64_t)run->run;
    if (s->state.batch_size > 0)
        options.batch_size = s->state.batch_size;
    options.start_values = s->state.has_tuned ? s->start : o->train.start_values;
    options.end_values = s->kept; /* only a run that is whole replaces the one before */
    options.resume_from = checkpoint_latest(options.output, options.run_id, &s->scratch);
    options.sink = on_event;
    options.sink_context = s;
    TrainResult r;
    Err why = {0};
    const bool ok = train_run(s->model, s->adapter, &data, s->backend, &options, &s->scratch, &r,
                              &why);
    run->examples = share.n;
    run->replayed = share.n_replayed;
    run->steps = r.steps;
    run->tokens = r.tokens;
    run->final_loss = r.final_loss;
    run->seconds = r.seconds;
    s->result->plan = r.plan;
    if (r.gpu_max_temp > s->result->gpu_max_temp)
        s->result->gpu_max_temp = r.gpu_max_temp;
    s->result->status = r.status;
    s->result->checkpoint_path = arena_strdup(s->out, options.output);
    run->failed = !ok && why.code == ERR_RUNTIME_TRAINING_DIVERGED;
    if (!ok && !run->failed) {
        *err = why;
        return false;
    }
    if (run->failed) {
        run->reason = arena_strdup(s->out, why.message);
        log_warn("run_failed", "run=%lld reason=\"%s\"", (long long)run->run, why.message);
        return true;
    }
    if (r.status == RUN_INTERRUPTED)
        return true;
    if (s->state.batch_size == 0)
        s->state.batch_size = r.plan.batch_size;
    note_losses(s, &r);
    memcpy(s->state.tuned, s->kept, (size_t)s->adapter->n_params * sizeof *s->kept);
    s->state.has_tuned = true;
    return true;
}

/* Losses of the last run that was scored; NAN when none was. */
static double last_validation(const Session *s)
{
    for (int64_t i = s->state.n_runs - 1; i >= 0; i--) {
        if (!isnan(s->state.runs[i].validation))
            return s->state.runs[i].validation;
    }
    return NAN;
}

static bool undo_merge(Session *s, MultiRun *run, const char *why, Err *err)
{
    log_info("merge_refused", "run=%lld reason=\"%s\"", (long long)run->run, why);
    run->merged = false;
    run->reason = arena_strdup(s->out, why);
    memcpy(s->state.merged, s->kept, (size_t)s->adapter->n_params * sizeof *s->kept);
    return score_all(s, s->state.merged, run->losses, &run->validation, err);
}

/* Runs that were merged so far: the first of them seeds. */
static int64_t merged_runs(const Session *s)
{
    int64_t count = 0;
    for (int64_t i = 0; i < s->state.n_runs; i++)
        count += s->state.runs[i].merged;
    return count;
}

static bool merge_one(Session *s, MultiRun *run, Err *err)
{
    const MultiOptions *o = s->options;
    MultiState *state = &s->state;
    const bool first = merged_runs(s) == 0;
    memcpy(s->kept, state->merged, (size_t)state->n_params * sizeof *s->kept);
    if (!merge_run(s->adapter, &o->merge, first ? 1 : run->run, state->tuned, state->merged,
                   &run->merge, err))
        return false;
    run->merged = true;
    const bool gated = !first && o->merge.mode != MERGE_SIMPLE;
    if (gated && o->drift_gate && run->merge.cosine < o->drift_threshold)
        return undo_merge(s, run, "the drift gate: it points away from what is merged", err);
    const double before = last_validation(s);
    if (!score_all(s, state->merged, run->losses, &run->validation, err))
        return false;
    if (gated && o->eval_gate && run->validation - before > o->max_regression)
        return undo_merge(s, run, "the eval gate: the held-out loss is worse", err);
    return true;
}

static bool one_run(Session *s, bool *finished, Err *err)
{
    const MultiOptions *o = s->options;
    MultiState *state = &s->state;
    MultiRun *run = &state->runs[state->n_runs];
    *run = (MultiRun){.run = state->n_runs + 1, .validation = NAN,
                      .losses = arena_array(s->out, double, o->plan.n_tasks)};
    run->task = multi_task_of(&o->plan, run->run);
    for (int64_t i = 0; i < o->plan.n_tasks; i++)
        run->losses[i] = NAN;
    *finished = false;
    say(s, arena_printf(&s->scratch, "Run %lld of %lld: %s", (long long)run->run,
                        (long long)o->plan.runs, o->plan.tasks[run->task].name));
    if (state->has_tuned)
        merge_start(s->adapter, &o->merge, state->tuned, state->merged, s->start);
    if (!train_one(s, run, err))
        return false;
    if (!run->failed && s->result->status == RUN_INTERRUPTED)
        return true;
    if (!run->failed && !merge_one(s, run, err))
        return false;
    state->n_runs++;
    *finished = multi_state_save(o->train.output, state, &s->scratch, err);
    if (*finished && o->run_done != NULL && !run->failed)
        o->run_done(o->listener, run,
                    path_join(&s->scratch, s->result->checkpoint_path, ADAPTER_FOLDER));
    return *finished;
}

/* ---- the loop --------------------------------------------------------------------------- */

/* From run 2 on, `patience` runs in a row that did not better the best by more than threshold. */
static bool should_stop_early(const Session *s)
{
    const MultiOptions *o = s->options;
    double best = INFINITY;
    int64_t waited = 0;
    for (int64_t i = 0; i < s->state.n_runs; i++) {
        const double loss = s->state.runs[i].validation;
        if (isnan(loss))
            continue;
        waited = best - loss > o->threshold ? 0 : waited + 1;
        best = fmin(best, loss);
    }
    return o->early_stopping && waited >= o->patience;
}

static bool run_loop(Session *s, Err *err)
{
    MultiResult *r = s->result;
    while (s->state.n_runs < s->options->plan.runs) {
        r->stopped_early = should_stop_early(s);
        if (r->stopped_early)
            break;
        bool finished = false;
        if (stop_asked(s))
            r->status = RUN_INTERRUPTED;
        else if (!one_run(s, &finished, err))
            return false;
        arena_rewind(&s->scratch, 0);
        if (!finished)
            return true; /* stopped */
    }
    r->status = RUN_COMPLETED;
    return true;
}

static bool save_merged(Session *s, Err *err)
{
    const TrainOptions *o = &s->options->train;
    const ErrCode code = ERR_RUNTIME_IO_FAILED;
    if (!s->state.has_tuned)
        return err_set(err, ERR_RUNTIME_TRAINING_DIVERGED, "all %lld runs diverged; the last: %s",
                       (long long)s->state.n_runs,
                       s->state.runs[s->state.n_runs - 1].reason);
    const char *path = path_join(s->out, o->output, ADAPTER_FOLDER);
    const char *partial = folder_begin(path, &s->scratch, code, err);
    const bool ok = partial != NULL &&
                    adapter_save_peft(s->adapter, s->model, s->state.merged, o->base_name, partial,
                                      err) &&
                    file_write_atomic(path_join(&s->scratch, partial, RUN_ID_FILE),
                                      str_of(o->run_id), code, err) &&
                    folder_commit(path, code, err);
    if (!ok)
        folder_abandon(path);
    else
        s->result->adapter_path = path;
    return ok;
}

static void fill_result(Session *s, bool ok)
{
    MultiResult *r = s->result;
    const MultiState *state = &s->state;
    r->status = ok ? r->status : RUN_FAILED;
    r->runs = state->runs;
    r->n_runs = state->n_runs;
    r->before = state->before;
    r->n_tasks = state->before != NULL ? s->options->plan.n_tasks : 0; /* 0: never opened */
    r->batch_size = state->batch_size;
    r->losses = state->losses;
    r->n_losses = state->n_losses;
    r->seconds = os_now() - s->clock;
    for (int64_t i = 0; i < state->n_runs; i++) {
        const MultiRun *run = &state->runs[i];
        r->n_failed += run->failed;
        r->steps += run->failed ? 0 : run->steps;
        r->tokens += run->failed ? 0 : run->tokens;
        if (!run->failed)
            r->final_loss = run->final_loss;
    }
}

bool multi_run(Model *model, Adapter *adapter, const Dataset *dataset, Backend *backend,
               const MultiOptions *options, Arena *out, MultiResult *result, Err *err)
{
    must(options->train.output_held && options->plan.runs >= 1);
    *result = (MultiResult){0};
    Session s = {.model = model, .adapter = adapter, .dataset = dataset, .backend = backend,
                 .options = options, .out = out, .result = result, .clock = os_now()};
    Err failure = {0};
    bool ok = open_session(&s, &failure) && run_loop(&s, &failure);
    if (ok && result->status == RUN_COMPLETED)
        ok = save_merged(&s, &failure);
    fill_result(&s, ok);
    if (ok && result->status == RUN_COMPLETED)
        ok = multi_report_svg(options, result, &s.scratch, &failure);
    const TrainOptions *o = &options->train;
    const Event end = {.kind = EVENT_RUN_ENDED, .run_id = o->run_id, .status = result->status,
                       .step = result->steps, .steps = result->steps, .seconds = result->seconds,
                       .mean_loss = result->final_loss, .path = result->adapter_path,
                       .error = ok ? NULL : &failure};
    if (o->sink != NULL)
        o->sink(o->sink_context, &end);
    json_free(s.state.numbers);
    arena_close(&s.vectors);
    arena_close(&s.scratch);
    if (!ok && err != NULL && !err_is_set(err))
        *err = failure;
    return ok;
}
