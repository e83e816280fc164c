/* test_data_pack.c — packing: every example exactly once an epoch, whole and in its own span; what
 * carries loss; padding; the order as a function of seed and epoch; a cursor as good as having read
 * on.
 */
#include "test_support.h"

#include "core/rng.h"
#include "data/pack.h"

enum { EXAMPLES = 2500, LONGEST = 90 };

static Arena arena;

/* Token t of example e is e * 1000 + t: it says where it belongs. */
static Dataset make_dataset(int64_t n, int32_t longest)
{
    Dataset dataset = {.n_examples = n};
    Example *examples = arena_array(&arena, Example, n);
    int32_t *tokens = arena_array(&arena, int32_t, n * longest);
    uint8_t *loss = arena_array(&arena, uint8_t, n * longest);
    dataset.examples = examples;
    dataset.tokens = tokens;
    dataset.loss = loss;
    for (int64_t i = 0; i < n; i++) {
        Example *e = &examples[i];
        e->start = dataset.n_tokens;
        e->len = 2 + (int32_t)rng_below(1, RNG_TEST, 0, (uint64_t)i, (uint64_t)longest - 1);
        for (int32_t t = 0; t < e->len; t++) {
            int64_t at = e->start + t;
            tokens[at] = (int32_t)(i * 1000 + t);
            loss[at] = t + 1 == e->len || rng_below(2, RNG_TEST, 0, (uint64_t)at, 2) == 0;
            e->n_loss += t > 0 && loss[at];
        }
        dataset.n_tokens += e->len;
        dataset.n_loss += e->n_loss;
    }
    return dataset;
}

/* One sequence of a microbatch, from its first token: it is example e, whole. Gives its length. */
static int32_t check_sequence(const Dataset *dataset, const Microbatch *mb, int32_t at,
                              uint8_t *seen)
{
    int64_t e = mb->tokens[at] / 1000;
    const Example *example = &dataset->examples[e];
    assert_int_equal(mb->tokens[at] % 1000, 0);
    assert_int_equal(seen[e], 0);
    seen[e] = 1;
    for (int32_t t = 0; t < example->len; t++) {
        assert_int_equal(mb->tokens[at + t], e * 1000 + t);
        assert_int_equal(mb->positions[at + t], t);
        assert_int_equal(mb->kv_begin[at + t], at);
        assert_int_equal(mb->kv_end[at + t], at + t + 1);
        assert_int_equal(mb->q_end[at + t], at + example->len);
    }
    return example->len;
}

static void check_loss(const Dataset *dataset, const Microbatch *mb)
{
    int32_t n = 0;
    for (int32_t at = 0; at + 1 < mb->n_used; at++) {
        bool inside = mb->q_end[at] > at + 1;
        int64_t e = mb->tokens[at] / 1000, t = mb->tokens[at] % 1000;
        if (!inside || !dataset->loss[dataset->examples[e].start + t + 1])
            continue;
        assert_true(n < mb->n_loss);
        assert_int_equal(mb->loss_rows[n], at);
        assert_int_equal(mb->targets[n], mb->tokens[at + 1]);
        n++;
    }
    assert_int_equal(n, mb->n_loss);
}

static void check_microbatch(const Dataset *dataset, const Microbatch *mb, int32_t tokens,
                             uint8_t *seen)
{
    int32_t at = 0, examples = 0;
    for (; at < mb->n_used; examples++)
        at += check_sequence(dataset, mb, at, seen);
    assert_int_equal(at, mb->n_used);
    assert_int_equal(examples, mb->n_examples);
    assert_true(mb->n_examples > 0);
    for (; at < tokens; at++) { /* padding sees nothing but itself */
        assert_int_equal(mb->positions[at], 0);
        assert_int_equal(mb->kv_begin[at], at);
        assert_int_equal(mb->kv_end[at], at + 1);
        assert_int_equal(mb->q_end[at], at + 1);
    }
    check_loss(dataset, mb);
}

static void check_epochs(const PackOptions *options)
{
    Dataset dataset = make_dataset(EXAMPLES, LONGEST);
    Packer *packer = packer_make(&dataset, options, &arena);
    int32_t tokens = packer_tokens(packer);
    assert_int_equal(tokens % 128, 0);
    Microbatch mb;
    microbatch_make(&mb, tokens, &arena);
    uint8_t *seen = arena_array(&arena, uint8_t, EXAMPLES);
    DataCursor cursor = {0};
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int64_t n = packer_left(packer, &cursor), loss = 0;
        memset(seen, 0, EXAMPLES);
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(cursor.epoch, epoch);
            packer_next(packer, &cursor, &mb);
            assert_true(mb.n_loss <= packer_max_loss(packer));
            check_microbatch(&dataset, &mb, tokens, seen);
            loss += mb.n_loss;
        }
        for (int64_t e = 0; e < EXAMPLES; e++)
            assert_int_equal(seen[e], 1);
        assert_int_equal(loss, dataset.n_loss);
        assert_int_equal(cursor.epoch, epoch + 1);
        assert_int_equal(cursor.microbatch, 0);
    }
}

static void every_example_comes_once_an_epoch(void **state)
{
    for (int32_t rows = 1; rows <= 4; rows += 3) {
        PackOptions packed = {.rows = rows, .max_seq_length = 128, .packing = true, .seed = 5};
        PackOptions single = {.rows = rows, .max_seq_length = 128, .seed = 5};
        check_epochs(&packed);
        check_epochs(&single);
    }
}

static void packs_are_well_filled(void **state)
{
    Dataset dataset = make_dataset(EXAMPLES, LONGEST);
    PackOptions options = {.rows = 1, .max_seq_length = 256, .packing = true, .seed = 5};
    Packer *packer = packer_make(&dataset, &options, &arena);
    int64_t packs = packer_microbatches(packer);
    assert_true(packs >= ceil_div(dataset.n_tokens, 256));
    assert_true(packs * 256 <= dataset.n_tokens + dataset.n_tokens / 50); /* 2 % lost at most */
}

static void a_small_dataset_costs_what_it_holds(void **state)
{
    Dataset dataset = make_dataset(5, 20);
    PackOptions options = {.rows = 4, .max_seq_length = 2048, .packing = true};
    assert_int_equal(packer_tokens(packer_make(&dataset, &options, &arena)), 128);
    options.packing = false;
    assert_int_equal(packer_tokens(packer_make(&dataset, &options, &arena)), 128);
}

/* The tokens of two epochs, one hash a microbatch. */
static int64_t stream(const Dataset *dataset, uint64_t seed, int64_t from, uint64_t *hashes)
{
    PackOptions options = {.rows = 2, .max_seq_length = 128, .packing = true, .seed = seed};
    Packer *packer = packer_make(dataset, &options, &arena);
    Microbatch mb;
    DataCursor cursor = {0};
    microbatch_make(&mb, packer_tokens(packer), &arena);
    if (from > 0) { /* a resume: the cursor was saved, the packer is new */
        int64_t first = packer_microbatches(packer);
        cursor = from < first ? (DataCursor){0, from} : (DataCursor){1, from - first};
    }
    int64_t i = from;
    while (cursor.epoch < 2) {
        packer_next(packer, &cursor, &mb);
        uint64_t hash = 14695981039346656037u;
        for (int32_t t = 0; t < packer_tokens(packer); t++)
            hash = (hash ^ (uint64_t)mb.tokens[t]) * 1099511628211u;
        hashes[i++] = hash;
    }
    return i;
}

static void the_order_depends_on_seed_and_epoch_alone(void **state)
{
    Dataset dataset = make_dataset(300, LONGEST);
    uint64_t a[1000], b[1000], other[1000];
    int64_t n = stream(&dataset, 5, 0, a);
    assert_int_equal(stream(&dataset, 5, 0, b), n);
    assert_memory_equal(a, b, (size_t)n * sizeof a[0]);
    stream(&dataset, 6, 0, other);
    assert_true(a[0] != other[0]);
    for (int64_t from = 1; from < n; from += 7) {
        memset(b, 0, sizeof b);
        assert_int_equal(stream(&dataset, 5, from, b), n);
        assert_memory_equal(a + from, b + from, (size_t)(n - from) * sizeof a[0]);
    }
    int64_t same = 0;
    for (int64_t i = 0; i < n / 2; i++)
        same += a[i] == a[i + n / 2];
    assert_true(same < n / 20); /* the second epoch has an order of its own */
}

static int set_up(void **state)
{
    return arena_open(&arena, 0, NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    arena_close(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_example_comes_once_an_epoch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(packs_are_well_filled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_small_dataset_costs_what_it_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_order_depends_on_seed_and_epoch_alone, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("data_pack", tests, NULL, NULL);
}
