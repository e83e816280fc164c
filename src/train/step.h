/* step.h — one optimiser step on a backend, and the memory that it needs.
 *
 * The same functions run on the plan backend to measure memory (plan.c) and on the real one to
 * train (trainer.c): that the two agree to the byte rests on there being no second code path.
 */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "train/checkpoint.h"
#include "train/train.h"

/* The memory of a run: large slabs behind the backend, by lifetime. */
typedef struct StepSlabs {
    Arena weights; /* base model */
    Arena run;     /* trained parameters, gradients, moments, inputs of a microbatch */
    Arena step;    /* activations; rewound every microbatch */
    Arena host;    /* what waits in host memory; none where the others are host memory */
} StepSlabs;

typedef struct StepSetup {
    Model *model;
    Adapter *adapter;
    Backend *backend;
    int32_t tokens;      /* T of every microbatch */
    int32_t max_loss;    /* most loss rows of a microbatch */
    int64_t n_positions; /* longest sequence */
    SegmentMode segments;
    double weight_decay, max_grad_norm;
    bool profile;        /* time every op; nothing is recorded then */
} StepSetup;

/* A part of a step as the backend plays it back (Backend.replay): it runs once as it is, is
 * recorded the second time, and replayed from then on. */
typedef struct StepRecording {
    bool ran;
    void *recording;
} StepRecording;

typedef struct Stepper {
    StepSetup setup;
    Tape *tape;
    StepRecording passes; /* forward, loss and backward of a microbatch */
    StepRecording update; /* AdamW and the refresh of backend copies */
    int32_t *tokens, *positions, *kv_begin, *kv_end, *q_end; /* device [T] */
    int32_t *loss_rows, *targets;                            /* device [max_loss] */
    Tensor nll;          /* device [max_loss, 1] */
    StepState *state;    /* device */
    double *sum_squares; /* device: of the gradient */
    float *host_nll;     /* [max_loss] */
} Stepper;

/* What a step measured. Losses and the norm are of the values before the update. */
typedef struct StepStats {
    double loss;      /* token-weighted mean over the loss tokens of all its microbatches */
    double grad_norm; /* before clipping */
    int64_t tokens, loss_tokens;
    double mean_context; /* keys that a token sees, on average */
    int32_t bad_microbatch; /* the first whose loss is not finite, -1 when there is none */
} StepStats;

/* Puts model, parameters and inputs into the slabs. host: lives as long as the stepper; records:
 * the tape's own, nothing else may push to it. Parameters are undefined until step_load. */
void step_place(Stepper *stepper, const StepSetup *setup, StepSlabs *slabs, Arena *host,
                Arena *records);

void step_load(Stepper *stepper, const TrainVectors *vectors);
void step_store(Stepper *stepper, const TrainVectors *vectors);

/* The microbatches of step `step` (from 1), all prepared. False before anything was updated:
 * RUNTIME_TRAINING_DIVERGED when loss or gradient is not finite, RUNTIME_OUT_OF_MEMORY when the
 * device has none, RUNTIME_TRAINING_FAILED with the text of any other device error. poll, if
 * given, is called after each microbatch. */
typedef struct StepInput {
    const Microbatch *microbatches;
    int32_t n_microbatches;
    int64_t step;
    double lr;
    void (*poll)(void *context);
    void *poll_context;
} StepInput;
bool step_run(Stepper *stepper, const StepInput *input, StepStats *stats, Err *err);

#endif
