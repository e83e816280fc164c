/* adapter.c — low-rank adapters in memory: which linears have one, where its factors stand in the
 * flat vector, and their first values. What DoRA adds is in adapter_dora.c; reading and writing
 * PEFT folders is in adapter_peft.c.
 */
#include "model/adapter.h"

#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const TARGET_NAMES[ROLE_LINEAR_COUNT] = {
    [ROLE_Q] = "q_proj",       [ROLE_K] = "k_proj",   [ROLE_V] = "v_proj",      [ROLE_O] = "o_proj",
    [ROLE_GATE] = "gate_proj", [ROLE_UP] = "up_proj", [ROLE_DOWN] = "down_proj",
    [ROLE_QKV] = "qkv_proj",   [ROLE_GATE_UP] = "gate_up_proj"};

const char *adapter_target_name(Role role)
{
    must((unsigned)role < ROLE_LINEAR_COUNT);
    return TARGET_NAMES[role];
}

static bool add_target(Str name, unsigned *targets, Err *err)
{
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
        if (str_eq_text(name, TARGET_NAMES[role])) {
            *targets |= 1u << role;
            return true;
        }
    }
    err_set(err, ERR_CONFIG_INVALID_SETTING, "adapter target '%.*s' matches no linear",
            (int)min_i64((int64_t)name.len, 60), name.len == 0 ? "" : name.data);
    return err_hint(err, "Use all-linear, or some of q_proj, k_proj, v_proj, o_proj, gate_proj, "
                         "up_proj, down_proj, separated by commas");
}

unsigned adapter_targets_of(const Family *family)
{
    unsigned targets = 0;
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
        targets |= family_has(family, (Role)role) ? 1u << role : 0;
    assert(targets != 0);
    return targets;
}

/* A target that this model does not have, by name; and those that it has, as the hint. */
static bool targets_exist(const Model *model, unsigned targets, Err *err)
{
    unsigned have = adapter_targets_of(model->family);
    char list[160] = "";
    for (int role = 0, len = 0; role < ROLE_LINEAR_COUNT; role++)
        if (have >> role & 1u)
            len += snprintf(list + len, sizeof list - (size_t)len, "%s%s", len == 0 ? "" : ", ",
                            TARGET_NAMES[role]);
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
        if ((targets >> role & 1u) == 0 || (have >> role & 1u) != 0)
            continue;
        err_set(err, ERR_CONFIG_INVALID_SETTING, "adapter target '%s' matches no linear of '%s'",
                TARGET_NAMES[role], model->config.name);
        return err_hint(err, "Use all-linear, or some of %s", list);
    }
    return true;
}

bool adapter_parse_targets(const char *text, unsigned *targets, Err *err)
{
    Str rest = str_trim(str_of(text));
    if (str_eq_text(rest, "all-linear")) {
        *targets = ADAPTER_ALL_LINEAR;
        return true;
    }
    unsigned found = 0;
    for (bool more = true; more;) {
        const char *comma = rest.len == 0 ? NULL : memchr(rest.data, ',', rest.len);
        size_t len = comma == NULL ? rest.len : (size_t)(comma - rest.data);
        if (!add_target(str_trim(str_sub(rest, 0, len)), &found, err))
            return false;
        more = comma != NULL;
        if (more)
            rest = str_sub(rest, len + 1, rest.len);
    }
    *targets = found;
    return true;
}

double adapter_scale(const AdapterConfig *config)
{
    assert(config->r > 0);
    const double r = (double)config->r;
    return config->alpha / ((config->methods & ADAPTER_RSLORA) != 0 ? sqrt(r) : r);
}

Adapter *adapter_make(const Model *model, const AdapterConfig *config, Arena *out, Err *err)
{
    must(config->targets != 0 && (config->targets & ~(unsigned)ADAPTER_ALL_LINEAR) == 0);
    if (config->r < 1 || !isfinite(config->alpha)) {
        err_set(err, ERR_CONFIG_INVALID_SETTING, "adapter rank %lld with alpha %g is not possible",
                (long long)config->r, config->alpha);
        return NULL;
    }
    bool all = config->targets == ADAPTER_ALL_LINEAR;
    if (!all && !targets_exist(model, config->targets, err))
        return NULL;
    bool *matches = arena_array(out, bool, model->config.n_layers * ROLE_LINEAR_COUNT);
    if (config->pattern != NULL && !adapter_match(model, config->pattern, matches, err))
        return NULL;
    Adapter *adapter = arena_new(out, Adapter);
    adapter->config = *config;
    adapter->config.targets &= adapter_targets_of(model->family);
    adapter->n_layers = model->config.n_layers;
    adapter->pairs = arena_array(out, AdapterPair, adapter->n_layers * ROLE_LINEAR_COUNT);
    const int64_t per_row = config->r + (adapter_has(adapter, ADAPTER_DORA) ? 1 : 0);
    int64_t offset = 0, rows = 0;
    for (int64_t i = 0; i < adapter->n_layers * ROLE_LINEAR_COUNT; i++) {
        Role role = (Role)(i % ROLE_LINEAR_COUNT);
        if ((adapter->config.targets >> role & 1u) == 0 || (config->pattern != NULL && !matches[i]))
            continue;
        WeightShape shape = weight_shape(&model->config, role);
        if (config->r > min_i64(shape.rows, shape.cols)) {
            err_set(err, ERR_CONFIG_INVALID_SETTING,
                    "adapter rank %lld is larger than %s of '%s' allows (%lld x %lld)",
                    (long long)config->r, TARGET_NAMES[role], model->config.name,
                    (long long)shape.rows, (long long)shape.cols);
            return NULL;
        }
        const int64_t b = offset + config->r * shape.cols;
        adapter->pairs[i] = (AdapterPair){.present = true, .in = shape.cols, .out = shape.rows,
                                          .a_offset = offset, .b_offset = b,
                                          .m_offset = b + config->r * shape.rows,
                                          .norm_offset = rows};
        offset = b + per_row * shape.rows;
        rows += shape.rows;
    }
    adapter->n_params = adapter->n_decayed = offset;
    adapter->n_norms = adapter_has(adapter, ADAPTER_DORA) ? rows : 0;
    assert(adapter->n_params > 0);
    return adapter;
}

void adapter_place(Adapter *adapter, Backend *backend, AdapterUse use, Arena *slab)
{
    size_t bytes = (size_t)adapter->n_params * sizeof(float);
    adapter->values = arena_push(slab, bytes);
    adapter->grads = adapter->m = adapter->v = NULL;
    adapter->norms = NULL;
    if (adapter->n_norms > 0)
        adapter->norms = arena_push(slab, (size_t)adapter->n_norms * sizeof(float));
    if (use == ADAPTER_FROZEN)
        return;
    float **vectors[] = {&adapter->grads, &adapter->m, &adapter->v};
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        *vectors[i] = arena_push(slab, bytes);
        backend->zero(backend, *vectors[i], bytes);
    }
}

void adapter_init_values(const Adapter *adapter, uint64_t seed, float *host_values)
{
    int64_t r = adapter->config.r;
    for (int64_t i = 0; i < adapter->n_layers * ROLE_LINEAR_COUNT; i++) {
        const AdapterPair *pair = &adapter->pairs[i];
        if (!pair->present)
            continue;
        float bound = 1.0f / sqrtf((float)pair->in);
        float *a = host_values + pair->a_offset;
        for (int64_t j = 0; j < r * pair->in; j++) {
            float u = rng_uniform(seed, RNG_ADAPTER_INIT, (uint32_t)i, (uint64_t)j);
            a[j] = (2 * u - 1) * bound;
        }
        memset(host_values + pair->b_offset, 0, (size_t)(r * pair->out) * sizeof(float));
    }
}

bool adapter_fits_backend(const Adapter *adapter, const Backend *backend, Err *err)
{
    if (adapter_has(adapter, ADAPTER_FULL) && backend->traits.memory == MEMORY_DEVICE) {
        err_set(err, ERR_CONFIG_INVALID_SETTING, "full fine-tuning does not run on '%s' yet",
                backend->traits.name);
        return err_hint(err, "Pass --device cpu, or train an adapter: --mode lora");
    }
    if (!adapter_has(adapter, ADAPTER_DORA) || backend->run[PASS_FWD][OP_row_norms] != NULL)
        return true;
    err_set(err, ERR_CONFIG_INVALID_SETTING, "DoRA does not run on '%s' yet", backend->traits.name);
    return err_hint(err, "Pass --device cpu, or train without --use-dora");
}
