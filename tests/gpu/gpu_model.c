/* gpu_model.c — whole steps of the tiny golden models on the CUDA backend against the CPU backend
 * in f32: loss, every adapter gradient (cosine), the adapter after ten AdamW steps; and on the card
 * alone: two runs give equal bits, recomputed segments and replayed passes give the bits of kept
 * ones and of calls, and the slabs that the plan asked for are filled exactly.
 *
 * Models with 12- and 24-wide heads are left out: this backend's attention has no such kernels.
 */
#include "test_support.h"

#include "compute/cuda_loader.h"
#include "golden/model_run.h"

enum { STEPS = 10, PARAMS_MAX = 1 << 16 };
/* What bf16 leaves of these models is little: PyTorch's own bf16 against its f32, eight random rows
 * of 48 tokens, has whole gradients from 0.9972 to 0.9995 and worst tensors from 0.9945 to 0.9991
 * (means on qwen2/wide: 0.9987 and 0.9973). Ours is to be better than those means. The long
 * frequencies of phi3/longrope enlarge every rounding: PyTorch's falls to 0.9930 and 0.9905. */
typedef struct Bar {
    double whole, tensor;
} Bar;
static const Bar USUAL = {0.999, 0.998}, ENLARGED = {0.992, 0.990};
static const double LOSS_TOLERANCE = 0.01;

typedef struct Outcome {
    double loss[STEPS];
    int64_t n;
    float gradient[PARAMS_MAX]; /* of the first step */
    float values[PARAMS_MAX];   /* after the last */
} Outcome;

typedef struct How {
    SegmentMode segments;
    bool replayed;
} How;

static void train(Backend backend, const char *folder, const char *adapter, How how, Outcome *out)
{
    ModelRun run;
    Flat flat;
    flat_fill(&flat, 96);
    run_open_on(&run, backend, folder, adapter, how.segments, flat.n);
    run.replayed = how.replayed;
    out->n = run.adapter->n_params;
    assert_true(out->n <= PARAMS_MAX);
    const size_t bytes = (size_t)out->n * sizeof(float);
    for (int32_t step = 1; step <= STEPS; step++) {
        out->loss[step - 1] = run_microbatch(&run, &flat, flat.n_loss, step) / flat.n_loss;
        if (step == 1)
            run.backend.download(&run.backend, out->gradient, run.adapter->grads, bytes);
        run_update(&run);
    }
    run.backend.download(&run.backend, out->values, run.adapter->values, bytes);
    const char *trouble = run.backend.finish(&run.backend);
    if (trouble != NULL)
        fail_msg("%s", trouble);
    assert_int_equal(run.slabs.weights.peak, run.slabs.weights.capacity);
    assert_int_equal(run.slabs.run.peak, run.slabs.run.capacity);
    assert_int_equal(run.slabs.step.peak, run.slabs.step.capacity);
    run_close(&run);
}

static Backend cuda(void)
{
    Backend backend;
    Err err = {0};
    if (!backend_open_cuda(&backend, 0, &err))
        fail_msg("%s", err.message);
    return backend;
}

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void print_losses(const char *name, const Outcome *o)
{
    printf("  %-5s losses", name);
    for (int i = 0; i < STEPS; i++)
        printf(" %.5f", o->loss[i]);
    printf("\n");
}

/* Tensor by tensor; returns the smallest cosine. */
static double worst_cosine(const char *folder, const char *adapter, const float *a, const float *b)
{
    Err err = {0};
    Arena arena;
    Model model;
    float *values;
    assert_true(arena_open(&arena, 0, &err));
    assert_true(model_open(&model, folder, &arena, &err));
    const Adapter *shapes = adapter_load_peft(&model, adapter, &values, &arena, &err);
    assert_non_null(shapes);
    double worst = 1;
    for (int64_t i = 0; i < shapes->n_layers * ROLE_LINEAR_COUNT; i++) {
        const AdapterPair *p = &shapes->pairs[i];
        if (!p->present)
            continue;
        const int64_t r = shapes->config.r;
        worst = fmin(worst, cosine(a + p->a_offset, b + p->a_offset, r * p->in));
        worst = fmin(worst, cosine(a + p->b_offset, b + p->b_offset, r * p->out));
    }
    model_close(&model);
    arena_close(&arena);
    return worst;
}

static void compare(const char *name, Bar least)
{
    static Outcome cpu, gpu, other;
    char folder[512], adapter[600];
    snprintf(folder, sizeof folder, "%s/golden/%s", TEST_DATA, name);
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    Err err = {0};
    Backend host;
    assert_true(backend_open_cpu(&host, &err));
    static const How others[] = {
        {SEGMENT_KEEP, true},      {SEGMENT_REMAKE + 1, false}, {SEGMENT_REMAKE, true},
        {SEGMENT_RECOMPUTE, false}, {SEGMENT_RECOMPUTE, true},  {SEGMENT_RECOMPUTE + 1, true},
        {SEGMENT_OFFLOAD, false},  {SEGMENT_OFFLOAD, true}};
    const How keeping = {SEGMENT_KEEP, false};
    train(host, folder, adapter, keeping, &cpu);
    train(cuda(), folder, adapter, keeping, &gpu);
    const double whole = cosine(gpu.gradient, cpu.gradient, cpu.n);
    const double worst = worst_cosine(folder, adapter, gpu.gradient, cpu.gradient);
    const double after = cosine(gpu.values, cpu.values, cpu.n);
    printf("%s: gradient cosine %.6f, worst tensor %.6f; adapter after %d steps %.6f\n", name,
           whole, worst, STEPS, after);
    print_losses("cpu", &cpu);
    print_losses("cuda", &gpu);
    const size_t bytes = (size_t)cpu.n * sizeof(float);
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        train(cuda(), folder, adapter, others[i], &other);
        assert_memory_equal(gpu.loss, other.loss, sizeof gpu.loss);
        assert_memory_equal(gpu.values, other.values, bytes);
    }
    assert_true(whole >= least.whole && worst >= least.tensor);
    for (int i = 0; i < STEPS; i++)
        assert_true(fabs(gpu.loss[i] - cpu.loss[i]) <= LOSS_TOLERANCE * cpu.loss[i]);
}

#define MODELS(X)                                                                             \
    X(llama_tied, "llama/tied", USUAL)                                                        \
    X(llama_scaled, "llama/scaled", USUAL)                                                    \
    X(mistral_v03, "mistral/v03", USUAL)                                                      \
    X(qwen2_biased, "qwen2/biased", USUAL)                                                    \
    X(qwen2_wide, "qwen2/wide", USUAL)                                                        \
    X(qwen3_tied, "qwen3/tied", USUAL)                                                        \
    X(gemma3_windows, "gemma3/windows", USUAL)                                                \
    X(gemma3_period2, "gemma3/period2", USUAL)                                                \
    X(phi3_window, "phi3/window", USUAL)                                                      \
    X(phi3_longrope, "phi3/longrope", ENLARGED)
#define TEST(name, folder, bar)                                                               \
    static void name(void **state)                                                            \
    {                                                                                         \
        (void)state;                                                                          \
        compare(folder, bar);                                                                 \
    }
MODELS(TEST)

int main(void)
{
#define ROW(name, folder, bar) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {MODELS(ROW)};
    Backend backend;
    Err err = {0};
    if (!backend_open_cuda(&backend, 0, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 77;
    }
    backend.close(&backend);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
