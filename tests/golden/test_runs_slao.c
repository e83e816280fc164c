/* test_runs_slao.c — the merge of adapters against NumPy (tests/golden/slao), every mode after
 * four runs and the next start, to 1e-6; and what no reference shows: dependent rows, numbers that
 * are not finite, the scales.
 */
#include "test_support.h"

#include "fixture.h"
#include "format/safetensors.h"
#include "runs/slao.h"

#include <math.h>

enum { RUNS = 4 };
static const double tolerance = 1e-6;

typedef struct Golden {
    Fixture fixture;
    SafeTensors st;
} Golden;

static int golden_setup(void **state)
{
    void *folder = NULL;
    if (temp_setup(&folder) != 0)
        return -1;
    Golden *g = heap_resize(NULL, sizeof *g);
    fixture_open(&g->fixture, folder);
    Err err = {0};
    Arena *arena = &g->fixture.arena;
    const char *path = arena_printf(arena, "%s/golden/slao/slao.safetensors", TEST_DATA);
    if (!st_open(&g->st, path, ERR_RUNTIME_IO_FAILED, arena, &err))
        fail_msg("%s", err.message);
    *state = g;
    return 0;
}

static int golden_teardown(void **state)
{
    Golden *g = *state;
    void *folder = (void *)(uintptr_t)g->fixture.folder;
    st_close(&g->st);
    fixture_close(&g->fixture);
    heap_free(g);
    return temp_teardown(&folder);
}

static const float *vector(Golden *g, const char *name)
{
    const StTensor *tensor = st_find(&g->st, name);
    assert_non_null(tensor);
    assert_int_equal(tensor->shape[0], g->fixture.adapter->n_params);
    return tensor->data;
}

static const float *tuned(Golden *g, int run)
{
    return vector(g, arena_printf(&g->fixture.arena, "tuned.%d", run));
}

static float *merge_all(Golden *g, const MergeOptions *options, MergeReport *report)
{
    Adapter *adapter = g->fixture.adapter;
    float *merged = arena_array(&g->fixture.arena, float, adapter->n_params);
    for (int run = 1; run <= RUNS; run++) {
        Err err = {0};
        if (!merge_run(adapter, options, run, tuned(g, run), merged, report, &err))
            fail_msg("%s", err.message);
    }
    return merged;
}

static void assert_close(Golden *g, const float *values, const char *name)
{
    const float *expected = vector(g, name);
    for (int64_t i = 0; i < g->fixture.adapter->n_params; i++) {
        if (!(fabs((double)values[i] - (double)expected[i]) <= tolerance))
            fail_msg("%s[%lld]: %.9g instead of %.9g", name, (long long)i, (double)values[i],
                     (double)expected[i]);
    }
}

static void merges_as_numpy_does(void **state)
{
    Golden *g = *state;
    static const struct {
        const char *name;
        MergeOptions options;
    } cases[] = {
        {"slao", {.mode = MERGE_SLAO}},
        {"linear", {.mode = MERGE_LINEAR}},
        {"ties", {.mode = MERGE_TIES, .ties_trim = 0.2}},
        {"dare", {.mode = MERGE_DARE, .dare_drop_rate = 0.5}},
        {"slao.adaptive", {.mode = MERGE_SLAO, .adaptive = true}},
        {"slao.layers", {.mode = MERGE_SLAO, .layer_scaling = true}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        MergeReport report;
        const float *merged = merge_all(g, &cases[i].options, &report);
        assert_close(g, merged, cases[i].name);
        assert_int_equal(report.run, RUNS);
        assert_int_equal(report.n_a, 2 * 7);
        assert_true(report.cosine > 0 && report.cosine < 1);
        assert_true(cases[i].options.adaptive || report.scale == 0.5);
    }
}

static void starts_as_numpy_does(void **state)
{
    Golden *g = *state;
    const Adapter *adapter = g->fixture.adapter;
    MergeOptions options = {.mode = MERGE_SLAO};
    MergeReport report;
    const float *merged = merge_all(g, &options, &report);
    float *start = arena_array(&g->fixture.arena, float, adapter->n_params);
    merge_start(adapter, &options, tuned(g, RUNS), merged, start);
    assert_close(g, start, "start.tuned");
    options.init = MERGE_INIT_MERGED;
    merge_start(adapter, &options, tuned(g, RUNS), merged, start);
    assert_close(g, start, "start.merged");
    options.mode = MERGE_SIMPLE;
    merge_start(adapter, &options, tuned(g, RUNS), merged, start);
    assert_memory_equal(start, tuned(g, RUNS), (size_t)adapter->n_params * sizeof *start);
}

/* Rows that are zero, equal, or sums of others become some orthonormal set, never NaN. */
static void dependent_rows_become_orthonormal(void **state)
{
    Golden *g = *state;
    const Adapter *adapter = g->fixture.adapter;
    const AdapterPair *pair = &adapter->pairs[0];
    const int64_t n = pair->in, r = adapter->config.r;
    float *values = arena_array(&g->fixture.arena, float, adapter->n_params);
    float *start = arena_array(&g->fixture.arena, float, adapter->n_params);
    memcpy(values, tuned(g, 1), (size_t)adapter->n_params * sizeof *values);
    float *a = values + pair->a_offset;
    for (int64_t j = 0; j < n; j++) {
        a[1 * n + j] = 2 * a[j];
        a[2 * n + j] = 0;
    }
    merge_start(adapter, &(MergeOptions){.mode = MERGE_SLAO}, values, values, start);
    const float *q = start + pair->a_offset;
    for (int64_t i = 0; i < r; i++) {
        for (int64_t k = 0; k < r; k++) {
            double sum = 0;
            for (int64_t j = 0; j < n; j++)
                sum += (double)q[i * n + j] * (double)q[k * n + j];
            assert_true(fabs(sum - (i == k)) < 1e-6);
        }
    }
}

static void infinite_numbers_are_named(void **state)
{
    Golden *g = *state;
    const Adapter *adapter = g->fixture.adapter;
    float *values = arena_array(&g->fixture.arena, float, adapter->n_params);
    float *merged = arena_array(&g->fixture.arena, float, adapter->n_params);
    memcpy(values, tuned(g, 2), (size_t)adapter->n_params * sizeof *values);
    memcpy(merged, tuned(g, 1), (size_t)adapter->n_params * sizeof *values);
    values[adapter->pairs[ROLE_K].b_offset + 3] = INFINITY;
    MergeReport report;
    Err err = {0};
    const MergeOptions options = {.mode = MERGE_SLAO};
    assert_false(merge_run(adapter, &options, 2, values, merged, &report, &err));
    assert_int_equal(err.code, ERR_SLAO_MERGE_DIVERGED);
    assert_non_null(strstr(err.message, "B of k_proj in layer 0"));
}

static void scales(void **state)
{
    (void)state;
    MergeOptions options = {.mode = MERGE_SLAO};
    assert_true(merge_scale(&options, 4) == 0.5 && merge_scale(&options, 400) == 0.05);
    options.min_scale = 0.1;
    assert_true(merge_scale(&options, 400) == 0.1);
    options.scaling = SCALING_LINEAR;
    assert_true(merge_scale(&options, 4) == 0.25);
    options.scaling = SCALING_LOG;
    assert_true(fabs(merge_scale(&options, 4) - 1 / log(5)) < 1e-15);
    options.scaling = SCALING_CONSTANT;
    assert_true(merge_scale(&options, 9) == 1);
    MergeMode mode;
    assert_true(merge_mode_parse("dare", &mode) && mode == MERGE_DARE);
    assert_false(merge_mode_parse("average", &mode));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merges_as_numpy_does, golden_setup, golden_teardown),
        cmocka_unit_test_setup_teardown(starts_as_numpy_does, golden_setup, golden_teardown),
        cmocka_unit_test_setup_teardown(dependent_rows_become_orthonormal, golden_setup,
                                        golden_teardown),
        cmocka_unit_test_setup_teardown(infinite_numbers_are_named, golden_setup,
                                        golden_teardown),
        cmocka_unit_test(scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
