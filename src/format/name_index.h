/* name_index.h — names of a file's entries, sorted: finds duplicates and looks names up.
 *
 * Shared by the readers and writers of this folder. Sorting costs n log n whatever the names are,
 * so a hostile file cannot make it quadratic; a lookup is a binary search.
 */
#ifndef FORMAT_NAME_INDEX_H
#define FORMAT_NAME_INDEX_H

#include "core/arena.h"
#include "core/str.h"

typedef struct NameEntry {
    Str name;
    size_t position; /* of the entry in its own table */
} NameEntry;

typedef struct NameIndex {
    NameEntry *entries; /* [count], sorted by name once name_index_sort has run */
    size_t count;
} NameIndex;

NameIndex name_index_make(size_t count, Arena *out);
/* To be called once for every position 0..count-1, in order. */
void name_index_set(NameIndex *index, size_t position, Str name);
/* False when a name stands twice; *duplicate is then that name. */
bool name_index_sort(NameIndex *index, Str *duplicate);
/* The position of `name`, or -1. */
int64_t name_index_find(const NameIndex *index, Str name);

/* Bytes from outside as they may be shown in a message: at most 63 of them, and '?' for each that
 * is not printable ASCII. */
typedef struct ShownName {
    char text[64];
} ShownName;
ShownName name_shown(Str name);

#endif
