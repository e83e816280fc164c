/* check.h — whether everything that a run left can be trusted: its line of the history, every
 * checkpoint, every session state, the adapter, the data it learnt from. Reads only.
 */
#ifndef RUNS_CHECK_H
#define RUNS_CHECK_H

#include "core/arena.h"
#include "core/json.h"

/* [{what, path, ok, reason}] of one history entry of `output`, the owner is the caller. *bad counts
 * what is not ok. */
Json *check_run(const char *output, const Json *entry, int64_t *bad, Arena *scratch);

#endif
