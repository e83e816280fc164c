/* train_support.h — a training run over the fixture and everything of it that tests compare: losses
 * and the state of its last checkpoint, bit for bit.
 *
 * Header only; include after test_support.h.
 */
#ifndef TRAIN_SUPPORT_H
#define TRAIN_SUPPORT_H

#include "fixture.h"
#include "test_support.h"
#include "train/checkpoint.h"
#include "train/train.h"

#include <math.h>

enum { MAX_EVENTS = 512 };

/* What a listener saw of a run, and the stop that it can ask for. */
typedef struct Watch {
    int count[EVENT_COUNT];
    EventKind order[MAX_EVENTS];
    int n;
    int64_t stop_after; /* ask for a stop when this step is done; 0 = never */
    volatile int stop;
    double lr[MAX_EVENTS], grad_norm[MAX_EVENTS]; /* of step i + 1 */
    Event last;         /* pointers in it are gone */
} Watch;

static inline void watch_sink(void *context, const Event *event)
{
    Watch *watch = context;
    watch->count[event->kind]++;
    if (watch->n < MAX_EVENTS)
        watch->order[watch->n++] = event->kind;
    if (event->kind == EVENT_STEP && event->step <= MAX_EVENTS) {
        watch->lr[event->step - 1] = event->lr;
        watch->grad_norm[event->step - 1] = event->grad_norm;
    }
    if (event->kind == EVENT_STEP && event->step == watch->stop_after)
        watch->stop = 1;
    watch->last = *event;
}

static inline TrainOptions run_options(const char *output, int64_t steps)
{
    return (TrainOptions){
        .run_id = "0123456789abcdef0123456789abcdef", .output = output, .base_name = "tiny",
        .steps = steps, .batch_size = 2, .accumulation = 1, .max_seq_length = 64,
        .lr = 5e-3, .weight_decay = 0.01, .max_grad_norm = 1, .warmup_steps = 2,
        .schedule = SCHEDULE_COSINE, .seed = 3, .memory_limit = (uint64_t)64 << 30,
    };
}

typedef struct Outcome {
    TrainResult result;
    TrainVectors vectors; /* of the last checkpoint */
    Watch watch;
} Outcome;

/* The state in a checkpoint folder; in the fixture's arena. */
static inline TrainVectors load_vectors(Fixture *f, const char *folder)
{
    const int64_t n = f->adapter->n_params;
    TrainVectors vectors = {arena_array(&f->arena, float, n), arena_array(&f->arena, float, n),
                            arena_array(&f->arena, float, n)};
    const CheckpointOwner owner = {&f->model, f->adapter,
                                   &f->backend, "tiny"};
    CheckpointState state = {0};
    Err err = {0};
    if (!checkpoint_load(folder, &owner, &state, &vectors, &f->arena, &err))
        fail_msg("%s", err.message);
    json_free(state.numbers);
    return vectors;
}

static inline bool try_train(Fixture *f, TrainOptions options, Outcome *outcome, Err *err)
{
    options.sink = watch_sink;
    options.sink_context = &outcome->watch;
    options.stop = &outcome->watch.stop;
    return train_run(&f->model, f->adapter, &f->dataset, &f->backend, &options, &f->arena,
                     &outcome->result, err);
}

/* A run that must succeed. */
static inline Outcome train(Fixture *f, TrainOptions options)
{
    Outcome outcome = {0};
    Err err = {0};
    if (!try_train(f, options, &outcome, &err))
        fail_msg("%s", err.message);
    if (outcome.result.checkpoint_path != NULL)
        outcome.vectors = load_vectors(f, outcome.result.checkpoint_path);
    return outcome;
}

static inline const char *sub_folder(Fixture *f, const char *name)
{
    return path_join(&f->arena, f->folder, name);
}

static inline bool same_floats(const float *a, const float *b, int64_t n)
{
    return memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

static inline bool same_bits(const Fixture *f, const Outcome *a, const Outcome *b)
{
    const int64_t n = f->adapter->n_params;
    return a->result.n_losses == b->result.n_losses &&
           same_floats(a->result.losses, b->result.losses, a->result.n_losses) &&
           same_floats(a->vectors.values, b->vectors.values, n) &&
           same_floats(a->vectors.m, b->vectors.m, n) &&
           same_floats(a->vectors.v, b->vectors.v, n) &&
           a->result.final_loss == b->result.final_loss && a->result.tokens == b->result.tokens;
}

/* Per-step losses agree to 1e-6 of their size. */
static inline void assert_losses_close(const TrainResult *a, const TrainResult *b)
{
    assert_int_equal(a->n_losses, b->n_losses);
    for (int64_t i = 0; i < a->n_losses; i++) {
        const double x = (double)a->losses[i], y = (double)b->losses[i];
        if (!(fabs(x - y) <= 1e-6 * fabs(x)))
            fail_msg("step %lld: loss %.9g and %.9g", (long long)i + 1, x, y);
    }
}

/* setup, teardown: *state is a Fixture in a fresh folder. */
static inline int fixture_setup(void **state)
{
    void *folder = NULL;
    if (temp_setup(&folder) != 0)
        return -1;
    Fixture *fixture = heap_resize(NULL, sizeof *fixture);
    fixture_open(fixture, folder);
    *state = fixture;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    Fixture *fixture = *state;
    void *folder = (void *)(uintptr_t)fixture->folder;
    fixture_close(fixture);
    heap_free(fixture);
    return temp_teardown(&folder);
}

#define FIXTURE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
