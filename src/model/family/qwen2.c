/* qwen2.c — family qwen2 (Qwen 2 and 2.5; Yang et al. 2024): the block of llama with biases on q, k
 * and v.
 *
 * GGUF files hold q and k rows as Hugging Face does (rope on halves), so neither rows nor biases
 * are ever permuted. Quirks: a config.json that switches the sliding window on is refused; one that
 * only names a window (use_sliding_window false, as released) is not.
 */
#include "model/family/plain.h"

static const WeightName NAMES[] = {
    PLAIN_ATTENTION(0, 0), PLAIN_BIASES, PLAIN_FEED_FORWARD, PLAIN_NORMS, PLAIN_GLOBALS,
};

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    config_defaults(config);
    if (file->format == MODEL_GGUF)
        return config_read_gguf(file, "qwen2", config, err) &&
               config_plain_attention(file, config, err);
    config->max_positions = 32768;
    if (json_bool(json_get(file->config, "use_sliding_window"), false))
        return config_unsupported(file, "use_sliding_window is", err);
    return config_read_folder(file, "silu", config, out, err) &&
           config_plain_attention(file, config, err);
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "qwen2", 0, writer);
}

extern const Family family_qwen2;
const Family family_qwen2 = {
    .name = "qwen2",
    .hf_model_type = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .gguf_pairing = ROPE_HALVES,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .block = block_prenorm_swiglu,
};
