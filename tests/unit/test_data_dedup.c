/* test_data_dedup.c — exact duplicates by their words; near ones against the true Jaccard
 * similarity, computed here from the sets themselves.
 */
#include "test_support.h"

#include <math.h>

#include "core/rng.h"
#include "data/dedup.h"

enum { WORDS = 120, TEXTS = 60, VERSIONS = 4 };

/* Text `id`; version v has every `step`-th word changed (none for v = 0). */
static void make_text(int id, int version, Buf *out)
{
    static const int steps[VERSIONS] = {0, 100, 10, 3};
    buf_clear(out);
    for (int w = 0; w < WORDS; w++) {
        const bool changed = steps[version] > 0 && w % steps[version] == 1;
        const uint32_t sub = (uint32_t)(changed ? id + 1000 * version : id);
        const uint64_t word = rng_below(3, RNG_TEST, sub, (uint64_t)w, 1000000);
        buf_printf(out, "%c%llu ", w % 2 == 0 ? 'W' : 'k', (unsigned long long)word);
    }
}

/* The set of 3 characters, as a bitmap over a hash of them that is unique for ASCII. */
static void shingles(Str text, uint8_t *set)
{
    memset(set, 0, 1 << 21);
    for (size_t i = 0; i + 3 <= text.len; i++) {
        uint32_t key = 0;
        for (size_t k = 0; k < 3; k++) {
            char c = text.data[i + k];
            key = key << 7 | (uint32_t)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        set[key] = 1;
    }
}

static double jaccard(Str a, Str b)
{
    static uint8_t x[1 << 21], y[1 << 21];
    double both = 0, any = 0;
    shingles(a, x);
    shingles(b, y);
    for (size_t i = 0; i < sizeof x; i++) {
        both += x[i] && y[i];
        any += x[i] || y[i];
    }
    return both / any;
}

static void the_estimate_is_near_the_truth(void **state)
{
    Buf a = {0}, b = {0};
    double worst = 0, sum = 0;
    for (int id = 0; id < TEXTS; id++) {
        for (int v = 0; v < VERSIONS; v++) {
            Fingerprint pa, pb;
            make_text(id, 0, &a);
            make_text(id, v, &b);
            fingerprint_make(buf_view(&a), DEDUP_MINHASH, &pa);
            fingerprint_make(buf_view(&b), DEDUP_MINHASH, &pb);
            const double off =
                fingerprint_similarity(&pa, &pb) - jaccard(buf_view(&a), buf_view(&b));
            worst = fmax(worst, fabs(off));
            sum += off;
        }
    }
    /* 128 draws: sigma <= sqrt(1/4/128) = 0.044; 240 pairs stay within 4.5 sigma, their mean (that
     * shares permutations) within 1. */
    assert_true(worst < 0.2);
    assert_true(fabs(sum / (TEXTS * VERSIONS)) < 0.044);
    buf_free(&a);
    buf_free(&b);
}

static void duplicates_are_found_and_others_kept(void **state)
{
    Dedup *dedup = dedup_open(DEDUP_MINHASH, 0.8);
    Buf text = {0};
    int64_t near = 0, kept = 0;
    for (int v = 0; v < VERSIONS; v++) {
        for (int id = 0; id < TEXTS; id++) {
            Fingerprint print;
            int64_t own = v * TEXTS + id;
            make_text(id, v, &text);
            fingerprint_make(buf_view(&text), DEDUP_MINHASH, &print);
            const Seen seen = dedup_add(dedup, &print, &own);
            if (v == 0)
                assert_int_equal(seen, SEEN_NOT);
            if (v == 1) { /* one word in a hundred differs */
                assert_int_equal(seen, SEEN_NEAR);
                assert_int_equal(own, id);
            }
            near += seen == SEEN_NEAR;
            kept += seen == SEEN_NOT;
            own = 7777;
            assert_int_equal(dedup_add(dedup, &print, &own), SEEN_EXACT);
            assert_int_not_equal(own, 7777);
        }
    }
    assert_int_equal(near + kept, TEXTS * VERSIONS);
    assert_true(kept >= 2 * TEXTS); /* a third of the words changed is another text */
    dedup_close(dedup);
    buf_free(&text);
}

static void exact_duplicates_alone(void **state)
{
    Dedup *dedup = dedup_open(DEDUP_EXACT, 1);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) { /* the table grows several times */
            char text[32];
            Fingerprint print;
            int64_t id = i;
            snprintf(text, sizeof text, "row %d", i);
            fingerprint_make(str_of(text), DEDUP_EXACT, &print);
            assert_int_equal(dedup_add(dedup, &print, &id), round == 0 ? SEEN_NOT : SEEN_EXACT);
            assert_int_equal(id, i);
        }
    }
    dedup_close(dedup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_estimate_is_near_the_truth),
        cmocka_unit_test(duplicates_are_found_and_others_kept),
        cmocka_unit_test(exact_duplicates_alone),
    };
    return cmocka_run_group_tests_name("data_dedup", tests, NULL, NULL);
}
