/* llama.c — family llama (Llama 2, 3.x, SmolLM2; Touvron et al. 2023): grouped-query attention with
 * rope, SwiGLU, two RMS norms a block, no biases.
 *
 * GGUF files hold q and k rows for interleaved rope (see layout.c) and llama3 rope scaling as the
 * tensor rope_freqs.weight. Quirks: rope.dimension_count must equal the head size; a file with
 * experts has the same architecture name (Mixtral) and is refused here.
 */
#include "model/config.h"
#include "model/decoder.h"

static const WeightName NAMES[] = {
    {ROLE_Q, "model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", WEIGHT_ROPE_ROWS_Q},
    {ROLE_K, "model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", WEIGHT_ROPE_ROWS_K},
    {ROLE_V, "model.layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight", 0},
    {ROLE_O, "model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight", 0},
    {ROLE_GATE, "model.layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight", 0},
    {ROLE_UP, "model.layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight", 0},
    {ROLE_DOWN, "model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight", 0},
    {ROLE_ATTN_NORM, "model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", 0},
    {ROLE_FFN_NORM, "model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight", 0},
    {ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", 0},
    {ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight", 0},
    {ROLE_HEAD, "lm_head.weight", "output.weight", WEIGHT_OPTIONAL},
    {ROLE_ROPE_FACTORS, NULL, "rope_freqs.weight", WEIGHT_OPTIONAL},
};

static bool unsupported(const ModelFile *file, const char *what, Err *err)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': %s not supported", file->path, what);
}

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    if (file->format == MODEL_FOLDER) {
        if (json_bool(json_get(file->config, "attention_bias"), false) ||
            json_bool(json_get(file->config, "mlp_bias"), false))
            return unsupported(file, "biases of attention_bias and mlp_bias are", err);
        return config_read_folder(file, config, out, err);
    }
    if (!config_read_gguf(file, "llama", config, out, err))
        return false;
    if (gguf_int(&file->gguf, "llama.expert_count", 0) != 0)
        return unsupported(file, "a mixture of experts is", err);
    if (config->rope_dim != config->head_dim)
        return unsupported(file, "a rope.dimension_count other than the head size is", err);
    return true;
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "llama", writer);
}

static void block(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                  KvCache *cache)
{
    static const Role QKV[] = {ROLE_Q, ROLE_K, ROLE_V};
    static const Role GATE_UP[] = {ROLE_GATE, ROLE_UP};
    Value *qkv[3], *gate_up[2];

    Value *n1 = block_norm(model, tape, layer, NORM_ATTENTION, QKV, 3);
    block_linears(model, tape, layer, n1, QKV, 3, qkv);
    Value *attended = block_attention(model, tape, layer, qkv, input, cache, ROLE_O);
    block_add(model, tape, layer, attended, ROLE_O);

    Value *n2 = block_norm(model, tape, layer, NORM_FFN, GATE_UP, 2);
    block_linears(model, tape, layer, n2, GATE_UP, 2, gate_up);
    Value *gated = block_glu(model, tape, layer, gate_up, ACT_SILU, ROLE_DOWN);
    block_add(model, tape, layer, gated, ROLE_DOWN);
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
    .block = block,
};
