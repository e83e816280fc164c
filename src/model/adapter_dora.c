/* adapter_dora.c — what weight-decomposed adapters (DoRA, Liu et al. 2024) have beside their
 * factors: a length for every row of the adapted matrix, which starts as the length that it has.
 *
 * What a linear does with it is weight normalisation (compute.h, LinearArgs); the norms are made
 * anew on the device after every update (linear.c). A merge divides by the norm of the rows it has
 * just summed (export/merge.c).
 */
#include "model/adapter.h"

#include "format/quant.h"

#include <math.h>

/* |row of W + s B A|, in f32 but for the sum of squares. */
static double row_norm(const Adapter *adapter, const AdapterPair *pair, const Weight *w,
                       const float *values, int64_t row, float *sum)
{
    const int64_t r = adapter->config.r;
    const float scale = (float)adapter_scale(&adapter->config);
    const uint8_t *bytes = w->source;
    quant_decode_row(w->dtype, bytes + (size_t)row * dtype_row_bytes(w->dtype, w->cols), sum,
                     w->cols);
    for (int64_t k = 0; k < r; k++) {
        const float factor = scale * values[pair->b_offset + row * r + k];
        const float *a = values + pair->a_offset + k * w->cols;
        for (int64_t j = 0; factor != 0 && j < w->cols; j++)
            sum[j] += factor * a[j];
    }
    double squares = 0;
    for (int64_t j = 0; j < w->cols; j++)
        squares += (double)sum[j] * (double)sum[j];
    return sqrt(squares);
}

void adapter_init_magnitudes(const Adapter *adapter, const Model *model, float *host_values)
{
    if (!adapter_has(adapter, ADAPTER_DORA))
        return;
    must(adapter->n_layers == model->config.n_layers);
    float *sum = NULL;
    for (int64_t i = 0; i < adapter->n_layers * ROLE_LINEAR_COUNT; i++) {
        const AdapterPair *pair = &adapter->pairs[i];
        if (!pair->present)
            continue;
        const Weight *w = &model->layers[i / ROLE_LINEAR_COUNT].linear[i % ROLE_LINEAR_COUNT];
        assert(w->rows == pair->out && w->cols == pair->in);
        sum = heap_resize(sum, (size_t)w->cols * sizeof(float));
        for (int64_t row = 0; row < w->rows; row++)
            host_values[pair->m_offset + row] =
                (float)row_norm(adapter, pair, w, host_values, row, sum);
    }
    heap_free(sum);
}
