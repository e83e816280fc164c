/* tensor.c — the dtype table made from dtypes.def.
 *
 * Owns the constants of each element or block type; knows nothing of how a block is decoded (that
 * is quant_block.h) nor of who stores what.
 */
#include "core/tensor.h"

static const DtypeInfo TABLE[DTYPE_COUNT] = {
#define X(name, text, ggml_id, block, bytes) [DTYPE_##name] = {text, ggml_id, block, bytes},
#include "core/dtypes.def"
#undef X
};

const DtypeInfo *dtype_info(Dtype dtype)
{
    must((unsigned)dtype < DTYPE_COUNT);
    return &TABLE[dtype];
}

bool dtype_from_ggml(int64_t ggml_id, Dtype *dtype)
{
    assert(dtype != NULL);
    if (ggml_id < 0)
        return false;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (TABLE[i].ggml_id == ggml_id) {
            *dtype = (Dtype)i;
            return true;
        }
    }
    return false;
}

size_t dtype_row_bytes(Dtype dtype, int64_t cols)
{
    const DtypeInfo *info = dtype_info(dtype);
    must(cols >= 0 && cols % info->block == 0);
    size_t bytes;
    must(size_mul((size_t)(cols / info->block), (size_t)info->block_bytes, &bytes));
    return bytes;
}
