/* smollm3.c — family smollm3 (SmolLM3; Hugging Face 2025): the plain block, no biases; some layers
 * have no rope (NoPE: Kazemnejad et al. 2023).
 *
 * config.json lists them (no_rope_layers, 0 = none; or every no_rope_layer_interval-th). GGUF has
 * no key for it: llama.cpp leaves rope out of every fourth layer, so another pattern is refused.
 * GGUF files hold q and k rows for interleaved rope, in the layers without rope too.
 */
#include "model/family/plain.h"

enum { NO_ROPE_EVERY = 4 };

static const WeightName NAMES[] = {
    PLAIN_ATTENTION(WEIGHT_ROPE_ROWS_Q, WEIGHT_ROPE_ROWS_K),
    PLAIN_FEED_FORWARD,
    PLAIN_NORMS,
    PLAIN_GLOBALS,
    {ROLE_ROPE_FACTORS, NULL, "rope_freqs.weight", WEIGHT_OPTIONAL},
};

static void mark_layers(ModelConfig *config, Arena *out)
{
    config_layer_flags(config, out);
    assert(layer_flags(config, 0) == 0);
    for (int64_t i = NO_ROPE_EVERY - 1; i < config->n_layers; i += NO_ROPE_EVERY)
        config->layer_flags[i] = LAYER_NO_ROPE;
}

static bool usual_pattern(const ModelFile *file, const ModelConfig *config, Err *err)
{
    const Json *list = json_get(file->config, "no_rope_layers");
    assert(config->layer_flags != NULL);
    int64_t interval = json_int(json_get(file->config, "no_rope_layer_interval"), NO_ROPE_EVERY);
    bool usual = json_is_null(list) ? interval == NO_ROPE_EVERY
                                    : (int64_t)json_len(list) >= config->n_layers;
    for (int64_t i = 0; usual && !json_is_null(list) && i < config->n_layers; i++) {
        bool rope = (layer_flags(config, i) & LAYER_NO_ROPE) == 0;
        usual = json_int(json_at(list, (size_t)i), -1) == (rope ? 1 : 0);
    }
    return usual || config_unsupported(file, "no_rope_layers other than every fourth are", err);
}

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    config_defaults(config);
    bool folder = file->format == MODEL_FOLDER;
    if (folder) {
        config->rope_theta = 2e6;
        config->max_positions = 32768;
        config->n_kv_heads = 4;
        config->tied = true;
        if (json_bool(json_get(file->config, "use_sliding_window"), false))
            return config_unsupported(file, "use_sliding_window is", err);
        if (!config_no_biases(file, err) || !config_read_folder(file, "silu", config, out, err))
            return false;
    } else if (!config_read_gguf(file, "smollm3", config, err)) {
        return false;
    }
    mark_layers(config, out);
    return config_plain_attention(file, config, err) &&
           (!folder || usual_pattern(file, config, err));
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "smollm3", CONFIG_VOCAB_SIZE | CONFIG_ROPE_DIMENSIONS, writer);
}

static bool write_config(const ModelConfig *config, Json *json, Err *err)
{
    (void)err;
    Json *list = json_new_array();
    for (int64_t i = 0; i < config->n_layers; i++)
        json_add(list, json_new_int((layer_flags(config, i) & LAYER_NO_ROPE) != 0 ? 0 : 1));
    json_put(json, "no_rope_layers", list);
    return true;
}

extern const Family family_smollm3;
const Family family_smollm3 = {
    .name = "smollm3",
    .hf_model_type = "smollm3",
    .hf_class = "SmolLM3ForCausalLM",
    .gguf_pairing = ROPE_INTERLEAVED,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .write_config = write_config,
    .block = block_prenorm_swiglu,
};
