/* test_core_rng.c — Philox against the known answers published with Random123 (file kat_vectors),
 * and what is drawn from it: ranges, independence of streams, permutations, rough uniformity.
 */
#include "test_support.h"

#include "core/rng.h"

static void known_answers(void **state)
{
    static const struct {
        uint64_t seed, counter;
        uint32_t sub, stream;
        uint32_t out[4];
    } KAT[] = {
        {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x85a308d3243f6a88, 0x13198a2e, 0x03707344,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < COUNT_OF(KAT); i++) {
        uint32_t out[4];
        rng_philox(KAT[i].seed, (RngStream)KAT[i].stream, KAT[i].sub, KAT[i].counter, out);
        assert_memory_equal(out, KAT[i].out, sizeof out);
    }
}

static void every_input_matters(void **state)
{
    uint32_t a[4], b[4];
    rng_philox(1, RNG_TEST, 2, 3, a);
    for (int i = 0; i < 4; i++) {
        rng_philox(i == 0 ? 9 : 1, i == 1 ? RNG_SHUFFLE : RNG_TEST, i == 2 ? 9 : 2, i == 3 ? 9 : 3,
                   b);
        assert_memory_not_equal(a, b, sizeof a);
    }
    rng_philox(1 + ((uint64_t)1 << 32), RNG_TEST, 2, 3, b);
    assert_memory_not_equal(a, b, sizeof a);
    rng_philox(1, RNG_TEST, 2, 3 + ((uint64_t)1 << 32), b);
    assert_memory_not_equal(a, b, sizeof a);
    rng_philox(1, RNG_TEST, 2, 3, b);
    assert_memory_equal(a, b, sizeof a);
}

static void uniform_stays_in_range_and_is_uniform(void **state)
{
    enum { N = 100000 };
    double sum = 0, squares = 0, sum53 = 0;
    int buckets[10] = {0};
    for (uint64_t i = 0; i < N; i++) {
        float f = rng_uniform(42, RNG_TEST, 0, i);
        double d = rng_uniform53(42, RNG_TEST, 1, i);
        assert_true(f >= 0.0f && f < 1.0f && d >= 0.0 && d < 1.0);
        sum += f;
        squares += (double)f * f;
        sum53 += d;
        buckets[(int)(f * 10)]++;
    }
    /* standard error of the mean is 0.0009; five of them */
    assert_true(sum / N > 0.4955 && sum / N < 0.5045);
    assert_true(sum53 / N > 0.4955 && sum53 / N < 0.5045);
    assert_true(squares / N > 0.328 && squares / N < 0.338);
    for (int i = 0; i < 10; i++)
        assert_true(buckets[i] > 9500 && buckets[i] < 10500);
}

static void below_is_below(void **state)
{
    int seen[7] = {0};
    for (uint64_t i = 0; i < 7000; i++) {
        uint64_t v = rng_below(7, RNG_TEST, 0, i, 7);
        assert_true(v < 7);
        seen[v]++;
    }
    for (int i = 0; i < 7; i++)
        assert_true(seen[i] > 800 && seen[i] < 1200);
    assert_int_equal(rng_below(7, RNG_TEST, 0, 0, 1), 0);
    assert_true(rng_below(7, RNG_TEST, 0, 5, UINT64_MAX) < UINT64_MAX);
}

/* mul_high against the compiler's 128-bit product, through rng_below. */
static void below_is_the_high_half_of_the_product(void **state)
{
    __extension__ typedef unsigned __int128 Wide;
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t w[4];
        rng_philox(3, RNG_TEST, 0, i, w);
        uint64_t n = ((uint64_t)w[3] << 32 | w[2]) | 1;
        uint64_t x = (uint64_t)w[1] << 32 | w[0];
        assert_true(rng_below(3, RNG_TEST, 0, i, n) == (uint64_t)((Wide)x * n >> 64));
    }
}

static void permutation_is_one(void **state)
{
    enum { N = 1000 };
    int64_t a[N], b[N];
    bool seen[N] = {false};
    rng_permutation(5, RNG_SHUFFLE, 0, N, a);
    for (int i = 0; i < N; i++) {
        assert_true(a[i] >= 0 && a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
    }
    rng_permutation(5, RNG_SHUFFLE, 0, N, b);
    assert_memory_equal(a, b, sizeof a);
    rng_permutation(5, RNG_SHUFFLE, 1, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    rng_permutation(5, RNG_SHUFFLE, 0, 0, NULL);
    int first[4] = {0}; /* each element comes first about equally often */
    for (uint32_t epoch = 0; epoch < 4000; epoch++) {
        rng_permutation(11, RNG_TEST, epoch, 4, a);
        first[a[0]]++;
    }
    for (int i = 0; i < 4; i++)
        assert_true(first[i] > 850 && first[i] < 1150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(every_input_matters),
        cmocka_unit_test(uniform_stays_in_range_and_is_uniform),
        cmocka_unit_test(below_is_below),
        cmocka_unit_test(below_is_the_high_half_of_the_product),
        cmocka_unit_test(permutation_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
