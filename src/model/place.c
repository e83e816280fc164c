/* place.c — a model on a backend: weights handed over, norms widened to f32, the rope table made.
 *
 * Runs unchanged on the plan backend: every push depends on the configuration alone.
 */
#include "model/model.h"

#include "format/quant.h"
#include "model/adapter.h"
#include "model/config.h"

#include <math.h>

/* A [1, n] f32 vector of the file on the device. */
static Tensor place_vector(Backend *backend, Arena *slab, const Weight *vector)
{
    must(vector->rows == 1 && vector->source != NULL);
    size_t bytes = (size_t)vector->cols * sizeof(float);
    float *host = heap_resize(NULL, bytes);
    quant_decode_row(vector->dtype, vector->source, host, vector->cols);
    Tensor tensor = tensor_make(arena_push(slab, bytes), DTYPE_F32, 1, vector->cols);
    backend->upload(backend, tensor.data, host, bytes);
    heap_free(host);
    return tensor;
}

/* Row p: cos(p f_i), then sin(p f_i). The product is rounded to f32 first, as transformers does. */
static Tensor place_rope(Backend *backend, Arena *slab, const ModelConfig *config,
                         int64_t n_positions)
{
    int64_t half = config->rope_dim / 2;
    Tensor table = tensor_make(NULL, DTYPE_F32, n_positions, config->rope_dim);
    size_t bytes = tensor_bytes(&table);
    table.data = arena_push(slab, bytes);
    float *frequency = heap_resize(NULL, (size_t)half * sizeof(float));
    float *host = heap_resize(NULL, bytes);
    rope_frequencies(config, frequency);
    for (int64_t p = 0; p < n_positions; p++) {
        float *row = host + p * config->rope_dim;
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)p * frequency[i];
            row[i] = cosf(angle);
            row[half + i] = sinf(angle);
        }
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
        int n = linear_group_roles(g, &roles);
        for (int i = 0; i < n; i++)
            weights[i] = &model->layers[layer].linear[roles[i]];
        backend_open_group(backend, weights, n, linear_rank(model, layer, roles, n), slab);
    }
}

void model_place(Model *model, Backend *backend, Arena *slab, int64_t n_positions)
{
    must(model->family != NULL && n_positions > 0);
    model->backend = backend;
    model->weights = slab;
    backend->weight_open(backend, &model->embed, slab);
    if (model->config.tied)
        model->head = model->embed;
    else
        backend->weight_open(backend, &model->head, slab);
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        Layer *l = &model->layers[layer];
        place_linears(model, backend, slab, layer);
        for (int i = 0; i < NORM_COUNT; i++)
            l->norm[i] = place_vector(backend, slab, &l->norm_file[i]);
    }
    model->final_norm = place_vector(backend, slab, &model->final_norm_file);
    model->rope_table = place_rope(backend, slab, &model->config, n_positions);
}
