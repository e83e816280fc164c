/* bench_case.c — see bench_case.h. The shapes are those of the released models' config.json.
 *
 * Every matrix takes its bytes from one buffer as large as the largest of them: sixteen gigabytes
 * of weights of an 8B model then need one gigabyte of host memory, while the card holds them all.
 */
#include "bench_case.h"

#include "core/quant_block.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Shape {
    const char *name, *family;
    int64_t d_model, d_ff, n_layers, n_heads, n_kv_heads, head_dim, vocab;
    bool tied;
    double theta;
} Shape;

static const Shape SHAPES[] = {
    {"smollm2-135m", "llama", 576, 1536, 30, 9, 3, 64, 49152, true, 1e5},
    {"qwen2.5-0.5b", "qwen2", 896, 4864, 24, 14, 2, 64, 151936, true, 1e6},
    {"llama3.2-1b", "llama", 2048, 8192, 16, 32, 8, 64, 128256, true, 5e5},
    {"llama3.2-3b", "llama", 3072, 8192, 28, 24, 8, 128, 128256, true, 5e5},
    {"qwen2.5-7b", "qwen2", 3584, 18944, 28, 28, 4, 128, 152064, false, 1e6},
    {"llama3.1-8b", "llama", 4096, 14336, 32, 32, 8, 128, 128256, false, 5e5},
};

bool bench_case_parse(const char *text, BenchCase *out)
{
    *out = (BenchCase){.memory = "keep", .dtype = DTYPE_BF16};
    int batch = 0, seq = 0, rank = 0;
    if (sscanf(text, "%31[^,],%d,%d,%d,%15s", out->model, &batch, &seq, &rank, out->memory) < 4)
        return false;
    char *colon = strchr(out->model, ':');
    if (colon != NULL) {
        if (strcmp(colon, ":q4_k") != 0)
            return false;
        out->dtype = DTYPE_Q4_K;
        *colon = 0;
    }
    out->batch = batch;
    out->seq = seq;
    out->rank = rank;
    return batch > 0 && seq > 1 && rank > 0 && batch <= 1024 && seq <= 1 << 20;
}

const char *bench_case_models(void)
{
    static char text[256];
    text[0] = 0;
    for (size_t i = 0, at = 0; i < COUNT_OF(SHAPES); i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i > 0 ? ", " : "",
                               SHAPES[i].name);
    return text;
}

static const Shape *find_shape(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(SHAPES); i++)
        if (strcmp(SHAPES[i].name, name) == 0)
            return &SHAPES[i];
    return NULL;
}

/* n bf16 values, uniform on +-sqrt(3) * 0.02. */
static uint16_t *random_buffer(int64_t n, Arena *out)
{
    enum { VALUES = 1 << 16, PIECE = 1 << 20 };
    static uint16_t value[VALUES];
    for (int i = 0; i < VALUES; i++)
        value[i] = qb_to_bf16((float)(0.0346 * (2.0 * i / (VALUES - 1) - 1)));
    uint16_t *buffer = arena_push(out, (size_t)n * sizeof(uint16_t));
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < n; first += PIECE) {
        uint64_t x = (uint64_t)first * 0x9e3779b97f4a7c15u + 1;
        const int64_t last = min_i64(n, first + PIECE);
        for (int64_t i = first; i < last; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* xorshift64 (Marsaglia 2003) */
            buffer[i] = value[x >> 48];
        }
    }
    return buffer;
}

/* Q4_K blocks of random levels and scales; d and m such that values are like those above. */
static void make_blocks(uint16_t *buffer, int64_t n)
{
    enum { HALVES = QB_Q4_K_BYTES / 2 };
    for (int64_t i = 0; i + HALVES <= n; i += HALVES) {
        buffer[i] = qb_to_f16(1.4e-4f);
        buffer[i + 1] = qb_to_f16(1.05e-3f);
        for (int64_t j = 2; j < HALVES; j++) /* from bf16 values to all bits random */
            buffer[i + j] = (uint16_t)(buffer[i + j] * 40503u ^ buffer[i + j] >> 3);
    }
}

typedef struct Maker {
    Model *model;
    Dtype dtype;
    uint16_t *random;
    int64_t n_random;
    float *ones;
    int64_t turn; /* so that two matrices of one shape differ */
} Maker;

static Weight make_weight(Maker *maker, Role role)
{
    const WeightShape shape = weight_shape(&maker->model->config, role);
    enum { STEP = QB_Q4_K_BYTES / 2 };
    const bool vector = shape.rows == 1; /* biases are plain */
    const Dtype dtype = vector ? DTYPE_BF16 : maker->dtype;
    const int64_t bytes = shape.rows * (int64_t)dtype_row_bytes(dtype, shape.cols);
    const int64_t spare = maker->n_random - bytes / 2;
    must(spare >= 0);
    const int64_t at = spare == 0 ? 0 : maker->turn++ * 1000003 % spare / STEP * STEP;
    return (Weight){.source = maker->random + at, .dtype = dtype, .rows = shape.rows,
                    .cols = shape.cols};
}

static Weight make_norm(const Maker *maker)
{
    return (Weight){.source = maker->ones, .dtype = DTYPE_F32, .rows = 1,
                    .cols = maker->model->config.d_model};
}

bool bench_model(const BenchCase *bench, Model *model, Arena *out)
{
    const Shape *s = find_shape(bench->model);
    if (s == NULL)
        return false;
    *model = (Model){.family = family_find(s->family)};
    must(model->family != NULL);
    ModelConfig *c = &model->config;
    *c = (ModelConfig){.n_layers = s->n_layers, .d_model = s->d_model, .n_heads = s->n_heads,
                       .n_kv_heads = s->n_kv_heads, .head_dim = s->head_dim, .d_ff = s->d_ff,
                       .vocab = s->vocab, .max_positions = 1 << 17, .rope_dim = s->head_dim,
                       .rope_theta = s->theta, .rope_linear = 1,
                       .rope_scale = 1, .rms_eps = 1e-5f, .embed_scale = 1,
                       .attention_scale = 1 / sqrtf((float)s->head_dim), .tied = s->tied,
                       .pairing = model->family->gguf_pairing};
    snprintf(c->name, sizeof c->name, "%s", s->name);
    Maker maker = {.model = model, .dtype = bench->dtype, .n_random = s->vocab * s->d_model};
    maker.random = random_buffer(maker.n_random, out);
    if (bench->dtype != DTYPE_BF16)
        make_blocks(maker.random, maker.n_random);
    maker.ones = arena_array(out, float, s->d_model);
    for (int64_t i = 0; i < s->d_model; i++)
        maker.ones[i] = 1;
    model->layers = arena_array(out, Layer, s->n_layers);
    for (int64_t layer = 0; layer < s->n_layers; layer++) {
        Layer *l = &model->layers[layer];
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            l->linear[role] = make_weight(&maker, (Role)role);
        for (int i = 0; i < NORM_COUNT; i++)
            l->norm_file[i] = make_norm(&maker);
        for (int i = 0; i < BIAS_COUNT; i++)
            if (family_weight(model->family, (Role)(ROLE_Q_BIAS + i)) != NULL)
                l->bias_file[i] = make_weight(&maker, (Role)(ROLE_Q_BIAS + i));
    }
    model->final_norm_file = make_norm(&maker);
    model->embed = make_weight(&maker, ROLE_EMBED);
    model->head = s->tied ? model->embed : make_weight(&maker, ROLE_HEAD);
    return true;
}

void bench_dataset(const BenchCase *bench, int64_t vocab, int64_t steps, Dataset *dataset,
                   Arena *out)
{
    const int64_t n = steps * bench->batch;
    *dataset = (Dataset){.n_examples = n, .n_tokens = n * bench->seq,
                         .n_loss = n * (bench->seq - 1), .n_rows = n};
    int32_t *tokens = arena_array(out, int32_t, dataset->n_tokens);
    uint8_t *loss = arena_array(out, uint8_t, dataset->n_tokens);
    Example *examples = arena_array(out, Example, n);
    uint64_t x = 88172645463325252u;
    for (int64_t i = 0; i < dataset->n_tokens; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        tokens[i] = (int32_t)((x >> 33) % (uint64_t)vocab);
        loss[i] = i % bench->seq != 0;
    }
    for (int64_t i = 0; i < n; i++)
        examples[i] = (Example){.start = i * bench->seq, .len = bench->seq,
                                .n_loss = bench->seq - 1, .line = (int32_t)i + 1};
    dataset->tokens = tokens;
    dataset->loss = loss;
    dataset->examples = examples;
    memset(dataset->sha256, '0', sizeof dataset->sha256 - 1);
}
