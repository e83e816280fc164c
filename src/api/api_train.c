/* api_train.c — bp_train: options to a run, from the data file to OUT/lora (OUT/model where every
 * weight is trained) and the history.
 *
 * Order: the data path is checked before the model is opened, the data before anything is placed on
 * a device. A resumed run takes every option that was not given from its checkpoint.
 */
#include "api/train_job.h"

#include "api/run_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/os.h"
#include "export/export.h"
#include "model/full.h"
#include "model/generate.h"
#include "runs/history.h"
#include "runs/manifest.h"
#include "train/checkpoint.h"
#include "train/output.h"
#include "train/train.h"

/* ---- options ----------------------------------------------------------------------------- */

static bool take_struct(bp_trainer *t, const char *data, const bp_train_options *given)
{
    Settings *s = &t->settings;
    Arena *arena = &t->arena;
    if (data != NULL && !settings_set(s, OPTION_DATA, data, FROM_CALLER, &t->err))
        return false;
    if (given == NULL)
        return true;
    if (given->steps != 0 &&
        !settings_set(s, OPTION_STEPS, arena_printf(arena, "%lld", (long long)given->steps),
                      FROM_CALLER, &t->err))
        return false;
    if (given->batch_size != 0 &&
        !settings_set(s, OPTION_BATCH_SIZE,
                      arena_printf(arena, "%lld", (long long)given->batch_size), FROM_CALLER,
                      &t->err))
        return false;
    if (given->lr != 0 &&
        !settings_set(s, OPTION_LR, arena_printf(arena, "%.17g", given->lr), FROM_CALLER, &t->err))
        return false;
    if (given->lora_r != 0 &&
        !settings_set(s, OPTION_LORA_R, arena_printf(arena, "%lld", (long long)given->lora_r),
                      FROM_CALLER, &t->err))
        return false;
    return given->resume == NULL ||
           settings_set(s, OPTION_RESUME, given->resume, FROM_CALLER, &t->err);
}

/* Files of other runs in the output folder have moved: their histories follow. */
static void on_moved(void *context, const char *run_id, const char *from, const char *to)
{
    TrainJob *job = context;
    Err err = {0};
    if (run_id != NULL && !history_moved(job->output, run_id, from, to, &err))
        log_warn("history_not_written", "reason=\"%s\"", err.message);
    err = (Err){0};
    if (run_id != NULL && !manifest_moved(job->output, from, to, &err))
        log_warn("manifest_not_written", "reason=\"%s\"", err.message);
}

bool train_job_take_output(TrainJob *job)
{
    job->options.output_held = output_open(&job->folder, job->output, job->run_id, on_moved, job,
                                           &job->t->err);
    return job->options.output_held;
}

/* The checkpoint that an entry of another writer names, if it is there. */
static const char *named_checkpoint(TrainJob *job, const Json *entry)
{
    const char *folder = json_text(json_get(entry, "checkpoint_path"));
    if (folder == NULL || !path_exists(path_join(&job->arena, folder, "state.safetensors")))
        return NULL;
    return arena_strdup(&job->arena, folder);
}

static bool is_of_kind(TrainJob *job, const Json *entry)
{
    if (session_kind_of(entry) == job->kind)
        return true;
    err_set(&job->t->err, ERR_INPUT_VALIDATION_FAILED, "run '%s' is a %s",
            json_text(json_get(entry, "run_id")), session_kind_name(session_kind_of(entry)));
    return err_hint(&job->t->err, "Go on with it by: backprop resume RUN_ID -o %s", job->output);
}

static bool find_resume(TrainJob *job)
{
    bp_trainer *t = job->t;
    const char *id = settings_text(&t->settings, OPTION_RESUME);
    Json *entry = resume_entry(t, job->output, id);
    if (entry == NULL)
        return false;
    const char *run_id = json_text(json_get(entry, "run_id"));
    Json *stored = run_options_of(entry);
    bool ok = is_of_kind(job, entry) && run_options_restore(t, stored);
    json_free(stored);
    if (ok && (run_id == NULL || strlen(run_id) != 32))
        ok = err_set(&t->err, ERR_STATE_HISTORY_INVALID, "run '%s' was not made by this program",
                     id);
    if (ok) {
        memcpy(job->run_id, run_id, sizeof job->run_id);
        ok = train_job_take_output(job);
    }
    const bool finds_its_own = job->kind == SESSION_MULTI;
    if (ok && !finds_its_own) {
        job->resume_from = checkpoint_latest(job->output, job->run_id, &job->arena);
        if (job->resume_from == NULL)
            job->resume_from = named_checkpoint(job, entry);
    }
    json_free(entry);
    if (ok && !finds_its_own && job->resume_from == NULL) {
        err_set(&t->err, ERR_STATE_CHECKPOINT_INVALID, "run '%s' has no checkpoint in '%s'", id,
                job->output);
        return err_hint(&t->err, "Start again without --resume");
    }
    return ok;
}

/* ---- adapter ----------------------------------------------------------------------------- */

/* The preset's rank must fit the smallest matrix it adapts: a small model gets the largest power of
 * two that does. A rank that the user names is taken as it is, and refused when it is too large. */
static int64_t preset_rank(const Model *model, unsigned targets, int64_t wanted)
{
    assert(wanted > 0 && targets != 0);
    int64_t smallest = INT64_MAX;
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
        const Weight *w = &model->layers[0].linear[role];
        if ((targets & (1u << role)) != 0 && w->rows > 0) /* the model has it */
            smallest = min_i64(smallest, min_i64(w->rows, w->cols));
    }
    int64_t r = wanted;
    while (r > smallest && r > 1)
        r /= 2;
    return r;
}

/* Options of the adapter that were given, where what they say is decided already: `why` it is. */
static bool no_adapter_options(TrainJob *job, const char *why)
{
    bp_trainer *t = job->t;
    static const OptionId decided[] = {OPTION_LORA_PRESET, OPTION_LORA_R, OPTION_LORA_ALPHA,
                                       OPTION_LORA_TARGETS, OPTION_USE_DORA, OPTION_USE_RSLORA};
    for (size_t i = 0; i < COUNT_OF(decided); i++) {
        const char *text = settings_text(&t->settings, decided[i]);
        const char *flag = option_rows[decided[i]].flag;
        if (strcmp(text, option_rows[decided[i]].fallback) == 0)
            continue;
        err_set(&t->err, ERR_CONFIG_INVALID_SETTING, "--%s has nothing to decide: %s", flag, why);
        return err_hint(&t->err, "Leave out --%s", flag);
    }
    return true;
}

static bool make_full(TrainJob *job)
{
    if (!no_adapter_options(job, "--mode full trains no adapter"))
        return false;
    job->adapter = full_make(&job->t->model, &job->arena);
    return true;
}

/* The handle names an adapter: training goes on with it, its optimiser new. */
static bool take_adapter(TrainJob *job)
{
    bp_trainer *t = job->t;
    if (job->kind == SESSION_MULTI || settings_is(&t->settings, OPTION_MODE, "full")) {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "'%s' is an adapter, not a base model",
                t->source);
        return err_hint(&t->err, "Train on its base: --model \"%s\"", t->base_path);
    }
    const char *from = path_absolute(&job->arena, t->adapter_folder);
    const char *to = path_absolute(&job->arena, job->output);
    const Str prefix = str_of(to);
    if (str_starts(str_of(from), to) && (from[prefix.len] == '/' || from[prefix.len] == '\0')) {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED,
                "the adapter '%s' lies in the output folder, where this run's own goes",
                t->adapter_folder);
        return err_hint(&t->err, "Pass another --output");
    }
    if (!no_adapter_options(job, "training goes on with an adapter"))
        return false;
    job->adapter = adapter_load_peft(&t->model, t->adapter_folder, &job->start_values, &job->arena,
                                     &t->err);
    return job->adapter != NULL;
}

bool train_adapter_config(bp_trainer *t, const Model *model, AdapterConfig *config)
{
    const Settings *s = &t->settings;
    const bool fast = settings_is(s, OPTION_LORA_PRESET, "fast");
    assert(model->family != NULL);
    const char *targets = settings_text(s, OPTION_LORA_TARGETS);
    *config = (AdapterConfig){0};
    if (strcmp(targets, "auto") == 0)
        targets = !fast                              ? "all-linear"
                  : family_has(model->family, ROLE_Q) ? "q_proj,v_proj"
                                                      : "qkv_proj";
    if (adapter_is_pattern(targets)) {
        config->pattern = targets;
        config->targets = ADAPTER_ALL_LINEAR;
    } else if (!adapter_parse_targets(targets, &config->targets, &t->err)) {
        return false;
    }
    config->r = settings_int(s, OPTION_LORA_R, 0);
    if (config->r == 0) {
        const int64_t wanted = fast ? 16 : 256;
        config->r = preset_rank(model, config->targets, wanted);
        if (config->r != wanted)
            log_info("rank_lowered", "from=%lld to=%lld reason=\"the model's smallest matrix\"",
                     (long long)wanted, (long long)config->r);
    }
    config->methods = (settings_flag(s, OPTION_USE_DORA) ? ADAPTER_DORA : 0u) |
                      (settings_flag(s, OPTION_USE_RSLORA) ? ADAPTER_RSLORA : 0u);
    config->alpha = settings_number(s, OPTION_LORA_ALPHA, 2.0 * (double)config->r);
    return true;
}

static bool make_adapter(TrainJob *job)
{
    bp_trainer *t = job->t;
    AdapterConfig config;
    if (t->adapter_folder != NULL && !t->adapter_is_own)
        return take_adapter(job);
    if (settings_is(&t->settings, OPTION_MODE, "full"))
        return make_full(job);
    if (!train_adapter_config(t, &t->model, &config))
        return false;
    job->adapter = adapter_make(&t->model, &config, &job->arena, &t->err);
    return job->adapter != NULL;
}

/* ---- the run ----------------------------------------------------------------------------- */

/* A tokenizer may know more tokens than the model has rows; the data must not use them. */
static bool tokens_have_rows(TrainJob *job)
{
    const Dataset *dataset = &job->dataset;
    const int64_t rows = job->t->model.config.vocab;
    assert(rows > 0 && dataset->n_tokens >= 0);
    for (int64_t i = 0; i < dataset->n_tokens; i++) {
        if (dataset->tokens[i] >= 0 && dataset->tokens[i] < rows)
            continue;
        err_set(&job->t->err, ERR_DEP_MODEL_LOAD_FAILED,
                "the data holds token %d, and model '%s' has embeddings for %lld",
                (int)dataset->tokens[i], job->t->source, (long long)rows);
        return err_hint(&job->t->err, "The tokenizer in the file is not this model's own");
    }
    return true;
}

static bool load_dataset(TrainJob *job)
{
    bp_trainer *t = job->t;
    DatasetOptions options;
    if (!handle_dataset_options(t, &options))
        return false;
    if (options.max_seq_length > t->model.config.max_positions)
        options.max_seq_length = (int32_t)t->model.config.max_positions;
    handle_phase(t, "Reading data");
    const DataTexts texts = handle_data_texts(t);
    if (!dataset_load(&job->dataset, job->files, job->n_files, &texts, &options, &job->arena,
                      &t->err) ||
        !tokens_have_rows(job))
        return false;
    Buf summary = {0};
    dataset_summary(&job->dataset, &summary);
    handle_phase(t, summary.data);
    buf_free(&summary);
    for (int64_t i = 0; i < job->dataset.n_notes; i++) {
        const RowNote *note = &job->dataset.notes[i];
        log_warn(note->truncated ? "row_cut" : "row_dropped", "file=\"%s\" line=%d reason=\"%s\"",
                 job->files[note->file].path, note->line, note->text);
    }
    job->options.max_seq_length = options.max_seq_length;
    return true;
}

static void on_train_event(void *context, const Event *event)
{
    TrainJob *job = context;
    bp_trainer *t = job->t;
    if (event->kind == EVENT_CHECKPOINT)
        log_info("checkpoint", "step=%lld path=\"%s\"", (long long)event->step, event->path);
    if (t->on_event == NULL)
        return;
    Json *json = event_json(event);
    assert(json_is_object(json));
    Buf text = {0};
    json_write(json, (JsonStyle){0}, &text);
    json_free(json);
    bp_event public_event = {
        .name = event_name(event->kind),
        .run_id = event->run_id,
        .step = event->step,
        .steps = event->steps,
        .loss = event->loss,
        .lr = event->lr,
        .tokens_per_second = event->tokens_per_second,
        .peak_share = event->peak_share,
        .seconds_left = event->seconds_left,
        .memory_bytes = event->memory_bytes,
        .text = event->path,
        .json = text.data,
    };
    t->on_event(t->on_event_context, &public_event);
    buf_free(&text);
}

static bool is_full(const TrainJob *job)
{
    return adapter_has(job->adapter, ADAPTER_FULL);
}

/* The trained model as a folder that transformers loads, in bf16. */
static bool save_model(void *context, const float *values, const char *folder, Err *err)
{
    TrainJob *job = context;
    bp_trainer *t = job->t;
    Arena arena;
    ExportResult result = {0};
    assert(is_full(job));
    if (!arena_open(&arena, 0, err))
        return false;
    const ExportOptions options = {.format = EXPORT_MERGED, .dtype = DTYPE_BF16,
                                   .output = folder};
    const bool ok = export_run(full_view(&t->model, job->adapter, values, &arena), NULL, NULL, NULL,
                               t->tokenizer, &options, &arena, &result, err);
    arena_close(&arena);
    return ok;
}

/* From here on the handle's model is the trained one. */
static bool take_model(TrainJob *job)
{
    bp_trainer *t = job->t;
    model_close(&t->model);
    t->model = (Model){0};
    t->loaded = false;
    t->base_path = arena_strdup(&t->arena, job->result.adapter_path);
    t->adapter_folder = NULL;
    t->loaded = model_open(&t->model, t->base_path, &t->arena, &t->err);
    return t->loaded;
}

static void fill_options(TrainJob *job)
{
    bp_trainer *t = job->t;
    const Settings *s = &t->settings;
    TrainOptions *o = &job->options;
    Json *stored = run_options_json(t);
    Buf text = {0};
    json_write(stored, (JsonStyle){0}, &text);
    json_free(stored);
    o->options_json = arena_strdup(&job->arena, text.data);
    buf_free(&text);
    o->run_id = job->run_id;
    o->output = job->output;
    o->base_name = t->base_path;
    o->steps = settings_int(s, OPTION_STEPS, 0);
    o->epochs = settings_number(s, OPTION_EPOCHS, 0);
    if (o->epochs > 0)
        o->steps = 0;
    o->batch_size = (int32_t)settings_int(s, OPTION_BATCH_SIZE, 0);
    o->accumulation = (int32_t)settings_int(s, OPTION_ACCUMULATION, 4);
    o->packing = !settings_flag(s, OPTION_NO_PACKING);
    o->curriculum = settings_flag(s, OPTION_CURRICULUM);
    o->lr = is_full(job) && !settings_given(s, OPTION_LR) ? 2e-5
                                                          : settings_number(s, OPTION_LR, 2e-4);
    o->start_values = job->start_values;
    o->save_model = save_model;
    o->save_context = job;
    o->weight_decay = settings_number(s, OPTION_WEIGHT_DECAY, 0.01);
    o->max_grad_norm = settings_number(s, OPTION_MAX_GRAD_NORM, 1);
    o->warmup_steps = settings_int(s, OPTION_WARMUP_STEPS, 0);
    schedule_parse(settings_text(s, OPTION_SCHEDULER), &o->schedule);
    o->seed = (uint64_t)settings_int(s, OPTION_SEED, 42);
    o->save_steps = settings_int(s, OPTION_SAVE_STEPS, 0);
    o->segments = SEGMENT_KEEP;
    if (settings_is(s, OPTION_GRADIENT_CHECKPOINTING, "true"))
        o->segments = SEGMENT_RECOMPUTE;
    if (settings_is(s, OPTION_GRADIENT_CHECKPOINTING, "offload"))
        o->segments = SEGMENT_OFFLOAD;
    o->memory_limit = (uint64_t)(settings_number(s, OPTION_MEMORY_GB, 0) * 1e9);
    o->profile = settings_flag(s, OPTION_PROFILE);
    o->heat = (HeatLimits){.critical = settings_number(s, OPTION_GPU_MAX_TEMP, 90),
                           .resume = settings_number(s, OPTION_GPU_RESUME_TEMP, 80),
                           .max_pause = settings_number(s, OPTION_GPU_MAX_PAUSE, 1800),
                           .poll_seconds = settings_number(s, OPTION_GPU_POLL_SECONDS, 5)};
    const char *device = settings_text(s, OPTION_DEVICE);
    const char *colon = strchr(device, ':');
    o->gpu_index = colon != NULL ? (int)strtol(colon + 1, NULL, 10) : 0;
    o->no_oom_recovery = settings_flag(s, OPTION_NO_OOM_RECOVERY);
    o->resume_from = job->resume_from;
    o->sink = on_train_event;
    o->sink_context = job;
    o->stop = &t->stop;
}

static Json *hyperparameters(const TrainJob *job)
{
    const TrainOptions *o = &job->options;
    const AdapterConfig *adapter = &job->adapter->config;
    const Settings *s = &job->t->settings;
    Json *json = json_new_object();
    json_put(json, "lora_r", json_new_int(adapter->r));
    json_put(json, "lora_alpha", json_new_double(adapter->alpha));
    json_put(json, "lora_dropout", json_new_double(0));
    json_put(json, "use_dora", json_new_bool((adapter->methods & ADAPTER_DORA) != 0));
    json_put(json, "use_rslora", json_new_bool((adapter->methods & ADAPTER_RSLORA) != 0));
    json_put(json, "learning_rate", json_new_double(o->lr));
    json_put(json, "batch_size", json_new_text(settings_text(s, OPTION_BATCH_SIZE)));
    json_put(json, "gradient_accumulation", json_new_int(o->accumulation));
    json_put(json, "max_seq_length", json_new_int(o->max_seq_length));
    json_put(json, "max_steps", json_new_int(o->steps));
    json_put(json, "max_samples", json_new_int(settings_int(s, OPTION_SAMPLES, 0)));
    json_put(json, "seed", json_new_int((int64_t)o->seed));
    json_put(json, "packing", json_new_bool(o->packing));
    json_put(json, "lr_scheduler_type", json_new_text(schedule_name(o->schedule)));
    json_put(json, "warmup_steps", json_new_int(o->warmup_steps));
    json_put(json, "weight_decay", json_new_double(o->weight_decay));
    json_put(json, "lora_preset", json_new_text(settings_text(s, OPTION_LORA_PRESET)));
    json_put(json, "mode", json_new_text(settings_text(s, OPTION_MODE)));
    if (job->kind == SESSION_MULTI)
        multi_hyperparameters(job->t, json);
    return json;
}

static bool start_history(TrainJob *job)
{
    bp_trainer *t = job->t;
    assert(strlen(job->run_id) == 32);
    log_bind("run_id", job->run_id);
    const bool resumed = *settings_text(&t->settings, OPTION_RESUME) != '\0';
    log_info(resumed ? "run_resumed" : "run_started", "model=\"%s\" data=\"%s\"",
             t->source, settings_text(&t->settings, OPTION_DATA));
    HistoryStart start = {.run_id = job->run_id,
                          .kind = job->kind,
                          .model = t->source,
                          .dataset = settings_text(&t->settings, OPTION_DATA),
                          .dataset_sha256 = job->dataset.sha256,
                          .hyperparameters = hyperparameters(job),
                          .options = run_options_json(t)};
    if (!history_started(job->output, &start, &t->err))
        return false;
    job->in_history = true;
    return true;
}

void train_job_register(const TrainJob *job, int64_t run_index, const char *path,
                        double training_loss, double validation_loss)
{
    const ManifestEntry entry = {.run_id = job->run_id, .run_index = run_index, .path = path,
                                 .training_loss = training_loss,
                                 .validation_loss = validation_loss};
    Err err = {0};
    if (!manifest_register(job->output, &entry, &err))
        log_warn("manifest_not_written", "reason=\"%s\"", err.message);
}

void train_job_end(TrainJob *job, const HistoryEnd *given)
{
    bp_trainer *t = job->t;
    HistoryEnd end = *given;
    assert(job->in_history);
    const bool failed = err_is_set(&t->err);
    end.run_id = job->run_id;
    if (failed) {
        end.status = RUN_FAILED;
        end.failure_reason = t->err.message;
    }
    Err history_error = {0};
    if (!history_ended(job->output, &end, failed ? &history_error : &t->err))
        log_error("history_not_written", "output=\"%s\"", job->output);
    log_info("run_ended", "status=%s steps=%lld", failed ? "error" : "ok", (long long)end.steps);
    log_bind("run_id", NULL);
}

static void end_history(TrainJob *job)
{
    const TrainResult *r = &job->result;
    const HistoryEnd end = {
        .status = r->status, .steps = r->steps, .final_loss = r->final_loss,
        .duration_seconds = r->seconds, .losses = r->losses, .n_losses = r->n_losses,
        .gpu_max_temp = r->gpu_max_temp, .checkpoint_path = r->checkpoint_path,
    };
    train_job_end(job, &end);
}

static Json *op_table(const TrainResult *r)
{
    Json *rows = json_new_array();
    for (int op = 0; op < OP_COUNT; op++) {
        for (int pass = 0; pass < PASS_COUNT; pass++) {
            const OpTime *time = &r->op_times[pass][op];
            if (time->calls == 0)
                continue;
            Json *row = json_new_object();
            json_put(row, "op", json_new_text(op_name((OpId)op)));
            json_put(row, "pass", json_new_text(pass == PASS_FWD ? "forward" : "backward"));
            json_put(row, "calls", json_new_int(time->calls));
            json_put(row, "seconds", json_new_double(time->seconds));
            json_add(rows, row);
        }
    }
    return rows;
}

static void publish_result(TrainJob *job)
{
    bp_trainer *t = job->t;
    const TrainResult *r = &job->result;
    Json *json = json_new_object();
    json_put(json, "run_id", json_new_text(job->run_id));
    json_put(json, "status",
             json_new_text(run_status_name(r->status)));
    json_put(json, "steps", json_new_int(r->steps));
    json_put(json, "final_loss", json_new_double(r->final_loss));
    if (job->has_eval)
        json_put(json, "eval_loss", json_new_double(job->eval_loss));
    json_put(json, "last_loss", json_new_double(r->last_loss));
    json_put(json, "seconds", json_new_double(r->seconds));
    json_put(json, "tokens", json_new_int(r->tokens));
    json_put(json, "adapter", json_new_text(r->adapter_path));
    json_put(json, "checkpoint", json_new_text(r->checkpoint_path));
    json_put(json, "output", json_new_text(job->output));
    json_put(json, "batch_size", json_new_int(r->plan.batch_size));
    json_put(json, "microbatch_tokens", json_new_int(r->plan.tokens));
    json_put(json, "lora_r", json_new_int(job->adapter->config.r));
    json_put(json, "dataset", dataset_json(&job->dataset));
    json_put(json, "dataset_rows", json_new_int(job->dataset.n_rows));
    json_put(json, "examples", json_new_int(job->dataset.n_examples));
    Json *memory = json_new_object();
    json_put(memory, "planned_weights", json_new_int((int64_t)r->plan.weights));
    json_put(memory, "planned_run", json_new_int((int64_t)r->plan.run));
    json_put(memory, "planned_step", json_new_int((int64_t)r->plan.step));
    json_put(memory, "planned_host", json_new_int((int64_t)r->plan.host));
    json_put(memory, "used_weights", json_new_int((int64_t)r->used_weights));
    json_put(memory, "used_run", json_new_int((int64_t)r->used_run));
    json_put(memory, "used_step", json_new_int((int64_t)r->used_step));
    json_put(memory, "planned_other", json_new_int((int64_t)r->plan.other));
    if (r->device_used > 0)
        json_put(memory, "device_used", json_new_int((int64_t)r->device_used));
    json_put(memory, "process_peak", json_new_int((int64_t)os_process_peak()));
    json_put(json, "memory_bytes", memory);
    Json *losses = json_new_array();
    for (int64_t i = 0; i < r->n_losses; i++)
        json_add(losses, json_new_double((double)r->losses[i]));
    json_put(json, "losses", losses);
    if (job->options.profile)
        json_put(json, "profile", op_table(r));
    json_free(t->result);
    t->result = json;
}

bool train_job_prepare(TrainJob *job)
{
    bp_trainer *t = job->t;
    assert(job->kind < SESSION_KIND_COUNT);
    job->output = settings_text(&t->settings, OPTION_OUTPUT);
    if (*settings_text(&t->settings, OPTION_RESUME) != '\0') {
        if (!find_resume(job))
            return false;
    } else if (!os_uuid_hex(job->run_id)) {
        return err_set(&t->err, ERR_INTERNAL_ERROR, "no random numbers for a run id");
    }
    const char *data = settings_text(&t->settings, OPTION_DATA);
    if (*data == '\0') {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "no training data was given");
        return err_hint(&t->err, "Pass a file: backprop train --data my_data.jsonl --model MODEL");
    }
    job->files = arena_array(&job->arena, DataFile, DATASET_MAX_FILES);
    if (!data_files_parse(data, job->files, &job->n_files, &job->arena, &t->err))
        return false;
    for (size_t i = 0; i < job->n_files; i++) {
        if (!path_exists(job->files[i].path))
            return err_set(&t->err, ERR_INPUT_DATASET_NOT_FOUND, "dataset '%s' does not exist",
                           job->files[i].path);
    }
    if (!handle_load(t))
        return false;
    return make_adapter(job) && load_dataset(job);
}

/* The loss of the rows that were kept back, with the adapter that was just saved. */
static bool score_held_out(TrainJob *job)
{
    bp_trainer *t = job->t;
    const Dataset *d = &job->dataset;
    Adapter *adapter = NULL;
    float *values = NULL;
    if (d->n_held_out == 0)
        return true;
    handle_phase(t, "Scoring held-out rows");
    if (!is_full(job)) {
        t->adapter_folder = job->result.adapter_path;
        if (!handle_adapter(t, &job->arena, &adapter, &values))
            return false;
    }
    MarkedSequence *sequences = arena_array(&job->arena, MarkedSequence, d->n_held_out);
    for (int64_t i = 0; i < d->n_held_out; i++) {
        const Example *e = &d->held_out[i];
        sequences[i] = (MarkedSequence){d->tokens + e->start, d->loss + e->start, e->len};
    }
    t->model.adapter = adapter;
    job->has_eval = evaluate_marked(&t->model, &job->backend, sequences, d->n_held_out, values,
                                    &job->eval_loss, &t->err);
    t->model.adapter = NULL;
    return job->has_eval;
}

bool train_job_begin(TrainJob *job)
{
    bp_trainer *t = job->t;
    if (!handle_backend(t, handle_activation(t), &job->backend))
        return false;
    job->backend_open = true;
    if (!job->options.output_held && !train_job_take_output(job))
        return false;
    fill_options(job);
    return start_history(job);
}

static bool run_job(TrainJob *job)
{
    bp_trainer *t = job->t;
    if (!train_job_prepare(job) || !train_job_begin(job))
        return false;
    handle_phase(t, "Training");
    job->result.status = RUN_FAILED;
    bool ok = train_run(&t->model, job->adapter, &job->dataset, &job->backend, &job->options,
                        &job->arena, &job->result, &t->err);
    if (ok && job->result.adapter_path != NULL)
        ok = is_full(job) ? take_model(job)
                          : tokenizer_write_folder(t->tokenizer, job->result.adapter_path, &t->err);
    if (ok && job->result.status == RUN_COMPLETED)
        ok = score_held_out(job);
    if (ok && job->result.adapter_path != NULL)
        train_job_register(job, 0, job->result.adapter_path, job->result.final_loss,
                           job->has_eval ? job->eval_loss : (double)NAN);
    end_history(job);
    publish_result(job);
    if (ok && job->result.status == RUN_INTERRUPTED) {
        err_set(&t->err, ERR_RUNTIME_TRAINING_ABORTED,
                "training was stopped after step %lld of run %s", (long long)job->result.steps,
                job->run_id);
        if (job->result.checkpoint_path != NULL)
            err_hint(&t->err, "Go on with: backprop resume %.12s -o %s", job->run_id, job->output);
        else
            err_hint(&t->err, "No step was finished, so there is nothing to go on from");
        return false;
    }
    if (ok && !is_full(job)) {
        t->adapter_folder = arena_strdup(&t->arena, job->result.adapter_path);
        t->adapter_is_own = true;
    }
    return ok && !err_is_set(&t->err);
}

bool train_job_open(TrainJob *job, bp_trainer *t, SessionKind kind)
{
    *job = (TrainJob){.t = t, .kind = kind};
    return arena_open(&job->arena, 0, &t->err);
}

void train_job_close(TrainJob *job)
{
    if (job->backend_open)
        job->backend.close(&job->backend);
    if (job->options.output_held)
        output_close(&job->folder);
    dataset_close(&job->dataset);
    arena_close(&job->arena);
}

bool bp_train(bp_trainer *t, const char *data, const bp_train_options *options)
{
    if (!handle_ok(t))
        return false;
    TrainJob *job = arena_new(&t->arena, TrainJob);
    const bool ok = train_job_open(job, t, SESSION_SINGLE) && take_struct(t, data, options) &&
                    run_job(job);
    train_job_close(job);
    return ok ? true : handle_fail(t);
}
