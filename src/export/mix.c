/* mix.c — the rules of mix.h (llama.cpp, src/llama-quant.cpp; checked against its snapshots of real
 * models, tests/golden/mix).
 *
 * Values, the way down of the feed-forward part and the output are worth more bits than the rest; a
 * mix says where. A type whose block does not divide the row falls back to one whose block does.
 */
#include "export/mix.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t file_type;
    Dtype dtype;
} mixes[MIX_COUNT] = {
#define X(name, text, file_type, dtype) [MIX_##name] = {text, file_type, dtype},
#include "export/mixes.def"
#undef X
};

bool mix_find(const char *name, Mix *mix)
{
    for (int i = 0; i < MIX_COUNT; i++) {
        if (strcmp(mixes[i].name, name) == 0) {
            *mix = (Mix)i;
            return true;
        }
    }
    return false;
}

const char *mix_name(Mix mix)
{
    must(mix < MIX_COUNT);
    return mixes[mix].name;
}

uint32_t mix_file_type(Mix mix)
{
    must(mix < MIX_COUNT);
    return mixes[mix].file_type;
}

Dtype mix_default(Mix mix)
{
    must(mix < MIX_COUNT);
    return mixes[mix].dtype;
}

static bool has(const char *name, const char *part) { return strstr(name, part) != NULL; }

bool mix_is_value(const char *name)
{
    return has(name, "attn_v.weight") || has(name, "attn_qkv.weight") ||
           has(name, "attn_kv_b.weight");
}

/* -1: of no layer. */
static long layer_of(const char *name)
{
    if (strncmp(name, "blk.", 4) != 0)
        return -1;
    char *end;
    const long layer = strtol(name + 4, &end, 10);
    return *end == '.' ? layer : -1;
}

bool mix_before(const char *name, const char *other)
{
    assert(name != NULL && other != NULL);
    const long a = layer_of(name), b = layer_of(other);
    return a != b ? a < b : strcmp(name, other) < 0;
}

/* The first and last eighth of the layers, and every third between. */
static bool more_bits(int64_t i, int64_t n)
{
    assert(i >= 0 && n >= 0);
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool is_iq4(Mix mix) { return mix == MIX_IQ4_NL || mix == MIX_IQ4_XS; }

static Dtype choose_output(Dtype dtype, int64_t cols)
{
    assert(!dtype_is_plain(dtype));
    if (cols % dtype_info(dtype)->block != 0 || dtype == DTYPE_Q8_0)
        return DTYPE_Q8_0;
    return DTYPE_Q6_K;
}

static Dtype choose_value(const MixState *s, Dtype dtype)
{
    enum { LARGE_LAYERS = 80 };
    const MixModel *m = &s->model;
    const int64_t i = s->values_seen;
    assert(i < m->n_values);
    const bool shared = m->n_kv_heads > 0 && m->n_heads / m->n_kv_heads >= 4;
    switch (s->mix) {
    case MIX_Q2_K: dtype = shared ? DTYPE_Q4_K : DTYPE_Q3_K; break;
    case MIX_Q3_K_M: dtype = i < 2 ? DTYPE_Q5_K : DTYPE_Q4_K; break;
    case MIX_Q3_K_L: dtype = DTYPE_Q5_K; break;
    case MIX_Q4_K_S: dtype = i < 4 ? DTYPE_Q5_K : dtype; break;
    case MIX_Q4_K_M:
    case MIX_Q5_K_M: dtype = more_bits(i, m->n_values) ? DTYPE_Q6_K : dtype; break;
    default: dtype = is_iq4(s->mix) && shared ? DTYPE_Q5_K : dtype;
    }
    /* In 70-billion models values are an eighth of the queries and cost little. */
    if (m->n_layers == LARGE_LAYERS && m->n_heads != m->n_kv_heads && m->n_experts == 0 &&
        (dtype == DTYPE_Q3_K || dtype == DTYPE_Q4_K))
        dtype = DTYPE_Q5_K;
    return m->n_experts == 8 ? DTYPE_Q8_0 : dtype;
}

static Dtype choose_down(const MixState *s, Dtype dtype, const char *name)
{
    const MixModel *m = &s->model;
    const int64_t n = m->n_layers;
    const int64_t i = m->n_experts > 1 ? (int64_t)layer_of(name) : s->downs_seen;
    switch (s->mix) {
    case MIX_Q2_K: return DTYPE_Q3_K;
    case MIX_Q3_K_M: return i < n / 16 ? DTYPE_Q5_K : DTYPE_Q4_K;
    case MIX_Q3_K_L: return DTYPE_Q5_K;
    case MIX_Q4_K_M:
    case MIX_Q5_K_M: return more_bits(i, n) ? DTYPE_Q6_K : dtype;
    case MIX_Q4_K_S: return i < n / 8 ? DTYPE_Q5_K : dtype;
    case MIX_IQ4_NL:
    case MIX_IQ4_XS: return i < n / 8 && !m->importance ? DTYPE_Q5_K : dtype;
    /* Only with importance: the first layers can go astray in types without a minimum. */
    case MIX_Q4_0: return i < n / 8 && m->importance ? DTYPE_Q4_1 : dtype;
    case MIX_Q5_0: return i < n / 8 && m->importance ? DTYPE_Q5_1 : dtype;
    default: return dtype;
    }
}

static Dtype choose_attention_output(const MixState *s, Dtype dtype)
{
    const bool eight = s->model.n_experts == 8;
    switch (s->mix) {
    case MIX_Q2_K: return eight ? DTYPE_Q5_K : DTYPE_Q3_K;
    case MIX_Q3_K_M: return eight ? DTYPE_Q5_K : DTYPE_Q4_K;
    case MIX_Q3_K_L: return eight ? dtype : DTYPE_Q5_K;
    case MIX_Q3_K_S:
    case MIX_Q4_K_S:
    case MIX_Q4_K_M:
    case MIX_IQ4_NL:
    case MIX_IQ4_XS: return eight ? DTYPE_Q5_K : dtype;
    default: return dtype;
    }
}

/* The categories are tried in this order; names are searched for parts. */
static Dtype choose(MixState *s, const char *name, int64_t cols)
{
    const Dtype dtype = mix_default(s->mix);
    const bool embedding = strcmp(name, "token_embd.weight") == 0 ||
                           strcmp(name, "per_layer_token_embd.weight") == 0;
    if (strcmp(name, "output.weight") == 0 || (embedding && s->model.tied))
        return choose_output(dtype, cols);
    if (embedding)
        return dtype;
    if (mix_is_value(name)) {
        const Dtype chosen = choose_value(s, dtype);
        s->values_seen++;
        return chosen;
    }
    if (has(name, "attn_k.weight"))
        return s->model.n_experts == 8 ? DTYPE_Q8_0 : dtype;
    if (has(name, "attn_q.weight"))
        return dtype;
    if (has(name, "attn_output.weight"))
        return choose_attention_output(s, dtype);
    if (has(name, "ffn_down")) {
        const Dtype chosen = choose_down(s, dtype, name);
        s->downs_seen++;
        return chosen;
    }
    return dtype;
}

/* A type whose blocks fit a row of `cols`. */
static Dtype fitting(Dtype dtype, int64_t cols)
{
    if (cols % dtype_info(dtype)->block == 0)
        return dtype;
    switch (dtype) {
    case DTYPE_Q2_K:
    case DTYPE_Q3_K: dtype = DTYPE_Q4_0; break;
    case DTYPE_Q4_K: dtype = DTYPE_Q5_0; break;
    case DTYPE_Q5_K: dtype = DTYPE_Q5_1; break;
    case DTYPE_Q6_K: dtype = DTYPE_Q8_0; break;
    case DTYPE_IQ4_XS: dtype = DTYPE_IQ4_NL; break;
    default: break;
    }
    return cols % dtype_info(dtype)->block == 0 ? dtype : DTYPE_F16;
}

Dtype mix_choose(MixState *state, const char *name, int64_t cols)
{
    assert(cols > 0 && state->mix < MIX_COUNT);
    if (dtype_is_plain(mix_default(state->mix)))
        return mix_default(state->mix);
    return fitting(choose(state, name, cols), cols);
}
