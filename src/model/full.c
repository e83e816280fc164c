/* full.c — see full.h. Owns the list of a model's parameters and the two ways in which one stands
 * for a weight: on a backend while it is trained, and on the host when the result is written.
 */
#include "model/full.h"

#include "format/quant.h"

/* The weight of a role as the file holds it; rows 0 where the model has none. */
static const Weight *file_weight(const Model *model, Role role, int64_t layer)
{
    const Layer *l = &model->layers[layer];
    assert(layer >= 0 && layer < model->config.n_layers);
    if (role < ROLE_LINEAR_COUNT)
        return &l->linear[role];
    if (role < ROLE_Q_BIAS)
        return &l->norm_file[role - ROLE_ATTN_NORM];
    if (role < ROLE_LAYER_COUNT)
        return &l->bias_file[role - ROLE_Q_BIAS];
    must(role == ROLE_EMBED || role == ROLE_FINAL_NORM || role == ROLE_HEAD);
    return role == ROLE_EMBED ? &model->embed
           : role == ROLE_HEAD ? &model->head
                               : &model->final_norm_file;
}

/* The same of a model that is ours to change. */
static Weight *own_weight(Model *model, Role role, int64_t layer)
{
    return (Weight *)(uintptr_t)file_weight(model, role, layer);
}

static bool is_norm(Role role)
{
    return role == ROLE_FINAL_NORM || (role >= ROLE_ATTN_NORM && role < ROLE_Q_BIAS);
}

static bool is_vector(Role role)
{
    return is_norm(role) || (role >= ROLE_Q_BIAS && role < ROLE_LAYER_COUNT);
}

static void add(Adapter *full, const Model *model, Role role, int64_t layer)
{
    const Weight *w = file_weight(model, role, layer);
    if (w->rows == 0 || (role == ROLE_HEAD && model->config.tied))
        return;
    full->weights[full->n_weights++] = (FullParam){
        .role = role, .layer = layer, .rows = w->rows, .cols = w->cols, .offset = full->n_params};
    full->n_params += w->rows * w->cols;
}

Adapter *full_make(const Model *model, Arena *out)
{
    const int64_t n_layers = model->config.n_layers;
    Adapter *full = arena_new(out, Adapter);
    full->config.methods = ADAPTER_FULL;
    full->n_layers = n_layers;
    full->pairs = arena_array(out, AdapterPair, n_layers * ROLE_LINEAR_COUNT);
    full->weights = arena_array(out, FullParam, 3 + n_layers * ROLE_LAYER_COUNT);
    add(full, model, ROLE_EMBED, 0);
    for (int64_t layer = 0; layer < n_layers; layer++)
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            add(full, model, (Role)role, layer);
    add(full, model, ROLE_HEAD, 0);
    full->n_decayed = full->n_params;
    for (int64_t layer = 0; layer < n_layers; layer++)
        for (int role = ROLE_LINEAR_COUNT; role < ROLE_LAYER_COUNT; role++)
            add(full, model, (Role)role, layer);
    add(full, model, ROLE_FINAL_NORM, 0);
    assert(full->n_params > full->n_decayed && full->n_decayed > 0);
    return full;
}

void full_init_values(const Adapter *full, const Model *model, float *host_values)
{
    for (int64_t i = 0; i < full->n_weights; i++) {
        const FullParam *p = &full->weights[i];
        const Weight *w = file_weight(model, p->role, p->layer);
        float *to = host_values + p->offset;
        const uint8_t *from = w->source;
        assert(w->rows == p->rows && w->cols == p->cols);
        for (int64_t row = 0; row < p->rows; row++)
            quant_decode_row(w->dtype, from + (size_t)row * dtype_row_bytes(w->dtype, w->cols),
                             to + row * p->cols, p->cols);
        for (int64_t j = 0; is_norm(p->role) && j < p->cols; j++)
            to[j] += model->config.norm_offset;
    }
}

static Model *copy_model(const Model *model, Arena *out)
{
    Model *copy = arena_new(out, Model);
    *copy = *model;
    copy->adapter = NULL;
    copy->layers = arena_array(out, Layer, model->config.n_layers);
    for (int64_t i = 0; i < model->config.n_layers; i++)
        copy->layers[i] = model->layers[i];
    return copy;
}

Model *full_copy(const Model *model, Arena *out)
{
    Model *copy = copy_model(model, out);
    copy->grads = arena_new(out, ModelGrads);
    copy->grads->layers = arena_array(out, LayerGrads, model->config.n_layers);
    return copy;
}

/* Value and gradient of a vector parameter of a placed model. */
static void attach_vector(Model *copy, const FullParam *p, Tensor value, Tensor grad)
{
    Layer *l = &copy->layers[p->layer];
    LayerGrads *g = &copy->grads->layers[p->layer];
    if (p->role == ROLE_FINAL_NORM) {
        copy->final_norm = value;
        copy->grads->final_norm = grad;
    } else if (is_norm(p->role)) {
        l->norm[p->role - ROLE_ATTN_NORM] = value;
        g->norm[p->role - ROLE_ATTN_NORM] = grad;
    } else {
        l->bias[p->role - ROLE_Q_BIAS] = value;
        g->bias[p->role - ROLE_Q_BIAS] = grad;
    }
}

void full_attach(Model *copy, const Adapter *full)
{
    must(copy->grads != NULL && full->values != NULL && full->grads != NULL);
    for (int64_t i = 0; i < full->n_weights; i++) {
        const FullParam *p = &full->weights[i];
        const Tensor value = tensor_make(full->values + p->offset, DTYPE_F32, p->rows, p->cols);
        const Tensor grad = tensor_make(full->grads + p->offset, DTYPE_F32, p->rows, p->cols);
        if (is_vector(p->role)) {
            attach_vector(copy, p, value, grad);
            continue;
        }
        Weight *w = own_weight(copy, p->role, p->layer);
        *w = (Weight){.data = value.data, .dtype = DTYPE_F32, .rows = p->rows, .cols = p->cols};
        if (p->role < ROLE_LINEAR_COUNT)
            copy->grads->layers[p->layer].linear[p->role] = grad;
        else if (p->role == ROLE_EMBED)
            copy->grads->embed = grad;
        else
            copy->grads->head = grad;
    }
    if (copy->config.tied)
        copy->head = copy->embed;
}

Model *full_view(const Model *model, const Adapter *full, const float *host_values, Arena *out)
{
    Model *view = copy_model(model, out);
    for (int64_t i = 0; i < full->n_weights; i++) {
        const FullParam *p = &full->weights[i];
        const float *source = host_values + p->offset;
        if (is_norm(p->role) && model->config.norm_offset != 0) {
            float *stored = arena_array(out, float, p->cols);
            for (int64_t j = 0; j < p->cols; j++)
                stored[j] = source[j] - model->config.norm_offset;
            source = stored;
        }
        *own_weight(view, p->role, p->layer) =
            (Weight){.source = source, .dtype = DTYPE_F32, .rows = p->rows, .cols = p->cols};
    }
    if (view->config.tied)
        view->head = view->embed;
    return view;
}
