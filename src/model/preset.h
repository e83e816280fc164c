/* preset.h — models by short names: what "smollm3-3b" stands for. The rows are in
 * family/presets.def. Knows no files: where a model lies is the caller's matter.
 */
#ifndef MODEL_PRESET_H
#define MODEL_PRESET_H

#include "core/base.h"

typedef struct ModelPreset {
    const char *name;
    const char *source;  /* Hugging Face id */
    const char *licence; /* "" when it asks for nothing */
    int64_t rank, max_seq_length;
    const char *config;  /* JSON for model_imagine; "" = no such family here */
} ModelPreset;

/* Row i, NULL after the last. */
const ModelPreset *model_preset_at(size_t i);

/* By name or by source, letters of either case; NULL when there is none. */
const ModelPreset *model_preset(const char *name_or_source);

#endif
