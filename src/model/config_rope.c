/* config_rope.c — rotary embedding of a configuration: what config.json says of it, and the
 * frequencies that follow.
 *
 * Up to transformers 4: rope_theta and rope_scaling ({"rope_type" or "type", numbers}) at the top;
 * from 5 on both inside rope_parameters, which may hold one such object for each kind of layer.
 *
 * llama3 scaling (public in Meta's reference code and transformers' modeling_rope_utils): with
 * wavelength w = 2 pi / f and the training context c, factor 1 where w < c/high, `factor` where
 * w > c/low, and 1 / ((1 - s)/factor + s), s = (c/w - low)/(high - low), between.
 *
 * longrope (Ding et al. 2024): one list of factors for sequences of up to c tokens, another beyond;
 * cosines and sines are multiplied by attention_factor, sqrt(1 + ln(factor)/ln(c)) unless given.
 */
#include "model/config.h"

#include <math.h>
#include <string.h>

static const double TWO_PI = 6.283185307179586;

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

bool config_put_llama3(const ModelConfig *config, Json *json)
{
    static const double low = 1, high = 4, context = 8192;
    const int64_t half = config->rope_dim / 2;
    const double factor = (double)config->rope_factors[half - 1];
    for (int64_t i = 0; i < half; i++) {
        double frequency =
            pow(config->rope_theta, -2.0 * (double)i / (double)config->rope_dim);
        float want = llama3_factor(TWO_PI / frequency, factor, low, high, context);
        if (fabsf(want - config->rope_factors[i]) > 1e-4f * want)
            return false;
    }
    Json *rope = json_new_object();
    json_put(rope, "rope_type", json_new_text("llama3"));
    json_put(rope, "factor", json_new_double(factor));
    json_put(rope, "low_freq_factor", json_new_double(low));
    json_put(rope, "high_freq_factor", json_new_double(high));
    json_put(rope, "original_max_position_embeddings", json_new_int((int64_t)context));
    json_put(json, "rope_scaling", rope);
    return true;
}

/* The original_max_position_embeddings that a scaling is relative to. */
static bool original_context(const ModelFile *file, const Json *rope, int64_t *context, Err *err)
{
    static const char key[] = "original_max_position_embeddings";
    const Json *value = json_get(rope, key);
    if (json_is_null(value))
        value = json_get(file->config, key);
    *context = json_int(value, -1);
    return (*context >= 2 && *context <= MODEL_MAX_POSITIONS) ||
           config_bad(file, err, "missing or not a whole number from 2:", key);
}

static float *longrope_list(const ModelFile *file, const Json *rope, const char *key, int64_t n,
                            Arena *out, Err *err)
{
    const Json *list = json_get(rope, key);
    float *factors = arena_array(out, float, n);
    bool ok = json_is_array(list) && json_len(list) == (size_t)n;
    for (int64_t i = 0; ok && i < n; i++) {
        factors[i] = (float)json_double(json_at(list, (size_t)i), 0);
        ok = factors[i] > 0 && isfinite(factors[i]);
    }
    if (ok)
        return factors;
    err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': '%s' must be a list of %lld positive numbers",
            file->path, key, (long long)n);
    return NULL;
}

static bool longrope(const ModelFile *file, const Json *rope, ModelConfig *config, Arena *out,
                     Err *err)
{
    int64_t half = config->rope_dim / 2;
    if (!original_context(file, rope, &config->rope_switch, err))
        return false;
    config->rope_factors = longrope_list(file, rope, "short_factor", half, out, err);
    if (config->rope_factors == NULL)
        return false;
    config->rope_factors_long = longrope_list(file, rope, "long_factor", half, out, err);
    if (config->rope_factors_long == NULL)
        return false;
    double context = (double)config->rope_switch;
    double factor =
        json_double(json_get(rope, "factor"), (double)config->max_positions / context);
    double usual = factor > 1 ? sqrt(1 + log(factor) / log(context)) : 1;
    config->rope_scale = (float)json_double(json_get(rope, "attention_factor"), usual);
    return (config->rope_scale > 0 && isfinite(config->rope_scale)) ||
           config_bad(file, err, "not a positive number:", "attention_factor");
}

static bool linear(const ModelFile *file, const Json *rope, ModelConfig *config, Err *err)
{
    config->rope_linear = json_double(json_get(rope, "factor"), 0);
    return (config->rope_linear > 0 && isfinite(config->rope_linear)) ||
           config_bad(file, err, "not a positive number: rope scaling", "factor");
}

static bool scaling(const ModelFile *file, const Json *rope, ModelConfig *config, Arena *out,
                    Err *err)
{
    const char *type = json_text(json_get(rope, "rope_type"));
    if (type == NULL)
        type = json_text(json_get(rope, "type"));
    if (type == NULL || strcmp(type, "default") == 0)
        return true;
    if (strcmp(type, "linear") == 0)
        return linear(file, rope, config, err);
    if (strcmp(type, "llama3") == 0)
        return llama3_factors(file, rope, config, out, err);
    if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)
        return longrope(file, rope, config, out, err);
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': rope scaling '%.40s' is not supported",
                   file->path, type);
}

/* The part of the heads that turns. */
static bool partial(const ModelFile *file, const Json *rope, ModelConfig *config, Err *err)
{
    const Json *value = json_get(rope, "partial_rotary_factor");
    if (json_is_null(value))
        value = json_get(file->config, "partial_rotary_factor");
    double part = json_double(value, json_is_null(value) ? 1 : -1);
    if (!(part > 0 && part <= 1))
        return config_bad(file, err, "not above 0 and up to 1:", "partial_rotary_factor");
    config->rope_dim = (int64_t)((double)config->head_dim * part);
    return (config->rope_dim >= 2 && config->rope_dim % 2 == 0) ||
           config_bad(file, err, "odd number of rotary dimensions:", "head_dim");
}

static bool theta_of(const ModelFile *file, const Json *value, const char *key, double *theta,
                     Err *err)
{
    if (!json_is_null(value))
        *theta = json_double(value, -1);
    return (*theta > 0 && isfinite(*theta)) || config_bad(file, err, "not a positive number:", key);
}

bool config_read_rope(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    const Json *all = json_get(file->config, "rope_parameters"), *rope = all;
    const Json *global = json_get(all, "full_attention"), *theta = NULL, *local = NULL;
    if (!json_is_null(global)) {
        rope = global;
        local = json_get(json_get(all, "sliding_attention"), "rope_theta");
    }
    if (json_is_null(all))
        rope = json_get(file->config, "rope_scaling");
    else
        theta = json_get(rope, "rope_theta");
    if (json_is_null(theta))
        theta = json_get(file->config, "rope_theta");
    if (json_is_null(local))
        local = json_get(file->config, "rope_local_base_freq");
    if (!json_is_null(rope) && !json_is_object(rope))
        return config_bad(file, err, "not an object:", "rope_scaling");
    if (!theta_of(file, theta, "rope_theta", &config->rope_theta, err))
        return false;
    if (config->rope_theta_local != 0 &&
        !theta_of(file, local, "rope_local_base_freq", &config->rope_theta_local, err))
        return false;
    return partial(file, rope, config, err) && scaling(file, rope, config, out, err);
}

void rope_frequencies(const ModelConfig *config, RopeKind kind, float *out)
{
    float theta = (float)(kind == ROPE_LOCAL ? config->rope_theta_local : config->rope_theta);
    float dim = (float)config->rope_dim;
    float linear = kind == ROPE_LOCAL ? 1.0f : (float)config->rope_linear;
    const float *factors = kind == ROPE_LONG ? config->rope_factors_long : config->rope_factors;
    for (int64_t i = 0; i < config->rope_dim / 2; i++) {
        float frequency = 1.0f / powf(theta, (float)(2 * i) / dim) / linear;
        out[i] = factors == NULL || kind == ROPE_LOCAL ? frequency : frequency / factors[i];
    }
}
