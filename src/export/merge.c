/* merge.c — W + s·B·A, its rows scaled where the adapter says so, in f32 from the base as it lies
 * on disk, streamed in panels of rows.
 *
 * A matrix never exists whole: memory is one panel of encoded rows and two slices of f32 rows a
 * thread, whatever the model's size. The sum over the rank runs in order for every element, so the
 * result does not depend on threads.
 */
#include "export/merge.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "core/quant_block.h"
#include "core/thread.h"
#include "format/quant.h"

enum {
    PANEL_ROWS = 256,
    SLICE_ELEMENTS = 1 << 15, /* what a thread decodes and encodes at once: stays in its cache */
    PANEL_BYTES = 1 << 22
};

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
    source.scale = (float)adapter_scale(&adapter->config);
    if (adapter_has(adapter, ADAPTER_DORA))
        source.magnitude = values + pair->m_offset;
    return source;
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
    if (source->magnitude == NULL)
        return;
    double squares = 0;
    for (int64_t j = 0; j < w->cols; j++)
        squares += (double)out[j] * (double)out[j];
    const float gain = source->magnitude[row] / (float)sqrt(squares);
    for (int64_t j = 0; j < w->cols; j++)
        out[j] *= gain;
}

int64_t merge_panel_rows(const MergeSource *source)
{
    return round_up(PANEL_ROWS, source->head_dim);
}

void merge_rows(const MergeSource *source, int64_t from, int64_t n, float *scratch, float *out)
{
    const int64_t cols = source->weight->cols;
    assert(out != NULL && scratch != out);
    const bool moved = source->from != source->to;
    float *target = moved ? scratch : out;
    must(from >= 0 && from + n <= source->weight->rows);
#pragma omp parallel for schedule(static) if (!omp_in_parallel())
    for (int64_t i = 0; i < n; i++)
        merge_row(source, from + i, target + i * cols);
    if (!moved)
        return;
    must(from % source->head_dim == 0 && n % source->head_dim == 0);
    rope_rows_convert(scratch, out, n / source->head_dim, source->head_dim, source->rope_dim,
                      (size_t)cols * sizeof(float), source->from, source->to);
}

static bool all_finite(const float *values, int64_t n)
{
    uint32_t largest = 0;
    assert(n > 0);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = qb_bits(values[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < 0x7f800000u;
}

/* One matrix on its way: what all panels share. */
typedef struct Merge {
    const MergeSource *source;
    Dtype dtype;
    const float *importance;
    int64_t slice_rows;
    float *values, *scratch; /* a slice a thread, each */
    uint8_t *bytes;          /* a panel */
} Merge;

static bool encode_panel(const Merge *m, int64_t from, int64_t n)
{
    const int64_t cols = m->source->weight->cols, slice = m->slice_rows * cols;
    const size_t row_bytes = dtype_row_bytes(m->dtype, cols);
    int broken = 0;
    assert(n > 0 && m->slice_rows > 0 && omp_get_max_threads() <= threads_count());
#pragma omp parallel for schedule(dynamic) reduction(| : broken)
    for (int64_t at = 0; at < n; at += m->slice_rows) {
        const int64_t rows = min_i64(m->slice_rows, n - at);
        float *values = m->values + omp_get_thread_num() * slice;
        merge_rows(m->source, from + at, rows, m->scratch + omp_get_thread_num() * slice, values);
        broken |= !all_finite(values, rows * cols);
        quant_encode_rows(m->dtype, values, m->bytes + (size_t)at * row_bytes, rows, cols,
                          m->importance);
    }
    return broken == 0;
}

bool merge_write(const MergeSource *source, Dtype dtype, const float *importance,
                 GgufWriter *writer, Arena *scratch)
{
    const Weight *w = source->weight;
    const size_t row_bytes = dtype_row_bytes(dtype, w->cols);
    if (w->dtype == dtype && source->b == NULL && source->from == source->to) {
        gguf_write_data(writer, w->source, (size_t)w->rows * row_bytes);
        return true;
    }
    const size_t mark = arena_mark(scratch);
    Merge m = {.source = source, .dtype = dtype, .importance = importance};
    m.slice_rows = round_up(max_i64(SLICE_ELEMENTS / w->cols, 1), source->head_dim);
    const int64_t panel_rows =
        round_up(max_i64((int64_t)(PANEL_BYTES / row_bytes), 1), m.slice_rows);
    const size_t slice_bytes = (size_t)(m.slice_rows * w->cols) * sizeof(float);
    m.values = arena_push(scratch, slice_bytes * (size_t)threads_count());
    m.scratch = arena_push(scratch, slice_bytes * (size_t)threads_count());
    m.bytes = arena_push(scratch, (size_t)min_i64(panel_rows, w->rows) * row_bytes);
    assert(m.slice_rows % source->head_dim == 0 && panel_rows % m.slice_rows == 0);
    bool ok = true;
    for (int64_t from = 0; ok && from < w->rows; from += panel_rows) {
        const int64_t n = min_i64(panel_rows, w->rows - from);
        ok = encode_panel(&m, from, n);
        gguf_write_data(writer, m.bytes, (size_t)n * row_bytes);
    }
    arena_rewind(scratch, mark);
    return ok;
}
