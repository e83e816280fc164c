/* run_options.h — the options that decide a run's numbers: stored with it, taken from it again when
 * it is resumed or replayed. Private to api/; owns the list of these options.
 */
#ifndef API_RUN_OPTIONS_H
#define API_RUN_OPTIONS_H

#include "api/handle.h"

/* {option name: text}, every option of the list as it now stands. */
Json *run_options_json(const bp_trainer *t);

/* The same of a history entry: its "options", or what its "hyperparameters", "model_name" and
 * "dataset_info" say when another program wrote it. A new object, empty when nothing is known. */
Json *run_options_of(const Json *entry);

/* The word that stands for a run id: the newest run of the folder that can go on. */
#define RESUME_AUTO "auto"
/* The history's entry of the run that `id` names, owned by the caller. */
Json *resume_entry(bp_trainer *t, const char *output, const char *id);

/* Takes what the caller did not give from `stored`. An option that was given with another value is
 * CONFIG_INVALID, because the result would be neither the old run nor a new one; another data file
 * or device may be given. */
bool run_options_restore(bp_trainer *t, const Json *stored);

/* Sets one option by the name that histories use ("learning_rate"), for a replay. CONFIG_INVALID
 * lists the names. */
bool run_options_override(bp_trainer *t, Str name, const char *value);

#endif
