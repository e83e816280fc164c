/* test_train_recovery.c — memory that runs out: at the k-th step once, twice, three times and four
 * times, and before the first step, by a backend whose memory is limited. The bits are those of a
 * run that was scripted to take the smaller batch from step k on (stopped there, its checkpoint
 * rewritten). And a loss that is not a number: which rows, and what is kept.
 */
#include "train_support.h"

#include "core/thread.h"

enum { STEPS = 5, BATCH = 4 };

/* The backend of the fixture, with a memory that fails when it is told to. */
static struct {
    Backend real;
    int finishes; /* of this run so far */
    int fail_at[4]; /* finishes that say "out of memory"; 0 = none */
    size_t limit;   /* of a step slab; 0 = none */
} memory;

static const char *failing_finish(Backend *backend)
{
    memory.finishes++;
    for (size_t i = 0; i < COUNT_OF(memory.fail_at); i++) {
        if (memory.finishes == memory.fail_at[i])
            return "out of memory (injected)";
    }
    return memory.real.finish(backend);
}

static bool limited_slab(Backend *backend, Arena *slab, size_t bytes, Err *err)
{
    if (memory.limit > 0 && bytes > memory.limit)
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY, "%zu bytes are more than %zu", bytes,
                       memory.limit);
    return memory.real.slab_open(backend, slab, bytes, err);
}

static void limit_memory(Fixture *f)
{
    memory.real = f->backend;
    memory.finishes = 0;
    memory.limit = 0;
    memset(memory.fail_at, 0, sizeof memory.fail_at);
    f->backend.finish = failing_finish;
    f->backend.slab_open = limited_slab;
}

static TrainOptions options_of(Fixture *f, const char *name)
{
    TrainOptions o = run_options(sub_folder(f, name), STEPS);
    o.batch_size = BATCH;
    o.accumulation = 1;
    o.packing = false;
    return o;
}

/* Stops after `steps`, and makes the checkpoint that of a run with so many halvings more. */
static void rewrite(Fixture *f, const TrainOptions *o, int64_t steps, int32_t halvings)
{
    TrainOptions first = *o;
    Outcome outcome = {0};
    Err err = {0};
    outcome.watch.stop_after = steps;
    if (first.resume_from == NULL)
        first.resume_from = checkpoint_latest(o->output, o->run_id, &f->arena);
    if (!try_train(f, first, &outcome, &err))
        fail_msg("%s", err.message);
    const int64_t n = f->adapter->n_params;
    TrainVectors v = {arena_array(&f->arena, float, n), arena_array(&f->arena, float, n),
                      arena_array(&f->arena, float, n)};
    const CheckpointOwner owner = {&f->model, f->adapter, &f->backend, "tiny"};
    CheckpointState state;
    const char *folder = checkpoint_path(o->output, steps, &f->arena);
    if (!checkpoint_load(folder, &owner, &state, &v, &f->arena, &err))
        fail_msg("%s", err.message);
    for (int32_t i = 0; i < halvings; i++) {
        state.halvings++;
        state.cursor.microbatch *= 2;
    }
    if (!checkpoint_save(o->output, &owner, &state, &v, &f->arena, &err))
        fail_msg("%s", err.message);
    json_free(state.numbers);
    folder_remove(path_join(&f->arena, o->output, ADAPTER_FOLDER));
}

static Outcome scripted(Fixture *f, const char *name, int64_t step, int32_t halvings)
{
    TrainOptions o = options_of(f, name);
    rewrite(f, &o, step, halvings);
    o.resume_from = checkpoint_path(o.output, step, &f->arena);
    return train(f, o);
}

static void batches(void **state)
{
    (void)state;
    assert_int_equal(train_halved(8), 4);
    assert_int_equal(train_halved(6), 3);
    assert_int_equal(train_halved(9), 3);
    assert_int_equal(train_halved(7), 1);
    assert_int_equal(train_halved(1), 0);
}

static void memory_runs_out_once(void **state)
{
    Fixture *f = *state;
    for (int step = 1; step <= STEPS; step++) {
        limit_memory(f);
        memory.fail_at[0] = step;
        Outcome injected = train(f, options_of(f, arena_printf(&f->arena, "injected%d", step)));
        assert_int_equal(injected.watch.count[EVENT_OOM_RECOVERY], 1);
        assert_int_equal(injected.result.plan.batch_size, BATCH / 2);
        f->backend = memory.real;
        const char *name = arena_printf(&f->arena, "scripted%d", step);
        if (step == 1) { /* the whole run with the smaller batch */
            TrainOptions o = options_of(f, name);
            o.batch_size = BATCH / 2;
            o.accumulation = 2;
            Outcome small = train(f, o);
            assert_true(same_bits(f, &injected, &small));
            continue;
        }
        Outcome expected = scripted(f, name, step - 1, 1);
        assert_true(same_bits(f, &injected, &expected));
    }
}

/* Twice in one step (4 to 1), and in two steps. */
static void memory_runs_out_twice(void **state)
{
    Fixture *f = *state;
    limit_memory(f);
    memory.fail_at[0] = 3; /* step 3 */
    memory.fail_at[1] = 4; /* step 3 again */
    Outcome injected = train(f, options_of(f, "twice"));
    f->backend = memory.real;
    Outcome expected = scripted(f, "scripted", 2, 2);
    assert_true(same_bits(f, &injected, &expected));
    limit_memory(f);
    memory.fail_at[0] = 2; /* step 2 */
    memory.fail_at[1] = 5; /* step 4 */
    injected = train(f, options_of(f, "apart"));
    f->backend = memory.real;
    TrainOptions o = options_of(f, "steps");
    rewrite(f, &o, 1, 1);
    rewrite(f, &o, 3, 1);
    o.resume_from = checkpoint_path(o.output, 3, &f->arena);
    expected = train(f, o);
    assert_true(same_bits(f, &injected, &expected));
}

static void memory_runs_out_too_often(void **state)
{
    Fixture *f = *state;
    TrainOptions o = options_of(f, "thrice");
    o.batch_size = 8;
    limit_memory(f);
    for (int i = 0; i < 3; i++)
        memory.fail_at[i] = 2 + i;
    Outcome thrice = train(f, o);
    assert_int_equal(thrice.result.plan.batch_size, 1);
    f->backend = memory.real;
    o = options_of(f, "four");
    o.batch_size = 8;
    limit_memory(f);
    for (int i = 0; i < 4; i++)
        memory.fail_at[i] = 2 + i;
    Outcome four = {0};
    Err err = {0};
    assert_false(try_train(f, o, &four, &err));
    f->backend = memory.real;
    assert_int_equal(err.code, ERR_RUNTIME_OOM_RECOVERY_EXHAUSTED);
    assert_int_equal(err_info(err.code)->exit_code, 137);
    assert_int_equal(four.result.steps, 1); /* and step 1 is not lost */
    o.resume_from = checkpoint_latest(o.output, o.run_id, &f->arena);
    assert_non_null(o.resume_from);
    Outcome resumed = train(f, o);
    assert_true(same_bits(f, &thrice, &resumed));
}

static void recovery_is_off(void **state)
{
    Fixture *f = *state;
    TrainOptions o = options_of(f, "off");
    o.no_oom_recovery = true;
    limit_memory(f);
    memory.fail_at[0] = 3;
    Outcome outcome = {0};
    Err err = {0};
    assert_false(try_train(f, o, &outcome, &err));
    f->backend = memory.real;
    assert_int_equal(err.code, ERR_RUNTIME_GPU_OOM);
    assert_non_null(checkpoint_latest(o.output, o.run_id, &f->arena));
}

/* A slab that cannot be had before the first step: the batch that fits is found. */
static void memory_runs_out_at_the_start(void **state)
{
    Fixture *f = *state;
    TrainOptions o = options_of(f, "whole");
    o.batch_size = 8; /* 200 tokens: half of them need half of the memory */
    Outcome whole = train(f, o);
    o = options_of(f, "half");
    o.batch_size = 4;
    o.accumulation = 2;
    Outcome half = train(f, o);
    const MemoryPlan *plan = &half.result.plan;
    assert_true(plan->step < whole.result.plan.step);
    limit_memory(f);
    memory.limit = plan->step > plan->run ? plan->step : plan->run;
    memory.limit = plan->weights > memory.limit ? plan->weights : memory.limit;
    o = options_of(f, "limited");
    o.batch_size = 8;
    Outcome limited = train(f, o);
    f->backend = memory.real;
    assert_int_equal(limited.watch.count[EVENT_OOM_RECOVERY], 1);
    assert_true(same_bits(f, &half, &limited));
    limit_memory(f);
    memory.limit = 1;
    Outcome none = {0};
    Err err = {0};
    assert_false(try_train(f, options_of(f, "none"), &none, &err));
    f->backend = memory.real;
    assert_int_equal(err.code, ERR_RUNTIME_OOM_RECOVERY_EXHAUSTED);
}

/* A resumed run goes on with the batch that it had come to. */
static void resumed_after_recovery(void **state)
{
    Fixture *f = *state;
    TrainOptions o = options_of(f, "whole");
    o.save_steps = 1;
    limit_memory(f);
    memory.fail_at[0] = 2;
    Outcome whole = train(f, o);
    f->backend = memory.real;
    o.resume_from = checkpoint_path(o.output, 3, &f->arena);
    o.output = sub_folder(f, "resumed");
    Outcome resumed = train(f, o);
    assert_int_equal(resumed.result.plan.batch_size, BATCH / 2);
    assert_true(same_bits(f, &whole, &resumed));
    o.batch_size = 0; /* as it was started */
    o.output = sub_folder(f, "automatic");
    resumed = train(f, o);
    assert_true(same_bits(f, &whole, &resumed));
}

static void infinite_loss_names_rows(void **state)
{
    Fixture *f = *state;
    TrainOptions o = options_of(f, "diverged");
    o.lr = 1e37;
    o.max_grad_norm = 0;
    o.warmup_steps = 0;
    Outcome outcome = {0};
    Err err = {0};
    assert_false(try_train(f, o, &outcome, &err));
    assert_int_equal(err.code, ERR_RUNTIME_TRAINING_DIVERGED);
    assert_non_null(strstr(err.message, "is not finite (lines "));
    assert_int_equal(outcome.watch.last.status, RUN_FAILED);
}

int main(void)
{
    threads_set(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches),
        FIXTURE_TEST(memory_runs_out_once),
        FIXTURE_TEST(memory_runs_out_twice),
        FIXTURE_TEST(memory_runs_out_too_often),
        FIXTURE_TEST(recovery_is_off),
        FIXTURE_TEST(memory_runs_out_at_the_start),
        FIXTURE_TEST(resumed_after_recovery),
        FIXTURE_TEST(infinite_loss_names_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
