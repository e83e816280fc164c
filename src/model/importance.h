/* importance.h — how much each input column of each matrix matters: the sums of squares that
 * column sees over a text. Quantisers spend their error where these are small.
 */
#ifndef MODEL_IMPORTANCE_H
#define MODEL_IMPORTANCE_H

#include "model/model.h"

typedef struct Importance {
    float **sums;   /* [n_layers * ROLE_LINEAR_COUNT] of [columns]; layer-major */
    int64_t tokens; /* that every matrix saw */
    int64_t chunks, chunk_tokens;
} Importance;

enum { IMPORTANCE_CHUNK = 512 };

/* Reads ids in independent chunks of IMPORTANCE_CHUNK tokens (or all of them as one, if fewer); a
 * last piece is left out. bos: the token that begins every chunk, in the place of its first, or
 * TOKEN_NONE. The backend must keep activations in host memory as f32. The model must have been
 * opened and not placed. Results live in `out`. */
bool importance_collect(Model *model, Backend *backend, const int32_t *ids, int64_t n, int32_t bos,
                        const float *adapter_values, Arena *out, Importance *importance, Err *err);

#endif
