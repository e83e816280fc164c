/* test_train_invariance.c — what must not change the numbers of a run: packing, accumulation,
 * recomputation, threads, the seed's repetition, being stopped and resumed; and that the memory
 * plan equals the memory used.
 *
 * Each case has a counterpart that does change them, so that a comparison that cannot fail shows.
 */
#include "train_support.h"

#include "core/thread.h"

static void a_run_learns(void **state)
{
    Fixture *f = *state;
    TrainOptions options = run_options(sub_folder(f, "out"), 40);
    options.lr = 2e-2;
    options.batch_size = 8;
    Outcome run = train(f, options);
    assert_int_equal(run.result.status, RUN_COMPLETED);
    assert_int_equal(run.result.n_losses, 40);
    assert_true(run.result.losses[0] > 3.5f && run.result.losses[0] < 6.5f);
    assert_true(run.result.losses[39] < run.result.losses[0] - 1);
    assert_true(run.result.losses[39] == (float)run.result.last_loss);
}

static void same_seed_same_bits(void **state)
{
    Fixture *f = *state;
    Outcome a = train(f, run_options(sub_folder(f, "a"), 6));
    Outcome b = train(f, run_options(sub_folder(f, "b"), 6));
    assert_true(same_bits(f, &a, &b));
    TrainOptions other = run_options(sub_folder(f, "c"), 6);
    other.seed++;
    Outcome c = train(f, other);
    assert_false(same_bits(f, &a, &c));
}

static void packed_equals_unpacked(void **state)
{
    Fixture *f = *state;
    TrainOptions plain = run_options(sub_folder(f, "plain"), 6);
    plain.batch_size = 8; /* all examples in every step, either way */
    plain.max_seq_length = 512;
    TrainOptions packed = plain;
    packed.output = sub_folder(f, "packed");
    packed.batch_size = 1;
    packed.packing = true;
    Outcome a = train(f, plain), b = train(f, packed);
    assert_losses_close(&a.result, &b.result);
    assert_int_equal(a.result.tokens, b.result.tokens);
}

static void accumulation_one_equals_four(void **state)
{
    Fixture *f = *state;
    TrainOptions one = run_options(sub_folder(f, "one"), 6);
    one.batch_size = 4;
    TrainOptions four = one;
    four.output = sub_folder(f, "four");
    four.batch_size = 1;
    four.accumulation = 4;
    Outcome a = train(f, one), b = train(f, four);
    assert_losses_close(&a.result, &b.result);
    assert_int_equal(a.result.tokens, b.result.tokens);
    for (int i = 0; i < 6; i++)
        assert_true(fabs(a.watch.grad_norm[i] - b.watch.grad_norm[i]) <=
                    1e-5 * a.watch.grad_norm[i]);
}

static void recompute_changes_nothing(void **state)
{
    Fixture *f = *state;
    TrainOptions keep = run_options(sub_folder(f, "keep"), 6);
    const Outcome kept = train(f, keep);
    size_t least = kept.result.used_step;
    assert_int_equal(kept.result.plan.segments, SEGMENT_KEEP);
    static const SegmentMode modes[] = {SEGMENT_REMAKE, SEGMENT_REMAKE + 1, SEGMENT_RECOMPUTE};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        TrainOptions again = keep;
        again.output = sub_folder(f, i == 0 ? "remade" : i == 1 ? "both" : "again");
        again.segments = modes[i];
        const Outcome b = train(f, again);
        assert_int_equal(b.result.plan.segments, modes[i]);
        assert_true(b.result.used_step < least);
        least = b.result.used_step;
        assert_true(same_bits(f, &kept, &b));
    }
}

/* A backend takes the number of threads when it is opened. */
static Outcome train_with_threads(Fixture *f, int threads, const char *name)
{
    Err err = {0};
    f->backend.close(&f->backend);
    threads_set(threads);
    assert_true(backend_open_cpu(&f->backend, &err));
    assert_int_equal(threads_count(), threads);
    TrainOptions options = run_options(sub_folder(f, name), 6);
    options.batch_size = 8; /* more than one 256-row piece and attention tile */
    return train(f, options);
}

static void threads_change_nothing(void **state)
{
    Fixture *f = *state;
    fixture_dataset(&f->dataset, 16, 30, 64, 13, &f->arena);
    const int before = threads_count();
    Outcome a = train_with_threads(f, 1, "one");
    Outcome b = train_with_threads(f, 2, "two");
    Outcome c = train_with_threads(f, 3, "three");
    threads_set(before);
    assert_true(a.result.plan.tokens > 256);
    assert_true(same_bits(f, &a, &b));
    assert_true(same_bits(f, &a, &c));
}

/* Accumulation 3 over 4 microbatches an epoch: the cursor is saved at every place of an epoch. */
static TrainOptions resumable(Fixture *f, const char *name)
{
    TrainOptions options = run_options(sub_folder(f, name), 7);
    options.accumulation = 3;
    options.save_steps = 1;
    return options;
}

static void resumed_at_any_checkpoint(void **state)
{
    Fixture *f = *state;
    Outcome straight = train(f, resumable(f, "straight"));
    assert_int_equal(straight.watch.count[EVENT_CHECKPOINT], 7);
    for (int64_t step = 1; step <= 7; step++) {
        TrainOptions options = resumable(f, "resumed");
        options.save_steps = 0;
        options.resume_from = checkpoint_path(sub_folder(f, "straight"), step, &f->arena);
        Outcome resumed = train(f, options);
        assert_int_equal(resumed.watch.order[0], EVENT_RUN_RESUMED);
        assert_int_equal(resumed.watch.count[EVENT_STEP], 7 - step);
        assert_true(same_bits(f, &straight, &resumed));
        folder_remove(options.output);
    }
}

static void stopped_and_resumed(void **state)
{
    Fixture *f = *state;
    Outcome straight = train(f, resumable(f, "straight"));
    TrainOptions options = resumable(f, "stopped");
    options.save_steps = 0;
    Outcome run = {.watch.stop_after = 2};
    Err err = {0};
    assert_true(try_train(f, options, &run, &err));
    assert_int_equal(run.result.status, RUN_INTERRUPTED);
    assert_int_equal(run.result.steps, 2);
    assert_int_equal(run.watch.count[EVENT_STOPPING], 1);
    assert_int_equal(run.watch.last.kind, EVENT_RUN_ENDED);
    assert_int_equal(run.watch.last.status, RUN_INTERRUPTED);
    assert_true(path_is_folder(run.result.adapter_path));
    const char *latest = checkpoint_latest(options.output, options.run_id, &f->arena);
    assert_string_equal(latest, run.result.checkpoint_path);
    options.resume_from = latest;
    options.batch_size = 0; /* the checkpoint's */
    Outcome resumed = train(f, options);
    assert_int_equal(resumed.result.status, RUN_COMPLETED);
    assert_int_equal(resumed.result.plan.batch_size, 2);
    assert_true(same_bits(f, &straight, &resumed));
}

static void the_plan_is_what_is_used(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < 12; i++) {
        TrainOptions options = run_options(sub_folder(f, "out"), 2);
        options.segments = i / 4 * SEGMENT_STAGE;
        options.packing = (i & 1) != 0;
        options.batch_size = i & 2 ? 3 : 1;
        MemoryPlan plan = {0};
        Err err = {0};
        assert_true(train_plan(&f->model, f->adapter, &f->dataset, &f->backend, &options, &plan,
                               &err));
        TrainResult result = train(f, options).result;
        assert_true(plan.weights > 0 && plan.run > 0 && plan.step > 0 && plan.other > 0);
        assert_int_equal(plan.weights, result.used_weights);
        assert_int_equal(plan.run, result.used_run);
        assert_int_equal(plan.step, result.used_step);
        assert_int_equal(plan.tokens % 128, 0);
        folder_remove(options.output);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(a_run_learns),
        FIXTURE_TEST(same_seed_same_bits),
        FIXTURE_TEST(packed_equals_unpacked),
        FIXTURE_TEST(accumulation_one_equals_four),
        FIXTURE_TEST(recompute_changes_nothing),
        FIXTURE_TEST(threads_change_nothing),
        FIXTURE_TEST(resumed_at_any_checkpoint),
        FIXTURE_TEST(stopped_and_resumed),
        FIXTURE_TEST(the_plan_is_what_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
