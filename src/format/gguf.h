/* gguf.h — reading and writing GGUF files (versions 2 and 3 read, 3 written).
 * The byte layout is described at the head of gguf_read.c.
 */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include "core/arena.h"
#include "core/file.h"
#include "core/str.h"
#include "core/tensor.h"
#include "format/name_index.h"

typedef enum GgufType { /* value types of metadata, ids as in the file */
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING,
    GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_COUNT
} GgufType;

/* One metadata value. Scalars are widened; arrays point into the mapping (strings are indexed). */
typedef struct GgufValue {
    Str key;
    GgufType type;
    GgufType element;    /* of an array */
    uint64_t count;      /* elements of an array */
    union {
        uint64_t u;      /* unsigned kinds and bool */
        int64_t i;
        double f;
        Str str;
        const void *raw; /* array of numbers, as in the file (unaligned, little-endian) */
        const Str *strs; /* array of strings */
    } as;
} GgufValue;

typedef struct GgufTensor {
    const char *name;
    Dtype dtype;
    int n_dims;
    int64_t ne[4];    /* ne[0] innermost, as in the file; missing ones are 1 */
    const void *data; /* inside the mapping */
    size_t bytes;
} GgufTensor;

typedef struct Gguf {
    FileMap map;
    uint32_t version;
    uint64_t alignment;
    GgufValue *values;
    uint64_t n_values;
    GgufTensor *tensors;
    uint64_t n_tensors;
    NameIndex value_index, tensor_index;
} Gguf;

/* Maps and checks the whole structure: limits, offsets, sizes, duplicate keys and tensor names.
 * Errors are DEP_MODEL_LOAD_FAILED and name what is wrong and where. Results live in `out`. */
bool gguf_open(Gguf *gguf, const char *path, Arena *out, Err *err);
/* The same over bytes in memory (fuzzing, tests); `subject` is named in errors. */
bool gguf_parse(Gguf *gguf, const uint8_t *data, size_t size, const char *subject, Arena *out,
                Err *err);
void gguf_close(Gguf *gguf);

const GgufValue *gguf_find(const Gguf *gguf, const char *key); /* NULL when absent */
const GgufTensor *gguf_tensor(const Gguf *gguf, const char *name);
/* Typed reads with a fallback for an absent key or another kind of value. gguf_int takes every
 * integer kind that fits, gguf_float every number. */
int64_t gguf_int(const Gguf *gguf, const char *key, int64_t fallback);
double gguf_float(const Gguf *gguf, const char *key, double fallback);
bool gguf_bool(const Gguf *gguf, const char *key, bool fallback);
Str gguf_str(const Gguf *gguf, const char *key); /* empty when absent */
/* Element i of a numeric array. */
double gguf_array_number(const GgufValue *array, uint64_t i);

/* Writing: keys first, then all tensor headers, then their data in the same order.
 *     GgufWriter *w = gguf_writer_open(path, &err);
 *     gguf_put_str(w, "general.architecture", STR("llama")); …
 *     gguf_add_tensor(w, "token_embd.weight", DTYPE_F16, 2, ne); …
 *     gguf_writer_begin_data(w);
 *     gguf_write_data(w, bytes, n); …                   (streams; the writer pads at tensor ends)
 *     gguf_writer_commit(w, &err)
 * A failed write sticks and is reported by commit, which renames the file into place. So does a
 * key or tensor name given twice. Data is padded to general.alignment if that key is written
 * (a u32, 8 to 65536), else to 32 bytes. */
typedef struct GgufWriter GgufWriter;
GgufWriter *gguf_writer_open(const char *path, Err *err);
void gguf_put_u32(GgufWriter *w, const char *key, uint32_t value);
void gguf_put_f32(GgufWriter *w, const char *key, float value);
void gguf_put_bool(GgufWriter *w, const char *key, bool value);
void gguf_put_str(GgufWriter *w, const char *key, Str value);
void gguf_put_strs(GgufWriter *w, const char *key, const Str *values, uint64_t count);
void gguf_put_i32s(GgufWriter *w, const char *key, const int32_t *values, uint64_t count);
void gguf_put_f32s(GgufWriter *w, const char *key, const float *values, uint64_t count);
void gguf_put_copy(GgufWriter *w, const GgufValue *value); /* as it was read, any kind */
void gguf_add_tensor(GgufWriter *w, const char *name, Dtype dtype, int n_dims, const int64_t *ne);
void gguf_writer_begin_data(GgufWriter *w);
void gguf_write_data(GgufWriter *w, const void *data, size_t bytes);
bool gguf_writer_commit(GgufWriter *w, Err *err); /* frees w either way */
void gguf_writer_abandon(GgufWriter *w);          /* removes the partial file; safe on NULL */

#endif
