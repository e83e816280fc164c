/* test_compute_signals.c — a signal handler that runs during a product changes nothing.
 *
 * The product library's generated code borrows the stack pointer for heap memory, so a handler's
 * frame would land in the heap (see gemm.c). A timer interrupts products every half millisecond of
 * processor time; every handler must find itself on the thread's own stack, and the bits must stay
 * those of a product that was left alone.
 */
#include "test_support.h"

#include <signal.h>
#include <sys/time.h>

#include "compute/cpu/gemm.h"
#include "core/arena.h"

enum { LARGEST = 256 * 1024, ROUNDS = 60, TICKS = 400 };

/* Products of every kind and of shapes that training has: linears, low-rank factors, heads. */
static const struct {
    void (*run)(const Gemm *g);
    bool a_turned, b_turned;
} kinds[] = {{gemm_nn, false, false}, {gemm_nt, false, true}, {gemm_tn, true, false}};
static const struct {
    int64_t m, n, k;
} shapes[] = {{256, 576, 64}, {256, 16, 576}, {256, 256, 256}, {64, 256, 576}};

static volatile sig_atomic_t ticks, astray;
static uintptr_t stack_here; /* an address on the test's stack */

static void on_tick(int number)
{
    const uintptr_t here = (uintptr_t)&number;
    const uintptr_t distance = here > stack_here ? here - stack_here : stack_here - here;
    ticks++;
    astray += distance > ((uintptr_t)8 << 20);
}

static void set_timer(long microseconds)
{
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    assert_int_equal(setitimer(ITIMER_PROF, &every, NULL), 0);
}

typedef struct Product {
    size_t kind, shape;
} Product;

static int64_t multiply(Product p, float *c, const float *a, const float *b)
{
    int64_t m = shapes[p.shape].m, n = shapes[p.shape].n, k = shapes[p.shape].k;
    Gemm g = {.m = m,
              .n = n,
              .k = k,
              .alpha = 1,
              .a = a,
              .b = b,
              .c = c,
              .ldc = n,
              .lda = kinds[p.kind].a_turned ? m : k,
              .ldb = kinds[p.kind].b_turned ? k : n};
    kinds[p.kind].run(&g);
    return m * n;
}

static void check_product(Product p, const float *a, const float *b, float *quiet, float *c)
{
    set_timer(0);
    int64_t n = multiply(p, quiet, a, b);
    set_timer(500);
    for (int round = 0; round < ROUNDS; round++) {
        multiply(p, c, a, b);
        assert_memory_equal(c, quiet, sizeof(float) * (size_t)n);
    }
}

static void handlers_change_nothing(void **state)
{
    (void)state;
    Arena arena = {0};
    stack_here = (uintptr_t)&arena;
    assert_true(arena_open(&arena, 0, NULL));
    float *a = arena_array(&arena, float, LARGEST), *b = arena_array(&arena, float, LARGEST);
    float *quiet = arena_array(&arena, float, LARGEST), *c = arena_array(&arena, float, LARGEST);
    for (int i = 0; i < LARGEST; i++) {
        a[i] = (float)(i % 101) / 101.0f - 0.5f;
        b[i] = (float)(i % 97) / 97.0f - 0.5f;
    }
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGPROF, &action, NULL), 0);
    const size_t all = COUNT_OF(kinds) * COUNT_OF(shapes);
    for (size_t i = 0; i < all || ticks < TICKS; i++)
        check_product((Product){i % COUNT_OF(kinds), i / COUNT_OF(kinds) % COUNT_OF(shapes)}, a, b,
                      quiet, c);
    set_timer(0);
    assert_int_equal(astray, 0);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(handlers_change_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
