/* gemma3.c — family gemma3 (text models of Gemma 3; Gemma Team 2025): norms before and after each
 * half and over every head of q and k, all of them times (1 + w); embeddings times sqrt(width);
 * GELU; most layers see a sliding window and have a rope theta of their own.
 *
 * Folders store w, GGUF files 1 + w. GGUF files keep Hugging Face's row order. The pattern of
 * layers is layer_types, or every sliding_window_pattern-th is global (6 unless said otherwise);
 * GGUF has the key attention.sliding_window_pattern for another number. Soft-caps are refused
 * (Gemma 2 had them).
 */
#include "model/family/plain.h"

#include <math.h>
#include <string.h>

enum { GLOBAL_EVERY = 6, LAYERS_OF_27B = 62 };

static const WeightName NAMES[] = {
    PLAIN_ATTENTION(0, 0),
    PLAIN_HEAD_NORMS,
    PLAIN_FEED_FORWARD,
    PLAIN_GLOBALS,
    {ROLE_ATTN_NORM, "model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", 0},
    {ROLE_ATTN_POST_NORM, "model.layers.%d.post_attention_layernorm.weight",
     "blk.%d.post_attention_norm.weight", 0},
    {ROLE_FFN_NORM, "model.layers.%d.pre_feedforward_layernorm.weight", "blk.%d.ffn_norm.weight",
     0},
    {ROLE_FFN_POST_NORM, "model.layers.%d.post_feedforward_layernorm.weight",
     "blk.%d.post_ffw_norm.weight", 0},
};

static void mark_layers(ModelConfig *config, int64_t global_every, Arena *out)
{
    assert(global_every > 0 && config->window > 0);
    config_layer_flags(config, out);
    for (int64_t i = 0; i < config->n_layers; i++)
        config->layer_flags[i] = (i + 1) % global_every == 0 ? 0 : LAYER_LOCAL;
}

static bool layer_types(const ModelFile *file, ModelConfig *config, Err *err)
{
    const Json *list = json_get(file->config, "layer_types");
    assert(config->layer_flags != NULL);
    if (json_is_null(list))
        return true;
    for (int64_t i = 0; i < config->n_layers; i++) {
        const char *type = json_text(json_at(list, (size_t)i));
        bool local = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (!local && (type == NULL || strcmp(type, "full_attention") != 0))
            return config_bad(file, err, "a layer without a type that is known in", "layer_types");
        config->layer_flags[i] = local ? LAYER_LOCAL : 0;
    }
    return true;
}

/* llama.cpp knows the exception by the number of layers. */
static float scale_by_size(const ModelConfig *config)
{
    double size = config->n_layers == LAYERS_OF_27B
                      ? (double)config->d_model / (double)config->n_heads
                      : (double)config->head_dim;
    return (float)(1 / sqrt(size));
}

static bool read_gguf(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    const Gguf *gguf = &file->gguf;
    int64_t every = GLOBAL_EVERY;
    if (!config_read_gguf(file, "gemma3", config, err) ||
        !config_number(file, "gemma3.attention.sliding_window", MODEL_MAX_POSITIONS,
                       &config->window, err) ||
        !config_number(file, "gemma3.attention.sliding_window_pattern", MODEL_MAX_LAYERS, &every,
                       err))
        return false;
    config->rope_theta_local = gguf_float(gguf, "gemma3.rope.freq_base_swa", 10000);
    if (!(config->rope_theta_local > 0) || !isfinite(config->rope_theta_local))
        return config_bad(file, err, "not a positive number:", "gemma3.rope.freq_base_swa");
    if (gguf_float(gguf, "gemma3.final_logit_softcapping", 0) != 0)
        return config_unsupported(file, "final_logit_softcapping is", err);
    config->attention_scale = scale_by_size(config);
    if (config->window == 0) { /* as llama.cpp: full attention everywhere */
        config->rope_theta_local = 0;
        return true;
    }
    mark_layers(config, every, out);
    return true;
}

static bool read_folder(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    static const char *const absent[] = {"final_logit_softcapping", "attn_logit_softcapping"};
    for (size_t i = 0; i < COUNT_OF(absent); i++)
        if (!json_is_null(json_get(file->config, absent[i])))
            return config_bad(file, err, "not supported:", absent[i]);
    if (json_bool(json_get(file->config, "use_bidirectional_attention"), false))
        return config_unsupported(file, "use_bidirectional_attention is", err);
    config->max_positions = 131072;
    config->n_kv_heads = 4;
    config->head_dim = 256;
    config->rope_theta = 1e6;
    config->rope_theta_local = 10000;
    config->window = 4096;
    config->tied = true;
    int64_t every = GLOBAL_EVERY, scalar = 256;
    if (!config_no_biases(file, err) ||
        !config_number(file, "sliding_window", MODEL_MAX_POSITIONS, &config->window, err) ||
        !config_read_folder(file, "gelu_pytorch_tanh", config, out, err) ||
        !config_number(file, "sliding_window_pattern", MODEL_MAX_LAYERS, &every, err) ||
        !config_number(file, "query_pre_attn_scalar", MODEL_MAX_WIDTH, &scalar, err))
        return false;
    config->head_dim_given = true; /* llama.cpp's converter writes the default too */
    config->attention_scale = (float)(1 / sqrt((double)scalar));
    mark_layers(config, every, out);
    return layer_types(file, config, err);
}

static bool read_config(const ModelFile *file, ModelConfig *config, Arena *out, Err *err)
{
    config_defaults(config);
    if (file->format == MODEL_FOLDER ? !read_folder(file, config, out, err)
                                     : !read_gguf(file, config, out, err))
        return false;
    config->embed_scale = sqrtf((float)config->d_model);
    return config_plain_attention(file, config, err);
}

/* The period of the global layers, 0 when there is none. */
static int64_t period(const ModelConfig *config)
{
    int64_t every = 1;
    assert(config->n_layers > 0);
    while (every <= config->n_layers && layer_flags(config, every - 1) == LAYER_LOCAL)
        every++;
    for (int64_t i = 0; i < config->n_layers; i++)
        if (((i + 1) % every == 0) != (layer_flags(config, i) == 0))
            return 0;
    return every;
}

static bool can_write_gguf(const ModelConfig *config, Err *err)
{
    if (period(config) == 0)
        return err_set(err, ERR_RUNTIME_GGUF_EXPORT_FAILED,
                       "GGUF cannot say which layers of '%s' are local", config->name);
    float scale = scale_by_size(config);
    if (fabsf(config->attention_scale - scale) > 1e-6f * scale)
        return err_set(err, ERR_RUNTIME_GGUF_EXPORT_FAILED,
                       "GGUF cannot say the query_pre_attn_scalar of '%s'", config->name);
    return true;
}

static void write_gguf_keys(const ModelConfig *config, GgufWriter *writer)
{
    assert(period(config) > 0); /* can_write_gguf was asked */
    config_write_gguf(config, "gemma3", 0, writer);
    gguf_put_u32(writer, "gemma3.attention.sliding_window", (uint32_t)config->window);
    gguf_put_f32(writer, "gemma3.rope.freq_base_swa", (float)config->rope_theta_local);
    /* Fewer layers than the usual period have no global one either way. */
    int64_t every = period(config);
    if (every != GLOBAL_EVERY && config->n_layers >= min_i64(every, GLOBAL_EVERY))
        gguf_put_u32(writer, "gemma3.attention.sliding_window_pattern", (uint32_t)every);
}

static bool write_config(const ModelConfig *config, Json *json, Err *err)
{
    (void)err;
    Json *types = json_new_array();
    for (int64_t i = 0; i < config->n_layers; i++) {
        bool local = (layer_flags(config, i) & LAYER_LOCAL) != 0;
        json_add(types, json_new_text(local ? "sliding_attention" : "full_attention"));
    }
    json_put(json, "layer_types", types);
    json_del(json, "hidden_act");
    json_put(json, "hidden_activation", json_new_text("gelu_pytorch_tanh"));
    int64_t window = config->window > 0 ? config->window : config->max_positions;
    json_put(json, "sliding_window", json_new_int(window));
    double scale = (double)config->attention_scale;
    json_put(json, "query_pre_attn_scalar", json_new_int((int64_t)(1 / (scale * scale) + 0.5)));
    if (config->rope_theta_local != 0)
        json_put(json, "rope_local_base_freq", json_new_double(config->rope_theta_local));
    return true;
}

static void block(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                  KvCache *cache)
{
    static const Role QKV[] = {ROLE_Q, ROLE_K, ROLE_V}, GATE_UP[] = {ROLE_GATE, ROLE_UP};
    Value *qkv[3], *gate_up[2];

    Value *n1 = block_norm(model, tape, layer, NORM_ATTENTION, QKV, 3);
    block_linears(model, tape, layer, n1, QKV, 3, qkv);
    qkv[0] = block_head_norm(model, tape, layer, NORM_Q, qkv[0]);
    qkv[1] = block_head_norm(model, tape, layer, NORM_K, qkv[1]);
    Value *attended = block_attention(model, tape, layer, qkv, input, cache, ROLE_O);
    block_add_normed(model, tape, layer, attended, ROLE_O, NORM_ATTENTION_POST);

    Value *n2 = block_norm(model, tape, layer, NORM_FFN, GATE_UP, 2);
    block_linears(model, tape, layer, n2, GATE_UP, 2, gate_up);
    Value *gated = block_glu(model, tape, layer, gate_up, ACT_GELU_TANH, ROLE_DOWN);
    block_add_normed(model, tape, layer, gated, ROLE_DOWN, NORM_FFN_POST);
}

extern const Family family_gemma3;
const Family family_gemma3 = {
    .name = "gemma3",
    .hf_model_type = "gemma3_text",
    .hf_class = "Gemma3ForCausalLM",
    .gguf_pairing = ROPE_HALVES,
    .names = NAMES,
    .n_names = COUNT_OF(NAMES),
    .read_config = read_config,
    .write_gguf_keys = write_gguf_keys,
    .can_write_gguf = can_write_gguf,
    .write_config = write_config,
    .folder_norm_offset = 1,
    .block = block,
};
