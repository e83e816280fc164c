/* linear.c — the one place that composes a base weight with its adapter: a group of linears as the
 * tape takes it, and the refresh of backend copies after the masters changed.
 */
#include "model/adapter.h"

static const AdapterPair *pair_of(const Model *model, int64_t layer, Role role)
{
    const Adapter *adapter = model->adapter;
    if (adapter == NULL)
        return NULL;
    assert(layer >= 0 && layer < adapter->n_layers && role < ROLE_LINEAR_COUNT);
    const AdapterPair *pair = &adapter->pairs[layer * ROLE_LINEAR_COUNT + role];
    return pair->present ? pair : NULL;
}

/* A matrix inside the adapter's flat vector. */
static ParamRef flat_param(const Adapter *adapter, int64_t offset, int64_t rows, int64_t cols)
{
    must(adapter->values != NULL);
    ParamRef param = {.value = tensor_make(adapter->values + offset, DTYPE_F32, rows, cols)};
    if (adapter->grads != NULL)
        param.grad = tensor_make(adapter->grads + offset, DTYPE_F32, rows, cols);
    return param;
}

void linear_group(const Model *model, int64_t layer, const Role *roles, int n, LinearSpec *specs)
{
    must(n >= 1 && n <= LINEAR_MAX_PARTS);
    for (int i = 0; i < n; i++) {
        Role role = roles[i];
        specs[i] = (LinearSpec){.w = &model->layers[layer].linear[role]};
        if (model->grads != NULL)
            specs[i].dw = model->grads->layers[layer].linear[role];
        if ((int)role < BIAS_COUNT)
            specs[i].bias.value = model->layers[layer].bias[role];
        if ((int)role < BIAS_COUNT && model->grads != NULL)
            specs[i].bias.grad = model->grads->layers[layer].bias[role];
        const AdapterPair *pair = pair_of(model, layer, role);
        if (pair == NULL)
            continue;
        const Adapter *adapter = model->adapter;
        int64_t r = adapter->config.r;
        specs[i].a = flat_param(adapter, pair->a_offset, r, pair->in);
        specs[i].b = flat_param(adapter, pair->b_offset, pair->out, r);
        specs[i].scale = (float)adapter_scale(&adapter->config);
        if (!adapter_has(adapter, ADAPTER_DORA))
            continue;
        specs[i].magnitude = flat_param(adapter, pair->m_offset, 1, pair->out);
        specs[i].norm = tensor_make(adapter->norms + pair->norm_offset, DTYPE_F32, 1, pair->out);
    }
}

int64_t linear_rank(const Model *model, int64_t layer, const Role *roles, int n)
{
    assert(n > 0 && n <= LINEAR_MAX_PARTS);
    int64_t rank = 0;
    for (int i = 0; i < n; i++)
        if (pair_of(model, layer, roles[i]) != NULL)
            rank += model->adapter->config.r;
    return rank;
}

/* The groups in which families call their linears; backend copies are kept by group. */
static const struct {
    Role roles[LINEAR_MAX_PARTS];
    int n;
} GROUPS[] = {
    {{ROLE_Q, ROLE_K, ROLE_V}, 3}, {{ROLE_O}, 1},   {{ROLE_GATE, ROLE_UP}, 2},
    {{ROLE_DOWN}, 1},              {{ROLE_QKV}, 1}, {{ROLE_GATE_UP}, 1}};

int linear_group_count(void)
{
    return (int)COUNT_OF(GROUPS);
}

int linear_group_roles(const Family *family, int group, const Role **roles)
{
    must(group >= 0 && group < linear_group_count());
    *roles = GROUPS[group].roles;
    return family_has(family, GROUPS[group].roles[0]) ? GROUPS[group].n : 0;
}

/* The norms that weight-decomposed parts divide by. */
static void refresh_norms(const LinearSpec *specs, int n, Tape *tape)
{
    for (int i = 0; i < n; i++) {
        if (tensor_is_empty(&specs[i].norm))
            continue;
        OpCall call = {.op = OP_row_norms};
        call.row_norms = (RowNormsArgs){.w = specs[i].w, .a = specs[i].a.value,
                                        .b = specs[i].b.value, .scale = specs[i].scale,
                                        .norm = specs[i].norm};
        tape_run(tape, &call, PASS_FWD);
    }
}

void linear_refresh_all(const Model *model, Tape *tape)
{
    if (model->adapter == NULL)
        return;
    assert(model->adapter->values != NULL);
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        for (int g = 0; g < linear_group_count(); g++) {
            const Role *roles;
            int n = linear_group_roles(model->family, g, &roles);
            if (n == 0 || linear_rank(model, layer, roles, n) == 0)
                continue;
            LinearSpec specs[LINEAR_MAX_PARTS];
            linear_group(model, layer, roles, n, specs);
            refresh_norms(specs, n, tape);
            OpCall call = {.op = OP_lowrank_refresh};
            call.lowrank_refresh.n_parts = n;
            for (int i = 0; i < n; i++)
                call.lowrank_refresh.part[i] =
                    (LinearPart){.w = specs[i].w, .a = specs[i].a.value, .b = specs[i].b.value,
                                 .scale = specs[i].scale};
            tape_run(tape, &call, PASS_FWD);
        }
    }
}
