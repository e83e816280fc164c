/* checkpoint.h — a folder `checkpoint-N/`: the PEFT files and state.safetensors (f32 masters,
 * moments; JSON metadata: schema, step, data cursor, options, traits, library versions). The
 * rename of the folder commits it. Format at the head of checkpoint.c.
 */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "data/pack.h"
#include "model/adapter.h"

enum { CHECKPOINT_SCHEMA = 1 };

typedef struct CheckpointState {
    int64_t step;        /* optimiser steps done */
    DataCursor cursor;   /* next microbatch */
    double loss_sum;     /* sum of step losses so far, for the mean */
    int64_t tokens;
    const char *run_id;
    const char *options_json;
    const char *dataset_sha256;
    const float *losses; /* [step] loss of every step so far */
} CheckpointState;

/* values, m, v: host [adapter->n_params]. Writes output/checkpoint-<step> atomically. */
bool checkpoint_save(const char *output, const Adapter *adapter, const Model *model,
                     const char *base_name, const CheckpointState *state, const float *values,
                     const float *m, const float *v, Arena *scratch, Err *err);
/* Reads and checks: schema, adapter shape, sizes. values, m, v are filled. STATE_CHECKPOINT_INVALID
 * names the folder and what is wrong. Strings and losses live in out. */
bool checkpoint_load(const char *folder, const Adapter *adapter, CheckpointState *state,
                     float *values, float *m, float *v, Arena *out, Err *err);
/* Highest-numbered usable checkpoint folder of that run under output (torn ones, and those of other
 * runs, are skipped with a log line); NULL when there is none. run_id NULL: of any run. */
const char *checkpoint_latest(const char *output, const char *run_id, Arena *out);

#endif
