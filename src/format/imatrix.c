/* imatrix.c — the two files of llama.cpp's importance matrices.
 *
 * GGUF: keys general.type = "imatrix", imatrix.datasets (strings), imatrix.chunk_count and
 * imatrix.chunk_size (u32), all three required; for a tensor T of the model the f32 tensors
 * "T.in_sum2" {columns, matrices} = sums of squares and "T.counts" {1, matrices} = tokens seen. The
 * value is sum / count, and 1 where a matrix saw nothing.
 * Older, little-endian: i32 entries; each: i32 length, name, i32 calls, i32 n, f32[n] = mean square
 * times calls; then, or not: i32 chunks, i32 length, name of the data set.
 */
#include "format/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/gguf.h"

enum {
    IMATRIX_MAX_ENTRIES = 1 << 20,
    IMATRIX_MAX_NAME = 1 << 12,
    IMATRIX_MAX_VALUES = 1 << 28,
    IMATRIX_MIN_ENTRY_BYTES = 4 + 4 + 4 + 4, /* with an empty name, and one value */
    IMATRIX_NAME_BUFFER = 256
};
static const ErrCode CODE = ERR_INPUT_VALIDATION_FAILED;

static bool bad(const char *subject, const char *what, Err *err)
{
    err_set(err, CODE, "'%s' is not an importance matrix: %s", subject, what);
    return err_hint(err, "Make one with --imatrix-data");
}

static bool finite_values(const ImatrixEntry *entry)
{
    for (int64_t i = 0; i < entry->n; i++)
        if (!isfinite(entry->values[i]))
            return false;
    return true;
}

static bool index_entries(Imatrix *m, const char *subject, Arena *out, Err *err)
{
    Str duplicate;
    m->index = name_index_make(m->n_entries, out);
    for (size_t i = 0; i < m->n_entries; i++) {
        const ImatrixEntry *entry = &m->entries[i];
        if (!finite_values(entry)) {
            err_set(err, CODE, "'%s': the importance of '%s' is not finite", subject,
                    name_shown(entry->name).text);
            return false;
        }
        name_index_set(&m->index, i, entry->name);
    }
    if (!name_index_sort(&m->index, &duplicate))
        return bad(subject, "a name comes twice", err);
    return true;
}

/* ---- GGUF -------------------------------------------------------------------------------- */

static int64_t elements(const GgufTensor *t)
{
    return (int64_t)(t->bytes / sizeof(float));
}

static bool take_tensor(ImatrixEntry *entry, const GgufTensor *sums, const GgufTensor *counts,
                        const char *subject, Arena *out, Err *err)
{
    if (counts == NULL || sums->dtype != DTYPE_F32 || counts->dtype != DTYPE_F32)
        return bad(subject, "sums without counts, or not in f32", err);
    const int64_t n = elements(sums), groups = elements(counts);
    if (groups < 1 || n % groups != 0 || n > IMATRIX_MAX_VALUES)
        return bad(subject, "sums and counts do not fit each other", err);
    float *values = arena_push(out, (size_t)n * sizeof *values);
    const uint8_t *from = sums->data;
    memcpy(values, from, (size_t)n * sizeof *values);
    for (int64_t g = 0; g < groups; g++) {
        float seen;
        memcpy(&seen, (const uint8_t *)counts->data + (size_t)g * sizeof seen, sizeof seen);
        const float count = roundf(seen);
        for (int64_t i = g * (n / groups); i < (g + 1) * (n / groups); i++)
            values[i] = count > 0 ? values[i] / count : 1.0f;
    }
    entry->values = values;
    entry->n = n;
    return true;
}

static bool from_gguf(Imatrix *m, const Gguf *gguf, const char *subject, Arena *out, Err *err)
{
    static const char sums_suffix[] = ".in_sum2";
    const size_t suffix = sizeof sums_suffix - 1;
    const GgufValue *datasets = gguf_find(gguf, "imatrix.datasets");
    if (datasets == NULL || gguf_find(gguf, "imatrix.chunk_count") == NULL ||
        gguf_find(gguf, "imatrix.chunk_size") == NULL)
        return bad(subject, "keys imatrix.datasets, .chunk_count or .chunk_size are missing", err);
    if (datasets->type == GGUF_ARRAY && datasets->element == GGUF_STRING && datasets->count > 0)
        m->dataset = (Str){arena_strndup(out, datasets->as.strs[0].data, datasets->as.strs[0].len),
                           datasets->as.strs[0].len};
    m->chunks = gguf_int(gguf, "imatrix.chunk_count", 0);
    m->entries = arena_array(out, ImatrixEntry, (int64_t)gguf->n_tensors);
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        const GgufTensor *t = &gguf->tensors[i];
        const size_t len = strlen(t->name);
        if (len <= suffix || strcmp(t->name + len - suffix, sums_suffix) != 0)
            continue;
        char counts[IMATRIX_NAME_BUFFER];
        must(len < sizeof counts);
        snprintf(counts, sizeof counts, "%.*s.counts", (int)(len - suffix), t->name);
        ImatrixEntry *entry = &m->entries[m->n_entries++];
        entry->name = (Str){arena_strndup(out, t->name, len - suffix), len - suffix};
        if (!take_tensor(entry, t, gguf_tensor(gguf, counts), subject, out, err))
            return false;
    }
    return m->n_entries > 0 || bad(subject, "it holds no sums", err);
}

/* ---- the older form ---------------------------------------------------------------------- */

typedef struct Cursor {
    const uint8_t *at;
    size_t left;
} Cursor;

static bool take(Cursor *c, size_t bytes, const uint8_t **from)
{
    if (bytes > c->left)
        return false;
    *from = c->at;
    c->at += bytes;
    c->left -= bytes;
    return true;
}

static bool take_int(Cursor *c, int32_t *value)
{
    const uint8_t *from;
    if (!take(c, sizeof *value, &from))
        return false;
    memcpy(value, from, sizeof *value);
    return true;
}

static bool take_str(Cursor *c, Str *text, Arena *out)
{
    int32_t len;
    const uint8_t *from;
    if (!take_int(c, &len) || len < 0 || len > IMATRIX_MAX_NAME || !take(c, (size_t)len, &from))
        return false;
    *text = (Str){arena_strndup(out, (const char *)from, (size_t)len), (size_t)len};
    return true;
}

static bool take_entry(Cursor *c, ImatrixEntry *entry, Arena *out)
{
    int32_t calls, n;
    const uint8_t *from;
    if (!take_str(c, &entry->name, out) || !take_int(c, &calls) || !take_int(c, &n) || n < 1 ||
        n > IMATRIX_MAX_VALUES || !take(c, (size_t)n * sizeof(float), &from))
        return false;
    float *values = arena_push(out, (size_t)n * sizeof *values);
    memcpy(values, from, (size_t)n * sizeof *values);
    for (int32_t i = 0; calls > 0 && i < n; i++)
        values[i] /= (float)calls;
    entry->values = values;
    entry->n = n;
    return true;
}

static bool from_older(Imatrix *m, Cursor c, const char *subject, Arena *out, Err *err)
{
    int32_t n, chunks;
    if (!take_int(&c, &n) || n < 1 || n > IMATRIX_MAX_ENTRIES ||
        (size_t)n > c.left / IMATRIX_MIN_ENTRY_BYTES)
        return bad(subject, "neither a GGUF file nor a sound older one", err);
    m->entries = arena_array(out, ImatrixEntry, n);
    for (int32_t i = 0; i < n; i++, m->n_entries++)
        if (!take_entry(&c, &m->entries[i], out))
            return bad(subject, "it is damaged or cut off", err);
    if (take_int(&c, &chunks)) {
        m->chunks = chunks;
        if (c.left > 0 && !take_str(&c, &m->dataset, out))
            return bad(subject, "the name of its data set is damaged", err);
    }
    return true;
}

bool imatrix_parse(Imatrix *m, const uint8_t *data, size_t size, const char *subject, Arena *out,
                   Err *err)
{
    Gguf gguf;
    Err reason = {0};
    *m = (Imatrix){0};
    bool ok;
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
        ok = gguf_parse(&gguf, data, size, subject, out, &reason)
                 ? from_gguf(m, &gguf, subject, out, err)
                 : bad(subject, reason.message, err);
    else
        ok = from_older(m, (Cursor){data, size}, subject, out, err);
    return ok && index_entries(m, subject, out, err);
}

bool imatrix_open(Imatrix *m, const char *path, Arena *out, Err *err)
{
    FileMap map;
    if (!file_map(&map, path, CODE, err))
        return false;
    bool ok = imatrix_parse(m, map.data, map.size, path, out, err);
    file_unmap(&map);
    return ok;
}

const ImatrixEntry *imatrix_find(const Imatrix *m, const char *name)
{
    const int64_t i = name_index_find(&m->index, str_of(name));
    return i < 0 ? NULL : &m->entries[i];
}

/* ---- writing ----------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ImatrixSums *)a)->name, ((const ImatrixSums *)b)->name);
}

static void add_tensor(GgufWriter *w, const char *name, const char *suffix, int64_t n)
{
    char full[IMATRIX_NAME_BUFFER];
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    gguf_add_tensor(w, full, DTYPE_F32, 2, (int64_t[]){n, 1});
}

bool imatrix_write(const char *path, ImatrixSums *entries, size_t n, const ImatrixOrigin *origin,
                   Err *err)
{
    assert(n > 0 && origin->tokens > 0);
    GgufWriter *w = gguf_writer_open(path, err);
    if (w == NULL)
        return false;
    const Str dataset = str_of(origin->dataset);
    const float count = (float)origin->tokens;
    qsort(entries, n, sizeof *entries, by_name);
    gguf_put_str(w, "general.type", STR("imatrix"));
    gguf_put_strs(w, "imatrix.datasets", &dataset, 1);
    gguf_put_u32(w, "imatrix.chunk_count", origin->chunks);
    gguf_put_u32(w, "imatrix.chunk_size", origin->chunk_tokens);
    for (size_t i = 0; i < n; i++) {
        add_tensor(w, entries[i].name, "in_sum2", entries[i].n);
        add_tensor(w, entries[i].name, "counts", 1);
    }
    gguf_writer_begin_data(w);
    for (size_t i = 0; i < n; i++) {
        gguf_write_data(w, entries[i].sums, (size_t)entries[i].n * sizeof(float));
        gguf_write_data(w, &count, sizeof count);
    }
    return gguf_writer_commit(w, err);
}
