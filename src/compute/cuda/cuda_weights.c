/* cuda_weights.c — weights from the mapped file to the device: through pinned memory in whole rows,
 * converted to bf16 by a kernel that reads the pinned rows directly, into the bordered layout of
 * cuda_state.h, or copied as they are and converted at every use. Nothing here waits for the device
 * except a full ring.
 */
#include "compute/cuda/cuda_kernels.h"
#include "compute/cuda/cuda_state.h"
#include "compute/cuda_traits.h"

#include <string.h>

static SourceType source_type(Dtype dtype)
{
    switch (dtype) {
    case DTYPE_BF16: return SOURCE_BF16;
    case DTYPE_F16: return SOURCE_F16;
    case DTYPE_F32: return SOURCE_F32;
    case DTYPE_Q4_0: return SOURCE_Q4_0;
    case DTYPE_Q4_1: return SOURCE_Q4_1;
    case DTYPE_Q5_0: return SOURCE_Q5_0;
    case DTYPE_Q5_1: return SOURCE_Q5_1;
    case DTYPE_Q8_0: return SOURCE_Q8_0;
    case DTYPE_IQ4_NL: return SOURCE_IQ4_NL;
    case DTYPE_Q2_K: return SOURCE_Q2_K;
    case DTYPE_Q3_K: return SOURCE_Q3_K;
    case DTYPE_Q4_K: return SOURCE_Q4_K;
    case DTYPE_Q5_K: return SOURCE_Q5_K;
    case DTYPE_Q6_K: return SOURCE_Q6_K;
    case DTYPE_IQ4_XS: return SOURCE_IQ4_XS;
    default: must(!"a weight type without conversion"); return SOURCE_BF16;
    }
}

/* Whole rows of the file, piece by piece: `to` gets row i at i * stride bytes. */
typedef void TakeRows(CudaState *state, const Weight *weight, const void *pinned, uint8_t *to,
                      int64_t stride, int64_t rows);

static void take_wide(CudaState *state, const Weight *weight, const void *pinned, uint8_t *to,
                      int64_t stride, int64_t rows)
{
    kernel_convert_rows(state->stream, source_type(weight->dtype), pinned, to, stride / 2, rows,
                        weight->cols);
}

static void take_packed(CudaState *state, const Weight *weight, const void *pinned, uint8_t *to,
                        int64_t stride, int64_t rows)
{
    assert(stride == (int64_t)dtype_row_bytes(weight->dtype, weight->cols));
    cuda_check(state, cudaMemcpyAsync(to, pinned, (size_t)(rows * stride), cudaMemcpyDefault,
                                      state->stream));
}

static void upload_rows(CudaState *state, const Weight *weight, TakeRows *take_rows, uint8_t *to,
                        int64_t stride)
{
    const size_t row_bytes = dtype_row_bytes(weight->dtype, weight->cols);
    must(row_bytes <= state->ring.slot_bytes);
    const int64_t rows_each = (int64_t)(state->ring.slot_bytes / row_bytes);
    for (int64_t row = 0; row < weight->rows; row += rows_each) {
        const int64_t rows = min_i64(rows_each, weight->rows - row);
        const size_t bytes = (size_t)rows * row_bytes;
        void *pinned = cuda_upload_reserve(state, bytes);
        memcpy(pinned, (const uint8_t *)weight->source + (size_t)row * row_bytes, bytes);
        take_rows(state, weight, pinned, to + row * stride, stride, rows);
    }
}

static WeightBlock *block_make(Backend *backend, Weight *const *weights, int n, int64_t rank,
                               GroupLayout *layout)
{
    const Weight *parts[LINEAR_MAX_PARTS] = {0};
    must(n >= 1 && n <= LINEAR_MAX_PARTS && rank >= 0);
    for (int i = 0; i < n; i++) {
        parts[i] = weights[i];
        must(weights[i]->cols == weights[0]->cols && weights[i]->source != NULL);
    }
    *layout = cuda_group_layout(&backend->traits, parts, n, rank);
    must(layout->cols % 8 == 0);
    WeightBlock *block = arena_new(&cuda_state(backend)->host, WeightBlock);
    *block = (WeightBlock){.rows = layout->rows, .cols = layout->cols, .tail = layout->tail,
                           .ld = layout->cols + layout->tail, .b_stride = layout->b_stride,
                           .n_parts = n};
    return block;
}

void cuda_group_open(Backend *backend, Weight *const *weights, int n, int64_t rank, Arena *slab)
{
    CudaState *state = cuda_state(backend);
    GroupLayout layout;
    WeightBlock *block = block_make(backend, weights, n, rank, &layout);
    uint8_t *base = arena_push(slab, layout.total);
    block->a = base + layout.a;
    block->b = base + layout.b;
    block->data = layout.packed ? NULL : base;
    if (block->tail > 0)
        cuda_check(state, cudaMemsetAsync(base, 0, layout.total, state->stream));
    int64_t row = 0;
    for (int i = 0; i < n; i++) {
        Weight *w = weights[i];
        uint8_t *to = base + (layout.packed ? layout.part[i] : (size_t)(row * block->ld) * 2);
        if (layout.packed)
            upload_rows(state, w, take_packed, to, (int64_t)dtype_row_bytes(w->dtype, w->cols));
        else
            upload_rows(state, w, take_wide, to, block->ld * 2);
        block->part[i].data = w->data = to;
        block->part[i].dtype = w->dtype;
        block->part[i].rows = w->rows;
        w->packed = block;
        row += w->rows;
    }
    cuda_check(state, cudaGetLastError());
}

void cuda_weight_open(Backend *backend, Weight *weight, Arena *slab)
{
    Weight *const one[1] = {weight};
    cuda_group_open(backend, one, 1, 0, slab);
}

const void *cuda_weight_matrix(CudaState *state, const WeightBlock *block, void *panel)
{
    if (block->data != NULL)
        return block->data;
    uint8_t *to = panel;
    const size_t row_bytes = (size_t)block->ld * 2, tail_bytes = (size_t)block->tail * 2;
    for (int i = 0; i < block->n_parts; i++) {
        kernel_convert_rows(state->stream, source_type(block->part[i].dtype), block->part[i].data,
                            to, block->ld, block->part[i].rows, block->cols);
        to += (size_t)block->part[i].rows * row_bytes;
    }
    if (block->tail == 0)
        return panel;
    kernel_copy_tail(state->stream, block->b, block->tail,
                     (uint8_t *)panel + (size_t)block->cols * 2, block->ld, block->rows);
    cuda_check(state, cudaMemcpyAsync(to, block->a, row_bytes * tail_bytes / 2,
                                      cudaMemcpyDeviceToDevice, state->stream));
    return panel;
}

const void *cuda_weight_slice(CudaState *state, const WeightBlock *block, int64_t first,
                              int64_t rows, void *panel)
{
    must(block->n_parts == 1 && block->tail == 0 && first >= 0 && first + rows <= block->rows);
    if (block->data != NULL)
        return (const uint8_t *)block->data + (size_t)(first * block->ld) * 2;
    const Dtype dtype = block->part[0].dtype;
    const uint8_t *from = block->part[0].data;
    from += (size_t)first * dtype_row_bytes(dtype, block->cols);
    kernel_convert_rows(state->stream, source_type(dtype), from, panel, block->ld, rows,
                        block->cols);
    return panel;
}

void cuda_weight_rows(CudaState *state, const WeightBlock *block, const int32_t *tokens,
                      float scale, const Tensor *y)
{
    must(block->n_parts == 1 && y->cols == block->cols);
    const DeviceMatrix to = {y->data, y->stride, y->dtype == DTYPE_F32};
    if (block->data != NULL)
        kernel_embed_fwd(state->stream, block->data, block->ld, tokens, scale, to, y->rows,
                         y->cols);
    else
        kernel_embed_packed(state->stream, source_type(block->part[0].dtype), block->part[0].data,
                            tokens, scale, to, y->rows, y->cols);
}
