/* multi_data.h — which examples each run of a session learns from. A task is a data file; the files
 * come one after the other, and the runs of a file share out its examples. Everything follows from
 * the options and the data alone, so a resumed session sees the same. Owns nothing.
 */
#ifndef RUNS_MULTI_DATA_H
#define RUNS_MULTI_DATA_H

#include "data/dataset.h"

typedef enum ReplayStrategy {
    REPLAY_RECENT,       /* from what was new in the run before */
    REPLAY_RANDOM,       /* from everything so far */
    REPLAY_ALL_PREVIOUS, /* the same number from every earlier run */
    REPLAY_COUNT
} ReplayStrategy;
bool replay_parse(const char *text, ReplayStrategy *strategy);

typedef struct MultiTask {
    const char *name;
    const Example *examples; /* to train on, in the order of the file */
    int64_t n_examples;
    const Example *held_out; /* the last of the file */
    int64_t n_held_out;
} MultiTask;

typedef struct MultiPlan {
    const MultiTask *tasks;
    int64_t n_tasks, runs; /* runs >= n_tasks */
    int64_t samples;       /* of a run, those of earlier runs included; 0: a file is shared out */
    double replay_fraction; /* of a run's examples, from the second run on; 0..0.5 */
    ReplayStrategy replay;
    uint64_t seed;
} MultiPlan;

/* One task a file. hold_out: the last tenth of every file's rows, one at least, is kept back.
 * CONFIG_INVALID when a file has nothing to train on then. */
typedef enum HoldOut { HOLD_OUT_NONE, HOLD_OUT_TENTH } HoldOut;
bool multi_tasks(const Dataset *dataset, const DataFile *files, size_t n_files, HoldOut hold_out,
                 MultiTask *tasks, Arena *out, Err *err);
/* More samples than a file has: CONFIG_INVALID. */
bool multi_plan_check(const MultiPlan *plan, Err *err);

/* Index of the task of run 1..runs. */
int64_t multi_task_of(const MultiPlan *plan, int64_t run);

typedef struct MultiShare {
    const Example *examples; /* new ones first, then those of earlier runs */
    int64_t n, n_replayed;
} MultiShare;
MultiShare multi_share(const MultiPlan *plan, int64_t run, Arena *out);

#endif
