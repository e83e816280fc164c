/* check.c — re-reading what a run left. See check.h.
 *
 * Looked at: the entry's members, the data file's hash, and under OUT, OUT/runs/ID and every
 * run_NNN of the run: checkpoint-N (sizes and checksum), slao (digest), the adapter (every tensor
 * of the file is where its header says, and finite).
 */
#include "runs/check.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "format/safetensors.h"
#include "runs/history.h"
#include "runs/multi_state.h"
#include "train/checkpoint.h"
#include "train/output.h"

typedef struct Check {
    Json *list;
    Arena *scratch;
    const char *run_id;
    int64_t bad;
} Check;

static void note(Check *check, const char *what, const char *path, bool ok, const char *reason)
{
    assert(ok || reason != NULL);
    Json *row = json_new_object();
    json_put(row, "what", json_new_text(what));
    json_put(row, "path", json_new_text(path));
    json_put(row, "ok", json_new_bool(ok));
    json_put(row, "reason", json_new_text(ok ? NULL : reason));
    json_add(check->list, row);
    check->bad += !ok;
}

/* ---- the history's line ----------------------------------------------------------------- */

static const char *wrong_member(const Json *entry)
{
    static const char *const statuses[] = {"running", "completed", "failed"};
    const char *status = json_text(json_get(entry, "status"));
    bool known = false;
    for (size_t i = 0; status != NULL && i < COUNT_OF(statuses); i++)
        known |= strcmp(status, statuses[i]) == 0;
    if (!known)
        return "its status is none of running, completed and failed";
    const Json *losses = json_get(entry, "loss_history");
    for (size_t i = 0; i < json_len(losses); i++) {
        if (!json_is_number(json_at(losses, i)))
            return "its loss_history holds what is not a number";
    }
    if (strcmp(status, "completed") == 0 && !json_is_number(json_get(entry, "final_loss")))
        return "it is completed and has no final_loss";
    return json_is_object(json_get(entry, "hyperparameters")) ? NULL : "it has no hyperparameters";
}

static void check_entry(Check *check, const char *output, const Json *entry)
{
    const char *wrong = wrong_member(entry);
    note(check, "history", path_join(check->scratch, output, "run_history.json"), wrong == NULL,
         wrong);
}

/* One data file whose hash the history knows; it may have gone, which is no fault of the run. */
static void check_data(Check *check, const Json *entry)
{
    const char *path = json_text(json_get(entry, "dataset_info"));
    const char *hash = json_text(json_get(entry, "dataset_hash"));
    char hex[65];
    if (path == NULL || hash == NULL || strpbrk(path, "\n:") != NULL || !path_exists(path) ||
        !file_sha256(path, hex, ERR_INPUT_DATASET_INVALID, NULL))
        return;
    note(check, "data", path, strncmp(hex, hash, strlen(hash)) == 0,
         "the file is not the one that the run learnt from");
}

/* ---- folders ---------------------------------------------------------------------------- */

static bool finite_tensors(const SafeTensors *st, const char *path, Err *err)
{
    for (size_t i = 0; i < st->n_tensors; i++) {
        const StTensor *t = &st->tensors[i];
        const float *values = t->data;
        const size_t n = t->known && t->dtype == DTYPE_F32 ? t->bytes / sizeof *values : 0;
        for (size_t k = 0; k < n; k++) {
            if (!isfinite(values[k]))
                return err_set(err, ERR_STATE_CHECKPOINT_INVALID,
                               "'%s' holds numbers that are not finite", path);
        }
    }
    return true;
}

static bool check_adapter(const char *folder, Arena *scratch, Err *err)
{
    const ErrCode code = ERR_STATE_CHECKPOINT_INVALID;
    const char *weights = path_join(scratch, folder, "adapter_model.safetensors");
    Json *config = json_load(path_join(scratch, folder, "adapter_config.json"), code, err);
    SafeTensors st = {0};
    const bool ok = config != NULL && st_open(&st, weights, code, scratch, err) &&
                    finite_tensors(&st, weights, err);
    json_free(config);
    st_close(&st);
    return ok;
}

static bool is_mine(const Check *check, const char *folder)
{
    Str id;
    const char *path = path_join(check->scratch, folder, RUN_ID_FILE);
    return path_exists(path) &&
           file_read(path, 256, check->scratch, &id, ERR_RUNTIME_IO_FAILED, NULL) &&
           str_eq_text(str_trim(id), check->run_id);
}

static void check_folder(Check *check, const char *folder);

static void check_one(Check *check, const char *name, const char *path)
{
    Err err = {0};
    if (checkpoint_number(name) >= 0) {
        const char *owner = checkpoint_run_id(path, check->scratch);
        if (owner != NULL && strcmp(owner, check->run_id) != 0)
            return;
        note(check, "checkpoint", path, checkpoint_check(path, check->scratch, &err), err.message);
    } else if (strcmp(name, ADAPTER_FOLDER) == 0 && is_mine(check, path)) {
        note(check, "adapter", path, check_adapter(path, check->scratch, &err), err.message);
    } else if (output_is_session_run(name) && is_mine(check, path)) {
        const bool ok = multi_state_check(path, check->scratch, &err);
        note(check, "session", path, ok, err.message);
        check_folder(check, path);
    }
}

static void check_folder(Check *check, const char *folder)
{
    const char **names;
    size_t count;
    if (!folder_list(folder, check->scratch, &names, &count))
        return;
    for (size_t i = 0; i < count; i++)
        check_one(check, names[i], path_join(check->scratch, folder, names[i]));
}

Json *check_run(const char *output, const Json *entry, int64_t *bad, Arena *scratch)
{
    Check check = {.list = json_new_array(), .scratch = scratch,
                   .run_id = json_text(json_get(entry, "run_id"))};
    must(check.run_id != NULL);
    check_entry(&check, output, entry);
    check_data(&check, entry);
    check_folder(&check, output);
    check_folder(&check, output_aside(output, check.run_id, scratch));
    *bad = check.bad;
    return check.list;
}
