/* run_options.c — the options that decide a run's numbers. See run_options.h.
 *
 * Histories name hyperparameters in their own way; `known` maps those names to options.
 */
#include "api/run_options.h"

#include <string.h>

/* Options that decide the numbers of a run: stored with it, restored from it. */
static const OptionId run_options[] = {
    OPTION_MODEL,
    OPTION_DATA,
    OPTION_STEPS,
    OPTION_EPOCHS,
    OPTION_SAMPLES,
    OPTION_BATCH_SIZE,
    OPTION_ACCUMULATION,
    OPTION_MAX_SEQ_LENGTH,
    OPTION_LR,
    OPTION_WARMUP_STEPS,
    OPTION_SCHEDULER,
    OPTION_WEIGHT_DECAY,
    OPTION_MAX_GRAD_NORM,
    OPTION_LORA_PRESET,
    OPTION_LORA_R,
    OPTION_LORA_ALPHA,
    OPTION_LORA_TARGETS,
    OPTION_MODE,
    OPTION_USE_DORA,
    OPTION_USE_RSLORA,
    OPTION_NO_PACKING,
    OPTION_TRAIN_ON_PROMPTS,
    OPTION_TRUNCATION,
    OPTION_MIN_TOKENS,
    OPTION_MAX_TOKENS,
    OPTION_MIN_TURNS,
    OPTION_MAX_TURNS,
    OPTION_REQUIRE_ROLES,
    OPTION_DEDUP,
    OPTION_DUP_THRESHOLD,
    OPTION_CURRICULUM,
    OPTION_EVAL_SPLIT,
    OPTION_SEED,
    OPTION_SAVE_STEPS,
    OPTION_GRADIENT_CHECKPOINTING,
    OPTION_RUNS,
    OPTION_RUN_SAMPLES,
    OPTION_MERGE_MODE,
    OPTION_SLAO_INIT,
    OPTION_SLAO_SCALING,
    OPTION_SLAO_MIN_SCALE,
    OPTION_SLAO_ADAPTIVE,
    OPTION_SLAO_LAYERS,
    OPTION_TIES_TRIM,
    OPTION_DARE_DROP_RATE,
    OPTION_DARE_SEED,
    OPTION_FINAL_LR,
    OPTION_LR_DECAY,
    OPTION_REPLAY_FRACTION,
    OPTION_REPLAY_STRATEGY,
    OPTION_VALIDATION_SAMPLES,
    OPTION_EARLY_STOPPING,
    OPTION_EARLY_STOPPING_PATIENCE,
    OPTION_EARLY_STOPPING_THRESHOLD,
    OPTION_DRIFT_GATE,
    OPTION_DRIFT_THRESHOLD,
    OPTION_EVAL_GATE,
    OPTION_EVAL_MAX_REGRESSION,
    OPTION_DEVICE,
    OPTION_DTYPE,
};

/* Names of hyperparameters. A replay may change those with `may_override`. */
static const struct {
    const char *name;
    OptionId id;
    bool may_override;
} known[] = {
    {"seed", OPTION_SEED, true},
    {"learning_rate", OPTION_LR, true},
    {"lr", OPTION_LR, true},
    {"batch_size", OPTION_BATCH_SIZE, true},
    {"gradient_accumulation", OPTION_ACCUMULATION, true},
    {"max_steps", OPTION_STEPS, true},
    {"steps", OPTION_STEPS, true},
    {"samples", OPTION_SAMPLES, true},
    {"lora_r", OPTION_LORA_R, true},
    {"lora_alpha", OPTION_LORA_ALPHA, true},
    {"lora_preset", OPTION_LORA_PRESET, true},
    {"mode", OPTION_MODE, true},
    {"use_dora", OPTION_USE_DORA, true},
    {"use_rslora", OPTION_USE_RSLORA, true},
    {"packing", OPTION_NO_PACKING, true},
    {"merge_mode", OPTION_MERGE_MODE, true},
    {"max_samples", OPTION_SAMPLES, false},
    {"max_seq_length", OPTION_MAX_SEQ_LENGTH, false},
    {"warmup_steps", OPTION_WARMUP_STEPS, false},
    {"weight_decay", OPTION_WEIGHT_DECAY, false},
    {"lr_scheduler_type", OPTION_SCHEDULER, false},
};

Json *run_options_json(const bp_trainer *t)
{
    Json *json = json_new_object();
    for (size_t i = 0; i < COUNT_OF(run_options); i++)
        json_put(json, option_rows[run_options[i]].name,
                 json_new_text(settings_text(&t->settings, run_options[i])));
    return json;
}

/* --no-packing says the opposite of "packing". */
static const char *option_text(OptionId id, const char *value)
{
    if (id != OPTION_NO_PACKING)
        return value;
    return strcmp(value, "true") == 0 ? "false" : strcmp(value, "false") == 0 ? "true" : value;
}

static void put_scalar(Json *options, OptionId id, const Json *value)
{
    assert(json_is_object(options));
    if (!json_is_string(value) && !json_is_number(value) && !json_is_bool(value))
        return;
    Buf text = {0};
    if (json_is_string(value))
        buf_text(&text, json_text(value));
    else
        json_write(value, (JsonStyle){0}, &text);
    must(!text.failed);
    json_put(options, option_rows[id].name, json_new_text(option_text(id, text.data)));
    buf_free(&text);
}

Json *run_options_of(const Json *entry)
{
    assert(entry != NULL);
    const Json *stored = json_get(entry, "options");
    if (json_is_object(stored))
        return json_clone(stored);
    Json *options = json_new_object();
    put_scalar(options, OPTION_MODEL, json_get(entry, "model_name"));
    put_scalar(options, OPTION_DATA, json_get(entry, "dataset_info"));
    const Json *parameters = json_get(entry, "hyperparameters");
    for (size_t i = 0; i < COUNT_OF(known); i++)
        put_scalar(options, known[i].id, json_get(parameters, known[i].name));
    return options;
}

bool run_options_restore(bp_trainer *t, const Json *stored)
{
    assert(json_is_object(stored));
    for (size_t i = 0; i < COUNT_OF(run_options); i++) {
        OptionId id = run_options[i];
        const char *value = json_text(json_get(stored, option_rows[id].name));
        if (value == NULL)
            continue;
        if (t->settings.source[id] != FROM_CALLER) {
            if (!settings_set(&t->settings, id, value, FROM_CALLER, &t->err))
                return false;
            continue;
        }
        if (strcmp(value, settings_text(&t->settings, id)) == 0 || id == OPTION_DATA ||
            id == OPTION_DEVICE)
            continue;
        err_set(&t->err, ERR_CONFIG_INVALID, "the run was started with --%s %s, not %s",
                option_rows[id].flag, value, settings_text(&t->settings, id));
        return err_hint(&t->err,
                        "Leave out --%s to go on with the run, or start a new run without "
                        "--resume",
                        option_rows[id].flag);
    }
    return true;
}

bool run_options_override(bp_trainer *t, Str name, const char *value)
{
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i].may_override && str_eq(name, str_of(known[i].name)))
            return settings_set(&t->settings, known[i].id, option_text(known[i].id, value),
                                FROM_CALLER, &t->err);
    }
    Buf names = {0};
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i].may_override)
            buf_printf(&names, "%s%s", names.len > 0 ? ", " : "", known[i].name);
    }
    must(!names.failed);
    err_set(&t->err, ERR_CONFIG_INVALID, "'%.*s' cannot be overridden", (int)name.len, name.data);
    err_hint(&t->err, "Use one of: %s", names.data);
    buf_free(&names);
    return false;
}
