/* checkpoint.h — a folder `checkpoint-N`: the PEFT files of the adapter as it was after step N
 * (none where all weights are trained), and state.safetensors with everything that going on needs
 * (f32 masters, moments, losses; JSON metadata: step, data cursor, what decides numbers, machine,
 * version). The rename of the folder commits it. Format at the head of checkpoint.c.
 */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "core/json.h"
#include "data/pack.h"
#include "model/adapter.h"

enum { CHECKPOINT_SCHEMA = 1, CHECKPOINT_MAX_HALVINGS = 16 };

/* Parameters and moments as host vectors [adapter->n_params]. */
typedef struct TrainVectors {
    float *values, *m, *v;
} TrainVectors;

typedef struct CheckpointState {
    int64_t step;             /* optimiser steps done, > 0 */
    DataCursor cursor;        /* next microbatch */
    double loss_sum;          /* sum of step losses so far, for the mean */
    int64_t tokens;           /* trained on so far */
    int32_t halvings;         /* how often memory ran out and the batch was made smaller */
    const char *run_id;
    const char *options_json; /* the caller's own text, or NULL */
    Json *numbers;            /* flat object of scalars: what decides the run's numbers (resume.c);
                                 owned by whoever made it: free a loaded one with json_free */
    const float *losses;      /* [step] loss of every step so far */
} CheckpointState;

/* What a checkpoint belongs to. */
typedef struct CheckpointOwner {
    const Model *model;
    const Adapter *adapter;
    const Backend *backend; /* recorded, and compared with a warning; may be NULL */
    const char *base_name;  /* for the PEFT files */
} CheckpointOwner;

/* "output/checkpoint-<step>" */
const char *checkpoint_path(const char *output, int64_t step, Arena *out);
/* N of a folder's name "checkpoint-N", -1 for any other name. */
int64_t checkpoint_number(const char *name);
/* The run that wrote a checkpoint folder, by its metadata alone; NULL when it cannot be read. */
const char *checkpoint_run_id(const char *folder, Arena *out);
/* What a killed process left of checkpoints under output: an old folder is put back, a half-written
 * one removed. Called once when a run opens its output. */
void checkpoint_recover(const char *output, Arena *scratch);
/* Writes that folder whole or not at all. */
bool checkpoint_save(const char *output, const CheckpointOwner *owner, const CheckpointState *state,
                     const TrainVectors *vectors, Arena *scratch, Err *err);
/* Reads and checks: schema, sizes, checksum, shapes of adapter and base. vectors are filled.
 * STATE_CHECKPOINT_INVALID names the folder and what is wrong. Strings and losses live in out. */
bool checkpoint_load(const char *folder, const CheckpointOwner *owner, CheckpointState *state,
                     const TrainVectors *vectors, Arena *out, Err *err);
/* Whether every member of `mine` has the same value in `stored`; STATE_CHECKPOINT_INVALID names the
 * first that has not, with both values. what: words before its name, "" or "adapter ". */
bool checkpoint_compare(const char *folder, const char *what, const Json *stored, const Json *mine,
                        Err *err);
/* Reads a whole checkpoint and compares its checksum: nothing else is needed to trust it. */
bool checkpoint_check(const char *folder, Arena *scratch, Err *err);
/* Highest-numbered usable checkpoint folder of that run under output (torn ones, and those of other
 * runs, are skipped with a log line); NULL when there is none. run_id NULL: of any run. */
const char *checkpoint_latest(const char *output, const char *run_id, Arena *out);

#endif
