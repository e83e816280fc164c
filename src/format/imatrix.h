/* imatrix.h — importance matrices: for every matrix of a model the mean square of each input column
 * over some text, as llama.cpp's tools write and read them. The two formats are described at the
 * head of imatrix.c.
 */
#ifndef FORMAT_IMATRIX_H
#define FORMAT_IMATRIX_H

#include "core/arena.h"
#include "core/file.h"
#include "format/name_index.h"

typedef struct ImatrixEntry {
    Str name;            /* "blk.0.attn_q.weight" */
    const float *values; /* finite, >= 0 in sound files */
    int64_t n;           /* columns (times matrices, where one tensor holds several) */
} ImatrixEntry;

typedef struct Imatrix {
    ImatrixEntry *entries;
    size_t n_entries;
    NameIndex index;
    Str dataset;   /* the first one; may be empty */
    int64_t chunks; /* 0 = unknown */
} Imatrix;

/* Either format. Values are copied to `out`. Errors are INPUT_VALIDATION_FAILED and name what is
 * wrong: a damaged file, sums without counts, a value that is not finite. */
bool imatrix_open(Imatrix *imatrix, const char *path, Arena *out, Err *err);
/* The same over bytes in memory (fuzzing, tests); `subject` is named in errors. */
bool imatrix_parse(Imatrix *imatrix, const uint8_t *data, size_t size, const char *subject,
                   Arena *out, Err *err);
const ImatrixEntry *imatrix_find(const Imatrix *imatrix, const char *name); /* NULL when absent */

/* Sums of squares over `count` tokens, as they are collected. */
typedef struct ImatrixSums {
    const char *name;
    const float *sums; /* [n] */
    int64_t n;
} ImatrixSums;
typedef struct ImatrixOrigin {
    const char *dataset;
    uint32_t chunks, chunk_tokens;
    uint64_t tokens; /* seen by every matrix */
} ImatrixOrigin;
/* Writes llama.cpp's GGUF form, entries in the order of their names, through a file aside. */
bool imatrix_write(const char *path, ImatrixSums *entries, size_t n, const ImatrixOrigin *origin,
                   Err *err);

#endif
