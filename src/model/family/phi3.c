/* phi3.c — family phi3 (Phi-3, Phi-4-mini; Abdin et al. 2024): q, k and v are one matrix, gate and
 * up another; rope turns a part of every head, with longrope scaling. No biases.
 *
 * GGUF files keep Hugging Face's row order and the matrices whole (gate and up are called ffn_up);
 * longrope is two tensors and two keys. llama.cpp chooses between the tensors by the size of its
 * context, transformers by the length of a sequence: so do we.
 * sliding_window, where a sequence can reach it, is in every layer, as transformers computes it.
 */
#include "model/family/plain.h"

#include <math.h>

static const WeightName NAMES[] = {
    {ROLE_QKV, "model.layers.%d.self_attn.qkv_proj.weight", "blk.%d.attn_qkv.weight", 0},
    {ROLE_O, "model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight", 0},
    {ROLE_GATE_UP, "model.layers.%d.mlp.gate_up_proj.weight", "blk.%d.ffn_up.weight", 0},
    {ROLE_DOWN, "model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight", 0},
    PLAIN_NORMS,
    PLAIN_GLOBALS,
    {ROLE_ROPE_FACTORS, NULL, "rope_factors_short.weight", WEIGHT_OPTIONAL},
    {ROLE_ROPE_FACTORS_LONG, NULL, "rope_factors_long.weight", WEIGHT_OPTIONAL},
};

static void mark_window(ModelConfig *config, int64_t window, Arena *out)
{
    assert(config->max_positions > 0);
    if (window <= 0)
        return;
    config->window = min_i64(window, MODEL_MAX_POSITIONS);
    if (window >= config->max_positions)
        return; /* no sequence reaches it, but files say it */
    config_layer_flags(config, out);
    for (int64_t i = 0; i < config->n_layers; i++)
        config->layer_flags[i] = LAYER_LOCAL;
}

static bool read_gguf(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    const Gguf *gguf = &file->gguf;
    if (!config_read_gguf(file, "phi3", config, err))
        return false;
    config->rope_switch = config->max_positions;
    if (!config_number(file, "phi3.rope.scaling.original_context_length", MODEL_MAX_POSITIONS,
                       &config->rope_switch, err))
        return false;
    double scale = gguf_float(gguf, "phi3.rope.scaling.attn_factor", 1);
    if (!(scale > 0) || !isfinite(scale))
        return config_bad(file, err, "not a positive number:", "phi3.rope.scaling.attn_factor");
    config->rope_scale = (float)scale;
    mark_window(config, gguf_int(gguf, "phi3.attention.sliding_window", 0), out);
    bool both = gguf_tensor(gguf, "rope_factors_short.weight") != NULL;
    return both == (gguf_tensor(gguf, "rope_factors_long.weight") != NULL) ||
           config_bad(file, err, "missing tensor",
                      both ? "rope_factors_long.weight" : "rope_factors_short.weight");
}

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    config_defaults(config);
    if (file->format == MODEL_GGUF)
        return read_gguf(file, config, out, err);
    config->max_positions = 4096;
    config->rms_eps = 1e-5f;
    if (!config_no_biases(file, err) || !config_read_folder(file, "silu", config, out, err))
        return false;
    if (config->rope_switch == 0)
        config->rope_switch = config->max_positions;
    mark_window(config, json_int(json_get(file->config, "sliding_window"), 0), out);
    return true;
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    config_write_gguf(config, "phi3", CONFIG_ROPE_DIMENSIONS, writer);
    gguf_put_u32(writer, "phi3.rope.scaling.original_context_length",
                 (uint32_t)config->rope_switch);
    if (config->rope_factors_long != NULL)
        gguf_put_f32(writer, "phi3.rope.scaling.attn_factor", config->rope_scale);
    gguf_put_u32(writer, "phi3.attention.sliding_window", (uint32_t)config->window);
}

static Json *factor_list(const float *factors, int64_t n)
{
    Json *list = json_new_array();
    for (int64_t i = 0; i < n; i++)
        json_add(list, config_new_number(factors[i]));
    return list;
}

static bool write_config(const ModelConfig *config, Json *json, Err *err)
{
    (void)err;
    int64_t half = config->rope_dim / 2;
    json_put(json, "original_max_position_embeddings", json_new_int(config->rope_switch));
    if (config->rope_dim != config->head_dim)
        json_put(json, "partial_rotary_factor",
                 json_new_double((double)config->rope_dim / (double)config->head_dim));
    json_put(json, "sliding_window",
             config->window > 0 ? json_new_int(config->window) : json_new_null());
    if (config->rope_factors_long == NULL)
        return true;
    Json *rope = json_new_object();
    json_put(rope, "type", json_new_text("longrope"));
    json_put(rope, "short_factor", factor_list(config->rope_factors, half));
    json_put(rope, "long_factor", factor_list(config->rope_factors_long, half));
    json_put(rope, "attention_factor", config_new_number(config->rope_scale));
    json_put(json, "rope_scaling", rope);
    return true;
}

static void block(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                  KvCache *cache)
{
    static const Role QKV[] = {ROLE_QKV}, GATE_UP[] = {ROLE_GATE_UP};
    const ModelConfig *c = &model->config;
    const int64_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    assert(model->layers[layer].linear[ROLE_QKV].rows == q + 2 * kv);
    const int64_t qkv_widths[] = {q, kv, kv}, gate_up_widths[] = {c->d_ff, c->d_ff};
    Value *whole, *qkv[3], *gate_up[2];

    Value *n1 = block_norm(model, tape, layer, NORM_ATTENTION, QKV, 1);
    block_linears(model, tape, layer, n1, QKV, 1, &whole);
    block_split(tape, whole, qkv_widths, 3, qkv);
    Value *attended = block_attention(model, tape, layer, qkv, input, cache, ROLE_O);
    block_add(model, tape, layer, attended, ROLE_O);

    Value *n2 = block_norm(model, tape, layer, NORM_FFN, GATE_UP, 1);
    block_linears(model, tape, layer, n2, GATE_UP, 1, &whole);
    block_split(tape, whole, gate_up_widths, 2, gate_up);
    Value *gated = block_glu(model, tape, layer, gate_up, ACT_SILU, ROLE_DOWN);
    block_add(model, tape, layer, gated, ROLE_DOWN);
}

extern const Family family_phi3;
const Family family_phi3 = {
    .name = "phi3",
    .hf_model_type = "phi3",
    .hf_class = "Phi3ForCausalLM",
    .gguf_pairing = ROPE_HALVES,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .write_config = write_config,
    .block = block,
};
