/* locked_json.h — a JSON array or object in a file that several processes write: locked from
 * reading to renaming, replaced atomically, never overwritten when it cannot be read. Members that
 * we do not know stay. Owns the lock and the parsed file while it is open.
 */
#ifndef RUNS_LOCKED_JSON_H
#define RUNS_LOCKED_JSON_H

#include "core/arena.h"
#include "core/json.h"
#include "core/os_lock.h"

typedef enum JsonKind { JSON_KIND_ARRAY, JSON_KIND_OBJECT } JsonKind;

typedef struct LockedJson {
    Arena arena; /* paths */
    const char *path;
    OsLock lock;
    Json *json;
} LockedJson;

/* Reads without the lock; an absent file is empty. NULL with STATE_HISTORY_INVALID when the file is
 * not of that kind. */
Json *locked_json_read(const char *path, JsonKind kind, Err *err);
/* Locks folder/name and reads it, to be changed and saved. On failure nothing is held. */
bool locked_json_open(LockedJson *file, const char *folder, const char *name, JsonKind kind,
                      Err *err);
bool locked_json_save(const LockedJson *file, Err *err);
void locked_json_close(LockedJson *file);

#endif
