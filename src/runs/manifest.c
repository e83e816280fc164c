/* manifest.c — see manifest.h.
 *
 *   {"version": "1.0", "updated": ISO time, "policy": {…}, "checkpoints": [
 *     {"run_index", "path", "validation_loss", "training_loss", "timestamp", "is_run_boundary",
 *      "is_final", "size_bytes", "protected", "run_id"}]}
 *
 * Nothing is ever pruned, so the policy of a new file says so; that of another writer is kept.
 */
#include "runs/manifest.h"

#include "core/file.h"
#include "core/os.h"
#include "runs/locked_json.h"

#include <math.h>
#include <string.h>

static const char *const file_name = "manifest.json";
enum { TIME_TEXT = 32 };

static Json *now(void)
{
    char text[TIME_TEXT];
    os_time_iso(text);
    return json_new_text(text);
}

static void put_missing(Json *manifest)
{
    if (json_get(manifest, "version") == NULL)
        json_put(manifest, "version", json_new_text("1.0"));
    json_put(manifest, "updated", now());
    if (!json_is_object(json_get(manifest, "policy"))) {
        Json *policy = json_new_object();
        json_put(policy, "auto_prune", json_new_bool(false));
        json_put(manifest, "policy", policy);
    }
    if (!json_is_array(json_get(manifest, "checkpoints")))
        json_put(manifest, "checkpoints", json_new_array());
}

static bool is_of(const Json *checkpoint, const ManifestEntry *entry)
{
    const char *run_id = json_text(json_get(checkpoint, "run_id"));
    return run_id != NULL && strcmp(run_id, entry->run_id) == 0 &&
           json_int(json_get(checkpoint, "run_index"), -1) == entry->run_index;
}

/* The entry's place; every other one is final no more. */
static Json *claim(Json *checkpoints, const ManifestEntry *entry)
{
    Json *found = NULL;
    for (size_t i = 0; i < json_len(checkpoints); i++) {
        Json *checkpoint = json_at(checkpoints, i);
        if (is_of(checkpoint, entry))
            found = checkpoint;
        else if (json_is_object(checkpoint))
            json_put(checkpoint, "is_final", json_new_bool(false));
    }
    if (found == NULL) {
        found = json_new_object();
        json_add(checkpoints, found);
    }
    return found;
}

static int64_t folder_bytes(const char *folder, Arena *scratch)
{
    const char **names;
    size_t count;
    int64_t sum = 0;
    if (!folder_list(folder, scratch, &names, &count))
        return 0;
    for (size_t i = 0; i < count; i++)
        sum += (int64_t)file_bytes(path_join(scratch, folder, names[i]));
    return sum;
}

bool manifest_register(const char *output, const ManifestEntry *entry, Err *err)
{
    must(entry->run_id != NULL && entry->path != NULL && entry->run_index >= 0);
    LockedJson file;
    if (!locked_json_open(&file, output, file_name, JSON_KIND_OBJECT, err))
        return false;
    put_missing(file.json);
    Json *checkpoint = claim(json_get(file.json, "checkpoints"), entry);
    json_put(checkpoint, "run_index", json_new_int(entry->run_index));
    json_put(checkpoint, "path", json_new_text(entry->path));
    json_put(checkpoint, "validation_loss", json_new_double(entry->validation_loss));
    json_put(checkpoint, "training_loss", json_new_double(entry->training_loss));
    json_put(checkpoint, "timestamp", now());
    json_put(checkpoint, "is_run_boundary", json_new_bool(entry->run_index > 0));
    json_put(checkpoint, "is_final", json_new_bool(true));
    json_put(checkpoint, "size_bytes", json_new_int(folder_bytes(entry->path, &file.arena)));
    if (json_get(checkpoint, "protected") == NULL)
        json_put(checkpoint, "protected", json_new_bool(false));
    json_put(checkpoint, "run_id", json_new_text(entry->run_id));
    const bool ok = locked_json_save(&file, err);
    locked_json_close(&file);
    return ok;
}

bool manifest_moved(const char *output, const char *from, const char *to, Err *err)
{
    LockedJson file;
    assert(from != NULL && to != NULL);
    if (!locked_json_open(&file, output, file_name, JSON_KIND_OBJECT, err))
        return false;
    Json *checkpoints = json_get(file.json, "checkpoints");
    const size_t len = strlen(from);
    bool changed = false, ok = true;
    for (size_t i = 0; i < json_len(checkpoints); i++) {
        Json *checkpoint = json_at(checkpoints, i);
        const char *path = json_text(json_get(checkpoint, "path"));
        if (path == NULL || strncmp(path, from, len) != 0 ||
            (path[len] != '\0' && path[len] != '/'))
            continue;
        const char *moved = arena_printf(&file.arena, "%s%s", to, path + len);
        json_put(checkpoint, "path", json_new_text(moved));
        changed = true;
    }
    if (changed)
        ok = locked_json_save(&file, err);
    locked_json_close(&file);
    return ok;
}
