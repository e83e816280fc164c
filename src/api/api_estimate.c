/* api_estimate.c — bp_estimate_vram_json: what training a model takes of a card, by running the
 * trainer's plan for that card. Neither the card nor the weights need be there: a configuration
 * decides all shapes, and the plan's bytes are those of the run.
 */
#include "api/train_job.h"

#include <string.h>

#include "api/local_hub.h"
#include "compute/cuda_loader.h"
#include "compute/cuda_traits.h"
#include "core/file.h"
#include "model/full.h"
#include "model/imagine.h"
#include "model/preset.h"

/* Sizes that cards have, GiB; the estimate for one begins at its size. */
static const double card_sizes[] = {8, 12, 16, 24};
static const double GIB = 1024.0 * 1024.0 * 1024.0;
/* Of a card's nominal memory the driver shows a little less (23.6 of 24), and train leaves some. */
static const double shown_share = 0.98, reserve_gib = 0.25;

enum { EXAMPLES = 8 }; /* as many as the largest automatic batch */

typedef struct Estimate {
    bp_trainer *t;
    Arena arena;
    Model model;
    Adapter *adapter;
    Dataset dataset;
    TrainOptions options;
    Backend card; /* traits only */
} Estimate;

/* ---- the model --------------------------------------------------------------------------- */

static bool has_weights(Arena *scratch, const char *folder)
{
    return path_exists(path_join(scratch, folder, "model.safetensors")) ||
           path_exists(path_join(scratch, folder, "model.safetensors.index.json"));
}

/* As the choices of the option. */
static Dtype base_type(const Settings *s)
{
    static const struct {
        const char *name;
        Dtype dtype;
    } types[] = {{"q8_0", DTYPE_Q8_0}, {"q6_k", DTYPE_Q6_K}, {"q5_k", DTYPE_Q5_K},
                 {"q4_k", DTYPE_Q4_K}, {"q4_0", DTYPE_Q4_0}};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (settings_is(s, OPTION_BASE_TYPE, types[i].name))
            return types[i].dtype;
    return DTYPE_BF16;
}

static bool imagine(Estimate *e, const char *name, Json *config)
{
    return config != NULL && model_imagine(&e->model, name, config, base_type(&e->t->settings),
                                           &e->arena, &e->t->err);
}

/* What lies on this machine as it lies there; else a preset's configuration. */
static bool open_model(Estimate *e, const char *name)
{
    bp_trainer *t = e->t;
    const ModelPreset *preset = model_preset(name);
    const char *path = path_exists(name)
                           ? name
                           : local_hub_find(preset != NULL ? preset->source : name, &e->arena);
    const ErrCode code = ERR_DEP_MODEL_LOAD_FAILED;
    if (path != NULL && (!path_is_folder(path) || has_weights(&e->arena, path)))
        return model_open(&e->model, path, &e->arena, &t->err);
    if (path != NULL)
        return imagine(e, name, json_load(path_join(&e->arena, path, "config.json"), code,
                                          &t->err));
    if (preset != NULL && *preset->config != '\0')
        return imagine(e, preset->name, json_parse(str_of(preset->config), name, code, &t->err));
    err_set(&t->err, code, "model '%s' is neither here nor a preset whose shape is known", name);
    return err_hint(&t->err, "Pass a preset's name (backprop estimate-vram lists them), a GGUF "
                             "file, or a folder with a config.json");
}

/* ---- the plan ---------------------------------------------------------------------------- */

/* Examples as long as they may be, every token with loss: what the plan assumes anyway. */
static void fill_dataset(Estimate *e, int32_t length)
{
    Dataset *d = &e->dataset;
    assert(length > 0);
    Example *examples = arena_array(&e->arena, Example, EXAMPLES);
    uint8_t *loss = arena_array(&e->arena, uint8_t, (int64_t)EXAMPLES * length);
    memset(loss, 1, (size_t)EXAMPLES * (size_t)length);
    for (int i = 0; i < EXAMPLES; i++)
        examples[i] = (Example){.start = (int64_t)i * length, .len = length, .n_loss = length,
                                .line = i + 1};
    d->examples = examples;
    d->n_examples = EXAMPLES;
    d->tokens = arena_array(&e->arena, int32_t, (int64_t)EXAMPLES * length);
    d->loss = loss;
    d->n_tokens = d->n_loss = (int64_t)EXAMPLES * length;
}

static bool estimate_open(Estimate *e, bp_trainer *t, const char *name)
{
    const Settings *s = &t->settings;
    *e = (Estimate){.t = t};
    if (!arena_open(&e->arena, 0, &t->err) || !open_model(e, name))
        return false;
    if (settings_is(s, OPTION_MODE, "full")) {
        e->adapter = full_make(&e->model, &e->arena);
    } else {
        AdapterConfig config;
        if (!train_adapter_config(t, &e->model, &config))
            return false;
        e->adapter = adapter_make(&e->model, &config, &e->arena, &t->err);
        if (e->adapter == NULL)
            return false;
    }
    const int64_t length = min_i64(settings_int(s, OPTION_MAX_SEQ_LENGTH, 2048),
                                   e->model.config.max_positions);
    fill_dataset(e, (int32_t)length);
    e->options = (TrainOptions){.batch_size = (int32_t)settings_int(s, OPTION_BATCH_SIZE, 0),
                                .max_seq_length = (int32_t)length, .packing = true,
                                .max_grad_norm = 1};
    backend_traits_cuda(&e->card);
    assert(e->card.traits.memory == MEMORY_DEVICE);
    return true;
}

static void estimate_close(Estimate *e)
{
    if (e->model.family != NULL)
        model_close(&e->model);
    arena_close(&e->arena);
}

static const char *activations_text(const MemoryPlan *plan, Arena *out)
{
    static const char *const further[] = {"remade", "recomputed", "offloaded"};
    static const char *const all[] = {"kept", "remade", "recomputed", "offloaded"};
    const int stage = plan->segments / SEGMENT_STAGE, n = plan->segments % SEGMENT_STAGE;
    must(stage >= 0 && stage < (int)COUNT_OF(all));
    assert(n <= plan->n_segments);
    if (n == 0 || stage + 1 >= (int)COUNT_OF(all))
        return all[stage];
    return arena_printf(out, "%d of %d %s", n, plan->n_segments, further[stage]);
}

static void put_gib(Json *json, const char *key, size_t bytes)
{
    json_put(json, key, json_new_double((double)bytes / GIB));
}

/* One card: the plan that train would make there, or why there is none. False: another error. */
static bool plan_card(Estimate *e, double gib, Json **result)
{
    MemoryPlan plan;
    Err err = {0};
    const double usable = gib * shown_share - reserve_gib;
    assert(gib > 0 && e->dataset.n_examples == EXAMPLES);
    Json *json = *result = json_new_object();
    e->options.memory_limit = (uint64_t)((usable > 0 ? usable : 0) * GIB) + 1;
    json_put(json, "vram_gb", json_new_double(gib));
    const bool fits = train_plan(&e->model, e->adapter, &e->dataset, &e->card, &e->options, &plan,
                                 &err);
    if (!fits && err.code != ERR_RUNTIME_OUT_OF_MEMORY &&
        err.code != ERR_RUNTIME_FULL_FT_MODEL_TOO_LARGE) {
        e->t->err = err;
        json_free(json);
        return false;
    }
    /* Where nothing fits, plan is the smallest that there is. */
    json_put(json, "fits", json_new_bool(fits));
    json_put(json, "batch_size", json_new_int(fits ? plan.batch_size : 0));
    json_put(json, "activations", json_new_text(activations_text(&plan, &e->arena)));
    put_gib(json, "total_gb", plan.weights + plan.run + plan.step + plan.other);
    put_gib(json, "model_weights_gb", plan.weights);
    put_gib(json, "parameters_gb", plan.run);
    put_gib(json, "activations_gb", plan.step);
    put_gib(json, "context_gb", plan.other);
    put_gib(json, "host_gb", plan.host);
    return true;
}

/* ---- the answer -------------------------------------------------------------------------- */

/* Every size of card, and the one that was asked for or is here, if it is none of them. */
static bool plan_cards(Estimate *e, double mine, Json *cards)
{
    bool listed = mine == 0;
    for (size_t i = 0; i <= COUNT_OF(card_sizes); i++) {
        const double size = i < COUNT_OF(card_sizes) ? card_sizes[i] : mine;
        Json *card;
        if (i == COUNT_OF(card_sizes) && listed)
            break;
        listed = listed || size == mine;
        if (!plan_card(e, size, &card))
            return false;
        json_add(cards, card);
    }
    return true;
}

static bool describe(bp_trainer *t, const char *name, double mine, Json *json)
{
    Estimate e;
    Json *cards = json_new_array();
    assert(name != NULL && mine >= 0);
    json_put(json, "model", json_new_text(name));
    json_put(json, "cards", cards);
    const bool ok = estimate_open(&e, t, name) && plan_cards(&e, mine, cards);
    if (ok) {
        json_put(json, "param_count_billions",
                 json_new_double((double)model_parameter_count(&e.model) / 1e9));
        json_put(json, "max_seq_length", json_new_int(e.options.max_seq_length));
        json_put(json, "lora_r", json_new_int(e.adapter->config.r));
        for (size_t i = 0; i < json_len(cards); i++) {
            const Json *card = json_at(cards, i);
            if (json_double(json_get(card, "vram_gb"), 0) == mine)
                json_put(json, "recommended_batch_size", json_clone(json_get(card, "batch_size")));
        }
    }
    estimate_close(&e);
    return ok;
}

/* GiB of the first GPU, 0 without one. */
static double gpu_here(void)
{
    Backend backend = {0};
    Err none = {0};
    size_t total = 0;
    if (!backend_open_cuda(&backend, 0, &none))
        return 0;
    if (backend.memory_used != NULL)
        backend.memory_used(&backend, &total);
    backend.close(&backend);
    return (double)total / GIB / shown_share;
}

const char *bp_estimate_vram_json(bp_trainer *t, const char *model)
{
    if (!handle_ok(t))
        return NULL;
    const double given = settings_number(&t->settings, OPTION_VRAM_GB, 0);
    const double mine = given > 0 ? given : gpu_here();
    Json *json = json_new_object(), *models = json_new_array();
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "mode", json_new_text(settings_text(&t->settings, OPTION_MODE)));
    json_put(json, "vram_gb", mine > 0 ? json_new_double(mine) : json_new_null());
    json_put(json, "detected_via",
             json_new_text(given > 0 ? "user (--vram-gb)" : mine > 0 ? "cuda" : NULL));
    bool ok = true;
    const ModelPreset *preset = NULL;
    for (size_t i = 0; ok && model == NULL && (preset = model_preset_at(i)) != NULL; i++) {
        if (*preset->config == '\0')
            continue;
        Json *one = json_new_object();
        json_add(models, one);
        ok = describe(t, preset->name, mine, one);
    }
    if (model != NULL) {
        Json *one = json_new_object();
        json_add(models, one);
        ok = describe(t, model, mine, one);
    }
    json_put(json, "models", models);
    if (!ok) {
        json_free(json);
        handle_fail(t);
        return NULL;
    }
    return handle_json(t, json);
}
