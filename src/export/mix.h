/* mix.h — which block type each tensor of a quantised file gets: llama-quantize's rules, so that a
 * "q4_k_m" is what everybody calls q4_k_m. Knows names and shapes, no model.
 */
#ifndef EXPORT_MIX_H
#define EXPORT_MIX_H

#include "core/tensor.h"

typedef enum Mix {
#define X(name, text, file_type, dtype) MIX_##name,
#include "export/mixes.def"
#undef X
    MIX_COUNT
} Mix;

bool mix_find(const char *name, Mix *mix); /* "q4_k_m" */
const char *mix_name(Mix mix);
uint32_t mix_file_type(Mix mix);           /* general.file_type */
Dtype mix_default(Mix mix);

/* What the rules ask of a model. */
typedef struct MixModel {
    int64_t n_layers, n_heads, n_kv_heads, n_experts;
    int64_t n_values; /* tensors for which mix_is_value holds */
    bool tied;        /* no output.weight in the file */
    bool importance;  /* an importance matrix is there */
} MixModel;
bool mix_is_value(const char *name);

/* Chooses for the tensors of a file in its order (mix_before): some rules count what came before.
 * cols: the length of a row. Start with {mix, model}. */
typedef struct MixState {
    Mix mix;
    MixModel model;
    int64_t values_seen, downs_seen;
} MixState;
Dtype mix_choose(MixState *state, const char *name, int64_t cols);

/* llama-quantize's order of tensors: what belongs to no layer, then layer by layer, by name. */
bool mix_before(const char *name, const char *other);

#endif
