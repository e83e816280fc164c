/* test_train_options.c — runs with unusual options and data: what is refused and with which words,
 * what still trains, and what the listener hears.
 */
#include "train_support.h"

/* Message of the error that train_run gives; the event stream must end with the same error. */
static Err refused(Fixture *f, TrainOptions options, ErrCode code)
{
    Outcome run = {0};
    Err err = {0};
    assert_false(try_train(f, options, &run, &err));
    if (err.code != code)
        fail_msg("%s: %s", err_info(err.code)->name, err.message);
    assert_int_equal(run.watch.count[EVENT_RUN_ENDED], 1);
    assert_int_equal(run.watch.last.kind, EVENT_RUN_ENDED);
    assert_int_equal(run.watch.last.status, RUN_FAILED);
    assert_int_equal(run.result.status, RUN_FAILED);
    return err;
}

static void learning_rate_zero_learns_nothing(void **state)
{
    Fixture *f = *state;
    TrainOptions options = run_options(sub_folder(f, "out"), 4);
    options.lr = 0;
    Outcome run = train(f, options);
    float *start = arena_array(&f->arena, float, f->adapter->n_params);
    adapter_init_values(f->adapter, options.seed, start);
    assert_true(same_floats(start, run.vectors.values, f->adapter->n_params));
    options.lr = 1e-3;
    options.output = sub_folder(f, "other");
    Outcome other = train(f, options);
    assert_false(same_floats(start, other.vectors.values, f->adapter->n_params));
}

/* lr is 0 in the first step of a warm-up, so only the second step moves the values. */
static void warm_up_holds_the_first_step(void **state)
{
    Fixture *f = *state;
    TrainOptions options = run_options(sub_folder(f, "out"), 3);
    options.save_steps = 1;
    Outcome run = train(f, options);
    assert_true(run.watch.lr[0] == 0 && run.watch.lr[1] == 2.5e-3 && run.watch.lr[2] == 5e-3);
    float *start = arena_array(&f->arena, float, f->adapter->n_params);
    adapter_init_values(f->adapter, options.seed, start);
    TrainVectors first = load_vectors(f, checkpoint_path(options.output, 1, &f->arena));
    TrainVectors second = load_vectors(f, checkpoint_path(options.output, 2, &f->arena));
    assert_true(same_floats(start, first.values, f->adapter->n_params));
    assert_false(same_floats(start, second.values, f->adapter->n_params));
}

static void unusual_options_train(void **state)
{
    Fixture *f = *state;
    TrainOptions base = run_options(sub_folder(f, "out"), 3);
    TrainOptions odd[] = {base, base, base, base, base, base, base};
    odd[0].warmup_steps = 100;                        /* longer than the run */
    odd[1].accumulation = 50;                         /* more than an epoch holds */
    odd[2].batch_size = 100;                          /* more than there are examples */
    odd[3].save_steps = 1000;                         /* never reached */
    odd[4].max_grad_norm = 0, odd[4].weight_decay = 0; /* neither clipping nor decay */
    odd[5].steps = 1;
    odd[6].packing = true, odd[6].schedule = SCHEDULE_CONSTANT;
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        Outcome run = train(f, odd[i]);
        assert_int_equal(run.result.status, RUN_COMPLETED);
        assert_int_equal(run.result.n_losses, odd[i].steps);
        assert_int_equal(run.watch.count[EVENT_STEP], odd[i].steps);
        assert_int_equal(run.watch.count[EVENT_CHECKPOINT], 1); /* the one at the end */
        assert_true(run.watch.last.loss > 0 && run.watch.last.mean_loss > 0);
        folder_remove(odd[i].output);
    }
}

/* 8 examples, batch 2, accumulation 3: an epoch is 4 microbatches and 2 steps. */
static void epochs_decide_the_steps(void **state)
{
    Fixture *f = *state;
    const struct { double epochs; int64_t steps; } cases[] = {
        {0.25, 1}, {0.5, 1}, {1, 2}, {1.5, 3}, {3, 6}, {1e-9, 1}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        TrainOptions options = run_options(sub_folder(f, "out"), 0);
        options.epochs = cases[i].epochs;
        options.accumulation = 3;
        Outcome run = train(f, options);
        assert_int_equal(run.result.steps, cases[i].steps);
        folder_remove(options.output);
    }
}

static void impossible_options_are_refused(void **state)
{
    Fixture *f = *state;
    TrainOptions base = run_options(sub_folder(f, "out"), 3);
    TrainOptions bad[15];
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        bad[i] = base;
    bad[0].steps = -1;
    bad[1].steps = 0;
    bad[2].steps = INT64_MAX;
    bad[3].steps = 0, bad[3].epochs = NAN;
    bad[4].steps = 0, bad[4].epochs = 1e300;
    bad[5].batch_size = -1;
    bad[6].accumulation = 0;
    bad[7].accumulation = INT32_MAX;
    bad[8].max_seq_length = 0;
    bad[9].max_seq_length = 5; /* shorter than the examples */
    bad[10].lr = NAN;
    bad[11].lr = -1e-4;
    bad[12].weight_decay = INFINITY;
    bad[13].warmup_steps = -1;
    bad[14].save_steps = -1;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Err err = refused(f, bad[i], ERR_CONFIG_INVALID_SETTING);
        assert_true(err.message[0] != '\0');
    }
    assert_null(checkpoint_latest(base.output, NULL, &f->arena));
}

static void unusable_data_is_refused(void **state)
{
    Fixture *f = *state;
    const TrainOptions options = run_options(sub_folder(f, "out"), 3);
    const int64_t n = f->dataset.n_examples;
    f->dataset.n_examples = 0;
    refused(f, options, ERR_INPUT_DATASET_VALIDATION_FAILED);
    f->dataset.n_examples = n;
    Example *examples = arena_array(&f->arena, Example, n);
    memcpy(examples, f->dataset.examples, (size_t)n * sizeof *examples);
    examples[3].n_loss = 0;
    f->dataset.examples = examples;
    Err err = refused(f, options, ERR_INPUT_DATASET_VALIDATION_FAILED);
    assert_non_null(strstr(err.message, "line 4"));
}

static void unwritable_output_is_refused(void **state)
{
    Fixture *f = *state;
    write_text(sub_folder(f, "file"), "not a folder");
    refused(f, run_options(sub_folder(f, "file/out"), 3), ERR_RUNTIME_IO_FAILED);
}

/* A weight that is not finite makes a loss that is not: told before anything is updated. */
static void divergence_is_told_before_the_update(void **state)
{
    Fixture *f = *state;
    const TrainOptions options = run_options(sub_folder(f, "out"), 3);
    float *spoiled = arena_array(&f->arena, float, FIXTURE_WIDTH);
    for (int i = 0; i < FIXTURE_WIDTH; i++)
        spoiled[i] = INFINITY;
    f->model.final_norm_file.source = spoiled;
    Err err = refused(f, options, ERR_RUNTIME_TRAINING_DIVERGED);
    assert_non_null(strstr(err.message, "step 1"));
    assert_null(checkpoint_latest(options.output, NULL, &f->arena));
    assert_false(path_exists(path_join(&f->arena, options.output, ADAPTER_FOLDER)));
}

static void a_stop_before_the_first_step(void **state)
{
    Fixture *f = *state;
    TrainOptions options = run_options(sub_folder(f, "out"), 3);
    Outcome run = {.watch.stop = 1};
    Err err = {0};
    assert_true(try_train(f, options, &run, &err));
    assert_int_equal(run.result.status, RUN_INTERRUPTED);
    assert_int_equal(run.result.steps, 0);
    assert_null(run.result.adapter_path);
    assert_null(run.result.checkpoint_path);
    assert_int_equal(run.watch.count[EVENT_STEP], 0);
}

static void events_come_in_order(void **state)
{
    Fixture *f = *state;
    TrainOptions options = run_options(sub_folder(f, "out"), 3);
    options.save_steps = 2;
    Outcome run = train(f, options);
    const EventKind want[] = {EVENT_RUN_STARTED, EVENT_STEP,       EVENT_STEP,     EVENT_CHECKPOINT,
                              EVENT_STEP,        EVENT_CHECKPOINT, EVENT_RUN_ENDED};
    assert_int_equal(run.watch.n, COUNT_OF(want));
    for (size_t i = 0; i < COUNT_OF(want); i++)
        assert_int_equal(run.watch.order[i], want[i]);
    assert_int_equal(run.watch.last.status, RUN_COMPLETED);
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += (double)run.result.losses[i];
    assert_true(fabs(run.result.final_loss - sum / 3) < 1e-6);
}

static void automatic_batch_follows_memory(void **state)
{
    Fixture *f = *state;
    TrainOptions options = run_options(sub_folder(f, "out"), 1);
    fixture_dataset(&f->dataset, 64, 500, 512, 5, &f->arena); /* activations of several MiB */
    options.max_seq_length = 512;
    options.batch_size = 0;
    MemoryPlan roomy = {0}, tight = {0}, none = {0};
    Err err = {0};
    assert_true(train_plan(&f->model, f->adapter, &f->dataset, &f->backend, &options, &roomy,
                           &err));
    assert_int_equal(roomy.batch_size, 8);
    assert_int_equal(roomy.segments, SEGMENT_KEEP);
    /* Stages that are asked for leave the batch as large; a backend may lack the last one. */
    static const SegmentMode asked[] = {SEGMENT_REMAKE, SEGMENT_RECOMPUTE, SEGMENT_OFFLOAD};
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        options.segments = asked[i];
        assert_true(train_plan(&f->model, f->adapter, &f->dataset, &f->backend, &options, &tight,
                               &err));
        assert_int_equal(tight.batch_size, 8);
        assert_int_equal(tight.segments, min_i64(asked[i], SEGMENT_RECOMPUTE));
    }
    options.segments = SEGMENT_KEEP;
    options.memory_limit = roomy.other + roomy.weights + roomy.run + roomy.step - (1 << 20);
    assert_true(train_plan(&f->model, f->adapter, &f->dataset, &f->backend, &options, &tight,
                           &err));
    assert_int_equal(tight.segments, SEGMENT_KEEP);
    assert_true(tight.batch_size < 8 && tight.step < roomy.step);
    options.batch_size = 8; /* asked for: then segments give way, no more than needed */
    assert_true(train_plan(&f->model, f->adapter, &f->dataset, &f->backend, &options, &tight,
                           &err));
    assert_int_equal(tight.batch_size, 8);
    assert_true(tight.segments > 0 && tight.segments < tight.n_segments);
    assert_true(tight.step + (1 << 20) <= roomy.step);
    options.batch_size = 0;
    options.memory_limit = 1 << 20;
    assert_false(train_plan(&f->model, f->adapter, &f->dataset, &f->backend, &options, &none,
                            &err));
    assert_int_equal(err.code, ERR_RUNTIME_OUT_OF_MEMORY);
    assert_non_null(strstr(err.message, "batch size 1"));
    refused(f, options, ERR_RUNTIME_OUT_OF_MEMORY);
}

static void event_json_has_the_table_s_fields(void **state)
{
    (void)state;
    Err err = {0};
    err_set(&err, ERR_RUNTIME_TRAINING_DIVERGED, "the loss of step 3 is not finite");
    const Event ended = {.kind = EVENT_RUN_ENDED, .run_id = "ab", .step = 3, .steps = 9,
                         .status = RUN_FAILED, .error = &err, .mean_loss = NAN};
    Json *json = event_json(&ended);
    assert_string_equal(json_text(json_get(json, "event")), "run_ended");
    assert_string_equal(json_text(json_get(json, "status")), "failed");
    assert_int_equal(json_int(json_get(json, "steps"), 0), 9);
    assert_true(json_is_null(json_get(json, "mean_loss")));
    assert_string_equal(json_text(json_get(json_get(json, "error"), "code")),
                        "RUNTIME_TRAINING_DIVERGED");
    assert_null(json_get(json, "lr"));
    json_free(json);
    const Event step = {.kind = EVENT_STEP, .step = 1, .loss = 0.5, .lr = 1e-4};
    json = event_json(&step);
    assert_string_equal(json_text(json_get(json, "event")), "step");
    assert_true(json_double(json_get(json, "loss"), 0) == 0.5);
    assert_null(json_get(json, "status"));
    json_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(learning_rate_zero_learns_nothing),
        FIXTURE_TEST(warm_up_holds_the_first_step),
        FIXTURE_TEST(unusual_options_train),
        FIXTURE_TEST(epochs_decide_the_steps),
        FIXTURE_TEST(impossible_options_are_refused),
        FIXTURE_TEST(unusable_data_is_refused),
        FIXTURE_TEST(unwritable_output_is_refused),
        FIXTURE_TEST(divergence_is_told_before_the_update),
        FIXTURE_TEST(a_stop_before_the_first_step),
        FIXTURE_TEST(events_come_in_order),
        FIXTURE_TEST(automatic_batch_follows_memory),
        cmocka_unit_test(event_json_has_the_table_s_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
