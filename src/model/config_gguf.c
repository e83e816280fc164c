/* config_gguf.c — a model's configuration as the `<architecture>.*` keys of a GGUF file, read with
 * limits and written with the names and types of llama.cpp's converter. What only one family has is
 * in that family's file.
 */
#include "model/config.h"

#include <math.h>
#include <stdio.h>

typedef struct GgufKeys {
    const ModelFile *file;
    const char *arch;
    char key[160];
} GgufKeys;

static const char *key_of(GgufKeys *keys, const char *name)
{
    snprintf(keys->key, sizeof keys->key, "%s.%s", keys->arch, name);
    return keys->key;
}

/* fallback for an absent key; a key of another kind is an error. */
static bool gguf_number(GgufKeys *keys, const char *name, int64_t fallback, int64_t most,
                        int64_t *out, Err *err)
{
    const Gguf *gguf = &keys->file->gguf;
    const char *key = key_of(keys, name);
    int64_t value = gguf_find(gguf, key) == NULL ? fallback : gguf_int(gguf, key, -1);
    return config_in_range(keys->file, key, value, most, out, err);
}

static bool gguf_rope_scaling(GgufKeys *keys, ModelConfig *config, Err *err)
{
    const Gguf *gguf = &keys->file->gguf;
    Str type = gguf_str(gguf, key_of(keys, "rope.scaling.type"));
    double factor = gguf_float(gguf, key_of(keys, "rope.scaling.factor"), 1);
    if (type.len == 0 || str_eq_text(type, "linear")) {
        config->rope_linear = factor == 0 ? 1 : factor; /* llama.cpp takes 0 for none */
        return (config->rope_linear > 0 && isfinite(config->rope_linear)) ||
               config_bad(keys->file, err, "not a positive number:", keys->key);
    }
    /* What longrope is made of lies in tensors and keys that its families read. */
    if (str_eq_text(type, "none") || str_eq_text(type, "longrope"))
        return true;
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': rope scaling '%.*s' is not supported",
                   keys->file->path, (int)min_i64((int64_t)type.len, 40), type.data);
}

static bool gguf_heads(GgufKeys *keys, ModelConfig *config, Err *err)
{
    const ModelFile *file = keys->file;
    if (!gguf_number(keys, "attention.head_count", -1, MODEL_MAX_HEADS, &config->n_heads, err) ||
        !gguf_number(keys, "attention.head_count_kv", config->n_heads, MODEL_MAX_HEADS,
                     &config->n_kv_heads, err) ||
        !gguf_number(keys, "attention.key_length", config->d_model / config->n_heads,
                     MODEL_MAX_HEAD_DIM, &config->head_dim, err))
        return false;
    config->head_dim_given = gguf_find(&file->gguf, keys->key) != NULL;
    int64_t value_length = 0;
    if (!gguf_number(keys, "attention.value_length", config->head_dim, MODEL_MAX_HEAD_DIM,
                     &value_length, err))
        return false;
    return value_length == config->head_dim ||
           config_bad(file, err, "keys and values of different lengths:", keys->key);
}

bool config_read_gguf(const ModelFile *file, const char *arch, ModelConfig *config, Err *err)
{
    const Gguf *gguf = &file->gguf;
    GgufKeys keys = {.file = file, .arch = arch};
    if (!gguf_number(&keys, "block_count", -1, MODEL_MAX_LAYERS, &config->n_layers, err) ||
        !gguf_number(&keys, "embedding_length", -1, MODEL_MAX_WIDTH, &config->d_model, err) ||
        !gguf_number(&keys, "feed_forward_length", -1, MODEL_MAX_WIDTH, &config->d_ff, err) ||
        !gguf_number(&keys, "context_length", -1, MODEL_MAX_POSITIONS, &config->max_positions,
                     err) ||
        !gguf_heads(&keys, config, err) ||
        !gguf_number(&keys, "rope.dimension_count", config->head_dim, MODEL_MAX_HEAD_DIM,
                     &config->rope_dim, err))
        return false;
    const GgufTensor *embed = gguf_tensor(gguf, "token_embd.weight");
    if (embed == NULL)
        return config_bad(file, err, "missing tensor", "token_embd.weight");
    if (!config_in_range(file, "rows of token_embd.weight", embed->ne[1], MODEL_MAX_VOCAB,
                         &config->vocab, err))
        return false;
    config->rope_theta = gguf_float(gguf, key_of(&keys, "rope.freq_base"), 10000);
    config->rms_eps =
        (float)gguf_float(gguf, key_of(&keys, "attention.layer_norm_rms_epsilon"), 0);
    return gguf_rope_scaling(&keys, config, err) && config_consistent(file, config, err);
}

typedef struct NumberKey {
    const char *name;
    int64_t value; /* 0: not written */
} NumberKey;

void config_write_gguf(const ModelConfig *config, const char *arch, unsigned extra,
                       GgufWriter *writer)
{
    int64_t length = config->head_dim_given ? config->head_dim : 0;
    const NumberKey numbers[] = {
        {"block_count", config->n_layers},
        {"context_length", config->max_positions},
        {"embedding_length", config->d_model},
        {"feed_forward_length", config->d_ff},
        {"attention.head_count", config->n_heads},
        {"attention.head_count_kv", config->n_kv_heads},
        {"attention.key_length", length},
        {"attention.value_length", length},
        {"vocab_size", (extra & CONFIG_VOCAB_SIZE) != 0 ? config->vocab : 0},
        {"rope.dimension_count", (extra & CONFIG_ROPE_DIMENSIONS) != 0 ? config->rope_dim : 0},
    };
    GgufKeys keys = {.arch = arch};
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        assert(numbers[i].value >= 0 && numbers[i].value <= UINT32_MAX);
        if (numbers[i].value != 0)
            gguf_put_u32(writer, key_of(&keys, numbers[i].name), (uint32_t)numbers[i].value);
    }
    gguf_put_f32(writer, key_of(&keys, "rope.freq_base"), (float)config->rope_theta);
    gguf_put_f32(writer, key_of(&keys, "attention.layer_norm_rms_epsilon"), config->rms_eps);
    if (config->rope_linear != 1) {
        gguf_put_str(writer, key_of(&keys, "rope.scaling.type"), STR("linear"));
        gguf_put_f32(writer, key_of(&keys, "rope.scaling.factor"), (float)config->rope_linear);
    }
}
