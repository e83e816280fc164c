/* test_model_bf16.c — the CPU's bf16 policy against its own f32 on the tiny golden models: loss and
 * every gradient of a step, the same bits for one and two threads, and slabs filled to the byte as
 * planned.
 */
#include "test_support.h"

#include "core/thread.h"
#include "model_run.h"

enum { PARAMS_MAX = 1 << 16 };

typedef struct Outcome {
    double loss;
    int64_t n;
    float gradient[PARAMS_MAX];
} Outcome;

static void run_step(const char *folder, Dtype activation, int threads, SegmentMode segments,
                     Outcome *out)
{
    char adapter[600];
    static Flat flat;
    ModelRun run;
    Backend backend;
    Err err = {0};
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    flat_fill(&flat, 90);
    threads_set(threads);
    assert_true(backend_open_cpu_as(&backend, activation, &err));
    assert_int_equal(backend.traits.activation, activation);
    run_open_on(&run, backend, folder, adapter, segments, flat.n);
    out->n = run.adapter->n_params;
    assert_true(out->n <= PARAMS_MAX);
    out->loss = run_microbatch(&run, &flat, flat.n_loss, 1) / flat.n_loss;
    run.backend.download(&run.backend, out->gradient, run.adapter->grads,
                         (size_t)out->n * sizeof(float));
    assert_int_equal(run.slabs.weights.peak, run.slabs.weights.capacity);
    assert_int_equal(run.slabs.run.peak, run.slabs.run.capacity);
    assert_true(run.slabs.step.peak <= run.slabs.step.capacity);
    run_close(&run);
    threads_set(0);
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

static void compare(const char *name)
{
    static Outcome wide, narrow, again, remade, recomputed;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/golden/%s", TEST_DATA, name);
    run_step(folder, DTYPE_F32, 2, SEGMENT_KEEP, &wide);
    run_step(folder, DTYPE_BF16, 2, SEGMENT_KEEP, &narrow);
    run_step(folder, DTYPE_BF16, 1, SEGMENT_KEEP, &again);
    run_step(folder, DTYPE_BF16, 2, SEGMENT_REMAKE, &remade);
    run_step(folder, DTYPE_BF16, 2, SEGMENT_RECOMPUTE, &recomputed);
    const double alike = cosine(narrow.gradient, wide.gradient, wide.n);
    print_message("%s: gradient cosine %.6f, loss %.5f and %.5f\n", name, alike, narrow.loss,
                  wide.loss);
    assert_true(alike >= 0.999);
    assert_true(alike < 1 - 1e-9); /* else it was not bf16 */
    assert_true(fabs(narrow.loss - wide.loss) <= 1e-3 * wide.loss);
    const size_t bytes = (size_t)wide.n * sizeof(float);
    assert_true(narrow.loss == again.loss && narrow.loss == recomputed.loss);
    assert_true(narrow.loss == remade.loss);
    assert_memory_equal(narrow.gradient, again.gradient, bytes);
    assert_memory_equal(narrow.gradient, remade.gradient, bytes);
    assert_memory_equal(narrow.gradient, recomputed.gradient, bytes);
}

static void models_agree(void **state)
{
    static const char *const names[] = {"llama/tied", "llama/untied", "llama/scaled"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        compare(names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(models_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
