/* manifest.h — manifest.json of an output folder: which adapters lie where, of which run, and how
 * good they are. A file of other programs, too: unknown members stay. Format at the head of
 * manifest.c.
 */
#ifndef RUNS_MANIFEST_H
#define RUNS_MANIFEST_H

#include "core/err.h"

typedef struct ManifestEntry {
    const char *run_id;
    int64_t run_index;      /* 0: a run of its own; else its place in a session, from 1 */
    const char *path;       /* the adapter's folder */
    double training_loss;   /* NAN = null */
    double validation_loss; /* NAN = null */
} ManifestEntry;

/* Adds the entry, or replaces the one of the same run and index; it becomes the only final one. */
bool manifest_register(const char *output, const ManifestEntry *entry, Err *err);
/* Folders of a run have moved: paths that begin with `from` follow. */
bool manifest_moved(const char *output, const char *from, const char *to, Err *err);

#endif
