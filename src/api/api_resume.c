/* api_resume.c — which run is to go on, and going on with it. Owns nothing; the run itself goes the
 * way of every run (api_train.c), which takes its options from the history and its state from its
 * newest checkpoint.
 */
#include "api/run_options.h"

#include <string.h>

#include "core/log.h"
#include "runs/history.h"
#include "train/checkpoint.h"
#include "train/output.h"

/* Not completed, and with a checkpoint to go on from. */
static bool can_go_on(const Json *entry, const char *output, Arena *arena)
{
    const char *run_id = json_text(json_get(entry, "run_id"));
    const char *status = json_text(json_get(entry, "status"));
    if (run_id == NULL || status == NULL || strcmp(status, "completed") == 0)
        return false;
    const char *aside = output_aside(output, run_id, arena);
    return session_kind_of(entry) == SESSION_MULTI || /* finds what is there by itself */
           checkpoint_latest(output, run_id, arena) != NULL ||
           checkpoint_latest(aside, run_id, arena) != NULL;
}

static Json *newest_unfinished(bp_trainer *t, const char *output)
{
    Json *runs = history_list(output, NULL, 0, &t->err);
    Json *found = NULL;
    for (size_t i = 0; found == NULL && i < json_len(runs); i++) {
        if (can_go_on(json_at(runs, i), output, &t->arena))
            found = json_clone(json_at(runs, i));
    }
    json_free(runs);
    if (found == NULL && !err_is_set(&t->err)) {
        err_set(&t->err, ERR_INPUT_RESUME_NOT_FOUND, "no run in '%s' is unfinished", output);
        err_hint(&t->err, "Run `backprop runs -o %s` to see what is there, or pass another "
                          "--output", output);
    }
    return found;
}

Json *resume_entry(bp_trainer *t, const char *output, const char *id)
{
    assert(output != NULL && id != NULL);
    if (strcmp(id, RESUME_AUTO) != 0)
        return history_find(output, id, &t->err);
    Json *entry = newest_unfinished(t, output);
    if (entry != NULL)
        log_info("resume_found", "run_id=%s", json_text(json_get(entry, "run_id")));
    return entry;
}

bool bp_resume(bp_trainer *t, const char *run_id)
{
    if (!handle_ok(t))
        return false;
    const char *output = settings_text(&t->settings, OPTION_OUTPUT);
    assert(output != NULL);
    const char *id = run_id != NULL ? run_id : RESUME_AUTO;
    Json *entry = resume_entry(t, output, id);
    if (entry == NULL)
        return handle_fail(t);
    const char *status = json_text(json_get(entry, "status"));
    if (status != NULL && strcmp(status, "completed") == 0)
        handle_phase(t, "This run is complete already; its adapter is written again");
    const char *whole = json_text(json_get(entry, "run_id"));
    const bool ok = settings_set(&t->settings, OPTION_RESUME, whole != NULL ? whole : id,
                                 FROM_CALLER, &t->err);
    const SessionKind kind = session_kind_of(entry);
    json_free(entry);
    if (!ok)
        return handle_fail(t);
    return kind == SESSION_MULTI ? bp_multi_run(t, NULL) : bp_train(t, NULL, NULL);
}
