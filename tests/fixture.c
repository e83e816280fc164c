/* fixture.c — see fixture.h: the file, the data and the opened parts of a tiny training run.
 *
 * Weights are uniform in ±1/sqrt(in), which gives losses near log(vocab) and gradients that are
 * neither zero nor wild.
 */
#include "fixture.h"

#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void must_ok(bool ok, const Err *err)
{
    if (!ok)
        fprintf(stderr, "fixture: %s\n", err->message);
    must(ok);
}

typedef struct TinyTensor {
    const char *name;
    int64_t rows, cols; /* rows 1: a norm */
} TinyTensor;

enum { TINY_TENSORS = 2 + 9 * FIXTURE_LAYERS };

static void list_tensors(TinyTensor *list, Arena *out)
{
    const int64_t c = FIXTURE_WIDTH, q = FIXTURE_HEADS * FIXTURE_HEAD_DIM,
                  kv = FIXTURE_KV_HEADS * FIXTURE_HEAD_DIM, f = FIXTURE_FF;
    const TinyTensor of_layer[] = {
        {"attn_norm", 1, c}, {"attn_q", q, c}, {"attn_k", kv, c}, {"attn_v", kv, c},
        {"attn_output", c, q}, {"ffn_norm", 1, c}, {"ffn_gate", f, c}, {"ffn_up", f, c},
        {"ffn_down", c, f}};
    *list++ = (TinyTensor){"token_embd.weight", FIXTURE_VOCAB, c};
    for (int layer = 0; layer < FIXTURE_LAYERS; layer++) {
        for (size_t i = 0; i < COUNT_OF(of_layer); i++, list++) {
            *list = of_layer[i];
            list->name = arena_printf(out, "blk.%d.%s.weight", layer, of_layer[i].name);
        }
    }
    *list = (TinyTensor){"output_norm.weight", 1, c};
}

static void write_values(GgufWriter *writer, const TinyTensor *tensor, uint64_t seed, uint32_t sub,
                         Arena *out)
{
    const int64_t n = tensor->rows * tensor->cols;
    const size_t mark = arena_mark(out);
    float *values = arena_array(out, float, n);
    const float bound = tensor->rows == 1 ? 0.1f : 1 / sqrtf((float)tensor->cols);
    for (int64_t i = 0; i < n; i++) {
        const float u = rng_uniform(seed, RNG_TEST, sub, (uint64_t)i);
        values[i] = (tensor->rows == 1 ? 1.0f : 0.0f) + (2 * u - 1) * bound;
    }
    gguf_write_data(writer, values, (size_t)n * sizeof(float));
    arena_rewind(out, mark);
}

const char *fixture_llama(const char *folder, uint64_t seed, Arena *out)
{
    Err err = {0};
    const char *path = path_join(out, folder, "tiny.gguf");
    GgufWriter *writer = gguf_writer_open(path, &err);
    must_ok(writer != NULL, &err);
    gguf_put_str(writer, "general.architecture", STR("llama"));
    gguf_put_str(writer, "general.name", STR("tiny"));
    gguf_put_u32(writer, "llama.block_count", FIXTURE_LAYERS);
    gguf_put_u32(writer, "llama.embedding_length", FIXTURE_WIDTH);
    gguf_put_u32(writer, "llama.feed_forward_length", FIXTURE_FF);
    gguf_put_u32(writer, "llama.context_length", 512);
    gguf_put_u32(writer, "llama.attention.head_count", FIXTURE_HEADS);
    gguf_put_u32(writer, "llama.attention.head_count_kv", FIXTURE_KV_HEADS);
    gguf_put_u32(writer, "llama.rope.dimension_count", FIXTURE_HEAD_DIM);
    gguf_put_f32(writer, "llama.rope.freq_base", 10000);
    gguf_put_f32(writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    TinyTensor tensors[TINY_TENSORS];
    list_tensors(tensors, out);
    for (int i = 0; i < TINY_TENSORS; i++) {
        const bool vector = tensors[i].rows == 1;
        const int64_t ne[2] = {tensors[i].cols, tensors[i].rows};
        gguf_add_tensor(writer, tensors[i].name, DTYPE_F32, vector ? 1 : 2, ne);
    }
    gguf_writer_begin_data(writer);
    for (int i = 0; i < TINY_TENSORS; i++)
        write_values(writer, &tensors[i], seed, (uint32_t)i, out);
    must_ok(gguf_writer_commit(writer, &err), &err);
    return path;
}

void fixture_dataset(Dataset *dataset, int64_t n, int32_t min_len, int32_t max_len, uint64_t seed,
                     Arena *out)
{
    must(n > 0 && min_len >= 2 && max_len >= min_len);
    *dataset = (Dataset){.n_examples = n, .n_rows = n};
    Example *examples = arena_array(out, Example, n);
    int32_t *tokens = arena_array(out, int32_t, n * max_len);
    uint8_t *loss = arena_array(out, uint8_t, n * max_len);
    dataset->examples = examples;
    dataset->tokens = tokens;
    dataset->loss = loss;
    const uint64_t span = (uint64_t)(max_len - min_len) + 1;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t sub = (uint32_t)i + 1;
        const int32_t len = min_len + (int32_t)rng_below(seed, RNG_TEST, 0, (uint64_t)i, span);
        examples[i] = (Example){.start = dataset->n_tokens,
                                .len = len,
                                .n_loss = len - len / 2,
                                .line = (int32_t)i + 1};
        for (int32_t t = 0; t < len; t++) {
            const uint64_t token = rng_below(seed, RNG_TEST, sub, (uint64_t)t, FIXTURE_VOCAB);
            tokens[dataset->n_tokens + t] = (int32_t)token;
            loss[dataset->n_tokens + t] = t >= len / 2;
        }
        dataset->n_tokens += len;
        dataset->n_loss += len - len / 2;
    }
    snprintf(dataset->sha256, sizeof dataset->sha256, "%064llx", (unsigned long long)seed);
}

void fixture_open(Fixture *fixture, const char *folder)
{
    Err err = {0};
    *fixture = (Fixture){.folder = folder};
    must_ok(arena_open(&fixture->arena, (size_t)1 << 30, &err), &err);
    const char *path = fixture_llama(folder, 7, &fixture->arena);
    must_ok(model_open(&fixture->model, path, &fixture->arena, &err), &err);
    const AdapterConfig config = {.r = 4, .alpha = 8, .targets = ADAPTER_ALL_LINEAR};
    fixture->adapter = adapter_make(&fixture->model, &config, &fixture->arena, &err);
    must_ok(fixture->adapter != NULL, &err);
    must_ok(backend_open_cpu(&fixture->backend, &err), &err);
    fixture_dataset(&fixture->dataset, 8, 6, 40, 11, &fixture->arena);
}

void fixture_close(Fixture *fixture)
{
    fixture->backend.close(&fixture->backend);
    model_close(&fixture->model);
    arena_close(&fixture->arena);
}
