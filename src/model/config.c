/* config.c — GGUF keys and config.json to a ModelConfig; every number checked against its limit.
 *
 * config.json comes in two styles. Up to transformers 4: rope_theta and rope_scaling ({"rope_type"
 * or "type", factors}) at the top; from 5 on: both inside rope_parameters. Absent keys have the
 * defaults of transformers' LlamaConfig.
 *
 * llama3 rope scaling (public in Meta's reference code and transformers' modeling_rope_utils): with
 * wavelength w = 2 pi / f and the training context c, factor 1 where w < c/high, `factor` where
 * w > c/low, and 1 / ((1 - s)/factor + s), s = (c/w - low)/(high - low), between.
 */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double TWO_PI = 6.283185307179586;

static bool config_bad(const ModelFile *file, Err *err, const char *what, const char *key)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': %s '%s'", file->path, what, key);
}

static bool in_range(const ModelFile *file, const char *key, int64_t value, int64_t most,
                     int64_t *out, Err *err)
{
    if (value < 1 || value > most)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "'%s': '%s' is missing or not a whole number from 1 to %lld", file->path,
                       key, (long long)most);
    *out = value;
    return true;
}

/* What must hold between the numbers, wherever they came from. */
static bool config_consistent(const ModelFile *file, const ModelConfig *c, Err *err)
{
    if (c->n_heads % c->n_kv_heads != 0)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "'%s': %lld heads cannot share %lld key/value heads", file->path,
                       (long long)c->n_heads, (long long)c->n_kv_heads);
    if (c->head_dim < 1 || c->head_dim > MODEL_MAX_HEAD_DIM ||
        c->n_heads * c->head_dim > MODEL_MAX_WIDTH)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "'%s': heads of %lld elements are not possible", file->path,
                       (long long)c->head_dim);
    if (c->rope_dim < 2 || c->rope_dim % 2 != 0 || c->rope_dim > c->head_dim)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "'%s': %lld rotary dimensions do not fit heads of %lld", file->path,
                       (long long)c->rope_dim, (long long)c->head_dim);
    if (!(c->rope_theta > 0) || !isfinite(c->rope_theta))
        return config_bad(file, err, "not a positive number:", "rope theta");
    if (!(c->rms_eps > 0) || !isfinite(c->rms_eps))
        return config_bad(file, err, "missing or not a positive number:", "rms norm epsilon");
    return true;
}

/* ---- GGUF ---- */

typedef struct GgufKeys {
    const ModelFile *file;
    const char *arch;
    char key[160];
} GgufKeys;

static const char *key_of(GgufKeys *keys, const char *name)
{
    snprintf(keys->key, sizeof keys->key, "%s.%s", keys->arch, name);
    return keys->key;
}

/* fallback for an absent key; a key of another kind is an error. */
static bool gguf_number(GgufKeys *keys, const char *name, int64_t fallback, int64_t most,
                        int64_t *out, Err *err)
{
    const Gguf *gguf = &keys->file->gguf;
    const char *key = key_of(keys, name);
    int64_t value = gguf_find(gguf, key) == NULL ? fallback : gguf_int(gguf, key, -1);
    return in_range(keys->file, key, value, most, out, err);
}

static bool gguf_rope_scaling(GgufKeys *keys, Err *err)
{
    const Gguf *gguf = &keys->file->gguf;
    Str type = gguf_str(gguf, key_of(keys, "rope.scaling.type"));
    bool none = type.len == 0 || str_eq_text(type, "none");
    bool trivial = str_eq_text(type, "linear") &&
                   gguf_float(gguf, key_of(keys, "rope.scaling.factor"), 1) == 1;
    if (none || trivial)
        return true;
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': rope scaling '%.*s' is not supported",
                   keys->file->path, (int)min_i64((int64_t)type.len, 40), type.data);
}

bool config_read_gguf(const ModelFile *file, const char *arch, ModelConfig *config, Arena *out,
                      Err *err)
{
    (void)out;
    const Gguf *gguf = &file->gguf;
    GgufKeys keys = {.file = file, .arch = arch};
    if (!gguf_number(&keys, "block_count", -1, MODEL_MAX_LAYERS, &config->n_layers, err) ||
        !gguf_number(&keys, "embedding_length", -1, MODEL_MAX_WIDTH, &config->d_model, err) ||
        !gguf_number(&keys, "feed_forward_length", -1, MODEL_MAX_WIDTH, &config->d_ff, err) ||
        !gguf_number(&keys, "context_length", -1, MODEL_MAX_POSITIONS, &config->max_positions,
                     err) ||
        !gguf_number(&keys, "attention.head_count", -1, MODEL_MAX_HEADS, &config->n_heads, err) ||
        !gguf_number(&keys, "attention.head_count_kv", config->n_heads, MODEL_MAX_HEADS,
                     &config->n_kv_heads, err) ||
        !gguf_number(&keys, "attention.key_length", config->d_model / config->n_heads,
                     MODEL_MAX_HEAD_DIM, &config->head_dim, err) ||
        !gguf_number(&keys, "rope.dimension_count", config->head_dim, MODEL_MAX_HEAD_DIM,
                     &config->rope_dim, err))
        return false;
    int64_t value_length = 0;
    if (!gguf_number(&keys, "attention.value_length", config->head_dim, MODEL_MAX_HEAD_DIM,
                     &value_length, err))
        return false;
    if (value_length != config->head_dim)
        return config_bad(file, err, "keys and values of different lengths:", keys.key);
    const GgufTensor *embed = gguf_tensor(gguf, "token_embd.weight");
    if (embed == NULL)
        return config_bad(file, err, "missing tensor", "token_embd.weight");
    if (!in_range(file, "rows of token_embd.weight", embed->ne[1], MODEL_MAX_VOCAB, &config->vocab,
                  err))
        return false;
    config->rope_theta = gguf_float(gguf, key_of(&keys, "rope.freq_base"), 10000);
    config->rms_eps =
        (float)gguf_float(gguf, key_of(&keys, "attention.layer_norm_rms_epsilon"), 0);
    return gguf_rope_scaling(&keys, err) && config_consistent(file, config, err);
}

void config_write_gguf(const ModelConfig *config, const char *arch, GgufWriter *writer)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"vocab_size", config->vocab},
        {"context_length", config->max_positions},
        {"embedding_length", config->d_model},
        {"block_count", config->n_layers},
        {"feed_forward_length", config->d_ff},
        {"attention.head_count", config->n_heads},
        {"attention.head_count_kv", config->n_kv_heads},
        {"attention.key_length", config->head_dim},
        {"attention.value_length", config->head_dim},
        {"rope.dimension_count", config->rope_dim},
    };
    GgufKeys keys = {.arch = arch};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        assert(numbers[i].value > 0 && numbers[i].value <= UINT32_MAX);
        gguf_put_u32(writer, key_of(&keys, numbers[i].name), (uint32_t)numbers[i].value);
    }
    gguf_put_f32(writer, key_of(&keys, "attention.layer_norm_rms_epsilon"), config->rms_eps);
    gguf_put_f32(writer, key_of(&keys, "rope.freq_base"), (float)config->rope_theta);
}

/* ---- config.json ---- */

static bool json_number(const ModelFile *file, const char *key, int64_t fallback, int64_t most,
                        int64_t *out, Err *err)
{
    const Json *value = json_get(file->config, key);
    return in_range(file, key, json_is_null(value) ? fallback : json_int(value, -1), most, out,
                    err);
}

static float llama3_factor(double wavelength, double factor, double low, double high,
                           double context)
{
    if (wavelength < context / high)
        return 1;
    if (wavelength > context / low)
        return (float)factor;
    double s = (context / wavelength - low) / (high - low);
    return (float)(1 / ((1 - s) / factor + s));
}

static bool llama3_factors(const ModelFile *file, const Json *rope, ModelConfig *config, Arena *out,
                           Err *err)
{
    double factor = json_double(json_get(rope, "factor"), 8);
    double low = json_double(json_get(rope, "low_freq_factor"), 1);
    double high = json_double(json_get(rope, "high_freq_factor"), 4);
    double context = json_double(json_get(rope, "original_max_position_embeddings"), 8192);
    if (!(factor >= 1 && low > 0 && high > low && context > 0) ||
        !isfinite(factor + high + context))
        return config_bad(file, err, "numbers that cannot be of rope scaling", "llama3");
    config->rope_factors = arena_array(out, float, config->rope_dim / 2);
    for (int64_t i = 0; i < config->rope_dim / 2; i++) {
        double frequency =
            pow(config->rope_theta, -2.0 * (double)i / (double)config->rope_dim);
        config->rope_factors[i] = llama3_factor(TWO_PI / frequency, factor, low, high, context);
    }
    return true;
}

static bool json_rope(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    const Json *rope = json_get(file->config, "rope_parameters");
    const Json *theta = json_get(rope, "rope_theta");
    if (json_is_null(rope)) {
        rope = json_get(file->config, "rope_scaling");
        theta = NULL;
    }
    if (json_is_null(theta))
        theta = json_get(file->config, "rope_theta");
    config->rope_theta = json_double(theta, json_is_null(theta) ? 10000 : -1);
    if (!(config->rope_theta > 0) || !isfinite(config->rope_theta))
        return config_bad(file, err, "not a positive number:", "rope_theta");
    if (!json_is_null(rope) && !json_is_object(rope))
        return config_bad(file, err, "not an object:", "rope_scaling");
    double partial = json_double(json_get(rope, "partial_rotary_factor"), 1);
    if (partial != 1)
        return config_bad(file, err, "not supported:", "partial_rotary_factor");
    const char *type = json_text(json_get(rope, "rope_type"));
    if (type == NULL)
        type = json_text(json_get(rope, "type"));
    if (type == NULL || strcmp(type, "default") == 0)
        return true;
    if (strcmp(type, "llama3") == 0)
        return llama3_factors(file, rope, config, out, err);
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': rope scaling '%.40s' is not supported",
                   file->path, type);
}

bool config_read_folder(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    const Json *json = file->config;
    if (!json_number(file, "num_hidden_layers", -1, MODEL_MAX_LAYERS, &config->n_layers, err) ||
        !json_number(file, "hidden_size", -1, MODEL_MAX_WIDTH, &config->d_model, err) ||
        !json_number(file, "intermediate_size", -1, MODEL_MAX_WIDTH, &config->d_ff, err) ||
        !json_number(file, "vocab_size", -1, MODEL_MAX_VOCAB, &config->vocab, err) ||
        !json_number(file, "num_attention_heads", -1, MODEL_MAX_HEADS, &config->n_heads, err) ||
        !json_number(file, "num_key_value_heads", config->n_heads, MODEL_MAX_HEADS,
                     &config->n_kv_heads, err) ||
        !json_number(file, "head_dim", config->d_model / config->n_heads, MODEL_MAX_HEAD_DIM,
                     &config->head_dim, err) ||
        !json_number(file, "max_position_embeddings", 2048, MODEL_MAX_POSITIONS,
                     &config->max_positions, err))
        return false;
    config->rope_dim = config->head_dim;
    config->rms_eps = (float)json_double(json_get(json, "rms_norm_eps"), 1e-6);
    config->tied = json_bool(json_get(json, "tie_word_embeddings"), false);
    const char *act = json_text(json_get(json, "hidden_act"));
    if (act != NULL && strcmp(act, "silu") != 0)
        return config_bad(file, err, "unsupported hidden_act", act);
    if (!json_is_null(json_get(json, "quantization_config")))
        return config_bad(file, err, "not supported:", "quantization_config");
    if (config->rope_dim % 2 != 0)
        return config_bad(file, err, "odd:", "head_dim");
    return json_rope(file, config, out, err) && config_consistent(file, config, err);
}

void rope_frequencies(const ModelConfig *config, float *out)
{
    float theta = (float)config->rope_theta, dim = (float)config->rope_dim;
    for (int64_t i = 0; i < config->rope_dim / 2; i++) {
        float frequency = 1.0f / powf(theta, (float)(2 * i) / dim);
        out[i] = config->rope_factors == NULL ? frequency : frequency / config->rope_factors[i];
    }
}
