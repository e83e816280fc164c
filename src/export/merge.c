/* merge.c — W + s·B·A in f32 from the base as it lies on disk, streamed in panels of rows.
 *
 * A matrix never exists whole: memory is a few panels whatever the model's size. The sum over the
 * rank runs in order for every element, so the result does not depend on threads.
 */
#include "export/merge.h"

#include <string.h>

#include "format/quant.h"

enum { PANEL_ROWS = 256 };

MergeSource merge_plain(const Weight *weight)
{
    return (MergeSource){.weight = weight, .head_dim = 1, .rope_dim = 1};
}

MergeSource merge_source(const Model *model, const Adapter *adapter, const float *values,
                         int64_t layer, Role role, RopePairing to)
{
    must(role < ROLE_LINEAR_COUNT);
    MergeSource source = merge_plain(&model->layers[layer].linear[role]);
    const WeightName *name = family_weight(model->family, role);
    if (name->flags & (WEIGHT_ROPE_ROWS_Q | WEIGHT_ROPE_ROWS_K)) {
        source.head_dim = model->config.head_dim;
        source.rope_dim = model->config.rope_dim;
        source.from = model->config.pairing;
        source.to = to;
    }
    if (adapter == NULL)
        return source;
    const AdapterPair *pair = &adapter->pairs[layer * ROLE_LINEAR_COUNT + role];
    if (!pair->present)
        return source;
    source.a = values + pair->a_offset;
    source.b = values + pair->b_offset;
    source.r = adapter->config.r;
    source.scale = (float)(adapter->config.alpha / (double)adapter->config.r);
    return source;
}

int64_t merge_panel_rows(const MergeSource *source)
{
    return round_up(PANEL_ROWS, source->head_dim);
}

static void merge_row(const MergeSource *source, int64_t row, float *out)
{
    const Weight *w = source->weight;
    assert(row >= 0 && row < w->rows);
    const uint8_t *bytes = w->source;
    size_t row_bytes = dtype_row_bytes(w->dtype, w->cols);
    quant_decode_row(w->dtype, bytes + (size_t)row * row_bytes, out, w->cols);
    for (int64_t k = 0; source->b != NULL && k < source->r; k++) {
        float factor = source->scale * source->b[row * source->r + k];
        const float *a = source->a + k * w->cols;
        for (int64_t j = 0; j < w->cols; j++)
            out[j] += factor * a[j];
    }
}

void merge_rows(const MergeSource *source, int64_t from, int64_t n, float *scratch, float *out)
{
    const int64_t cols = source->weight->cols;
    assert(out != NULL && scratch != out);
    bool moved = source->from != source->to;
    float *target = moved ? scratch : out;
    must(from >= 0 && from + n <= source->weight->rows);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        merge_row(source, from + i, target + i * cols);
    if (!moved)
        return;
    must(from % source->head_dim == 0 && n % source->head_dim == 0);
    rope_rows_convert(scratch, out, n / source->head_dim, source->head_dim, source->rope_dim,
                      (size_t)cols * sizeof(float), source->from, source->to);
}

void merge_write(const MergeSource *source, Dtype dtype, GgufWriter *writer, Arena *scratch)
{
    const int64_t rows = source->weight->rows, cols = source->weight->cols;
    const size_t row_bytes = dtype_row_bytes(dtype, cols);
    size_t mark = arena_mark(scratch);
    int64_t panel = min_i64(merge_panel_rows(source), rows);
    float *work = arena_push(scratch, (size_t)(panel * cols) * sizeof(float));
    float *values = arena_push(scratch, (size_t)(panel * cols) * sizeof(float));
    uint8_t *bytes = arena_push(scratch, (size_t)panel * row_bytes);
    for (int64_t from = 0; from < rows; from += panel) {
        int64_t n = min_i64(panel, rows - from);
        merge_rows(source, from, n, work, values);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++)
            quant_encode_row(dtype, values + i * cols, bytes + (size_t)i * row_bytes, cols);
        gguf_write_data(writer, bytes, (size_t)n * row_bytes);
    }
    arena_rewind(scratch, mark);
}
