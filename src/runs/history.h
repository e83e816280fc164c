/* history.h — run_history.json: one array a folder, one entry a run (schema 1.0, spec at the
 * head of
 * history.c). Written atomically under an advisory lock; unknown fields of other writers are kept.
 */
#ifndef RUNS_HISTORY_H
#define RUNS_HISTORY_H

#include "core/json.h"
#include "train/event.h"

typedef enum SessionKind { SESSION_SINGLE, SESSION_MULTI, SESSION_KIND_COUNT } SessionKind;
const char *session_kind_name(SessionKind kind); /* "single_run", "multi_run" */
/* The kind that an entry says; single when it says none. */
SessionKind session_kind_of(const Json *entry);

typedef struct HistoryStart {
    SessionKind kind;
    const char *run_id, *model, *dataset, *dataset_sha256;
    Json *hyperparameters; /* taken over */
    Json *options;         /* every option that decides the run; taken over; may be NULL */
} HistoryStart;

/* Adds the entry (status running), or on resume sets the existing one to running again. */
bool history_started(const char *output, const HistoryStart *start, Err *err);
typedef struct HistoryEnd {
    const char *run_id;
    RunStatus status;
    int64_t steps;
    double final_loss, duration_seconds;
    const float *losses; /* of every step; at most 100 points are kept, first and last included */
    int64_t n_losses;
    int gpu_max_temp; /* 0 = null */
    const char *checkpoint_path, *failure_reason; /* NULL = null */
    Json *merge_history; /* of a session, one object a run; taken over; NULL = as it was */
} HistoryEnd;
bool history_ended(const char *output, const HistoryEnd *end, Err *err);

/* A folder of that run has moved: an entry that points to it follows. No entry is no error. */
bool history_moved(const char *output, const char *run_id, const char *from, const char *to,
                   Err *err);

/* The whole array (newest first), filtered by status ("running"…, NULL = all) and limit (0 = all);
 * an absent file gives an empty array. Owned by the caller. */
Json *history_list(const char *output, const char *status, int64_t limit, Err *err);
/* Exact id or unique prefix; INPUT_RESUME_NOT_FOUND names the id and, when ambiguous, the matches.
 * A copy owned by the caller. */
Json *history_find(const char *output, const char *id, Err *err);

#endif
