/* multi_state.h — a session between two runs, as a folder OUT/run_NNN/slao that is written whole or
 * not at all: everything that the next run needs. Format at the head of multi_state.c.
 */
#ifndef RUNS_MULTI_STATE_H
#define RUNS_MULTI_STATE_H

#include "runs/multi.h"

typedef struct MultiState {
    const char *run_id;
    Json *numbers;        /* what decides the session's numbers; owned by the caller */
    MultiRun *runs;       /* [n_runs] done so far; room for all */
    int64_t n_runs, n_tasks;
    double *before;       /* [n_tasks] */
    int32_t batch_size;   /* of every run: 0 until the first has decided */
    bool has_tuned;       /* a run was good: the vectors hold something */
    float *tuned, *merged; /* [n_params] of the last good run; of all */
    int64_t n_params;
    float *losses;        /* [n_losses] steps so far */
    int64_t n_losses;
} MultiState;

/* A run as a JSON object, NULL-safe for readers of other versions. */
Json *multi_run_json(const MultiRun *run, int64_t n_tasks);

bool multi_state_save(const char *output, const MultiState *state, Arena *scratch, Err *err);
/* Reads the state after a run, if there is one, and compares its checksum. */
bool multi_state_check(const char *run_folder, Arena *scratch, Err *err);
/* The newest usable state of that session under output: true and *found. What is damaged or of
 * another session is skipped with a log line; of this session but with other numbers is
 * STATE_CHECKPOINT_INVALID. state: run_id, numbers, n_tasks, n_params and the vectors are the
 * caller's; losses come from out. */
bool multi_state_load(const char *output, int64_t runs, MultiState *state, bool *found, Arena *out,
                      Err *err);

#endif
