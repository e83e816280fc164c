/* adapter_peft.c — adapters as PEFT stores them: a folder with adapter_config.json and
 * adapter_model.safetensors (huggingface/peft, LoraConfig and save_and_load).
 *
 * Tensors: `base_model.model.<module>.lora_A.weight` [r, in], `.lora_B.weight` [out, r] and with
 * DoRA `.lora_magnitude_vector` [out], f32, sorted by name, metadata {"format": "pt"}; <module> is
 * the module's path in the Hugging Face model, so q and k rows of B and m are in ROPE_HALVES order
 * whatever the base file holds.
 * Read: f32, f16 and bf16; every tensor must be one of the adapter's. Settings of the configuration
 * that would change the result and are not implemented are refused by name; unknown keys are
 * ignored.
 */
#include "model/adapter.h"

#include "format/quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ErrCode CODE = ERR_RUNTIME_LORA_EXPORT_FAILED;
static const char CONFIG_NAME[] = "adapter_config.json";
static const char WEIGHTS_NAME[] = "adapter_model.safetensors";

enum { PEFT_NAME_MAX = WEIGHT_NAME_MAX + 64, PEFT_MAX_RANK = 1 << 20 };

/* The tensors of a pair, as the file names them. */
typedef enum Factor { FACTOR_A, FACTOR_B, FACTOR_M, FACTOR_COUNT } Factor;
static const char *const FACTOR_NAMES[FACTOR_COUNT] = {
    "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"};

static int n_factors(const Adapter *adapter)
{
    return adapter_has(adapter, ADAPTER_DORA) ? FACTOR_COUNT : FACTOR_M;
}

static const char *peft_name(const Model *model, int64_t pair, Factor factor,
                             char out[PEFT_NAME_MAX])
{
    Role role = (Role)(pair % ROLE_LINEAR_COUNT);
    const WeightName *row = family_weight(model->family, role);
    char name[WEIGHT_NAME_MAX];
    weight_name(row->hf, pair / ROLE_LINEAR_COUNT, name);
    char *suffix = strstr(name, ".weight");
    must(suffix != NULL);
    *suffix = '\0';
    int n = snprintf(out, PEFT_NAME_MAX, "base_model.model.%s.%s", name, FACTOR_NAMES[factor]);
    must(n > 0 && n < PEFT_NAME_MAX);
    return out;
}

/* Heads whose B rows follow the rope order; 0 = the role is not under rope. */
static int64_t rope_heads(const Model *model, Role role)
{
    unsigned flags = family_weight(model->family, role)->flags;
    if (flags & WEIGHT_ROPE_ROWS_Q)
        return model->config.n_heads;
    return flags & WEIGHT_ROPE_ROWS_K ? model->config.n_kv_heads : 0;
}

/* ---- writing ---- */

static Json *target_list(const AdapterConfig *config)
{
    if (config->pattern != NULL)
        return json_new_text(config->pattern);
    Json *list = json_new_array();
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
        if (config->targets >> role & 1u)
            json_add(list, json_new_text(adapter_target_name((Role)role)));
    return list;
}

static Json *number(double value)
{
    return value == floor(value) && fabs(value) < 1e15 ? json_new_int((int64_t)value)
                                                       : json_new_double(value);
}

static Json *config_json(const Adapter *adapter, const char *base_name)
{
    static const char *const nulls[] = {
        "auto_mapping", "exclude_modules", "layer_replication", "layers_pattern",
        "layers_to_transform", "megatron_config", "modules_to_save", "revision",
        "target_parameters", "trainable_token_indices"};
    static const char *const falses[] = {"fan_in_fan_out", "lora_bias"};
    static const char *const empties[] = {"alpha_pattern", "loftq_config", "rank_pattern"};
    Json *json = json_new_object();
    for (size_t i = 0; i < COUNT_OF(nulls); i++)
        json_put(json, nulls[i], json_new_null());
    for (size_t i = 0; i < COUNT_OF(falses); i++)
        json_put(json, falses[i], json_new_bool(false));
    for (size_t i = 0; i < COUNT_OF(empties); i++)
        json_put(json, empties[i], json_new_object());
    json_put(json, "base_model_name_or_path", json_new_text(base_name));
    json_put(json, "bias", json_new_text("none"));
    json_put(json, "inference_mode", json_new_bool(true));
    json_put(json, "init_lora_weights", json_new_bool(true));
    json_put(json, "lora_alpha", number(adapter->config.alpha));
    json_put(json, "lora_dropout", json_new_double(0));
    json_put(json, "megatron_core", json_new_text("megatron.core"));
    json_put(json, "peft_type", json_new_text("LORA"));
    json_put(json, "r", json_new_int(adapter->config.r));
    json_put(json, "use_dora", json_new_bool(adapter_has(adapter, ADAPTER_DORA)));
    json_put(json, "use_rslora", json_new_bool(adapter_has(adapter, ADAPTER_RSLORA)));
    json_put(json, "target_modules", target_list(&adapter->config));
    json_put(json, "task_type", json_new_text("CAUSAL_LM"));
    return json;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const StEntry *)a)->name, ((const StEntry *)b)->name);
}

/* B or m (r 1) as PEFT wants it: a converted copy where the base file has another row order. */
static const float *rows_for_peft(const Model *model, Role role, const float *b, int64_t out_rows,
                                  int64_t r, Arena *scratch)
{
    int64_t heads = rope_heads(model, role);
    if (heads == 0 || model->config.pairing == ROPE_HALVES)
        return b;
    float *copy = arena_push(scratch, (size_t)(out_rows * r) * sizeof(float));
    rope_rows_convert(b, copy, heads, model->config.head_dim, model->config.rope_dim,
                      (size_t)r * sizeof(float), model->config.pairing, ROPE_HALVES);
    return copy;
}

static bool write_weights(const Adapter *adapter, const Model *model, const float *values,
                          const char *path, Arena *scratch, Err *err)
{
    int64_t r = adapter->config.r, n_pairs = adapter->n_layers * ROLE_LINEAR_COUNT;
    StEntry *entries = arena_array(scratch, StEntry, FACTOR_COUNT * n_pairs);
    size_t count = 0;
    char name[PEFT_NAME_MAX];
    for (int64_t i = 0; i < n_pairs; i++) {
        const AdapterPair *pair = &adapter->pairs[i];
        const Role role = (Role)(i % ROLE_LINEAR_COUNT);
        if (!pair->present)
            continue;
        entries[count++] = (StEntry){
            .name = arena_strdup(scratch, peft_name(model, i, FACTOR_A, name)),
            .dtype = DTYPE_F32, .n_dims = 2, .shape = {r, pair->in},
            .data = values + pair->a_offset};
        entries[count++] = (StEntry){
            .name = arena_strdup(scratch, peft_name(model, i, FACTOR_B, name)),
            .dtype = DTYPE_F32, .n_dims = 2, .shape = {pair->out, r},
            .data = rows_for_peft(model, role, values + pair->b_offset, pair->out, r, scratch)};
        if (!adapter_has(adapter, ADAPTER_DORA))
            continue;
        entries[count++] = (StEntry){
            .name = arena_strdup(scratch, peft_name(model, i, FACTOR_M, name)),
            .dtype = DTYPE_F32, .n_dims = 1, .shape = {pair->out},
            .data = rows_for_peft(model, role, values + pair->m_offset, pair->out, 1, scratch)};
    }
    qsort(entries, count, sizeof *entries, by_name);
    static const char *const keys[] = {"format"}, *const texts[] = {"pt"};
    return st_write(path, entries, count, keys, texts, 1, CODE, err);
}

bool adapter_save_peft(const Adapter *adapter, const Model *model, const float *host_values,
                       const char *base_name, const char *folder, Err *err)
{
    must(adapter->n_layers == model->config.n_layers && host_values != NULL);
    Arena scratch;
    if (!folder_make(folder, CODE, err) || !arena_open(&scratch, 0, err))
        return false;
    Json *json = config_json(adapter, base_name);
    Buf text = {0};
    json_write(json, (JsonStyle){.indent = 2, .sorted = true}, &text);
    json_free(json);
    bool ok = write_weights(adapter, model, host_values, path_join(&scratch, folder, WEIGHTS_NAME),
                            &scratch, err) &&
              file_write_atomic(path_join(&scratch, folder, CONFIG_NAME), buf_view(&text), CODE,
                                err);
    buf_free(&text);
    arena_close(&scratch);
    return ok;
}

/* ---- reading ---- */

static Json *load_config(const char *folder, Arena *out, const char **path, Err *err)
{
    *path = path_join(out, folder, CONFIG_NAME);
    if (!path_exists(*path)) {
        err_set(err, CODE, "'%s' is not an adapter folder: it has no %s", folder, CONFIG_NAME);
        return NULL;
    }
    Json *json = json_load(*path, CODE, err);
    if (json != NULL && !json_is_object(json)) {
        json_free(json);
        err_set(err, CODE, "'%s' is not a JSON object", *path);
        return NULL;
    }
    return json;
}

/* null, false, "", "none", [] and {} leave a setting off. */
static bool is_off(const Json *value)
{
    const char *text = json_text(value);
    if (text != NULL)
        return *text == '\0' || strcmp(text, "none") == 0;
    if (json_is_object(value) || json_is_array(value))
        return json_len(value) == 0;
    return json_is_null(value) || (json_is_bool(value) && !json_bool(value, true));
}

static bool settings_supported(const Json *json, const char *path, Err *err)
{
    /* These change what the tensors mean; the other kinds of adapters come with issue 7. */
    static const char *const refused[] = {
        "modules_to_save", "bias", "lora_bias", "rank_pattern",
        "alpha_pattern", "layers_to_transform", "exclude_modules", "fan_in_fan_out",
        "target_parameters", "trainable_token_indices", "layer_replication", "use_qalora",
        "use_bdlora", "arrow_config", "alora_invocation_tokens", "kasa_config", "monteclora_config",
        "velora_config"};
    const char *type = json_text(json_get(json, "peft_type"));
    if (type == NULL || strcmp(type, "LORA") != 0)
        return err_set(err, CODE, "'%s': peft_type '%.40s' is not supported (LORA)", path,
                       type == NULL ? "" : type);
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (!is_off(json_get(json, refused[i])))
            return err_set(err, CODE, "'%s': '%s' is not supported", path, refused[i]);
    return true;
}

/* The last component of a module path names the linear. */
static bool add_module(const char *entry, unsigned *targets)
{
    const char *dot = strrchr(entry, '.');
    const char *name = dot == NULL ? entry : dot + 1;
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
        if (strcmp(name, adapter_target_name((Role)role)) == 0) {
            *targets |= 1u << role;
            return true;
        }
    }
    return false;
}

static bool read_targets(const Json *json, const char *path, AdapterConfig *config, Arena *out,
                         Err *err)
{
    const Json *modules = json_get(json, "target_modules");
    const char *text = json_text(modules);
    unsigned *targets = &config->targets;
    *targets = 0;
    config->pattern = NULL;
    if (text != NULL && strcmp(text, "all-linear") == 0)
        *targets = ADAPTER_ALL_LINEAR;
    else if (text != NULL && adapter_is_pattern(text)) {
        *targets = ADAPTER_ALL_LINEAR;
        config->pattern = arena_strdup(out, text);
    }
    else if (text != NULL && !add_module(text, targets))
        return err_set(err, CODE, "'%s': target_modules '%.80s' is not supported", path, text);
    for (size_t i = 0; i < json_len(modules); i++) {
        const char *entry = json_text(json_at(modules, i));
        if (entry == NULL || !add_module(entry, targets))
            return err_set(err, CODE, "'%s': target module '%.80s' is not a linear of the model",
                           path, entry == NULL ? "" : entry);
    }
    return *targets != 0 || err_set(err, CODE, "'%s': target_modules names nothing", path);
}

static bool read_config(const char *folder, AdapterConfig *config, Arena *out, Err *err)
{
    const char *path;
    Json *json = load_config(folder, out, &path, err);
    if (json == NULL)
        return false;
    bool ok = settings_supported(json, path, err) &&
              read_targets(json, path, config, out, err);
    if (ok) {
        config->r = json_int(json_get(json, "r"), 8);
        config->alpha = json_double(json_get(json, "lora_alpha"), 8);
        config->methods = (json_bool(json_get(json, "use_dora"), false) ? ADAPTER_DORA : 0u) |
                          (json_bool(json_get(json, "use_rslora"), false) ? ADAPTER_RSLORA : 0u);
        if (config->r < 1 || config->r > PEFT_MAX_RANK || !isfinite(config->alpha))
            ok = err_set(err, CODE, "'%s': r or lora_alpha is not usable", path);
    }
    json_free(json);
    return ok;
}

/* One tensor of the file into its place: rows x cols, or a vector when cols is 0. */
static bool read_factor(const SafeTensors *st, const char *path, const char *name, int64_t rows,
                        int64_t cols, float *to, Err *err)
{
    const StTensor *t = st_find(st, name);
    const int n_dims = cols == 0 ? 1 : 2;
    if (t == NULL)
        return err_set(err, CODE, "'%s': missing tensor '%s'", path, name);
    if (!t->known || t->dtype == DTYPE_I32)
        return err_set(err, CODE, "'%s': element type '%s' of tensor '%s' is not supported", path,
                       t->type_name, name);
    if (t->n_dims != n_dims || t->shape[0] != rows || (n_dims == 2 && t->shape[1] != cols))
        return err_set(err, CODE, "'%s': tensor '%s' is [%lld, %lld], the model needs [%lld, %lld]",
                       path, name, (long long)(t->n_dims < 1 ? 1 : t->shape[0]),
                       (long long)(t->n_dims < 2 ? 1 : t->shape[1]), (long long)rows,
                       (long long)max_i64(cols, 1));
    quant_decode_row(t->dtype, t->data, to, rows * max_i64(cols, 1));
    return true;
}

/* Rows of PEFT's order, cols floats each, to the order of the base file. */
static void rows_from_peft(const Model *model, Role role, float *values, int64_t rows,
                           int64_t cols, Arena *scratch)
{
    const int64_t heads = rope_heads(model, role);
    if (heads == 0 || model->config.pairing == ROPE_HALVES)
        return;
    const size_t mark = arena_mark(scratch), bytes = (size_t)(rows * cols) * sizeof(float);
    float *copy = arena_push(scratch, bytes);
    memcpy(copy, values, bytes);
    rope_rows_convert(copy, values, heads, model->config.head_dim, model->config.rope_dim,
                      (size_t)cols * sizeof(float), ROPE_HALVES, model->config.pairing);
    arena_rewind(scratch, mark);
}

static bool read_pair(const Adapter *adapter, const Model *model, const SafeTensors *st,
                      const char *path, int64_t i, float *values, Arena *scratch, Err *err)
{
    const AdapterPair *pair = &adapter->pairs[i];
    const Role role = (Role)(i % ROLE_LINEAR_COUNT);
    int64_t r = adapter->config.r;
    char name[PEFT_NAME_MAX];
    float *b = values + pair->b_offset, *m = values + pair->m_offset;
    if (!read_factor(st, path, peft_name(model, i, FACTOR_A, name), r, pair->in,
                     values + pair->a_offset, err) ||
        !read_factor(st, path, peft_name(model, i, FACTOR_B, name), pair->out, r, b, err))
        return false;
    rows_from_peft(model, role, b, pair->out, r, scratch);
    if (!adapter_has(adapter, ADAPTER_DORA))
        return true;
    if (!read_factor(st, path, peft_name(model, i, FACTOR_M, name), pair->out, 0, m, err))
        return false;
    rows_from_peft(model, role, m, pair->out, 1, scratch);
    return true;
}

/* Every tensor must be one of ours: something left over would be a different adapter. */
static bool all_known(const Adapter *adapter, const Model *model, const SafeTensors *st,
                      const char *path, Err *err)
{
    size_t expected = 0;
    for (int64_t i = 0; i < adapter->n_layers * ROLE_LINEAR_COUNT; i++)
        expected += adapter->pairs[i].present ? (size_t)n_factors(adapter) : 0;
    if (st->n_tensors == expected)
        return true;
    for (size_t i = 0; i < st->n_tensors; i++) {
        bool known = false;
        char name[PEFT_NAME_MAX];
        for (int64_t p = 0; p < adapter->n_layers * ROLE_LINEAR_COUNT && !known; p++)
            for (int f = 0; adapter->pairs[p].present && f < n_factors(adapter); f++)
                known = known || strcmp(st->tensors[i].name,
                                        peft_name(model, p, (Factor)f, name)) == 0;
        if (!known)
            return err_set(err, CODE, "'%s': tensor '%s' has no place in this model", path,
                           st->tensors[i].name);
    }
    must(false); /* names are unique, so one of them is unknown */
}

static bool read_weights(const Adapter *adapter, const Model *model, const char *path,
                         float *values, Err *err)
{
    Arena scratch;
    SafeTensors st = {0};
    if (!arena_open(&scratch, 0, err))
        return false;
    bool ok = st_open(&st, path, CODE, &scratch, err);
    for (int64_t i = 0; ok && i < adapter->n_layers * ROLE_LINEAR_COUNT; i++)
        if (adapter->pairs[i].present)
            ok = read_pair(adapter, model, &st, path, i, values, &scratch, err);
    ok = ok && all_known(adapter, model, &st, path, err);
    st_close(&st);
    arena_close(&scratch);
    return ok;
}

Adapter *adapter_load_peft(const Model *model, const char *folder, float **host_values, Arena *out,
                           Err *err)
{
    AdapterConfig config;
    if (!read_config(folder, &config, out, err))
        return NULL;
    /* PEFT takes a list of which only some match; the tensors of the file decide. */
    if ((config.targets & adapter_targets_of(model->family)) != 0)
        config.targets &= adapter_targets_of(model->family);
    Adapter *adapter = adapter_make(model, &config, out, err);
    if (adapter == NULL)
        return NULL;
    const char *path = path_join(out, folder, WEIGHTS_NAME);
    *host_values = arena_array(out, float, adapter->n_params);
    return read_weights(adapter, model, path, *host_values, err) ? adapter : NULL;
}

const char *adapter_base_name(const char *folder, Arena *out, Err *err)
{
    const char *path;
    Json *json = load_config(folder, out, &path, err);
    if (json == NULL)
        return NULL;
    const char *name = json_text(json_get(json, "base_model_name_or_path"));
    const char *copy = name == NULL ? NULL : arena_strdup(out, name);
    if (copy == NULL)
        err_set(err, CODE, "'%s' names no base model (base_model_name_or_path)", path);
    json_free(json);
    return copy;
}
