/* llama.c — family llama (Llama 2, 3.x, SmolLM2; Touvron et al. 2023): the plain block, no biases.
 *
 * GGUF files hold q and k rows for interleaved rope (see layout.c) and llama3 rope scaling as the
 * tensor rope_freqs.weight. Quirks: rope.dimension_count must equal the head size; a file with
 * experts has the same architecture name (Mixtral) and is refused here.
 */
#include "model/family/plain.h"

static const WeightName NAMES[] = {
    PLAIN_ATTENTION(WEIGHT_ROPE_ROWS_Q, WEIGHT_ROPE_ROWS_K),
    PLAIN_FEED_FORWARD,
    PLAIN_NORMS,
    PLAIN_GLOBALS,
    {ROLE_ROPE_FACTORS, NULL, "rope_freqs.weight", WEIGHT_OPTIONAL},
};

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    config_defaults(config);
    if (file->format == MODEL_FOLDER)
        return config_no_biases(file, err) &&
               config_read_folder(file, "silu", config, out, err) &&
               config_plain_attention(file, config, err);
    if (!config_read_gguf(file, "llama", config, err))
        return false;
    if (gguf_int(&file->gguf, "llama.expert_count", 0) != 0)
        return config_unsupported(file, "a mixture of experts is", err);
    return config_plain_attention(file, config, err);
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "llama", CONFIG_VOCAB_SIZE | CONFIG_ROPE_DIMENSIONS, writer);
}

static bool write_config(const ModelConfig *config, Json *json, Err *err)
{
    return config->rope_factors == NULL || config_put_llama3(config, json) ||
           err_set(err, ERR_RUNTIME_EXPORT_FAILED,
                   "config.json cannot say the rope factors of '%s'", config->name);
}

extern const Family family_llama;
const Family family_llama = {
    .name = "llama",
    .hf_model_type = "llama",
    .hf_class = "LlamaForCausalLM",
    .gguf_pairing = ROPE_INTERLEAVED,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .write_config = write_config,
    .block = block_prenorm_swiglu,
};
