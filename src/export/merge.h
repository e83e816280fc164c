/* merge.h — the merged matrix W + s·B·A, computed in f32 and encoded once, a panel of rows at a
 * time. Private to export/ and the self-test.
 */
#ifndef EXPORT_MERGE_H
#define EXPORT_MERGE_H

#include "model/adapter.h"

/* One matrix of the base with what the adapter adds to it. */
typedef struct MergeSource {
    const Weight *weight;
    const float *a, *b; /* [r, cols], [rows, r]; NULL = the base alone */
    int64_t r;
    float scale;
    const float *magnitude; /* [rows]: lengths of the rows of the result; NULL = as they come */
    /* Rows of q and k change order between pairings; heads of head_dim rows. */
    int64_t head_dim, rope_dim;
    RopePairing from, to;
} MergeSource;

/* The adapter's pair for (layer, role) as a merge source; a plain one when it has none. */
MergeSource merge_source(const Model *model, const Adapter *adapter, const float *values,
                         int64_t layer, Role role, RopePairing to);
MergeSource merge_plain(const Weight *weight);

/* Rows to take at a time: whole heads where rows are permuted. */
int64_t merge_panel_rows(const MergeSource *source);
/* f32 rows [from, from + n) of the result, n a multiple of the head or the rest. `scratch` holds as
 * many floats as `out`. */
void merge_rows(const MergeSource *source, int64_t from, int64_t n, float *scratch, float *out);

/* Writes the whole matrix as `dtype` through the writer. importance: a weight for every column, or
 * NULL. A base that already has that type and gains nothing is copied as it is. False when a value
 * is not finite (such a model is broken, and blocks would hide it). */
bool merge_write(const MergeSource *source, Dtype dtype, const float *importance,
                 GgufWriter *writer, Arena *scratch);

#endif
