/* gguf_layout.h — what the GGUF reader and the writer must agree on: limits, sizes, alignment.
 *
 * Private to src/format. The limits stand far above any real file; they exist so that no count from
 * outside is trusted. Sizes of tensors are computed here once, for both directions.
 */
#ifndef FORMAT_GGUF_LAYOUT_H
#define FORMAT_GGUF_LAYOUT_H

#include "format/gguf.h"

enum {
    GGUF_MIN_VERSION = 2,
    GGUF_MAX_VERSION = 3,
    GGUF_MAX_KEYS = 1 << 16,
    GGUF_MAX_TENSORS = 1 << 20,
    GGUF_MAX_KEY = 65535,      /* bytes of a key (docs/gguf.md) */
    GGUF_MAX_NAME = 63,        /* bytes of a tensor name (ggml keeps 64 with the NUL) */
    GGUF_MAX_STRING = 1 << 28, /* bytes of a string value */
    GGUF_MAX_DIMS = 4,
    GGUF_DEFAULT_ALIGNMENT = 32,
    GGUF_MIN_ALIGNMENT = 8, /* a multiple of 8 (docs/gguf.md), so that every element is aligned */
    GGUF_MAX_ALIGNMENT = 1 << 16,
    GGUF_MIN_STRING_BYTES = 8,             /* the length of an empty one */
    GGUF_MIN_KEY_BYTES = 8 + 1 + 4 + 1,    /* a key of one letter with a byte */
    GGUF_MIN_TENSOR_BYTES = 8 + 1 + 4 + 12 /* one letter, no dimensions */
};

/* Bytes of a scalar in the file. */
static inline size_t gguf_type_bytes(GgufType type)
{
    static const uint8_t bytes[GGUF_TYPE_COUNT] = {
        [GGUF_U8] = 1, [GGUF_I8] = 1, [GGUF_BOOL] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_U64] = 8, [GGUF_I64] = 8,
        [GGUF_F64] = 8,
    };
    must(type < GGUF_TYPE_COUNT && bytes[type] > 0);
    return bytes[type];
}

static inline bool gguf_alignment_ok(uint64_t alignment)
{
    return alignment >= GGUF_MIN_ALIGNMENT && alignment <= GGUF_MAX_ALIGNMENT &&
           (alignment & (alignment - 1)) == 0;
}

/* From dtype and ne; rows must be whole blocks. False when the size does not fit. */
static inline bool gguf_tensor_bytes(const GgufTensor *tensor, size_t *bytes)
{
    const DtypeInfo *info = dtype_info(tensor->dtype);
    assert(tensor->ne[0] > 0 && tensor->ne[0] % info->block == 0);
    size_t total;
    if (!size_mul((size_t)(tensor->ne[0] / info->block), (size_t)info->block_bytes, &total))
        return false;
    for (int d = 1; d < GGUF_MAX_DIMS; d++) {
        assert(tensor->ne[d] > 0);
        if (!size_mul(total, (size_t)tensor->ne[d], &total))
            return false;
    }
    *bytes = total;
    return true;
}

#endif
