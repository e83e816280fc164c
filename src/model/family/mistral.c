/* mistral.c — family mistral (Mistral 7B v0.3; Jiang et al. 2023): the plain block, no biases, rope
 * theta 1e6, no sliding window (v0.1 had one).
 *
 * A GGUF file of it says architecture llama and has nothing of its own, so it is read as family
 * llama; this row is for folders. A window that a sequence could reach is refused: no GGUF of that
 * architecture can say it, and an exported model would compute something else.
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
    must(file->format == MODEL_FOLDER); /* by family_find */
    config_defaults(config);
    config->max_positions = 131072;
    config->n_kv_heads = 8;
    if (!config_read_folder(file, "silu", config, out, err) ||
        !config_plain_attention(file, config, err))
        return false;
    static const char key[] = "sliding_window";
    const Json *window = json_get(file->config, key);
    bool none = window != NULL && json_is_null(window);
    if (!none && json_int(window, 4096) < config->max_positions)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': a %s of %lld tokens is not supported",
                       file->path, key, (long long)json_int(window, 4096));
    return true;
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "llama", CONFIG_VOCAB_SIZE | CONFIG_ROPE_DIMENSIONS, writer);
}

extern const Family family_mistral;
const Family family_mistral = {
    .name = "llama",
    .hf_model_type = "mistral",
    .hf_class = "MistralForCausalLM",
    .gguf_pairing = ROPE_INTERLEAVED,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .block = block_prenorm_swiglu,
};
