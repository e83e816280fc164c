/* multi_state.c — writing and reading a session's state after a run.
 *
 * OUT/run_NNN/slao/
 *   merged.safetensors    f32 vectors in the order of model/adapter.h
 *       merged, tuned [n_params]   of all runs; where the last good run ended
 *       losses [n]                 of every step
 *     __metadata__  backpropagate.session   one JSON object: schema 1 · run_id · numbers ·
 *                      batch_size · has_tuned · before [n_tasks] · runs [one object each]
 *                   backpropagate.checksum  SHA-256 of that text and the three vectors
 *   merge_history.json    the runs once more, for people and other programs
 *
 * Doubles are written with 17 digits, so what is read back is what was measured.
 */
#include "runs/multi_state.h"

#include "core/file.h"
#include "core/log.h"
#include "format/safetensors.h"
#include "train/checkpoint.h"
#include "train/output.h"

#include <math.h>
#include <string.h>

enum { SCHEMA = 1, HEX_DIGEST = 65 };
static const char *const meta_key = "backpropagate.session";
static const char *const checksum_key = "backpropagate.checksum";
enum { PART_MERGED, PART_TUNED, PART_LOSSES, PART_COUNT };
static const char *const part_names[PART_COUNT] = {"merged", "tuned", "losses"};

/* ---- runs as JSON ----------------------------------------------------------------------- */

static Json *numbers_json(const double *values, int64_t n)
{
    Json *list = json_new_array();
    for (int64_t i = 0; i < n; i++)
        json_add(list, json_new_double(values[i]));
    return list;
}

static Json *merge_json(const MergeReport *m)
{
    Json *json = json_new_object();
    json_put(json, "run_index", json_new_int(m->run));
    json_put(json, "scale_factor", json_new_double(m->scale));
    json_put(json, "cosine", json_new_double(m->cosine));
    json_put(json, "a_matrices_merged", json_new_int(m->n_a));
    json_put(json, "b_matrices_merged", json_new_int(m->n_b));
    json_put(json, "total_params_merged", json_new_int(m->n_params));
    json_put(json, "merge_time_seconds", json_new_double(m->seconds));
    json_put(json, "a_norm_before", json_new_double(m->a_norm_before));
    json_put(json, "a_norm_after", json_new_double(m->a_norm_after));
    json_put(json, "b_norm_before", json_new_double(m->b_norm_before));
    json_put(json, "b_norm_after", json_new_double(m->b_norm_after));
    return json;
}

static MergeReport merge_of(const Json *json)
{
    return (MergeReport){
        .run = json_int(json_get(json, "run_index"), 0),
        .scale = json_double(json_get(json, "scale_factor"), 0),
        .cosine = json_double(json_get(json, "cosine"), 0),
        .n_a = json_int(json_get(json, "a_matrices_merged"), 0),
        .n_b = json_int(json_get(json, "b_matrices_merged"), 0),
        .n_params = json_int(json_get(json, "total_params_merged"), 0),
        .seconds = json_double(json_get(json, "merge_time_seconds"), 0),
        .a_norm_before = json_double(json_get(json, "a_norm_before"), 0),
        .a_norm_after = json_double(json_get(json, "a_norm_after"), 0),
        .b_norm_before = json_double(json_get(json, "b_norm_before"), 0),
        .b_norm_after = json_double(json_get(json, "b_norm_after"), 0),
    };
}

Json *multi_run_json(const MultiRun *r, int64_t n_tasks)
{
    Json *json = json_new_object();
    json_put(json, "run_index", json_new_int(r->run));
    json_put(json, "task", json_new_int(r->task));
    json_put(json, "failed", json_new_bool(r->failed));
    json_put(json, "merged", json_new_bool(r->merged));
    json_put(json, "reason", json_new_text(r->reason));
    json_put(json, "steps", json_new_int(r->steps));
    json_put(json, "tokens", json_new_int(r->tokens));
    json_put(json, "examples", json_new_int(r->examples));
    json_put(json, "replayed", json_new_int(r->replayed));
    json_put(json, "learning_rate", json_new_double(r->lr));
    json_put(json, "final_loss", json_new_double(r->final_loss));
    json_put(json, "duration_seconds", json_new_double(r->seconds));
    json_put(json, "validation_loss", json_new_double(r->validation));
    json_put(json, "task_losses", numbers_json(r->losses, n_tasks));
    json_put(json, "result", merge_json(&r->merge));
    return json;
}

static void read_numbers(const Json *list, double *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = json_double(json_at(list, (size_t)i), NAN);
}

static MultiRun run_of(const Json *json, int64_t n_tasks, Arena *out)
{
    const char *reason = json_text(json_get(json, "reason"));
    MultiRun run = {
        .run = json_int(json_get(json, "run_index"), 0),
        .task = json_int(json_get(json, "task"), 0),
        .failed = json_bool(json_get(json, "failed"), false),
        .merged = json_bool(json_get(json, "merged"), false),
        .reason = reason != NULL ? arena_strdup(out, reason) : NULL,
        .steps = json_int(json_get(json, "steps"), 0),
        .tokens = json_int(json_get(json, "tokens"), 0),
        .examples = json_int(json_get(json, "examples"), 0),
        .replayed = json_int(json_get(json, "replayed"), 0),
        .lr = json_double(json_get(json, "learning_rate"), 0),
        .final_loss = json_double(json_get(json, "final_loss"), NAN),
        .seconds = json_double(json_get(json, "duration_seconds"), 0),
        .validation = json_double(json_get(json, "validation_loss"), NAN),
        .losses = arena_array(out, double, n_tasks),
        .merge = merge_of(json_get(json, "result")),
    };
    read_numbers(json_get(json, "task_losses"), run.losses, n_tasks);
    return run;
}

/* ---- writing ---------------------------------------------------------------------------- */

static Json *runs_json(const MultiState *state)
{
    Json *runs = json_new_array();
    for (int64_t i = 0; i < state->n_runs; i++)
        json_add(runs, multi_run_json(&state->runs[i], state->n_tasks));
    return runs;
}

static void metadata_text(const MultiState *state, Buf *text)
{
    Json *json = json_new_object();
    json_put(json, "schema", json_new_int(SCHEMA));
    json_put(json, "run_id", json_new_text(state->run_id));
    json_put(json, "numbers", json_clone(state->numbers));
    json_put(json, "batch_size", json_new_int(state->batch_size));
    json_put(json, "has_tuned", json_new_bool(state->has_tuned));
    json_put(json, "before", numbers_json(state->before, state->n_tasks));
    json_put(json, "runs", runs_json(state));
    json_put(json, "version", json_new_text(BP_VERSION));
    json_write(json, (JsonStyle){0}, text);
    json_free(json);
}

typedef struct Parts {
    const float *data[PART_COUNT];
    int64_t n[PART_COUNT];
} Parts;

static void digest(Str json, const Parts *parts, char hex[HEX_DIGEST])
{
    uint8_t each[PART_COUNT + 1][SHA256_BYTES], all[SHA256_BYTES];
    bytes_sha256(json, each[0]);
    for (int i = 0; i < PART_COUNT; i++) {
        const Str bytes = {(const char *)parts->data[i], (size_t)parts->n[i] * sizeof(float)};
        bytes_sha256(bytes, each[i + 1]);
    }
    bytes_sha256((Str){(const char *)each, sizeof each}, all);
    sha256_hex(all, hex);
}

static bool write_vectors(const char *folder, const MultiState *state, Arena *scratch, Err *err)
{
    const Parts parts = {{state->merged, state->tuned, state->losses},
                         {state->n_params, state->n_params, state->n_losses}};
    Buf json = {0};
    metadata_text(state, &json);
    must(!json.failed);
    char hex[HEX_DIGEST];
    digest(buf_view(&json), &parts, hex);
    const char *const keys[] = {meta_key, checksum_key};
    const char *const values[] = {json.data, hex};
    StEntry entries[PART_COUNT];
    for (int i = 0; i < PART_COUNT; i++)
        entries[i] = (StEntry){.name = part_names[i], .dtype = DTYPE_F32, .n_dims = 1,
                               .shape = {parts.n[i]}, .data = parts.data[i]};
    const bool ok = st_write(path_join(scratch, folder, "merged.safetensors"), entries, PART_COUNT,
                             keys, values, COUNT_OF(keys), ERR_STATE_CHECKPOINT_INVALID, err);
    buf_free(&json);
    return ok;
}

static bool write_history(const char *folder, const MultiState *state, Arena *scratch, Err *err)
{
    Json *json = json_new_object();
    json_put(json, "version", json_new_text("1.0"));
    json_put(json, "run_index", json_new_int(state->n_runs));
    json_put(json, "run_id", json_new_text(state->run_id));
    json_put(json, "config", json_clone(state->numbers));
    json_put(json, "history", runs_json(state));
    Buf text = {0};
    json_write(json, (JsonStyle){.indent = 2}, &text);
    json_free(json);
    const bool ok = file_write_atomic(path_join(scratch, folder, "merge_history.json"),
                                      buf_view(&text), ERR_STATE_CHECKPOINT_INVALID, err);
    buf_free(&text);
    return ok;
}

static const char *state_folder(const char *output, int64_t run, Arena *out)
{
    return path_join(out, output_session_run(output, run, out), "slao");
}

bool multi_state_save(const char *output, const MultiState *state, Arena *scratch, Err *err)
{
    must(state->n_runs >= 1 && json_is_object(state->numbers));
    const ErrCode code = ERR_STATE_CHECKPOINT_INVALID;
    const size_t mark = arena_mark(scratch);
    const char *path = state_folder(output, state->n_runs, scratch);
    Err why = {0};
    const char *partial = folder_begin(path, scratch, code, &why);
    const bool ok = partial != NULL && write_vectors(partial, state, scratch, &why) &&
                    write_history(partial, state, scratch, &why) &&
                    folder_commit(path, code, &why);
    if (!ok) {
        folder_abandon(path);
        err_set(err, code, "cannot write the session's state '%s': %s", path, why.message);
    }
    arena_rewind(scratch, mark);
    return ok;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* n_params below 0: whatever there is. */
static bool find_parts(const SafeTensors *st, Parts *parts, int64_t n_params)
{
    for (int i = 0; i < PART_COUNT; i++) {
        const StTensor *tensor = st_find(st, part_names[i]);
        if (tensor == NULL || !tensor->known || tensor->dtype != DTYPE_F32 || tensor->n_dims != 1)
            return false;
        parts->data[i] = tensor->data;
        parts->n[i] = tensor->shape[0];
    }
    const int64_t n = n_params >= 0 ? n_params : parts->n[PART_MERGED];
    return parts->n[PART_MERGED] == n && parts->n[PART_TUNED] == n;
}

/* The parsed metadata of a whole and undamaged state; NULL with the reason. */
static Json *read_metadata(const SafeTensors *st, const char *path, int64_t n_params, Parts *parts,
                           Err *err)
{
    const ErrCode code = ERR_STATE_CHECKPOINT_INVALID;
    const char *text = st_meta(st, meta_key), *sum = st_meta(st, checksum_key);
    char hex[HEX_DIGEST] = "";
    if (text != NULL && sum != NULL && find_parts(st, parts, n_params))
        digest(str_of(text), parts, hex);
    if (text == NULL || sum == NULL || strcmp(hex, sum) != 0) {
        err_set(err, code, "'%s' is damaged, or of another adapter", path);
        return NULL;
    }
    Json *json = json_parse(str_of(text), path, code, err);
    if (json != NULL && json_int(json_get(json, "schema"), -1) != SCHEMA) {
        err_set(err, code, "'%s' has another schema than %d", path, SCHEMA);
        json_free(json);
        return NULL;
    }
    return json;
}

bool multi_state_check(const char *run_folder, Arena *scratch, Err *err)
{
    const char *folder = path_join(scratch, run_folder, "slao");
    const char *path = path_join(scratch, folder, "merged.safetensors");
    SafeTensors st = {0};
    Parts parts;
    if (!path_is_folder(folder))
        return true;
    if (!st_open(&st, path, ERR_STATE_CHECKPOINT_INVALID, scratch, err))
        return false;
    Json *json = read_metadata(&st, path, -1, &parts, err);
    const bool ok = json != NULL;
    json_free(json);
    st_close(&st);
    return ok;
}

static void take(const Json *json, const Parts *parts, MultiState *state, Arena *out)
{
    const size_t bytes = (size_t)state->n_params * sizeof(float);
    memcpy(state->merged, parts->data[PART_MERGED], bytes);
    memcpy(state->tuned, parts->data[PART_TUNED], bytes);
    state->n_losses = parts->n[PART_LOSSES];
    state->losses = arena_array(out, float, state->n_losses);
    memcpy(state->losses, parts->data[PART_LOSSES], (size_t)state->n_losses * sizeof(float));
    state->batch_size = (int32_t)json_int(json_get(json, "batch_size"), 0);
    state->has_tuned = json_bool(json_get(json, "has_tuned"), false);
    read_numbers(json_get(json, "before"), state->before, state->n_tasks);
    const Json *runs = json_get(json, "runs");
    state->n_runs = (int64_t)json_len(runs);
    for (int64_t i = 0; i < state->n_runs; i++)
        state->runs[i] = run_of(json_at(runs, (size_t)i), state->n_tasks, out);
}

/* The state after run `run`. False without err: there is none that is usable. */
static bool load_one(const char *output, int64_t run, MultiState *state, Arena *out, Err *err)
{
    const char *folder = state_folder(output, run, out);
    folder_recover(folder);
    folder_abandon(folder);
    const char *path = path_join(out, folder, "merged.safetensors");
    if (!path_exists(path))
        return false;
    SafeTensors st = {0};
    Parts parts;
    Err why = {0};
    Json *json = NULL;
    if (st_open(&st, path, ERR_STATE_CHECKPOINT_INVALID, out, &why))
        json = read_metadata(&st, path, state->n_params, &parts, &why);
    const char *owner = json_text(json_get(json, "run_id"));
    const bool mine = owner != NULL && strcmp(owner, state->run_id) == 0 &&
                      (int64_t)json_len(json_get(json, "runs")) == run;
    if (!mine)
        log_warn("session_skipped", "path=\"%s\" reason=\"%s\"", path,
                 json == NULL ? why.message : "of another session");
    const bool ok = mine && checkpoint_compare(folder, "", json_get(json, "numbers"),
                                               state->numbers, err);
    if (ok)
        take(json, &parts, state, out);
    json_free(json);
    st_close(&st);
    return ok;
}

bool multi_state_load(const char *output, int64_t runs, MultiState *state, bool *found, Arena *out,
                      Err *err)
{
    Err why = {0};
    *found = false;
    for (int64_t run = runs; run >= 1 && !*found && !err_is_set(&why); run--)
        *found = load_one(output, run, state, out, &why);
    if (err_is_set(&why) && err != NULL)
        *err = why;
    return !err_is_set(&why);
}
