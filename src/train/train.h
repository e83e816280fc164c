/* train.h — one training run: memory plan, step loop, optimiser, schedule, checkpoints.
 *
 * Knows nothing of history, terminals or command lines: it is told everything in TrainOptions and
 * tells everything through events. Deterministic: the same options, data, binary and machine kind
 * give the same bits, also when the run was stopped at any checkpoint and resumed.
 */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include "data/pack.h"
#include "model/adapter.h"
#include "train/event.h"
#include "train/heat.h"

typedef enum Schedule {
    SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT, SCHEDULE_COUNT
} Schedule;
const char *schedule_name(Schedule schedule);
bool schedule_parse(const char *text, Schedule *schedule);
/* lr at optimiser step `step` (1 = first) as transformers' schedulers give it: linear warm-up from
 * 0 over `warmup` steps (step s of warm-up has lr*(s-1)/warmup), then to 0 at `steps`. */
double schedule_lr(Schedule schedule, double lr, int64_t step, int64_t warmup, int64_t steps);

typedef struct TrainOptions {
    const char *run_id;       /* 32 hex digits */
    const char *output;       /* folder; checkpoint-N and lora/ go here */
    bool output_held;         /* the caller has output_open'ed it for this run */
    const char *base_name;    /* base_model_name_or_path of the saved adapter */
    int64_t steps;            /* optimiser steps; 0: epochs decides */
    double epochs;
    int32_t batch_size;       /* sequences a microbatch; 0 = auto: largest that fits the plan */
    int32_t accumulation;     /* microbatches a step */
    int32_t max_seq_length;
    bool packing;
    bool curriculum;          /* easy examples first in each epoch */
    double lr, weight_decay, max_grad_norm;
    int64_t warmup_steps;
    Schedule schedule;
    uint64_t seed;
    int64_t save_steps;       /* checkpoint every N steps; 0 = only at the end and on a stop */
    SegmentMode segments;     /* at least this; more is chosen when it does not fit */
    WeightStorage weights;    /* likewise */
    uint64_t memory_limit;    /* bytes the process may use; 0 = what is available less a reserve */
    bool profile;             /* time every op */
    bool no_oom_recovery;     /* running out of memory ends the run */
    HeatLimits heat;          /* of a run on a GPU */
    int gpu_index;            /* the card that CUDA calls so */
    const float *start_values; /* [n_params] where a new run starts; NULL: the seed's values */
    float *end_values;        /* [n_params] filled with what the run ends in; NULL: not wanted */
    const char *resume_from;  /* a checkpoint-N folder, or NULL */
    const char *options_json; /* the caller's own, stored in the checkpoint; NULL = none */
    /* Writes the model whose weights are these values (full.h) as a new folder; asked for where all
     * weights are trained. */
    bool (*save_model)(void *context, const float *values, const char *folder, Err *err);
    void *save_context;
    EventSink *sink;
    void *sink_context;
    const volatile int *stop; /* non-zero: finish the step, save, end with RUN_INTERRUPTED */
} TrainOptions;

/* What the plan predicts, in bytes, before anything large is taken. */
typedef struct MemoryPlan {
    size_t weights, run, step; /* the three slabs: exact */
    size_t host;               /* pinned host memory beside a device's slabs: exact */
    size_t other;              /* on the host: process so far, mapped base weights; on a device: its
                                  context and workspace */
    int32_t batch_size;
    int32_t tokens;            /* T of a microbatch */
    SegmentMode segments;      /* no more than memory asks for */
    WeightStorage storage;     /* of packed weights on a device; likewise */
    int32_t n_segments;        /* of the model */
} MemoryPlan;

typedef struct TrainResult {
    RunStatus status;
    int64_t steps;
    double final_loss;   /* mean of the step losses, as the original reports */
    double last_loss;
    double seconds;      /* of this process */
    int64_t tokens;      /* trained on, those before a resume included */
    float *losses;       /* [n_losses] of every step since the first, in out */
    int64_t n_losses;
    MemoryPlan plan;
    size_t used_weights, used_run, used_step; /* real slab peaks: equal to the plan's */
    size_t device_used;  /* of the device, by everybody, after the last step; 0 without one */
    /* OUT/ADAPTER_FOLDER, or OUT/MODEL_FOLDER; NULL when no step was done or it failed. */
    const char *adapter_path;
    int gpu_max_temp;            /* hottest that was seen; 0 = never looked */
    double paused_seconds;       /* waited for the GPU to cool down */
    const char *checkpoint_path; /* last committed, or NULL */
    OpTime op_times[PASS_COUNT][OP_COUNT]; /* when profiled */
} TrainResult;

/* backend: where to run, already open. model: opened, not placed; adapter: made, not placed; both
 * are placed in memory of the run and no longer usable on the backend afterwards.
 * Tokenizer files are written beside the adapter by the caller. Resuming checks that everything
 * that decides numbers (data, adapter, base shapes, options) is what the checkpoint was made with:
 * STATE_CHECKPOINT_INVALID names the difference; batch_size 0 then means the checkpoint's. On
 * failure an event RUN_ENDED with the error has been sent and everything committed so far is kept;
 * result holds what was done until then. */
bool train_run(Model *model, Adapter *adapter, const Dataset *dataset, Backend *backend,
               const TrainOptions *options, Arena *out, TrainResult *result, Err *err);

/* When memory runs out the batch is made smaller (TRAIN_MAX_HALVINGS times in a run at most) and
 * accumulation larger by the same factor, and the step is done again: same data in the same order.
 * RUNTIME_OOM_RECOVERY_EXHAUSTED when that does not help, RUNTIME_GPU_OOM when it is not wanted. */
enum { TRAIN_MAX_HALVINGS = 3 };
/* The batch after one halving: the largest divisor that is at most half, so that a step holds the
 * same sequences; 0 when there is none. */
int32_t train_halved(int32_t batch_size);

/* The memory plan alone (same code on the plan backend). batch_size 0 in options: the largest of
 * 8, 4, 2, 1 that fits with the segments asked for, else at the next stage (tape.h; recomputing: 1
 * alone), and then with as few segments there as fit. Packed weights on a device are made wide once
 * where all but remaking can be spared then, else at every use, which costs less than recomputing.
 * On a device the limit is its free memory less a reserve of 256 MiB. RUNTIME_OUT_OF_MEMORY with
 * the bytes of each part when nothing fits. */
bool train_plan(Model *model, Adapter *adapter, const Dataset *dataset, Backend *backend,
                const TrainOptions *options, MemoryPlan *plan, Err *err);

#endif
