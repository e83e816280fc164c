/* name_index.c — sorted names of a file's entries.
 *
 * Order is that of the bytes, shorter first on a common prefix. Entries of one name stay in the
 * order of their positions, so that errors are the same on every system.
 */
#include "format/name_index.h"

#include <stdlib.h>
#include <string.h>

static int compare_names(Str a, Str b)
{
    const size_t common = a.len < b.len ? a.len : b.len;
    const int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

static int compare_entries(const void *left, const void *right)
{
    const NameEntry *a = left;
    const NameEntry *b = right;
    const int order = compare_names(a->name, b->name);
    if (order != 0)
        return order;
    return (a->position > b->position) - (a->position < b->position);
}

NameIndex name_index_make(size_t count, Arena *out)
{
    NameIndex index = {.count = count};
    if (count > 0)
        index.entries = arena_array(out, NameEntry, count);
    return index;
}

void name_index_set(NameIndex *index, size_t position, Str name)
{
    must(position < index->count);
    index->entries[position] = (NameEntry){.name = name, .position = position};
}

bool name_index_sort(NameIndex *index, Str *duplicate)
{
    assert(index->count == 0 || index->entries != NULL);
    if (index->count < 2)
        return true;
    qsort(index->entries, index->count, sizeof *index->entries, compare_entries);
    for (size_t i = 1; i < index->count; i++) {
        if (str_eq(index->entries[i - 1].name, index->entries[i].name)) {
            *duplicate = index->entries[i].name;
            return false;
        }
    }
    return true;
}

int64_t name_index_find(const NameIndex *index, Str name)
{
    size_t low = 0;
    size_t high = index->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare_names(index->entries[middle].name, name);
        if (order == 0)
            return (int64_t)index->entries[middle].position;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low == high && low <= index->count);
    return -1;
}

ShownName name_shown(Str name)
{
    ShownName shown = {{0}};
    const size_t room = sizeof shown.text - 1;
    const size_t len = name.len < room ? name.len : room;
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)name.data[i];
        shown.text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    return shown;
}
