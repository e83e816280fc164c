/* tensor.h — what a tensor is: data, dtype, shape, row stride. dtype is a field, never part of a
 * name.
 *
 * Everything the engine computes on is two-dimensional and row-major: activations are [T, C]
 * (token-major, no batch dimension: a batch is a flat stream of tokens), weights are [out, in] as
 * they lie in the file. Rows of quantised types consist of whole blocks.
 */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include "core/base.h"

typedef enum Dtype {
#define X(name, text, ggml_id, block, bytes) DTYPE_##name,
#include "core/dtypes.def"
#undef X
    DTYPE_COUNT
} Dtype;

typedef struct DtypeInfo {
    const char *name;  /* "f32", "q4_1" */
    int ggml_id;       /* id in GGUF files, -1 = none */
    int block;         /* elements in a block, 1 for plain types */
    int block_bytes;   /* bytes of a block */
} DtypeInfo;

const DtypeInfo *dtype_info(Dtype dtype);
bool dtype_from_ggml(int64_t ggml_id, Dtype *dtype); /* false: not a type we read */
static inline bool dtype_is_plain(Dtype dtype) { return dtype_info(dtype)->block == 1; }
/* Bytes of one row of `cols` elements; cols must be a multiple of the block. */
size_t dtype_row_bytes(Dtype dtype, int64_t cols);

typedef struct Tensor {
    void *data; /* host or device, as the backend that owns it */
    Dtype dtype;
    int64_t rows, cols;
    int64_t stride; /* elements from one row to the next, >= cols; quantised types: == cols */
} Tensor;

static inline Tensor tensor_make(void *data, Dtype dtype, int64_t rows, int64_t cols)
{
    return (Tensor){.data = data, .dtype = dtype, .rows = rows, .cols = cols, .stride = cols};
}
static inline size_t tensor_bytes(const Tensor *t)
{
    return (size_t)t->rows * dtype_row_bytes(t->dtype, t->stride);
}
static inline bool tensor_is_empty(const Tensor *t) { return t->data == NULL; }
static inline float *tensor_f32(const Tensor *t)
{
    assert(t->dtype == DTYPE_F32);
    return (float *)t->data;
}

#endif
