/* multi.h — a session: several runs one after the other on one model, whose adapters are merged
 * into one (slao.h), with the loss of every task measured after each. It can be stopped or killed
 * at any moment and goes on to the same bits. Knows no history and no terminal.
 *
 *   OUT/run_001/          a run as train.h leaves it: lora/, checkpoint-N/; run_id
 *   OUT/run_001/slao/     the session after that run (multi_state.c)
 *   OUT/lora/             the merged adapter, at the end
 *   OUT/losses-<id>.svg   the matrix of runs and tasks (multi_report.c)
 */
#ifndef RUNS_MULTI_H
#define RUNS_MULTI_H

#include "runs/multi_data.h"
#include "runs/slao.h"
#include "train/train.h"

typedef enum LrDecay { DECAY_LINEAR, DECAY_COSINE, DECAY_CONSTANT, DECAY_COUNT } LrDecay;
bool decay_parse(const char *text, LrDecay *decay);
/* Learning rate of run 1..runs, from `first` in the first to `last` in the last. */
double decay_lr(LrDecay decay, double first, double last, int64_t run, int64_t runs);

typedef struct MultiRun MultiRun;

typedef struct MultiOptions {
    TrainOptions train; /* of every run; lr: of the first; output: of the session, and held */
    MultiPlan plan;
    MergeOptions merge;
    double final_lr; /* of the last run */
    LrDecay decay;
    int64_t validation_samples; /* held-out examples scored of every task; 0 = none */
    bool early_stopping;        /* when the held-out loss got no better by more than threshold */
    int64_t patience;           /* this many runs in a row */
    double threshold;
    bool drift_gate; /* a run is not merged whose B points elsewhere: */
    double drift_threshold; /* cosine below this */
    bool eval_gate; /* nor one that makes the held-out loss worse by more than max_regression */
    double max_regression;
    void (*phase)(void *context, const char *text); /* told what begins; may be NULL */
    /* Told of every run that is done; its adapter lies in `folder`. May be NULL. */
    void (*run_done)(void *context, const MultiRun *run, const char *folder);
    void *listener;
} MultiOptions;

struct MultiRun {
    int64_t run, task;   /* from 1; from 0 */
    bool failed, merged; /* failed: it diverged and nothing of it is kept */
    const char *reason;  /* why it failed or was not merged, or NULL */
    int64_t steps, tokens, examples, replayed;
    double lr, final_loss, seconds;
    double validation;   /* held-out loss of the merged adapter, mean of the tasks; NAN: none */
    double *losses;      /* [n_tasks] the same of each task */
    MergeReport merge;
};

typedef struct MultiResult {
    RunStatus status;
    MultiRun *runs; /* [n_runs] */
    int64_t n_runs, n_failed;
    double *before; /* [n_tasks] losses of the base model; NAN: not measured */
    int64_t n_tasks;
    bool stopped_early;
    int32_t batch_size;
    float *losses; /* [n_losses] of every step of the runs that did not fail */
    int64_t n_losses;
    int64_t steps, tokens;
    double final_loss, seconds; /* of the last good run; seconds of this process */
    int gpu_max_temp;
    const char *adapter_path;   /* OUT/lora when the session is complete */
    const char *checkpoint_path; /* folder of the last run */
    MemoryPlan plan;
} MultiResult;

/* Whether options agree with each other and the data: CONFIG_INVALID or CONFIG_INVALID_SETTING. */
bool multi_check(const MultiOptions *options, Err *err);

/* Everything as for train_run; options->train.run_id names the session. Goes on by itself when the
 * output folder holds runs of that id. A run that diverges is recorded and skipped; every other
 * error ends the session and can be resumed. RUNTIME_TRAINING_DIVERGED when no run was good. */
bool multi_run(Model *model, Adapter *adapter, const Dataset *dataset, Backend *backend,
               const MultiOptions *options, Arena *out, MultiResult *result, Err *err);

#endif
