/* history.c — run_history.json of an output folder: what ran there, with what, and how it ended.
 *
 * The file is a JSON array, indent 2, one object a run in the order of their start:
 *   run_id            32 hex digits
 *   status            running | completed | failed
 *   session_kind      single_run | multi_run
 *   timestamp, started_at, completed_at   local ISO time without zone; completed_at null until then
 *   model_name, dataset_info              as the user gave them
 *   dataset_hash      first 16 hex digits of the file's SHA-256, or null
 *   hyperparameters   object;  options: object of every option that decides the run
 *   steps, final_loss, duration_seconds   null while running; duration adds up over resumes
 *   loss_history      at most 100 points, evenly spread, the first and the last step among them
 *   gpu_max_temp, checkpoint_path, failure_reason   or null
 *   merge_history, export_paths           arrays
 *   schema_version    "1.0"
 *
 * An interrupted run is "failed" with failure_reason "interrupted" and its checkpoint_path: readers
 * that know only the three statuses stay right, and it can be resumed. A killed process leaves
 * "running"; its checkpoints are found by run id.
 *
 * Other programs write this file too: members and entries that we do not know are kept. A file that
 * cannot be read as such an array is an error and is never overwritten. Writers hold an advisory
 * lock on run_history.json.lock from reading to renaming; readers need none.
 */
#include "runs/history.h"

#include "core/file.h"
#include "core/log.h"
#include "core/os.h"
#include "runs/locked_json.h"

#include <stdlib.h>
#include <string.h>

enum { HISTORY_LOSSES = 100, HASH_DIGITS = 16, TIME_TEXT = 32, SHOWN_MATCHES = 5 };
static const char *const schema_version = "1.0";

static const char *const file_name = "run_history.json";

static bool history_open(LockedJson *history, const char *output, Err *err)
{
    return locked_json_open(history, output, file_name, JSON_KIND_ARRAY, err);
}

static Json *find_run(const Json *runs, const char *run_id)
{
    for (size_t i = 0; i < json_len(runs); i++) {
        Json *run = json_at(runs, i);
        const char *id = json_text(json_get(run, "run_id"));
        if (id != NULL && strcmp(id, run_id) == 0)
            return run;
    }
    return NULL;
}

static Json *now(void)
{
    char text[TIME_TEXT];
    os_time_iso(text);
    return json_new_text(text);
}

static const char *const kind_names[SESSION_KIND_COUNT] = {"single_run", "multi_run"};

const char *session_kind_name(SessionKind kind)
{
    must((int)kind >= 0 && kind < SESSION_KIND_COUNT);
    return kind_names[kind];
}

SessionKind session_kind_of(const Json *entry)
{
    const char *name = json_text(json_get(entry, "session_kind"));
    return name != NULL && strcmp(name, kind_names[SESSION_MULTI]) == 0 ? SESSION_MULTI
                                                                        : SESSION_SINGLE;
}

/* A new entry with every member of the schema, running; appended to the array. */
static Json *add_run(Json *runs, const char *run_id)
{
    static const char *const nulls[] = {
        "model_name", "dataset_info", "dataset_hash", "hyperparameters", "steps", "final_loss",
        "loss_history", "duration_seconds", "gpu_max_temp", "checkpoint_path", "failure_reason"};
    Json *run = json_new_object();
    json_put(run, "run_id", json_new_text(run_id));
    json_put(run, "status", json_new_text("running"));
    json_put(run, "session_kind", json_new_text("single_run"));
    json_put(run, "timestamp", now());
    json_put(run, "started_at", json_clone(json_get(run, "timestamp")));
    json_put(run, "completed_at", json_new_null());
    for (size_t i = 0; i < COUNT_OF(nulls); i++)
        json_put(run, nulls[i], json_new_null());
    json_put(run, "hyperparameters", json_new_object());
    json_put(run, "loss_history", json_new_array());
    json_put(run, "merge_history", json_new_array());
    json_put(run, "export_paths", json_new_array());
    json_put(run, "schema_version", json_new_text(schema_version));
    json_add(runs, run);
    return run;
}

static Json *short_hash(const char *sha256)
{
    if (sha256 == NULL || sha256[0] == '\0')
        return json_new_null();
    Str hash = str_of(sha256);
    return json_new_str(str_sub(hash, 0, HASH_DIGITS));
}

bool history_started(const char *output, const HistoryStart *start, Err *err)
{
    must(start->run_id != NULL);
    LockedJson history;
    if (!history_open(&history, output, err)) {
        json_free(start->hyperparameters);
        json_free(start->options);
        return false;
    }
    Json *run = find_run(history.json, start->run_id);
    if (run == NULL)
        run = add_run(history.json, start->run_id);
    json_put(run, "status", json_new_text("running"));
    json_put(run, "session_kind", json_new_text(session_kind_name(start->kind)));
    json_put(run, "completed_at", json_new_null());
    json_put(run, "failure_reason", json_new_null());
    json_put(run, "model_name", json_new_text(start->model));
    json_put(run, "dataset_info", json_new_text(start->dataset));
    json_put(run, "dataset_hash", short_hash(start->dataset_sha256));
    if (start->hyperparameters != NULL)
        json_put(run, "hyperparameters", start->hyperparameters);
    if (start->options != NULL)
        json_put(run, "options", start->options);
    const bool ok = locked_json_save(&history, err);
    locked_json_close(&history);
    return ok;
}

static Json *loss_points(const float *losses, int64_t n)
{
    Json *points = json_new_array();
    const int64_t kept = min_i64(n, HISTORY_LOSSES);
    for (int64_t k = 0; k < kept; k++) {
        const int64_t i = kept < 2 ? 0 : (k * (n - 1) + (kept - 1) / 2) / (kept - 1);
        assert(i >= 0 && i < n);
        json_add(points, json_new_double((double)losses[i]));
    }
    return points;
}

/* What a run measured; a resume that failed before its first step has nothing to say here. */
static void put_progress(Json *run, const HistoryEnd *end)
{
    if (end->n_losses == 0 && json_is_number(json_get(run, "steps")))
        return;
    json_put(run, "steps", json_new_int(end->steps));
    json_put(run, "final_loss",
             end->n_losses > 0 ? json_new_double(end->final_loss) : json_new_null());
    json_put(run, "loss_history", loss_points(end->losses, end->n_losses));
}

bool history_ended(const char *output, const HistoryEnd *end, Err *err)
{
    must(end->run_id != NULL && (end->losses != NULL || end->n_losses == 0));
    LockedJson history;
    if (!history_open(&history, output, err)) {
        json_free(end->merge_history);
        return false;
    }
    Json *run = find_run(history.json, end->run_id);
    if (run == NULL)
        run = add_run(history.json, end->run_id);
    const char *reason = end->failure_reason;
    if (reason == NULL && end->status == RUN_INTERRUPTED)
        reason = "interrupted";
    json_put(run, "status", json_new_text(end->status == RUN_COMPLETED ? "completed" : "failed"));
    json_put(run, "failure_reason", json_new_text(reason));
    json_put(run, "completed_at", now());
    const double before = json_double(json_get(run, "duration_seconds"), 0);
    json_put(run, "duration_seconds", json_new_double(before + end->duration_seconds));
    put_progress(run, end);
    if (end->gpu_max_temp > json_int(json_get(run, "gpu_max_temp"), 0))
        json_put(run, "gpu_max_temp", json_new_int(end->gpu_max_temp));
    if (end->merge_history != NULL)
        json_put(run, "merge_history", end->merge_history);
    if (end->checkpoint_path != NULL) /* else an earlier one stays good for a resume */
        json_put(run, "checkpoint_path", json_new_text(end->checkpoint_path));
    const bool ok = locked_json_save(&history, err);
    locked_json_close(&history);
    return ok;
}

bool history_moved(const char *output, const char *run_id, const char *from, const char *to,
                   Err *err)
{
    must(run_id != NULL && from != NULL && to != NULL);
    LockedJson history;
    if (!history_open(&history, output, err))
        return false;
    Json *run = find_run(history.json, run_id);
    const char *path = json_text(json_get(run, "checkpoint_path"));
    bool ok = true;
    if (path != NULL && strcmp(path, from) == 0) {
        json_put(run, "checkpoint_path", json_new_text(to));
        ok = locked_json_save(&history, err);
    }
    locked_json_close(&history);
    return ok;
}

/* ---- reading ---------------------------------------------------------------------------- */

static Json *load_folder(const char *output, Err *err)
{
    Arena arena;
    if (!arena_open(&arena, (size_t)1 << 20, err))
        return NULL;
    Json *runs = locked_json_read(path_join(&arena, output, file_name), JSON_KIND_ARRAY, err);
    arena_close(&arena);
    return runs;
}

typedef struct Listed {
    const char *time; /* started_at, else timestamp, else "" */
    size_t place;     /* in the file: breaks ties */
} Listed;

static int newest_first(const void *a, const void *b)
{
    const Listed *x = a, *y = b;
    const int order = strcmp(y->time, x->time);
    return order != 0 ? order : (y->place > x->place) - (y->place < x->place);
}

static const char *start_time(const Json *run)
{
    const char *text = json_text(json_get(run, "started_at"));
    if (text == NULL)
        text = json_text(json_get(run, "timestamp"));
    return text != NULL ? text : "";
}

static bool check_status(const char *status, Err *err)
{
    static const char *const known[] = {"running", "completed", "failed"};
    for (size_t i = 0; status != NULL && i < COUNT_OF(known); i++) {
        if (strcmp(status, known[i]) == 0)
            return true;
    }
    return status == NULL ||
           err_set(err, ERR_INPUT_VALIDATION_FAILED,
                   "'%s' is not a status; use running, completed or failed", status);
}

/* One warning a call for entries of a newer or older writer; they are shown all the same. */
static void warn_schema(const Json *runs)
{
    for (size_t i = 0; i < json_len(runs); i++) {
        const char *version = json_text(json_get(json_at(runs, i), "schema_version"));
        if (version != NULL && strcmp(version, schema_version) != 0) {
            log_warn("history_schema", "found=\"%s\" known=%s", version, schema_version);
            return;
        }
    }
}

Json *history_list(const char *output, const char *status, int64_t limit, Err *err)
{
    if (!check_status(status, err))
        return NULL;
    Json *runs = load_folder(output, err);
    if (runs == NULL)
        return NULL;
    warn_schema(runs);
    size_t n = 0;
    Listed *listed = heap_resize(NULL, json_len(runs) * sizeof *listed);
    for (size_t i = 0; i < json_len(runs); i++) {
        const Json *run = json_at(runs, i);
        const char *its = json_text(json_get(run, "status"));
        const bool wanted = status == NULL || (its != NULL && strcmp(its, status) == 0);
        if (json_is_object(run) && wanted)
            listed[n++] = (Listed){start_time(run), i};
    }
    if (n > 0)
        qsort(listed, n, sizeof *listed, newest_first);
    Json *result = json_new_array();
    for (size_t i = 0; i < n && (limit <= 0 || (int64_t)i < limit); i++)
        json_add(result, json_clone(json_at(runs, listed[i].place)));
    heap_free(listed);
    json_free(runs);
    return result;
}

/* The only entry whose id starts so; NULL, with up to SHOWN_MATCHES ids in `matches`. */
static Json *find_prefix(const Json *runs, const char *prefix, size_t *count, Buf *matches)
{
    Json *found = NULL;
    *count = 0;
    for (size_t i = 0; prefix[0] != '\0' && i < json_len(runs); i++) {
        Json *run = json_at(runs, i);
        const char *id = json_text(json_get(run, "run_id"));
        if (id == NULL || !str_starts(str_of(id), prefix))
            continue;
        found = run;
        if (++*count <= SHOWN_MATCHES)
            buf_printf(matches, "%s%s", *count > 1 ? ", " : "", id);
    }
    return *count == 1 ? found : NULL;
}

Json *history_find(const char *output, const char *id, Err *err)
{
    assert(id != NULL);
    Json *runs = load_folder(output, err);
    if (runs == NULL)
        return NULL;
    size_t count = 0;
    Buf matches = {0};
    Json *run = find_run(runs, id);
    if (run == NULL)
        run = find_prefix(runs, id, &count, &matches);
    Json *copy = run != NULL ? json_clone(run) : NULL;
    if (copy == NULL && count > 1)
        err_set(err, ERR_INPUT_RESUME_NOT_FOUND,
                "run id '%s' is not unique in '%s': %zu runs (%s%s)",
                id, output, count, matches.data, count > SHOWN_MATCHES ? ", …" : "");
    else if (copy == NULL)
        err_set(err, ERR_INPUT_RESUME_NOT_FOUND, "no run '%s' in the history of '%s'", id, output);
    buf_free(&matches);
    json_free(runs);
    return copy;
}
