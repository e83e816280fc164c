/* decoder.c — the one transformer loop, the pieces that families' blocks are written from, and what
 * can be counted from the shapes.
 */
#include "model/decoder.h"

#include "model/adapter.h"

#include <math.h>

/* ---- pieces of a block ---- */

static ParamRef norm_param(const Model *model, int64_t layer, int which_norm)
{
    assert(which_norm >= 0 && which_norm < NORM_COUNT);
    ParamRef norm = {.value = model->layers[layer].norm[which_norm]};
    must(!tensor_is_empty(&norm.value)); /* the family has it */
    if (model->grads != NULL)
        norm.grad = model->grads->layers[layer].norm[which_norm];
    return norm;
}

Value *block_norm(const Model *model, Tape *tape, int64_t layer, int which_norm, const Role *roles,
                  int n_roles)
{
    return tape_segment(tape, norm_param(model, layer, which_norm), model->config.rms_eps,
                        linear_rank(model, layer, roles, n_roles));
}

void block_linears(const Model *model, Tape *tape, int64_t layer, Value *x, const Role *roles,
                   int n_roles, Value **out)
{
    LinearSpec specs[LINEAR_MAX_PARTS];
    linear_group(model, layer, roles, n_roles, specs);
    tape_linear(tape, x, specs, n_roles, out);
}

void block_add(const Model *model, Tape *tape, int64_t layer, Value *x, Role role)
{
    LinearSpec spec;
    linear_group(model, layer, &role, 1, &spec);
    tape_add_linear(tape, x, &spec);
}

void block_add_normed(const Model *model, Tape *tape, int64_t layer, Value *x, Role role,
                      int which_norm)
{
    Value *out;
    block_linears(model, tape, layer, x, &role, 1, &out);
    tape_add_rmsnorm(tape, out, norm_param(model, layer, which_norm), model->config.rms_eps);
}

void block_split(Tape *tape, Value *x, const int64_t *widths, int n, Value **out)
{
    tape_split(tape, x, widths, n, out);
}

Value *block_head_norm(const Model *model, Tape *tape, int64_t layer, int which_norm, Value *x)
{
    assert(which_norm == NORM_Q || which_norm == NORM_K);
    return tape_rmsnorm(tape, x, norm_param(model, layer, which_norm), model->config.rms_eps);
}

Value *block_attention(const Model *model, Tape *tape, int64_t layer, Value *const qkv[3],
                       const DecoderInput *input, KvCache *cache, Role reader)
{
    const ModelConfig *config = &model->config;
    const AttentionShape shape = {
        .n_heads = (int)config->n_heads, .n_kv_heads = (int)config->n_kv_heads,
        .head_dim = (int)config->head_dim,
        .scale = config->attention_scale != 0 ? config->attention_scale
                                              : 1.0f / sqrtf((float)config->head_dim)};
    const int64_t rank = linear_rank(model, layer, &reader, 1);
    const unsigned flags = layer_flags(config, layer);
    const bool local = (flags & LAYER_LOCAL) != 0;
    const AttentionSpans spans = local ? input->local : input->spans;
    if (local && config->rope_theta_local != 0)
        tape_rope(tape, qkv[0], qkv[1], model->rope_table_local, input->positions, shape.head_dim,
                  config->pairing);
    else if ((flags & LAYER_NO_ROPE) == 0)
        tape_rope(tape, qkv[0], qkv[1], model->rope_table, input->rope_rows, shape.head_dim,
                  config->pairing);
    if (cache == NULL)
        return tape_attention(tape, qkv[0], qkv[1], qkv[2], shape, spans, rank);
    tape_copy_rows(tape, qkv[1], cache->k[layer], input->positions);
    tape_copy_rows(tape, qkv[2], cache->v[layer], input->positions);
    return tape_attention_cached(tape, qkv[0], cache->k[layer], cache->v[layer], shape, spans,
                                 rank);
}

Value *block_glu(const Model *model, Tape *tape, int64_t layer, Value *const gate_up[2],
                 Activation act, Role reader)
{
    return tape_glu(tape, gate_up[0], gate_up[1], act, linear_rank(model, layer, &reader, 1));
}

void block_swiglu(const Model *model, Tape *tape, int64_t layer)
{
    static const Role GATE_UP[] = {ROLE_GATE, ROLE_UP};
    Value *gate_up[2];
    Value *normed = block_norm(model, tape, layer, NORM_FFN, GATE_UP, 2);
    block_linears(model, tape, layer, normed, GATE_UP, 2, gate_up);
    Value *gated = block_glu(model, tape, layer, gate_up, ACT_SILU, ROLE_DOWN);
    block_add(model, tape, layer, gated, ROLE_DOWN);
}

void block_prenorm_swiglu(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                 KvCache *cache)
{
    static const Role QKV[] = {ROLE_Q, ROLE_K, ROLE_V};
    Value *qkv[3];
    Value *normed = block_norm(model, tape, layer, NORM_ATTENTION, QKV, 3);
    block_linears(model, tape, layer, normed, QKV, 3, qkv);
    Value *attended = block_attention(model, tape, layer, qkv, input, cache, ROLE_O);
    block_add(model, tape, layer, attended, ROLE_O);
    block_swiglu(model, tape, layer);
}

/* ---- the model ---- */

/* Largest rank of the linears that add to the stream. */
static int64_t closing_rank(const Model *model)
{
    static const Role closing[] = {ROLE_O, ROLE_DOWN};
    int64_t rank = 0;
    for (int64_t layer = 0; layer < model->config.n_layers; layer++)
        for (size_t i = 0; i < COUNT_OF(closing); i++)
            rank = max_i64(rank, linear_rank(model, layer, &closing[i], 1));
    return rank;
}

/* Columns, row tail included, of the widest value that a linear reads. */
static int64_t widest_input(const Model *model, const Backend *backend)
{
    int64_t widest = 0;
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        for (int group = 0; group < linear_group_count(); group++) {
            const Role *roles;
            const int n = linear_group_roles(model->family, group, &roles);
            if (n == 0)
                continue;
            const int64_t rank = linear_rank(model, layer, roles, n);
            widest = max_i64(widest, model->layers[layer].linear[roles[0]].cols +
                                         backend_row_tail(backend, rank));
        }
    }
    return widest;
}

/* What the layers of this model need beside the caller's arrays. */
static DecoderInput derive_input(const Model *model, Tape *tape, const DecoderInput *input)
{
    const ModelConfig *config = &model->config;
    DecoderInput derived = *input;
    derived.rope_rows = input->positions;
    if (config->window > 0 && config->layer_flags != NULL)
        derived.local = tape_window_spans(tape, input->spans, (int)config->window);
    if (model->rope_table.rows > model->n_positions) {
        const RopeRowsArgs rows = {
            .positions = input->positions, .kv_begin = input->spans.kv_begin,
            .q_end = input->spans.q_end, .n = input->n_tokens, .length = model->n_positions,
            .longest = (int)config->rope_switch, .offset = (int)model->n_positions};
        derived.rope_rows = tape_rope_rows(tape, &rows);
    }
    return derived;
}

Value *decoder_forward(const Model *model, Tape *tape, const DecoderInput *input, KvCache *cache)
{
    must(model->backend == tape_backend(tape)); /* model_place was called */
    ParamRef final_norm = {.value = model->final_norm};
    Tensor embed_grad = {0};
    if (model->grads != NULL) {
        final_norm.grad = model->grads->final_norm;
        embed_grad = model->grads->embed;
    }
    const StreamSpec stream = {
        .table = &model->embed, .dtable = embed_grad, .scale = model->config.embed_scale,
        .rank = closing_rank(model), .widest = widest_input(model, model->backend)};
    tape_stream_begin(tape, &stream, input->tokens, input->n_tokens);
    const DecoderInput derived = derive_input(model, tape, input);
    for (int64_t layer = 0; layer < model->config.n_layers; layer++)
        model->family->block(model, tape, layer, &derived, cache);
    return tape_segment(tape, final_norm, model->config.rms_eps, 0);
}

/* ---- counts ---- */

static double weight_count(const Weight *weight)
{
    return (double)weight->rows * (double)weight->cols;
}

int64_t model_parameter_count(const Model *model)
{
    const ModelConfig *config = &model->config;
    int64_t layer_count = 0;
    for (int role = 0; role < ROLE_LAYER_COUNT; role++) {
        if (!family_has(model->family, (Role)role))
            continue;
        WeightShape shape = weight_shape(config, (Role)role);
        layer_count += shape.rows * shape.cols;
    }
    int64_t embed = config->vocab * config->d_model;
    return embed + (config->tied ? 0 : embed) + config->d_model + config->n_layers * layer_count;
}

double model_train_flops(const Model *model, double mean_context, double loss_share)
{
    const ModelConfig *config = &model->config;
    /* A product of in x out costs 2 in out a token: once forward, once for dx, once for dW. */
    double base_passes = model->grads != NULL ? 3 : 2;
    double flops = 0;
    for (int64_t layer = 0; layer < config->n_layers; layer++) {
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
            bool first = layer == 0 && (role == ROLE_Q || role == ROLE_K || role == ROLE_V ||
                                        role == ROLE_QKV);
            bool no_dx = first && model->grads == NULL; /* nothing trainable stands before it */
            flops += 2 * (base_passes - (no_dx ? 1 : 0)) *
                     weight_count(&model->layers[layer].linear[role]);
        }
    }
    if (model->adapter != NULL)
        flops += 6.0 * (double)model->adapter->n_params;
    /* Scores and values forward; twice that for dq, dk, dp, dv. */
    double heads = (double)(config->n_heads * config->head_dim);
    flops += 12.0 * mean_context * heads * (double)config->n_layers;
    return flops + 2 * base_passes * loss_share * weight_count(&model->head);
}
