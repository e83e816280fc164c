/* test_runs_multi.c — a session of runs that is killed before every durable operation in turn,
 * whose disk fails at every one, and that is stopped after every step: going on ends in the bits
 * of a session that nothing happened to, and no half-written folder stays. Also which examples a
 * run gets, the gates, early stopping, and a run that diverges.
 *
 * Everything runs on one thread: a forked child has no thread pool.
 */
#include "train_support.h"

#include "core/file_fault.h"
#include "core/thread.h"
#include "runs/multi.h"
#include "runs/multi_state.h"
#include "train/output.h"

enum { RUNS = 3, STEPS = 2, EXAMPLES = 12, SWEEP_LIMIT = 1000 };

typedef struct Scene {
    Fixture fixture;
    MultiTask tasks[2];
    Watch watch;
} Scene;

static int scene_setup(void **state)
{
    void *folder = NULL;
    if (temp_setup(&folder) != 0)
        return -1;
    Scene *scene = heap_resize(NULL, sizeof *scene);
    *scene = (Scene){.watch = {.n = 0}};
    Fixture *f = &scene->fixture;
    fixture_open(f, folder);
    fixture_dataset(&f->dataset, EXAMPLES, 6, 24, 5, &f->arena);
    Example *examples = arena_array(&f->arena, Example, EXAMPLES);
    for (int i = 0; i < EXAMPLES; i++) {
        examples[i] = f->dataset.examples[i];
        examples[i].file = i / 6;
    }
    f->dataset.examples = examples;
    const DataFile files[] = {{"first.jsonl", 1}, {"second.jsonl", 1}};
    Err err = {0};
    if (!multi_tasks(&f->dataset, files, 2, HOLD_OUT_TENTH, scene->tasks, &f->arena, &err))
        fail_msg("%s", err.message);
    *state = scene;
    return 0;
}

static int scene_teardown(void **state)
{
    Scene *scene = *state;
    void *folder = (void *)(uintptr_t)scene->fixture.folder;
    fixture_close(&scene->fixture);
    heap_free(scene);
    return temp_teardown(&folder);
}

static MultiOptions options_of(Scene *scene, const char *name)
{
    MultiOptions o = {
        .train = run_options(sub_folder(&scene->fixture, name), STEPS),
        .plan = {.tasks = scene->tasks, .n_tasks = 2, .runs = RUNS, .replay_fraction = 0.3,
                 .replay = REPLAY_RANDOM, .seed = 3},
        .merge = {.mode = MERGE_SLAO}, .final_lr = 1e-3, .validation_samples = 4,
    };
    o.train.save_steps = 1;
    o.train.output_held = true;
    o.train.sink = watch_sink;
    o.train.sink_context = &scene->watch;
    o.train.stop = &scene->watch.stop;
    return o;
}

static bool try_session(Scene *scene, const MultiOptions *o, MultiResult *result, Err *err)
{
    Fixture *f = &scene->fixture;
    OutputFolder folder;
    if (!output_open(&folder, o->train.output, o->train.run_id, NULL, NULL, err))
        return false;
    const bool ok = multi_run(&f->model, f->adapter, &f->dataset, &f->backend, o, &f->arena, result,
                              err);
    output_close(&folder);
    return ok;
}

static MultiResult session(Scene *scene, const MultiOptions *o)
{
    MultiResult result;
    Err err = {0};
    if (!try_session(scene, o, &result, &err))
        fail_msg("%s", err.message);
    return result;
}

static const float *adapter_of(Scene *scene, const char *output)
{
    Fixture *f = &scene->fixture;
    float *values = NULL;
    Err err = {0};
    const char *folder = path_join(&f->arena, output, ADAPTER_FOLDER);
    if (adapter_load_peft(&f->model, folder, &values, &f->arena, &err) == NULL)
        fail_msg("%s", err.message);
    return values;
}

static void assert_same(Scene *scene, const MultiOptions *o, const float *expected)
{
    const float *values = adapter_of(scene, o->train.output);
    assert_true(same_floats(values, expected, scene->fixture.adapter->n_params));
}

static void assert_nothing_partial(Scene *scene, const char *folder)
{
    const char **names;
    size_t count;
    if (!folder_list(folder, &scene->fixture.arena, &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        if (str_ends(str_of(names[i]), ".partial") || str_ends(str_of(names[i]), ".old"))
            fail_msg("'%s' was left in '%s'", names[i], folder);
        const char *path = path_join(&scene->fixture.arena, folder, names[i]);
        if (path_is_folder(path))
            assert_nothing_partial(scene, path);
    }
}

/* Every n-th operation; all of them in `tests/prove/faults.sh`. */
static uint64_t stride(void)
{
    const char *text = getenv("FAULT_STRIDE");
    return text != NULL ? strtoull(text, NULL, 10) : 7;
}

typedef struct Attempt {
    Scene *scene;
    MultiOptions options;
    FileFault fault;
    uint64_t n;
} Attempt;

static void attempt(void *context)
{
    Attempt *a = context;
    MultiResult result;
    Err err = {0};
    file_fault_set(a->fault, a->n);
    if (!try_session(a->scene, &a->options, &result, &err))
        _exit(1);
}

static void killed_anywhere(void **state)
{
    Scene *scene = *state;
    assert_int_equal(threads_count(), 1);
    const MultiOptions straight = options_of(scene, "straight");
    session(scene, &straight);
    const float *expected = adapter_of(scene, straight.train.output);
    Attempt a = {scene, options_of(scene, "killed"), FAULT_KILL, 0};
    for (a.n = 1;; a.n += stride()) {
        const size_t mark = arena_mark(&scene->fixture.arena);
        folder_remove(a.options.train.output);
        const int status = run_in_child(attempt, &a);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        session(scene, &a.options);
        assert_same(scene, &a.options, expected);
        assert_nothing_partial(scene, a.options.train.output);
        arena_rewind(&scene->fixture.arena, mark);
        assert_true(a.n < SWEEP_LIMIT);
    }
    assert_true(a.n > 200);
    print_message("killed at %llu points\n", (unsigned long long)a.n - 1);
}

static void one_write_fails(void **state)
{
    Scene *scene = *state;
    const MultiOptions straight = options_of(scene, "straight");
    session(scene, &straight);
    const float *expected = adapter_of(scene, straight.train.output);
    const MultiOptions o = options_of(scene, "failed");
    uint64_t n = 1;
    for (bool failed = true; failed; n += stride()) {
        const size_t mark = arena_mark(&scene->fixture.arena);
        folder_remove(o.train.output);
        MultiResult result;
        Err err = {0};
        file_fault_set(FAULT_WRITE, n);
        failed = !try_session(scene, &o, &result, &err);
        file_fault_set(FAULT_NONE, 0);
        assert_true(!failed || err_info(err.code)->exit_code == 2);
        session(scene, &o);
        assert_same(scene, &o, expected);
        assert_nothing_partial(scene, o.train.output);
        arena_rewind(&scene->fixture.arena, mark);
        assert_true(n < SWEEP_LIMIT);
    }
    assert_true(n > 150);
}

static void stopped_after_every_step(void **state)
{
    Scene *scene = *state;
    const MultiOptions straight = options_of(scene, "straight");
    const MultiResult whole = session(scene, &straight);
    const MultiOptions o = options_of(scene, "stopped");
    bool done = false;
    for (int i = 0; !done && i < 2 * RUNS * STEPS; i++) {
        MultiResult result;
        Err err = {0};
        scene->watch.stop = 1; /* heard after one step, by a run that has begun */
        if (i % 2 == 0)
            scene->watch.stop = 0, scene->watch.stop_after = 1 + i % STEPS;
        if (!try_session(scene, &o, &result, &err))
            fail_msg("%s", err.message);
        done = result.status == RUN_COMPLETED;
        scene->watch.stop = 0;
        scene->watch.stop_after = 0;
        if (i % 2 == 1) {
            result = session(scene, &o);
            done = true;
            assert_int_equal(result.status, RUN_COMPLETED);
        }
        if (done) {
            assert_int_equal(result.n_losses, whole.n_losses);
            assert_true(same_floats(result.losses, whole.losses, whole.n_losses));
        }
    }
    assert_true(done);
    assert_same(scene, &o, adapter_of(scene, straight.train.output));
}

static void shares(void **state)
{
    Scene *scene = *state;
    Arena *arena = &scene->fixture.arena;
    MultiPlan plan = {.tasks = scene->tasks, .n_tasks = 2, .runs = 4, .seed = 1};
    assert_int_equal(scene->tasks[0].n_examples, 5);
    assert_int_equal(scene->tasks[0].n_held_out, 1);
    static const int64_t tasks[] = {0, 0, 1, 1};
    int seen[EXAMPLES + 1] = {0};
    for (int64_t run = 1; run <= 4; run++) {
        assert_int_equal(multi_task_of(&plan, run), tasks[run - 1]);
        const MultiShare share = multi_share(&plan, run, arena);
        assert_int_equal(share.n, 3);
        for (int64_t i = 0; i < share.n; i++)
            seen[share.examples[i].line]++;
    }
    for (int line = 1; line <= EXAMPLES; line++) /* 6 and 12 are held out */
        assert_true((seen[line] > 0) == (line % 6 != 0));
    plan.replay_fraction = 0.5;
    for (int strategy = 0; strategy < REPLAY_COUNT; strategy++) {
        plan.replay = (ReplayStrategy)strategy;
        assert_int_equal(multi_share(&plan, 1, arena).n_replayed, 0);
        const MultiShare share = multi_share(&plan, 4, arena);
        assert_int_equal(share.n, 6);
        assert_int_equal(share.n_replayed, 3);
        int firsts = 0;
        for (int64_t i = 3; i < 6; i++)
            firsts += share.examples[i].file == 0;
        if (plan.replay != REPLAY_RANDOM) /* recent: run 3 only; each: two of runs 1 and 2 */
            assert_int_equal(firsts, plan.replay == REPLAY_RECENT ? 0 : 2);
    }
    plan.samples = 4;
    assert_int_equal(multi_share(&plan, 2, arena).n, 4);
    Err err = {0};
    assert_true(multi_plan_check(&plan, &err));
    plan.samples = 6;
    assert_false(multi_plan_check(&plan, &err));
    assert_int_equal(err.code, ERR_CONFIG_INVALID);
}

static void gates_and_early_stop(void **state)
{
    Scene *scene = *state;
    MultiOptions o = options_of(scene, "drift");
    o.drift_gate = true;
    o.drift_threshold = 1;
    MultiResult r = session(scene, &o);
    assert_true(r.runs[0].merged && !r.runs[1].merged && !r.runs[2].merged);
    assert_true(r.runs[1].validation == r.runs[0].validation);
    o = options_of(scene, "eval");
    o.eval_gate = true;
    o.max_regression = -100; /* whatever comes is worse */
    r = session(scene, &o);
    assert_true(r.runs[0].merged && !r.runs[2].merged && r.runs[2].reason != NULL);
    o = options_of(scene, "early");
    o.early_stopping = true;
    o.patience = 1;
    o.threshold = 100;
    r = session(scene, &o);
    assert_true(r.stopped_early && r.n_runs == 2 && r.status == RUN_COMPLETED);
    r = session(scene, &o); /* a finished session stays as it is */
    assert_true(r.stopped_early && r.n_runs == 2);
    o.validation_samples = 0;
    Err err = {0};
    assert_false(try_session(scene, &o, &r, &err));
    assert_int_equal(err.code, ERR_CONFIG_INVALID_SETTING);
}

static void diverged_runs(void **state)
{
    Scene *scene = *state;
    MultiOptions o = options_of(scene, "diverged");
    o.train.lr = 1e38;
    o.train.max_grad_norm = 0;
    o.train.steps = 6;
    o.final_lr = 1e-3;
    o.decay = DECAY_LINEAR;
    MultiResult r = session(scene, &o);
    assert_int_equal(r.n_runs, RUNS);
    assert_int_equal(r.n_failed, 2);
    assert_true(r.runs[0].failed && r.runs[1].failed && !r.runs[2].failed && r.runs[2].merged);
    assert_non_null(r.runs[0].reason);
    o = options_of(scene, "all");
    o.train.lr = o.final_lr = 1e38;
    o.train.max_grad_norm = 0;
    o.train.steps = 6;
    Err err = {0};
    assert_false(try_session(scene, &o, &r, &err));
    assert_int_equal(err.code, ERR_RUNTIME_TRAINING_DIVERGED);
    o.merge.mode = MERGE_TIES; /* another session than the folder's */
    Err other = {0};
    assert_false(try_session(scene, &o, &r, &other));
    assert_int_equal(other.code, ERR_STATE_CHECKPOINT_INVALID);
    assert_non_null(strstr(other.message, "merge_mode"));
}

#define SCENE_TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
    threads_set(1);
    const struct CMUnitTest tests[] = {
        SCENE_TEST(shares),           SCENE_TEST(gates_and_early_stop),
        SCENE_TEST(diverged_runs),    SCENE_TEST(stopped_after_every_step),
        SCENE_TEST(killed_anywhere),  SCENE_TEST(one_write_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
