/* config.c — config.json to a ModelConfig, every number checked against its limit, and back. The
 * keys of GGUF files are in config_gguf.c, rope in config_rope.c.
 *
 * Absent keys have the defaults of the model's class in transformers: the family sets them before
 * it calls config_read_folder.
 */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_defaults(ModelConfig *config)
{
    config->max_positions = 2048;
    config->rope_theta = 10000;
    config->rope_linear = 1;
    config->rope_scale = config->embed_scale = 1;
    config->rms_eps = 1e-6f;
}

bool config_bad(const ModelFile *file, Err *err, const char *what, const char *key)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': %s '%s'", file->path, what, key);
}

bool config_in_range(const ModelFile *file, const char *key, int64_t value, int64_t most,
                     int64_t *out, Err *err)
{
    if (value < 1 || value > most)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "'%s': '%s' is missing or not a whole number from 1 to %lld", file->path,
                       key, (long long)most);
    *out = value;
    return true;
}

bool config_consistent(const ModelFile *file, const ModelConfig *c, Err *err)
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
    if (c->window < 0 || (c->window == 0 && c->rope_theta_local != 0))
        return config_bad(file, err, "no window for layers with a rope of their own:", "window");
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

bool config_number(const ModelFile *file, const char *key, int64_t most, int64_t *value, Err *err)
{
    if (file->format == MODEL_GGUF)
        return gguf_find(&file->gguf, key) == NULL ||
               config_in_range(file, key, gguf_int(&file->gguf, key, -1), most, value, err);
    const Json *json = json_get(file->config, key);
    return json_is_null(json) || config_in_range(file, key, json_int(json, -1), most, value, err);
}

bool config_unsupported(const ModelFile *file, const char *what, Err *err)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': %s not supported", file->path, what);
}

bool config_plain_attention(const ModelFile *file, const ModelConfig *config, Err *err)
{
    if (config->rope_dim != config->head_dim)
        return config_unsupported(file, "a rope over a part of the heads is", err);
    if (config->rope_factors_long != NULL)
        return config_unsupported(file, "rope scaling 'longrope' is", err);
    return true;
}

bool config_no_biases(const ModelFile *file, Err *err)
{
    assert(file->format == MODEL_FOLDER);
    if (json_bool(json_get(file->config, "attention_bias"), false) ||
        json_bool(json_get(file->config, "mlp_bias"), false))
        return config_unsupported(file, "biases of attention_bias and mlp_bias are", err);
    return true;
}

void config_layer_flags(ModelConfig *config, Arena *out)
{
    must(config->n_layers > 0);
    config->layer_flags = arena_array(out, uint8_t, config->n_layers);
}

/* Keys that no family may leave out. */
static bool json_sizes(const ModelFile *file, ModelConfig *config, Err *err)
{
    const struct {
        const char *key;
        int64_t most;
        int64_t *value;
    } keys[] = {
        {"num_hidden_layers", MODEL_MAX_LAYERS, &config->n_layers},
        {"hidden_size", MODEL_MAX_WIDTH, &config->d_model},
        {"intermediate_size", MODEL_MAX_WIDTH, &config->d_ff},
        {"vocab_size", MODEL_MAX_VOCAB, &config->vocab},
        {"num_attention_heads", MODEL_MAX_HEADS, &config->n_heads},
    };
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        int64_t value = json_int(json_get(file->config, keys[i].key), -1);
        if (!config_in_range(file, keys[i].key, value, keys[i].most, keys[i].value, err))
            return false;
    }
    return true;
}

static bool json_activation(const ModelFile *file, const char *activation, Err *err)
{
    static const char *const keys[] = {"hidden_act", "hidden_activation"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        const char *act = json_text(json_get(file->config, keys[i]));
        if (act != NULL && strcmp(act, activation) != 0)
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': unsupported %s '%.60s'",
                           file->path, keys[i], act);
    }
    return true;
}

bool config_read_folder(const ModelFile *file, const char *activation, ModelConfig *config,
                        Arena *out, Err *err)
{
    const Json *json = file->config;
    if (!json_sizes(file, config, err))
        return false;
    config->head_dim_given = !json_is_null(json_get(json, "head_dim"));
    if (config->head_dim == 0)
        config->head_dim = config->d_model / config->n_heads;
    if (config->n_kv_heads == 0)
        config->n_kv_heads = config->n_heads;
    if (!config_number(file, "num_key_value_heads", MODEL_MAX_HEADS, &config->n_kv_heads, err) ||
        !config_number(file, "head_dim", MODEL_MAX_HEAD_DIM, &config->head_dim, err) ||
        !config_number(file, "max_position_embeddings", MODEL_MAX_POSITIONS,
                       &config->max_positions, err))
        return false;
    config->rms_eps = (float)json_double(json_get(json, "rms_norm_eps"), (double)config->rms_eps);
    config->tied = json_bool(json_get(json, "tie_word_embeddings"), config->tied);
    if (!json_activation(file, activation, err))
        return false;
    if (!json_is_null(json_get(json, "quantization_config")))
        return config_bad(file, err, "not supported:", "quantization_config");
    return config_read_rope(file, config, out, err) && config_consistent(file, config, err);
}

/* ---- writing ---- */

Json *config_new_number(float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    double few = strtod(text, NULL);
    return json_new_double((float)few == value ? few : (double)value);
}

Json *config_write_folder(const ModelConfig *config, const Family *family)
{
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"vocab_size", config->vocab},
        {"hidden_size", config->d_model},
        {"intermediate_size", config->d_ff},
        {"num_hidden_layers", config->n_layers},
        {"num_attention_heads", config->n_heads},
        {"num_key_value_heads", config->n_kv_heads},
        {"head_dim", config->head_dim},
        {"max_position_embeddings", config->max_positions},
    };
    Json *json = json_new_object(), *classes = json_new_array();
    json_add(classes, json_new_text(family->hf_class));
    json_put(json, "architectures", classes);
    json_put(json, "model_type", json_new_text(family->hf_model_type));
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        assert(numbers[i].value > 0);
        json_put(json, numbers[i].key, json_new_int(numbers[i].value));
    }
    json_put(json, "hidden_act", json_new_text("silu"));
    json_put(json, "rms_norm_eps", config_new_number(config->rms_eps));
    json_put(json, "tie_word_embeddings", json_new_bool(config->tied));
    json_put(json, "attention_bias", json_new_bool(false));
    json_put(json, "rope_theta", json_new_double(config->rope_theta));
    if (config->rope_linear != 1) {
        Json *rope = json_new_object();
        json_put(rope, "rope_type", json_new_text("linear"));
        json_put(rope, "factor", json_new_double(config->rope_linear));
        json_put(json, "rope_scaling", rope);
    }
    return json;
}
