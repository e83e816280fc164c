/* api_multi.c — bp_multi_run: options to a session of runs, from the data files to the merged
 * adapter, the matrix of losses and the history. The session itself is runs/multi.c.
 */
#include "api/train_job.h"

#include <math.h>

#include "core/os.h"
#include "runs/multi.h"
#include "runs/multi_report.h"

enum { DEFAULT_RUNS = 5 };

typedef struct MultiJob {
    TrainJob job;
    MultiOptions options;
    MultiResult result;
} MultiJob;

void multi_hyperparameters(const bp_trainer *t, Json *json)
{
    static const OptionId shown[] = {
        OPTION_RUNS,           OPTION_RUN_SAMPLES,        OPTION_MERGE_MODE,
        OPTION_SLAO_INIT,      OPTION_SLAO_SCALING,       OPTION_FINAL_LR,
        OPTION_LR_DECAY,       OPTION_REPLAY_FRACTION,    OPTION_REPLAY_STRATEGY,
        OPTION_EARLY_STOPPING, OPTION_VALIDATION_SAMPLES, OPTION_DRIFT_GATE,
        OPTION_EVAL_GATE,
    };
    assert(json_is_object(json));
    for (size_t i = 0; i < COUNT_OF(shown); i++) {
        Buf name = {0};
        for (const char *at = option_rows[shown[i]].name; *at != '\0'; at++)
            buf_char(&name, *at == '-' ? '_' : *at);
        json_put(json, name.data, json_new_text(settings_text(&t->settings, shown[i])));
        buf_free(&name);
    }
}

static MergeOptions merge_options(const Settings *s)
{
    MergeOptions o = {
        .min_scale = settings_number(s, OPTION_SLAO_MIN_SCALE, 0),
        .adaptive = settings_flag(s, OPTION_SLAO_ADAPTIVE),
        .layer_scaling = settings_flag(s, OPTION_SLAO_LAYERS),
        .ties_trim = settings_number(s, OPTION_TIES_TRIM, 0.2),
        .dare_drop_rate = settings_number(s, OPTION_DARE_DROP_RATE, 0.5),
        .dare_seed = (uint64_t)settings_int(s, OPTION_DARE_SEED, 0),
    };
    merge_mode_parse(settings_text(s, OPTION_MERGE_MODE), &o.mode);
    merge_scaling_parse(settings_text(s, OPTION_SLAO_SCALING), &o.scaling);
    merge_init_parse(settings_text(s, OPTION_SLAO_INIT), &o.init);
    return o;
}

static void phase(void *context, const char *text)
{
    const MultiJob *m = context;
    handle_phase(m->job.t, text);
}

static void run_done(void *context, const MultiRun *run, const char *folder)
{
    const MultiJob *m = context;
    train_job_register(&m->job, run->run, folder, run->final_loss, run->validation);
}

static bool fill_plan(MultiJob *m)
{
    TrainJob *job = &m->job;
    assert(job->n_files > 0 && job->n_files <= DATASET_MAX_FILES);
    const Settings *s = &job->t->settings;
    MultiOptions *o = &m->options;
    const int64_t files = (int64_t)job->n_files;
    MultiTask *tasks = arena_array(&job->arena, MultiTask, files);
    if (!multi_tasks(&job->dataset, job->files, job->n_files,
                     o->validation_samples > 0 ? HOLD_OUT_TENTH : HOLD_OUT_NONE, tasks,
                     &job->arena, &job->t->err))
        return false;
    o->plan = (MultiPlan){
        .tasks = tasks, .n_tasks = files,
        .runs = settings_int(s, OPTION_RUNS, files > 1 ? files : DEFAULT_RUNS),
        .samples = settings_int(s, OPTION_RUN_SAMPLES, 0),
        .replay_fraction = settings_number(s, OPTION_REPLAY_FRACTION, 0),
        .seed = (uint64_t)settings_int(s, OPTION_SEED, 42),
    };
    replay_parse(settings_text(s, OPTION_REPLAY_STRATEGY), &o->plan.replay);
    return multi_check(o, &job->t->err);
}

static void fill_options(MultiJob *m)
{
    const Settings *s = &m->job.t->settings;
    MultiOptions *o = &m->options;
    o->merge = merge_options(s);
    o->final_lr = settings_number(s, OPTION_FINAL_LR, 5e-5);
    decay_parse(settings_text(s, OPTION_LR_DECAY), &o->decay);
    o->validation_samples = settings_int(s, OPTION_VALIDATION_SAMPLES, 100);
    o->early_stopping = settings_flag(s, OPTION_EARLY_STOPPING);
    o->patience = settings_int(s, OPTION_EARLY_STOPPING_PATIENCE, 2);
    o->threshold = settings_number(s, OPTION_EARLY_STOPPING_THRESHOLD, 0);
    o->drift_gate = settings_flag(s, OPTION_DRIFT_GATE);
    o->drift_threshold = settings_number(s, OPTION_DRIFT_THRESHOLD, 0);
    o->eval_gate = settings_flag(s, OPTION_EVAL_GATE);
    o->max_regression = settings_number(s, OPTION_EVAL_MAX_REGRESSION, 0);
    o->phase = phase;
    o->run_done = run_done;
    o->listener = m;
}

static void publish(MultiJob *m)
{
    bp_trainer *t = m->job.t;
    const MultiResult *r = &m->result;
    assert(r->n_runs == 0 || r->runs != NULL);
    Json *json = json_new_object();
    json_put(json, "run_id", json_new_text(m->job.run_id));
    json_put(json, "session_kind", json_new_text(session_kind_name(SESSION_MULTI)));
    json_put(json, "status", json_new_text(run_status_name(r->status)));
    json_put(json, "merge_mode", json_new_text(merge_mode_name(m->options.merge.mode)));
    json_put(json, "total_runs", json_new_int(r->n_runs));
    json_put(json, "failed_runs", json_new_int(r->n_failed));
    json_put(json, "stopped_early", json_new_bool(r->stopped_early));
    json_put(json, "steps", json_new_int(r->steps));
    json_put(json, "tokens", json_new_int(r->tokens));
    json_put(json, "final_loss", json_new_double(r->final_loss));
    json_put(json, "seconds", json_new_double(r->seconds));
    json_put(json, "batch_size", json_new_int(r->batch_size));
    json_put(json, "lora_r", json_new_int(m->job.adapter->config.r));
    json_put(json, "adapter", json_new_text(r->adapter_path));
    json_put(json, "output", json_new_text(m->job.output));
    json_put(json, "dataset", dataset_json(&m->job.dataset));
    json_put(json, "runs", multi_history_json(r));
    json_put(json, "matrix", multi_report_json(&m->options, r));
    json_free(t->result);
    t->result = json;
}

static void end(MultiJob *m)
{
    const MultiResult *r = &m->result;
    const HistoryEnd ended = {
        .status = r->status, .steps = r->steps, .final_loss = r->final_loss,
        .duration_seconds = r->seconds, .losses = r->losses, .n_losses = r->n_losses,
        .gpu_max_temp = r->gpu_max_temp,
        .checkpoint_path = r->checkpoint_path, .merge_history = multi_history_json(r),
    };
    train_job_end(&m->job, &ended);
}

/* An interrupted session, or one with failed runs, is the handle's error, but its work is kept. */
static bool verdict(MultiJob *m)
{
    bp_trainer *t = m->job.t;
    const MultiResult *r = &m->result;
    if (r->status == RUN_INTERRUPTED) {
        err_set(&t->err, ERR_RUNTIME_TRAINING_ABORTED,
                "the session %s was stopped in run %lld of %lld", m->job.run_id,
                (long long)r->n_runs + 1, (long long)m->options.plan.runs);
        return err_hint(&t->err, "Go on with: backprop resume %.12s -o %s", m->job.run_id,
                        m->job.output);
    }
    t->adapter_folder = arena_strdup(&t->arena, r->adapter_path);
    t->adapter_is_own = true;
    if (r->n_failed == 0)
        return true;
    return err_set(&t->err, ERR_PARTIAL_SUCCESS, "%lld of %lld runs diverged; the others are in",
                   (long long)r->n_failed, (long long)r->n_runs);
}

static bool run_session(MultiJob *m)
{
    TrainJob *job = &m->job;
    bp_trainer *t = job->t;
    if (!train_job_prepare(job))
        return false;
    fill_options(m);
    if (!fill_plan(m) || !train_job_begin(job))
        return false;
    m->options.train = job->options;
    m->options.train.resume_from = NULL;
    m->result.status = RUN_FAILED;
    bool ok = multi_run(&t->model, job->adapter, &job->dataset, &job->backend, &m->options,
                        &job->arena, &m->result, &t->err);
    if (ok && m->result.adapter_path != NULL)
        ok = tokenizer_write_folder(t->tokenizer, m->result.adapter_path, &t->err);
    if (ok && m->result.adapter_path != NULL)
        train_job_register(job, 0, m->result.adapter_path, m->result.final_loss,
                           m->result.runs[m->result.n_runs - 1].validation);
    end(m);
    publish(m);
    return ok && !err_is_set(&t->err) && verdict(m);
}

bool bp_multi_run(bp_trainer *t, const char *data)
{
    if (!handle_ok(t))
        return false;
    MultiJob *m = arena_new(&t->arena, MultiJob);
    const bool ok = train_job_open(&m->job, t, SESSION_MULTI) &&
                    (data == NULL ||
                     settings_set(&t->settings, OPTION_DATA, data, FROM_CALLER, &t->err)) &&
                    run_session(m);
    train_job_close(&m->job);
    return ok ? true : handle_fail(t);
}
