/* qwen3.c — family qwen3 (dense Qwen3; Qwen Team 2025): the plain block with an RMS norm over every
 * head of q and k before rope, no biases; heads * head_dim is not the width of the model.
 *
 * GGUF files keep Hugging Face's row order.
 */
#include "model/family/plain.h"

static const WeightName NAMES[] = {
    PLAIN_ATTENTION(0, 0), PLAIN_HEAD_NORMS, PLAIN_FEED_FORWARD, PLAIN_NORMS, PLAIN_GLOBALS,
};

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    config_defaults(config);
    if (file->format == MODEL_GGUF)
        return config_read_gguf(file, "qwen3", config, err) &&
               config_plain_attention(file, config, err);
    config->max_positions = 32768;
    config->head_dim = 128;
    if (json_bool(json_get(file->config, "use_sliding_window"), false))
        return config_unsupported(file, "use_sliding_window is", err);
    return config_no_biases(file, err) && config_read_folder(file, "silu", config, out, err) &&
           config_plain_attention(file, config, err);
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "qwen3", 0, writer);
}

static void block(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                  KvCache *cache)
{
    static const Role QKV[] = {ROLE_Q, ROLE_K, ROLE_V};
    Value *qkv[3];
    Value *normed = block_norm(model, tape, layer, NORM_ATTENTION, QKV, 3);
    block_linears(model, tape, layer, normed, QKV, 3, qkv);
    qkv[0] = block_head_norm(model, tape, layer, NORM_Q, qkv[0]);
    qkv[1] = block_head_norm(model, tape, layer, NORM_K, qkv[1]);
    Value *attended = block_attention(model, tape, layer, qkv, input, cache, ROLE_O);
    block_add(model, tape, layer, attended, ROLE_O);
    block_swiglu(model, tape, layer);
}

extern const Family family_qwen3;
const Family family_qwen3 = {
    .name = "qwen3",
    .hf_model_type = "qwen3",
    .hf_class = "Qwen3ForCausalLM",
    .gguf_pairing = ROPE_HALVES,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .block = block,
};
