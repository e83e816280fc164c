/* output.c — taking an output folder for a run. See output.h.
 *
 *   OUT/.training.lock              held by the process that trains there
 *   OUT/run_NNN                     of the session (several runs, one id) that trained there last
 *   OUT/lora or model, checkpoint-N of the run that trained there last
 *   OUT/runs/<12 digits>/           the same of earlier runs
 *   OUT/runs/unknown/               of nobody that we know: damaged, or written by other programs
 *
 * Every move is one rename, and whom a folder belongs to is written inside it, so a process that is
 * killed between two moves leaves work for the next one and nothing else. What would be moved onto
 * an existing folder gets a number behind its name.
 */
#include "train/output.h"

#include "core/file.h"
#include "core/log.h"
#include "model/full.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <string.h>

#define LOCK_FILE ".training.lock"
static const char *const session_prefix = "run_";
enum { SHORT_ID = 12, RUN_ID_LEN = 32, SAME_NAMES_MAX = 10000 };

typedef struct Taking {
    Arena *arena;
    const char *path, *run_id;
    OutputMoved *moved;
    void *context;
} Taking;

const char *output_aside(const char *path, const char *run_id, Arena *out)
{
    assert(path != NULL);
    const char *name = run_id != NULL ? arena_printf(out, "runs/%.*s", SHORT_ID, run_id)
                                      : "runs/unknown";
    return path_join(out, path, name);
}

/* The run that wrote a folder; NULL when it does not say. */
static const char *owner_of(const char *folder, Arena *out)
{
    if (checkpoint_number(path_base(folder)) >= 0)
        return checkpoint_run_id(folder, out);
    Str text;
    const char *path = path_join(out, folder, RUN_ID_FILE);
    if (!path_exists(path) || !file_read(path, 256, out, &text, ERR_RUNTIME_IO_FAILED, NULL))
        return NULL;
    text = str_trim(text);
    return text.len == RUN_ID_LEN ? arena_strndup(out, text.data, text.len) : NULL;
}

static bool move(const Taking *t, const char *from, const char *run_id, const char *folder,
                 Err *err)
{
    if (!folder_make(folder, ERR_RUNTIME_IO_FAILED, err))
        return false;
    const char *name = path_base(from), *to = path_join(t->arena, folder, name);
    for (int i = 2; path_exists(to) && i < SAME_NAMES_MAX; i++)
        to = path_join(t->arena, folder, arena_printf(t->arena, "%s-%d", name, i));
    if (!folder_move(from, to, ERR_RUNTIME_IO_FAILED, err))
        return false;
    log_info("moved", "from=\"%s\" to=\"%s\" of=%s", from, to, run_id != NULL ? run_id : "unknown");
    if (t->moved != NULL)
        t->moved(t->context, run_id, from, to);
    return true;
}

const char *output_session_run(const char *path, int64_t run, Arena *out)
{
    assert(run >= 1);
    return path_join(out, path, arena_printf(out, "%s%03lld", session_prefix, (long long)run));
}

bool output_is_session_run(const char *name)
{
    if (!str_starts(str_of(name), session_prefix))
        return false;
    const char *number = name + strlen(session_prefix);
    const size_t digits = strspn(number, "0123456789");
    return digits >= 3 && number[digits] == '\0';
}

static bool is_of_a_run(const char *name)
{
    return strcmp(name, ADAPTER_FOLDER) == 0 || strcmp(name, MODEL_FOLDER) == 0 ||
           checkpoint_number(name) >= 0 || output_is_session_run(name);
}

/* What a killed process left half-written. */
static void recover(const char *path, Arena *arena)
{
    checkpoint_recover(path, arena);
    static const char *const results[] = {ADAPTER_FOLDER, MODEL_FOLDER};
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        const char *result = path_join(arena, path, results[i]);
        folder_recover(result);
        folder_abandon(result);
    }
    const char **names;
    size_t count;
    if (!folder_list(path, arena, &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        const Str name = str_of(names[i]);
        const Str whole = str_sub(name, 0, name.len - (sizeof ".partial" - 1));
        if (str_ends(name, ".partial") &&
            output_is_session_run(arena_strndup(arena, whole.data, whole.len)))
            folder_remove(path_join(arena, path, names[i]));
    }
}

/* Other runs' folders go aside. */
static bool set_aside(const Taking *t, Err *err)
{
    const char **names;
    size_t count;
    if (!folder_list(t->path, t->arena, &names, &count))
        return true;
    for (size_t i = 0; i < count; i++) {
        const char *from = path_join(t->arena, t->path, names[i]);
        if (!is_of_a_run(names[i]) || !path_is_folder(from))
            continue;
        const char *owner = owner_of(from, t->arena);
        if (owner != NULL && strcmp(owner, t->run_id) == 0)
            continue;
        if (!move(t, from, owner, output_aside(t->path, owner, t->arena), err))
            return false;
    }
    return true;
}

/* The run's own folders come back. One that is in place already stays where it is. */
static bool bring_back(const Taking *t, Err *err)
{
    const char **names;
    size_t count;
    const char *aside = output_aside(t->path, t->run_id, t->arena);
    if (!folder_list(aside, t->arena, &names, &count))
        return true;
    for (size_t i = 0; i < count; i++) {
        const char *from = path_join(t->arena, aside, names[i]);
        if (!is_of_a_run(names[i]) || !path_is_folder(from) ||
            path_exists(path_join(t->arena, t->path, names[i])))
            continue;
        const char *owner = owner_of(from, t->arena);
        if (owner != NULL && strcmp(owner, t->run_id) == 0 &&
            !move(t, from, owner, t->path, err))
            return false;
    }
    return true;
}

static bool lock(OutputFolder *folder, const char *path, Arena *arena, Err *err)
{
    const char *lock_path = path_join(arena, path, LOCK_FILE);
    const int error = os_lock_open(&folder->lock, lock_path, 0);
    if (error == ETIMEDOUT)
        return err_set(err, ERR_STATE_OUTPUT_IN_USE, "another process is training in '%s'", path);
    return error == 0 || err_set(err, ERR_RUNTIME_IO_FAILED, "cannot lock '%s': %s", lock_path,
                                 strerror(error));
}

bool output_open(OutputFolder *folder, const char *path, const char *run_id, OutputMoved *moved,
                 void *context, Err *err)
{
    must(path != NULL && run_id != NULL);
    *folder = (OutputFolder){{-1}};
    Arena arena;
    if (!folder_make(path, ERR_RUNTIME_IO_FAILED, err) || !arena_open(&arena, 0, err))
        return false;
    bool ok = lock(folder, path, &arena, err);
    if (ok) {
        recover(path, &arena);
        const Taking taking = {&arena, path, run_id, moved, context};
        ok = set_aside(&taking, err) && bring_back(&taking, err);
    }
    if (!ok)
        output_close(folder);
    arena_close(&arena);
    return ok;
}

void output_close(OutputFolder *folder)
{
    os_lock_close(&folder->lock);
    folder->lock.handle = -1;
}
