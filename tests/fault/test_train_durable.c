/* test_train_durable.c — a run whose disk fails, or whose process is killed, at every durable
 * operation in turn: what was committed stays usable, and the resumed run ends in the bits of one
 * that nothing happened to.
 *
 * Everything runs on one thread: a forked child has no thread pool.
 */
#include "train_support.h"

#include "core/file_fault.h"
#include "core/thread.h"

enum { STEPS = 3, SWEEP_LIMIT = 400 };

static TrainOptions saving(Fixture *f, const char *name)
{
    TrainOptions options = run_options(sub_folder(f, name), STEPS);
    options.save_steps = 1;
    options.accumulation = 3;
    return options;
}

/* The bits of a run that nothing happened to. */
static Outcome straight_run(Fixture *f)
{
    assert_int_equal(threads_count(), 1);
    return train(f, saving(f, "straight"));
}

typedef struct Attempt {
    Fixture *f;
    TrainOptions options;
    FileFault fault;
    uint64_t n;
} Attempt;

static void attempt(void *context)
{
    Attempt *a = context;
    Outcome outcome = {0};
    Err err = {0};
    file_fault_set(a->fault, a->n);
    if (!try_train(a->f, a->options, &outcome, &err))
        _exit(1);
}

/* Goes on from the newest usable checkpoint, or from nothing; must end like the straight run. */
static void assert_resumes(Fixture *f, TrainOptions options, const Outcome *straight)
{
    options.resume_from = checkpoint_latest(options.output, options.run_id, &f->arena);
    Outcome resumed = train(f, options);
    assert_int_equal(resumed.result.status, RUN_COMPLETED);
    assert_true(same_bits(f, straight, &resumed));
    Err err = {0};
    float *values = NULL;
    assert_non_null(adapter_load_peft(&f->model, resumed.result.adapter_path, &values, &f->arena,
                                      &err));
}

static void assert_nothing_half_written(Fixture *f, const char *folder)
{
    const char **names = NULL;
    size_t count = 0;
    if (!folder_list(folder, &f->arena, &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        if (str_ends(str_of(names[i]), ".partial"))
            fail_msg("'%s' was left in '%s'", names[i], folder);
    }
}

/* Kills the run just before its n-th durable operation, for every n. `prepare` fills the output. */
typedef void Prepare(Fixture *f, const char *output);
static uint64_t kill_sweep(Fixture *f, TrainOptions options, Prepare *prepare,
                           const Outcome *straight)
{
    for (uint64_t n = 1; n <= SWEEP_LIMIT; n++) {
        const size_t mark = arena_mark(&f->arena);
        folder_remove(options.output);
        if (prepare != NULL)
            prepare(f, options.output);
        Attempt a = {f, options, FAULT_KILL, n};
        const int status = run_in_child(attempt, &a);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return n - 1;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        assert_resumes(f, options, straight);
        assert_nothing_half_written(f, options.output);
        arena_rewind(&f->arena, mark);
    }
    fail_msg("%s", "the sweep did not end");
    return 0;
}

static void killed_anywhere_then_resumed(void **state)
{
    Fixture *f = *state;
    Outcome straight = straight_run(f);
    const uint64_t points = kill_sweep(f, saving(f, "killed"), NULL, &straight);
    assert_true(points > 3 * STEPS);
    print_message("killed at %llu points\n", (unsigned long long)points);
}

static void whole_run(Fixture *f, const char *output)
{
    TrainOptions options = saving(f, "unused");
    options.output = output;
    train(f, options);
}

/* The same while existing checkpoints and an adapter of the run are being replaced. */
static void killed_while_replacing(void **state)
{
    Fixture *f = *state;
    Outcome straight = straight_run(f);
    TrainOptions options = saving(f, "replaced");
    options.resume_from = checkpoint_path(sub_folder(f, "straight"), STEPS - 1, &f->arena);
    const uint64_t points = kill_sweep(f, options, whole_run, &straight);
    assert_true(points > 3);
    print_message("killed at %llu points\n", (unsigned long long)points);
}

static void fail_sweep(Fixture *f, FileFault fault, const Outcome *straight)
{
    uint64_t n = 1;
    for (bool failed = true; failed; n++) {
        const size_t mark = arena_mark(&f->arena);
        TrainOptions options = saving(f, "failed");
        folder_remove(options.output);
        Outcome run = {0};
        Err err = {0};
        file_fault_set(fault, n);
        failed = !try_train(f, options, &run, &err);
        file_fault_set(FAULT_NONE, 0);
        if (failed) {
            const int committed = run.watch.count[EVENT_CHECKPOINT];
            const bool writing = run.watch.count[EVENT_STEP] > 0 && committed < STEPS;
            if (writing != (err.code == ERR_STATE_CHECKPOINT_INVALID))
                fail_msg("operation %llu: %s: %s", (unsigned long long)n,
                         err_info(err.code)->name, err.message);
            assert_int_equal(run.watch.last.kind, EVENT_RUN_ENDED);
            assert_int_equal(run.watch.last.status, RUN_FAILED);
            assert_int_equal(run.watch.count[EVENT_RUN_ENDED], 1);
            assert_nothing_half_written(f, options.output);
            const char *latest = checkpoint_latest(options.output, options.run_id, &f->arena);
            if (committed > 0)
                assert_non_null(latest);
            if (run.result.checkpoint_path != NULL)
                load_vectors(f, run.result.checkpoint_path);
        }
        assert_resumes(f, options, straight);
        arena_rewind(&f->arena, mark);
        assert_true(n < SWEEP_LIMIT);
    }
    assert_true(n > 3 * STEPS);
}

static void one_write_fails(void **state)
{
    Fixture *f = *state;
    Outcome straight = straight_run(f);
    fail_sweep(f, FAULT_WRITE, &straight);
}

static void the_disk_is_full(void **state)
{
    Fixture *f = *state;
    Outcome straight = straight_run(f);
    fail_sweep(f, FAULT_FULL, &straight);
}

int main(void)
{
    threads_set(1);
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(killed_anywhere_then_resumed),
        FIXTURE_TEST(killed_while_replacing),
        FIXTURE_TEST(one_write_fails),
        FIXTURE_TEST(the_disk_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
