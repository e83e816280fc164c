/* config.h — reading a model's configuration: the keys that most families share, with limits. A
 * family calls one of the two readers and adds what is its own.
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "model/model.h"

/* Sanity limits of a configuration: beyond them a file is damaged or hostile. */
enum {
    MODEL_MAX_LAYERS = 1024,
    MODEL_MAX_HEADS = 4096,
    MODEL_MAX_HEAD_DIM = 4096,
    MODEL_MAX_WIDTH = 1 << 20, /* d_model, d_ff, heads * head_dim */
    MODEL_MAX_VOCAB = 1 << 24,
    MODEL_MAX_POSITIONS = 1 << 27,
};

/* The first call of a family's reader: what is so unless a file says otherwise (transformers'
 * LlamaConfig). A family then changes what its own class has as default. */
void config_defaults(ModelConfig *config);
/* GGUF keys `<arch>.*`; vocab from the embedding's rows. rope factors: from `rope_freqs.weight`. */
bool config_read_gguf(const ModelFile *file, const char *arch, ModelConfig *config, Err *err);
/* The same keys, as llama.cpp's converter names them, and those of CONFIG_*. */
enum { CONFIG_VOCAB_SIZE = 1, CONFIG_ROPE_DIMENSIONS = 2 };
void config_write_gguf(const ModelConfig *config, const char *arch, unsigned extra,
                       GgufWriter *writer);
/* config.json as transformers up to 4 and from 5 on write it; an absent key leaves what is in
 * config. activation: the only one that this family has. */
bool config_read_folder(const ModelFile *file, const char *activation, ModelConfig *config,
                        Arena *out, Err *err);
/* One more key of either kind of file, a whole number from 1 to `most`; absent: unchanged. */
bool config_number(const ModelFile *file, const char *key, int64_t most, int64_t *value, Err *err);
/* DEP_MODEL_LOAD_FAILED "'PATH': WHAT not supported". */
bool config_unsupported(const ModelFile *file, const char *what, Err *err);
/* For families whose attention takes whole heads into rope and no window. */
bool config_plain_attention(const ModelFile *file, const ModelConfig *config, Err *err);
/* False with an error when config.json switches on attention_bias or mlp_bias. */
bool config_no_biases(const ModelFile *file, Err *err);
/* layer_flags of n_layers zeros. */
void config_layer_flags(ModelConfig *config, Arena *out);

/* config.json of a model that came from a GGUF file, as transformers reads it: all that families
 * share; Family.write_config adds the rest. Nothing of the tokenizer. */
Json *config_write_folder(const ModelConfig *config, const Family *family);
/* A number that was stored as f32, with the few digits that give it back. */
Json *config_new_number(float value);
/* llama3 rope scaling from its factors: true when Meta's usual numbers give them. */
bool config_put_llama3(const ModelConfig *config, Json *json);

/* For the files of this reader. */
bool config_read_rope(const ModelFile *file, ModelConfig *config, Arena *out, Err *err);
bool config_bad(const ModelFile *file, Err *err, const char *what, const char *key);
bool config_in_range(const ModelFile *file, const char *key, int64_t value, int64_t most,
                     int64_t *out, Err *err);
/* What must hold between the numbers, wherever they came from. */
bool config_consistent(const ModelFile *file, const ModelConfig *config, Err *err);

/* Frequencies of rope as transformers computes them, divided by the factors: [rope_dim/2]. */
typedef enum RopeKind { ROPE_GLOBAL, ROPE_LONG /* past rope_switch */, ROPE_LOCAL } RopeKind;
void rope_frequencies(const ModelConfig *config, RopeKind kind, float *out);

#endif
