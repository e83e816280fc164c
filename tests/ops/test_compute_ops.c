/* test_compute_ops.c — every op on every CPU build that this machine can run, with f32 and with
 * bf16 activations: against the reference in double, with the same bits for one, two and three
 * threads; and the reference's gradients against central differences.
 */
#include "test_support.h"

#include "compute/cpu/cpu.h"
#include "compute/cpu/gemm.h"
#include "core/os.h"
#include "core/thread.h"
#include "ops/op_cases.h"

#include <math.h>

static const char *const BUILDS[] = {"generic", "avx2", "avx512"};

static void reference_gradients_are_slopes(void **state)
{
    Arena arena;
    assert_true(arena_open(&arena, 0, NULL));
    const BackendTraits traits = {.name = "cpu", .activation = DTYPE_F32, .residual = DTYPE_F32};
    for (int i = 0; i < op_case_count; i++) {
        if ((op_cases[i].flags & SLOPES) == 0)
            continue;
        const size_t mark = arena_mark(&arena);
        OpTest *test = op_make(&arena, &op_cases[i], &traits);
        const double error = op_slope_error(test);
        if (!(error < 1e-7))
            fail_msg("%s: gradient differs from slope by %g", op_cases[i].name, error);
        arena_rewind(&arena, mark);
    }
    arena_close(&arena);
}

/* Runs a built case on one build with n threads; returns its bits. */
static uint64_t run_once(OpTest *test, const char *build, int threads)
{
    Backend backend;
    Arena slab;
    Err err = {0};
    threads_set(threads);
    assert_true(cpu_backend_open_as(&backend, build, test->traits.activation));
    CpuState *cpu = backend.state;
    cpu->panel_floats = 80000; /* small cases go through several panels */
    cpu->head_floats = 20000;
    assert_true(backend.slab_open(&backend, &slab, OP_SLAB_BYTES, &err));
    if (!op_run(test, &backend, &slab))
        fail_msg("%s (%s): wrote behind its scratch", test->c->name, build);
    backend.slab_close(&backend, &slab);
    backend.close(&backend);
    return op_bits(test);
}

static bool machine_has(const char *build)
{
    Backend backend;
    if (!cpu_backend_open_as(&backend, build, DTYPE_F32))
        return false;
    backend.close(&backend);
    return true;
}

/* Wrong elements of one case on one build. */
static int check_build(OpTest *test, const char *build)
{
    const uint64_t bits = run_once(test, build, 2);
    const int bad = op_check(test, build);
    if (run_once(test, build, 1) != bits || run_once(test, build, 3) != bits)
        fail_msg("%s (%s): bits depend on the threads, or vary", test->c->name, build);
    return bad;
}

static void check_all(Dtype activation)
{
    Arena arena;
    assert_true(arena_open(&arena, 0, NULL));
    const BackendTraits traits = {.name = "cpu", .activation = activation,
                                  .residual = DTYPE_F32};
    int bad = 0;
    for (int i = 0; i < op_case_count; i++) {
        const size_t mark = arena_mark(&arena);
        OpTest *test = op_make(&arena, &op_cases[i], &traits);
        for (size_t b = 0; b < COUNT_OF(BUILDS); b++)
            if (machine_has(BUILDS[b]))
                bad += check_build(test, BUILDS[b]);
        arena_rewind(&arena, mark);
    }
    arena_close(&arena);
    threads_set(0);
    for (size_t b = 0; b < COUNT_OF(BUILDS); b++)
        print_message("%s %s\n", BUILDS[b], machine_has(BUILDS[b]) ? "ran" : "is not here");
    print_message("%d cases, %s; largest error so far %.2f of what is allowed\n", op_case_count,
                  dtype_info(activation)->name, op_worst());
    assert_int_equal(bad, 0);
}

static void every_build_agrees_with_the_reference(void **state)
{
    check_all(DTYPE_F32);
}

static void every_build_agrees_in_bf16(void **state)
{
    print_message("bf16 products of the library: %s\n", gemm_has_bf16() ? "yes" : "widened");
    check_all(DTYPE_BF16);
}

/* Every op has a case, and the backend lacks none. */
static void every_op_is_covered(void **state)
{
    Backend backend;
    Err err = {0};
    assert_true(backend_open_cpu(&backend, &err));
    for (int op = 0; op < OP_COUNT; op++) {
        bool covered = op == OP_lowrank_refresh; /* goes with linear */
        for (int i = 0; i < op_case_count; i++)
            covered = covered || op_cases[i].op == (OpId)op;
        assert_true(covered);
        assert_non_null(backend.run[PASS_FWD][op]);
        assert_non_null(backend.run[PASS_BWD][op]);
    }
    backend.close(&backend);
}

/* The approximation of exp in every build, over its whole range. */
static void exp_is_accurate(void **state)
{
    const CpuKernels *tables[] = {kernels_generic(), machine_has("avx2") ? kernels_avx2() : NULL,
                                  machine_has("avx512") ? kernels_avx512() : NULL};
    enum { N = 4001 };
    static float x[N];
    for (size_t k = 0; k < COUNT_OF(tables); k++) {
        if (tables[k] == NULL)
            continue;
        double worst = 0;
        for (int part = 0; part < 100; part++) {
            const double low = -87.3 + 1.76 * part;
            for (int i = 0; i < N; i++)
                x[i] = (float)(low + 1.76 * i / N);
            float in[N];
            memcpy(in, x, sizeof in);
            tables[k]->exp_row(x, N, 1.0f, 0.0f, 1.0f);
            for (int i = 0; i < N; i++) {
                const double want = exp((double)in[i]);
                int exponent;
                frexp(want, &exponent);
                if (in[i] < 88.7f)
                    worst = fmax(worst, fabs(x[i] - want) / ldexp(1, exponent - 24));
            }
        }
        print_message("%s: exp within %.2f units in the last place\n", tables[k]->name, worst);
        assert_true(worst <= 1.1);
        float edges[] = {-INFINITY, -200, -88, 0, 89, 200, INFINITY, NAN};
        tables[k]->exp_row(edges, COUNT_OF(edges), 1.0f, 0.0f, 1.0f);
        assert_true(edges[0] == 0 && edges[1] == 0 && edges[2] == 0 && edges[3] == 1);
        assert_true(isinf(edges[4]) && isinf(edges[5]) && isinf(edges[6]) && isnan(edges[7]));
    }
}

/* The library must not open a pool of its own: neither outside a parallel region nor inside may the
 * bits of one product depend on how many threads it could have. */
static void products_are_sequential(void **state)
{
    enum { M = 300, N = 500, K = 700 };
    static float a[M * K], b[K * N], c[3][M * N];
    for (int64_t i = 0; i < M * K; i++)
        a[i] = (float)(i * 7919 % 1009) / 1009.0f - 0.5f;
    for (int64_t i = 0; i < K * N; i++)
        b[i] = (float)(i * 104729 % 1013) / 1013.0f - 0.5f;
    Gemm g = {.m = M, .n = N, .k = K, .alpha = 1, .a = a, .lda = K, .b = b, .ldb = N, .ldc = N};
    for (int64_t i = 0; i < 2; i++) {
        threads_set(i == 0 ? 1 : 3);
        g.c = c[i];
        gemm_nn(&g);
        assert_int_equal(threads_count(), i == 0 ? 1 : 3); /* what was set stays */
    }
    g.c = c[2];
#pragma omp parallel num_threads(2)
#pragma omp single
    gemm_nn(&g);
    threads_set(0);
    assert_memory_equal(c[0], c[1], sizeof c[0]);
    assert_memory_equal(c[0], c[2], sizeof c[0]);
    double want = 0;
    for (int k = 0; k < K; k++)
        want += (double)a[7 * K + k] * b[k * N + 11];
    assert_true(fabs(want - c[0][7 * N + 11]) < 1e-4);
}

/* A number that is not one must reach the loss and the gradients, not vanish in a maximum. */
static void nan_is_not_lost(void **state)
{
    Arena arena, slab;
    Backend backend;
    Err err = {0};
    assert_true(arena_open(&arena, 0, NULL));
    assert_true(backend_open_cpu(&backend, &err));
    assert_true(backend.slab_open(&backend, &slab, OP_SLAB_BYTES, &err));
    const OpCase *c = op_cases;
    while (strcmp(c->name, "loss f32") != 0)
        c++;
    OpTest *test = op_make(&arena, c, &backend.traits);
    OpSlot *x = op_slot(test, "x"), *nll = op_slot(test, "nll");
    const int64_t row = test->ints[0].host[2];
    test->block[x->block].image[row * test->block[x->block].stride] = NAN;
    assert_true(op_run(test, &backend, &slab));
    assert_true(isnan(test->block[nll->block].got[2 * test->block[nll->block].stride]));
    assert_false(isnan(test->block[nll->block].got[0]));
    backend.slab_close(&backend, &slab);
    backend.close(&backend);
    arena_close(&arena);
}

static void slab_that_cannot_be_had_is_an_error(void **state)
{
    Backend backend;
    Arena slab = {0};
    Err err = {0};
    assert_true(backend_open_cpu(&backend, &err));
    assert_false(backend.slab_open(&backend, &slab, SIZE_MAX / 4, &err));
    assert_int_equal(err.code, ERR_RUNTIME_OUT_OF_MEMORY);
    backend.close(&backend);
    assert_non_null(cpu_kernel_name());
    assert_true(cpu_peak_gflops() > 0 && cpu_peak_gflops() == cpu_peak_gflops());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_slopes),
        cmocka_unit_test(every_op_is_covered),
        cmocka_unit_test(exp_is_accurate),
        cmocka_unit_test(products_are_sequential),
        cmocka_unit_test(every_build_agrees_with_the_reference),
        cmocka_unit_test(every_build_agrees_in_bf16),
        cmocka_unit_test(nan_is_not_lost),
        cmocka_unit_test(slab_that_cannot_be_had_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
