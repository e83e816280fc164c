/* place.c — a model on a backend: weights handed over, norms and biases widened to f32, rope
 * tables made.
 *
 * Runs unchanged on the plan backend: every push depends on the configuration alone.
 */
#include "model/model.h"

#include "format/quant.h"
#include "model/adapter.h"
#include "model/config.h"

#include <math.h>

/* A [1, n] f32 vector of the file on the device, `offset` added to each element. */
static Tensor place_vector(Backend *backend, Arena *slab, const Weight *vector, float offset)
{
    must(vector->rows == 1 && vector->source != NULL);
    size_t bytes = (size_t)vector->cols * sizeof(float);
    float *host = heap_resize(NULL, bytes);
    quant_decode_row(vector->dtype, vector->source, host, vector->cols);
    for (int64_t i = 0; i < vector->cols; i++)
        host[i] += offset;
    Tensor tensor = tensor_make(arena_push(slab, bytes), DTYPE_F32, 1, vector->cols);
    backend->upload(backend, tensor.data, host, bytes);
    heap_free(host);
    return tensor;
}

/* Rows [0, n) of a table from frequencies: row p is cos(p f_i), then sin(p f_i), times `scale`. The
 * product p f_i is rounded to f32 first, as transformers does. */
static void fill_rope(float *rows, int64_t n, const float *frequency, int64_t half, float scale)
{
    for (int64_t p = 0; p < n; p++, rows += 2 * half) {
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)p * frequency[i];
            rows[i] = cosf(angle) * scale;
            rows[half + i] = sinf(angle) * scale;
        }
    }
}

static Tensor place_rope(Backend *backend, Arena *slab, const ModelConfig *config,
                         RopeKind first, int n_kinds, int64_t n_positions)
{
    int64_t half = config->rope_dim / 2;
    Tensor table = tensor_make(NULL, DTYPE_F32, n_positions * n_kinds, config->rope_dim);
    size_t bytes = tensor_bytes(&table);
    table.data = arena_push(slab, bytes);
    float *frequency = heap_resize(NULL, (size_t)half * sizeof(float));
    float *host = heap_resize(NULL, bytes);
    for (int i = 0; i < n_kinds; i++) {
        rope_frequencies(config, (RopeKind)(first + i), frequency);
        fill_rope(host + i * n_positions * config->rope_dim, n_positions, frequency, half,
                  config->rope_scale);
    }
    backend->upload(backend, table.data, host, bytes);
    heap_free(host);
    heap_free(frequency);
    return table;
}

/* Group by group, with room for the adapter's parts where the backend keeps them beside. */
static void place_linears(Model *model, Backend *backend, Arena *slab, int64_t layer)
{
    for (int g = 0; g < linear_group_count(); g++) {
        const Role *roles;
        Weight *weights[LINEAR_MAX_PARTS];
        int n = linear_group_roles(model->family, g, &roles);
        if (n == 0)
            continue;
        for (int i = 0; i < n; i++)
            weights[i] = &model->layers[layer].linear[roles[i]];
        backend_open_group(backend, weights, n, linear_rank(model, layer, roles, n), slab);
    }
}

bool model_fits_backend(const Model *model, const Backend *backend, Err *err)
{
    const ComputeNeeds needs = {.head_dim = (int)model->config.head_dim,
                                .widest_norm = model->config.d_model};
    return (model->adapter == NULL || adapter_fits_backend(model->adapter, backend, err)) &&
           (backend->supports == NULL || backend->supports(backend, &needs, err));
}

void model_place(Model *model, Backend *backend, Arena *slab, Arena *host_slab,
                 int64_t n_positions)
{
    must(model->family != NULL && n_positions > 0);
    const ModelConfig *config = &model->config;
    float offset = config->norm_offset;
    model->backend = backend;
    model->weights = slab;
    const bool on_host = host_slab != NULL && !config->tied && model->grads == NULL;
    backend->weight_open(backend, &model->embed, on_host ? host_slab : slab);
    if (config->tied)
        model->head = model->embed;
    else
        backend->weight_open(backend, &model->head, slab);
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        Layer *l = &model->layers[layer];
        place_linears(model, backend, slab, layer);
        for (int i = 0; i < NORM_COUNT; i++)
            if (l->norm_file[i].rows != 0)
                l->norm[i] = place_vector(backend, slab, &l->norm_file[i], offset);
        for (int i = 0; i < BIAS_COUNT; i++)
            if (l->bias_file[i].rows != 0)
                l->bias[i] = place_vector(backend, slab, &l->bias_file[i], 0);
    }
    model->final_norm = place_vector(backend, slab, &model->final_norm_file, offset);
    bool may_be_long = config->rope_factors_long != NULL && n_positions > config->rope_switch;
    model->rope_table =
        place_rope(backend, slab, config, ROPE_GLOBAL, may_be_long ? 2 : 1, n_positions);
    model->rope_table_local = (Tensor){0};
    if (config->rope_theta_local != 0)
        model->rope_table_local = place_rope(backend, slab, config, ROPE_LOCAL, 1, n_positions);
    model->n_positions = n_positions;
}
