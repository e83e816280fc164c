/* multi_report.h — what a session learnt and what it forgot: the losses of every task after every
 * run, as JSON and as a picture. Owns nothing.
 */
#ifndef RUNS_MULTI_REPORT_H
#define RUNS_MULTI_REPORT_H

#include "runs/multi.h"

/* {tasks [{name, learnt, forgotten}], rows [{run, task, losses}]}; row 0 is the base model.
 * learnt: how much lower the loss is after the task's last run than before its first. forgotten:
 * how much higher it is at the end than it was then. null where nothing was measured. */
Json *multi_report_json(const MultiOptions *options, const MultiResult *result);
/* The last column of history entries: one object a run. */
Json *multi_history_json(const MultiResult *result);
/* OUT/losses-<12 digits>.svg; nothing when no task was scored. */
bool multi_report_svg(const MultiOptions *options, const MultiResult *result, Arena *scratch,
                      Err *err);

#endif
