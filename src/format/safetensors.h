/* safetensors.h — reading and writing safetensors files.
 * Layout (huggingface/safetensors): u64 little-endian header length, a JSON header {name: {dtype,
 * shape, data_offsets}, "__metadata__": {string: string}}, then the data. At the head of
 * safetensors.c: what is checked.
 */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/tensor.h"
#include "format/name_index.h"

typedef struct StTensor {
    const char *name;
    const char *type_name; /* dtype as the file spells it: "BF16" */
    Dtype dtype;           /* F32, F16, BF16 or I32 when known, else DTYPE_COUNT */
    bool known;            /* dtype is one that Tensor can hold, and n_dims <= 4 */
    int n_dims;            /* 0 for a scalar; may exceed 4 when not known */
    int64_t shape[4];      /* as in the file: outermost first; the first four */
    const void *data;      /* aligned to its element when known */
    size_t bytes;
} StTensor;

typedef struct SafeTensors {
    FileMap map;
    StTensor *tensors; /* in the order of their data */
    size_t n_tensors;
    const char **meta_keys, **meta_values;
    size_t n_meta;
    NameIndex index; /* of the tensors' names */
} SafeTensors;

/* Maps and checks the whole structure. Errors are of `code` and name what is wrong. Results live in
 * `out`; data lies in the mapping, but for tensors that the file puts at odd addresses (headers of
 * old files are not padded): those are copied to `out`. */
bool st_open(SafeTensors *st, const char *path, ErrCode code, Arena *out, Err *err);
bool st_parse(SafeTensors *st, const uint8_t *data, size_t size, const char *subject, ErrCode code,
              Arena *out, Err *err);
void st_close(SafeTensors *st);
const StTensor *st_find(const SafeTensors *st, const char *name); /* NULL when absent */
const char *st_meta(const SafeTensors *st, const char *key);      /* NULL when absent */

/* One tensor to be written. */
typedef struct StEntry {
    const char *name;
    Dtype dtype; /* F32, F16, BF16, I32 */
    int n_dims;
    int64_t shape[4];
    const void *data;
} StEntry;

/* Writes atomically: entries in the given order (wider types first keeps all aligned), header
 * padded to 8 bytes. meta may be NULL. */
bool st_write(const char *path, const StEntry *entries, size_t count, const char *const *meta_keys,
              const char *const *meta_values, size_t n_meta, ErrCode code, Err *err);

/* The same when the data does not lie in memory: after the header, the caller writes the entries'
 * data (StEntry.data is not read) one behind the other with file_writer_write, then commits. NULL
 * on failure. */
FileWriter *st_begin(const char *path, const StEntry *entries, size_t count,
                     const char *const *meta_keys, const char *const *meta_values, size_t n_meta,
                     ErrCode code, Err *err);

#endif
