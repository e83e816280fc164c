/* full.h — training every weight of a model. What is trained is an Adapter without pairs whose flat
 * vector holds the weights themselves, so that the optimiser, checkpoints and the memory plan need
 * not know: first the matrices, which weight decay is for, then norms and biases, which it is not
 * for (transformers' Trainer draws the same line).
 *
 * Values are f32 masters, in the base file's row order; norms are held as the device has them, with
 * ModelConfig.norm_offset. Products round them to the type of the activations as they are used.
 */
#ifndef MODEL_FULL_H
#define MODEL_FULL_H

#include "model/adapter.h"

/* Where a run leaves the trained model, inside its output folder. */
#define MODEL_FOLDER "model"

typedef struct FullParam {
    Role role;
    int64_t layer; /* 0 outside layers */
    int64_t rows, cols, offset; /* vectors have one row */
} FullParam;

/* The parameters of this model; a tied head is the embedding. */
Adapter *full_make(const Model *model, Arena *out);
/* What the file holds, decoded: host vector [n_params]. */
void full_init_values(const Adapter *full, const Model *model, float *host_values);

/* A copy of the model for the backend: place it instead, then attach it. Lives in `out`; the base
 * stays as it is. */
Model *full_copy(const Model *model, Arena *out);
/* After model_place and adapter_place: the copy's weights and gradients are the flat vectors'. */
void full_attach(Model *copy, const Adapter *full);

/* The model as these host values say, to be exported: f32 weights behind `source`. The values must
 * outlive it; vectors are copied. Lives in `out`. */
Model *full_view(const Model *model, const Adapter *full, const float *host_values, Arena *out);

#endif
