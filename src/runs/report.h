/* report.h — views of history entries (runs/history.h) for people and scripts: a short form of each
 * run, and what two runs differ in. Reads entries of any writer; owns nothing.
 */
#ifndef RUNS_REPORT_H
#define RUNS_REPORT_H

#include "core/json.h"

/* Of each entry: run_id, status, session_kind, model, dataset, duration_seconds, started_at,
 * completed_at, checkpoint_path, loss {final, min}. An entry without a duration gets the time from
 * start to end. A new array, in the order of `runs`. */
Json *report_runs(const Json *runs);

/* {run_a {run_id, started_at}, run_b, rows [{field, run_a, run_b, changed}], changed_count}: the
 * comparable fields and "hp.<name>" of every hyperparameter that either has, sorted by name. */
Json *report_difference(const Json *a, const Json *b);

#endif
