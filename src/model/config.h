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

/* GGUF keys `<arch>.*`; vocab from the embedding's rows. rope factors: from `rope_freqs.weight`. */
bool config_read_gguf(const ModelFile *file, const char *arch, ModelConfig *config, Arena *out,
                      Err *err);
/* The same keys, as llama.cpp's converter names them. */
void config_write_gguf(const ModelConfig *config, const char *arch, GgufWriter *writer);
/* config.json as transformers up to 4 and from 5 on write it. */
bool config_read_folder(const ModelFile *file, ModelConfig *config, Arena *out, Err *err);

/* Frequencies of rope as transformers computes them, divided by the factors: [rope_dim/2]. */
void rope_frequencies(const ModelConfig *config, float *out);

#endif
