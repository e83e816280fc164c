/* locked_json.c — see locked_json.h. The lock is on a file of its own, <name>.lock, which stays:
 * removing it would race. Readers need no lock, because a file is replaced whole.
 */
#include "runs/locked_json.h"

#include "core/file.h"

#include <errno.h>
#include <string.h>

static const double lock_seconds = 30;

Json *locked_json_read(const char *path, JsonKind kind, Err *err)
{
    const bool array = kind == JSON_KIND_ARRAY;
    if (!path_exists(path))
        return array ? json_new_array() : json_new_object();
    Json *json = json_load(path, ERR_STATE_HISTORY_INVALID, err);
    if (json != NULL && (array ? !json_is_array(json) : !json_is_object(json))) {
        err_set(err, ERR_STATE_HISTORY_INVALID, "'%s' does not hold a JSON %s", path,
                array ? "array" : "object");
        err_hint(err, "Move the file away, or pass another --output");
        json_free(json);
        return NULL;
    }
    return json;
}

void locked_json_close(LockedJson *file)
{
    json_free(file->json);
    os_lock_close(&file->lock);
    arena_close(&file->arena);
}

bool locked_json_open(LockedJson *file, const char *folder, const char *name, JsonKind kind,
                      Err *err)
{
    assert(folder != NULL && name != NULL);
    *file = (LockedJson){.lock = {-1}};
    if (!arena_open(&file->arena, (size_t)1 << 20, err))
        return false;
    file->path = path_join(&file->arena, folder, name);
    const char *lock_path = arena_printf(&file->arena, "%s.lock", file->path);
    const int error = os_lock_open(&file->lock, lock_path, lock_seconds);
    if (error == ETIMEDOUT)
        err_set(err, ERR_STATE_HISTORY_INVALID,
                "cannot lock '%s': held for %.0f seconds by another process", lock_path,
                lock_seconds);
    else if (error != 0)
        err_set(err, ERR_STATE_HISTORY_INVALID, "cannot lock '%s': %s", lock_path,
                strerror(error));
    else
        file->json = locked_json_read(file->path, kind, err);
    if (file->json != NULL)
        return true;
    locked_json_close(file);
    return false;
}

bool locked_json_save(const LockedJson *file, Err *err)
{
    assert(file->json != NULL && file->lock.handle >= 0);
    Buf text = {0};
    json_write(file->json, (JsonStyle){.indent = 2}, &text);
    buf_char(&text, '\n');
    const bool ok =
        file_write_atomic(file->path, buf_view(&text), ERR_STATE_HISTORY_INVALID, err);
    buf_free(&text);
    return ok;
}
