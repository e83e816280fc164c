/* file_folder.c — paths, and folders that are whole or absent (the second half of file.h).
 *
 * Protocol of a commit, with what a crash after each step leaves for folder_recover:
 *   1 sync every file and folder under P.partial     P is the old one
 *   2 remove a stale P.old                           P is the old one
 *   3 rename P -> P.old, sync the parent             P is absent: recover renames P.old back
 *   4 rename P.partial -> P, sync the parent         P is the new one, P.old garbage
 *   5 remove P.old                                   P is the new one
 * Nothing is ever renamed onto an existing folder, so the order of the steps is the whole proof.
 */
#include "core/file.h"

#include "core/file_fault.h"
#include "core/os_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDER_DEPTH_MAX = 32 }; /* of trees removed or synced here */

bool path_exists(const char *path) { return os_path_kind(path) != OS_PATH_NONE; }
bool path_is_folder(const char *path) { return os_path_kind(path) == OS_PATH_FOLDER; }

const char *path_join(Arena *out, const char *folder, const char *name)
{
    assert(folder != NULL && name != NULL);
    size_t len = strlen(folder);
    bool bare = len == 0 || folder[len - 1] == '/';
    return arena_printf(out, "%s%s%s", folder, bare ? "" : "/", name);
}

const char *path_base(const char *path)
{
    assert(path != NULL);
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Length of the parent's name: "a/b" -> 1, "/a" -> 1, "a" -> 0. */
static size_t parent_len(const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

const char *path_parent(Arena *out, const char *path)
{
    assert(path != NULL);
    size_t len = parent_len(path);
    return len > 0 ? arena_strndup(out, path, len) : arena_strdup(out, ".");
}

int folder_sync_parent(const char *path)
{
    int error = file_fault_check();
    if (error != 0)
        return error;
    Buf parent = {0};
    size_t len = parent_len(path);
    buf_append(&parent, len > 0 ? path : ".", len > 0 ? len : 1);
    error = os_path_sync(parent.data);
    buf_free(&parent);
    return error;
}

bool folder_make(const char *path, ErrCode code, Err *err)
{
    assert(path != NULL && path[0] != '\0');
    Buf prefix = {0};
    int error = 0;
    for (size_t i = 1; error == 0 && path[i - 1] != '\0'; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        buf_clear(&prefix);
        buf_append(&prefix, path, i);
        if (path_is_folder(prefix.data))
            continue;
        error = file_fault_check();
        if (error == 0)
            error = os_folder_make(prefix.data);
        if (error == EEXIST && path_is_folder(prefix.data)) /* somebody else was faster */
            error = 0;
    }
    buf_free(&prefix);
    if (error != 0)
        return err_set(err, code, "cannot make folder '%s': %s", path, os_file_error(error));
    return true;
}

/* Names of a folder, collected before anything in it is changed. */
typedef struct Entries {
    Buf names; /* "d" or "f", the name, NUL; one after the other */
} Entries;

static void collect(void *context, const char *name, bool is_folder)
{
    Entries *entries = context;
    buf_char(&entries->names, is_folder ? 'd' : 'f');
    buf_append(&entries->names, name, strlen(name) + 1);
}

/* Removes `path` (a Buf used as a stack of names) and all below it. Links are not followed. */
static void remove_tree(Buf *path, int depth)
{
    if (depth > FOLDER_DEPTH_MAX)
        return;
    Entries entries = {0};
    if (os_folder_each(path->data, collect, &entries) == 0) {
        for (size_t at = 0; at < entries.names.len;) {
            const char *name = entries.names.data + at + 1;
            size_t kept = path->len;
            buf_printf(path, "/%s", name);
            if (entries.names.data[at] == 'd') {
                remove_tree(path, depth + 1);
            } else {
                file_fault_check_removal();
                os_file_remove(path->data);
            }
            path->len = kept;
            path->data[kept] = '\0';
            at += strlen(name) + 2;
        }
    }
    buf_free(&entries.names);
    file_fault_check_removal();
    os_folder_remove(path->data);
}

void folder_remove(const char *path)
{
    assert(path != NULL && path[0] != '\0');
    if (os_path_kind(path) != OS_PATH_FOLDER)
        return;
    Buf stack = {0};
    buf_text(&stack, path);
    remove_tree(&stack, 0);
    buf_free(&stack);
}

/* Syncs every file and folder below `path`, innermost first; returns the first errno. */
static int sync_tree(Buf *path, int depth)
{
    if (depth > FOLDER_DEPTH_MAX)
        return ELOOP;
    Entries entries = {0};
    int error = os_folder_each(path->data, collect, &entries);
    for (size_t at = 0; error == 0 && at < entries.names.len;) {
        const char *name = entries.names.data + at + 1;
        size_t kept = path->len;
        buf_printf(path, "/%s", name);
        if (entries.names.data[at] == 'd') {
            error = sync_tree(path, depth + 1);
        } else {
            error = file_fault_check();
            if (error == 0)
                error = os_path_sync(path->data);
        }
        path->len = kept;
        path->data[kept] = '\0';
        at += strlen(name) + 2;
    }
    buf_free(&entries.names);
    if (error == 0)
        error = file_fault_check();
    return error != 0 ? error : os_path_sync(path->data);
}

static char *beside(const char *path, const char *suffix)
{
    Buf name = {0};
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    buf_append(&name, path, len);
    buf_text(&name, suffix);
    return name.data;
}

const char *folder_begin(const char *path, Arena *out, ErrCode code, Err *err)
{
    assert(path != NULL && path[0] != '\0' && out != NULL);
    folder_recover(path);
    char *partial = beside(path, ".partial");
    const char *result = arena_strdup(out, partial);
    heap_free(partial);
    folder_remove(result);
    return folder_make(result, code, err) ? result : NULL;
}

static int checked_rename(const char *from, const char *to)
{
    int error = file_fault_check();
    return error != 0 ? error : os_path_rename(from, to);
}

/* Steps 3 and 4 of the protocol. On failure the old folder is back in place. */
static int swap_in(const char *path, const char *partial, const char *old)
{
    bool had_old = path_exists(path);
    int error = 0;
    if (had_old) {
        error = checked_rename(path, old);
        if (error == 0)
            error = folder_sync_parent(path);
    }
    if (error == 0)
        error = checked_rename(partial, path);
    if (error != 0) {
        if (had_old && !path_exists(path))
            os_path_rename(old, path);
        return error;
    }
    return folder_sync_parent(path);
}

bool folder_commit(const char *path, ErrCode code, Err *err)
{
    assert(path != NULL && path[0] != '\0');
    char *partial = beside(path, ".partial"), *old = beside(path, ".old");
    Buf stack = {0};
    buf_text(&stack, partial);
    int error = sync_tree(&stack, 0);
    buf_free(&stack);
    if (error == 0) {
        folder_remove(old);
        error = swap_in(path, partial, old);
    }
    if (error == 0)
        folder_remove(old);
    else
        folder_remove(partial);
    heap_free(partial);
    heap_free(old);
    if (error != 0)
        return err_set(err, code, "cannot write folder '%s': %s", path, os_file_error(error));
    return true;
}

bool folder_move(const char *from, const char *to, ErrCode code, Err *err)
{
    must(!path_exists(to));
    int error = checked_rename(from, to);
    if (error == 0)
        error = folder_sync_parent(to);
    if (error == 0)
        error = folder_sync_parent(from);
    return error == 0 || err_set(err, code, "cannot move '%s' to '%s': %s", from, to,
                                 os_file_error(error));
}

void folder_abandon(const char *path)
{
    char *partial = beside(path, ".partial");
    folder_remove(partial);
    heap_free(partial);
}

void folder_recover(const char *path)
{
    char *old = beside(path, ".old");
    if (path_is_folder(old)) {
        if (path_exists(path)) {
            folder_remove(old);
        } else {
            file_fault_check_removal(); /* counted, but recovery is not made to fail */
            os_path_rename(old, path);
            folder_sync_parent(path);
        }
    }
    heap_free(old);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool folder_list(const char *path, Arena *out, const char ***names, size_t *count)
{
    assert(path != NULL && out != NULL && names != NULL && count != NULL);
    *names = NULL;
    *count = 0;
    Entries entries = {0};
    if (os_folder_each(path, collect, &entries) != 0) {
        buf_free(&entries.names);
        return false;
    }
    size_t n = 0;
    for (size_t at = 0; at < entries.names.len; at += strlen(entries.names.data + at) + 1)
        n++;
    const char **list = arena_array(out, const char *, n);
    size_t i = 0;
    for (size_t at = 0; at < entries.names.len; at += strlen(entries.names.data + at) + 1)
        list[i++] = arena_strdup(out, entries.names.data + at + 1);
    assert(i == n);
    buf_free(&entries.names);
    if (n > 0)
        qsort(list, n, sizeof *list, compare_names);
    *names = list;
    *count = n;
    return true;
}

const char *path_absolute(Arena *out, const char *path)
{
    char whole[4096];
    return arena_strdup(out, os_path_absolute(path, whole, sizeof whole) ? whole : path);
}

uint64_t file_bytes(const char *path) { return os_path_size(path); }
