/* api_runs.c — what the runs of an output folder did, as JSON: entries as they are, in short, and
 * two against each other. Nothing here opens a model.
 */
#include "api/handle.h"

#include "core/os.h"
#include "runs/check.h"
#include "runs/history.h"
#include "runs/report.h"

static const char *output_of(const bp_trainer *t)
{
    return settings_text(&t->settings, OPTION_OUTPUT);
}

static Json *list(bp_trainer *t, const char *status, int64_t limit)
{
    Json *runs = history_list(output_of(t), status != NULL && *status != '\0' ? status : NULL,
                              limit, &t->err);
    if (runs == NULL)
        handle_fail(t);
    return runs;
}

static Json *find(bp_trainer *t, const char *run_id)
{
    Json *run = history_find(output_of(t), run_id != NULL ? run_id : "", &t->err);
    if (run == NULL)
        handle_fail(t);
    return run;
}

/* {schema_version, output_dir, runs}; takes runs over. */
static Json *with_folder(const bp_trainer *t, Json *runs)
{
    assert(json_is_array(runs));
    Json *json = json_new_object();
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "output_dir", json_new_text(output_of(t)));
    json_put(json, "runs", runs);
    return json;
}

const char *bp_runs_json(bp_trainer *t, const char *status, int64_t limit)
{
    Json *runs = handle_ok(t) ? list(t, status, limit) : NULL;
    return runs != NULL ? handle_json(t, with_folder(t, runs)) : NULL;
}

const char *bp_runs_report_json(bp_trainer *t, const char *status, int64_t limit)
{
    Json *runs = handle_ok(t) ? list(t, status, limit) : NULL;
    if (runs == NULL)
        return NULL;
    Json *json = with_folder(t, report_runs(runs));
    char now[32];
    os_time_iso_utc(now);
    json_put(json, "generated_at", json_new_text(now));
    json_free(runs);
    return handle_json(t, json);
}

const char *bp_run_json(bp_trainer *t, const char *run_id)
{
    Json *run = handle_ok(t) ? find(t, run_id) : NULL;
    if (run == NULL)
        return NULL;
    assert(json_is_object(run));
    json_put(run, "schema_version", json_new_text("1"));
    return handle_json(t, run);
}

const char *bp_diff_runs_json(bp_trainer *t, const char *run_a, const char *run_b)
{
    Json *a = handle_ok(t) ? find(t, run_a) : NULL;
    Json *b = a != NULL ? find(t, run_b) : NULL;
    Json *difference = b != NULL ? report_difference(a, b) : NULL;
    json_free(a);
    json_free(b);
    if (difference == NULL)
        return NULL;
    json_put(difference, "schema_version", json_new_text("1"));
    return handle_json(t, difference);
}

/* {run_id, bad, checks} of one entry. */
static Json *checked(bp_trainer *t, const Json *entry, int64_t *all_bad)
{
    int64_t bad = 0;
    assert(json_is_object(entry) && *all_bad >= 0);
    const size_t mark = arena_mark(&t->arena);
    Json *json = json_new_object();
    json_put(json, "run_id", json_clone(json_get(entry, "run_id")));
    json_put(json, "checks", check_run(output_of(t), entry, &bad, &t->arena));
    json_put(json, "bad", json_new_int(bad));
    arena_rewind(&t->arena, mark);
    *all_bad += bad;
    return json;
}

const char *bp_check_json(bp_trainer *t, const char *run_id)
{
    Json *entries = NULL;
    if (handle_ok(t) && run_id == NULL) {
        entries = list(t, NULL, 0);
    } else if (handle_ok(t)) {
        Json *one = find(t, run_id);
        entries = one != NULL ? json_new_array() : NULL;
        if (one != NULL)
            json_add(entries, one);
    }
    if (entries == NULL)
        return NULL;
    Json *runs = json_new_array();
    int64_t bad = 0;
    for (size_t i = 0; i < json_len(entries); i++) {
        if (json_text(json_get(json_at(entries, i), "run_id")) != NULL)
            json_add(runs, checked(t, json_at(entries, i), &bad));
    }
    json_free(entries);
    Json *json = with_folder(t, runs);
    json_put(json, "bad", json_new_int(bad));
    return handle_json(t, json);
}
