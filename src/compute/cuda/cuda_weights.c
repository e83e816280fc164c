/* cuda_weights.c — weights from the mapped file to the device: through pinned memory in whole rows,
 * converted to bf16 by a kernel that reads the pinned rows directly, into the bordered layout of
 * cuda_state.h. Nothing here waits for the device except a full ring.
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

static void upload_rows(CudaState *state, const Weight *weight, const WeightBlock *block,
                        int64_t first_row)
{
    const size_t row_bytes = dtype_row_bytes(weight->dtype, weight->cols);
    must(row_bytes <= state->ring.slot_bytes);
    const int64_t rows_each = (int64_t)(state->ring.slot_bytes / row_bytes);
    for (int64_t row = 0; row < weight->rows; row += rows_each) {
        const int64_t rows = min_i64(rows_each, weight->rows - row);
        const size_t bytes = (size_t)rows * row_bytes;
        void *pinned = cuda_upload_reserve(state, bytes);
        memcpy(pinned, (const uint8_t *)weight->source + (size_t)row * row_bytes, bytes);
        uint8_t *to = (uint8_t *)block->data + (size_t)((first_row + row) * block->ld) * 2;
        kernel_convert_rows(state->stream, source_type(weight->dtype), pinned, to, block->ld, rows,
                            weight->cols);
    }
}

void cuda_group_open(Backend *backend, Weight *const *weights, int n, int64_t rank, Arena *slab)
{
    must(n >= 1 && n <= LINEAR_MAX_PARTS && rank >= 0);
    CudaState *state = cuda_state(backend);
    WeightBlock *block = arena_new(&state->host, WeightBlock);
    block->cols = weights[0]->cols;
    block->tail = round_up(rank, CUDA_ROW_TAIL);
    block->ld = block->cols + block->tail;
    block->n_parts = n;
    for (int i = 0; i < n; i++) {
        must(weights[i]->cols == block->cols && weights[i]->source != NULL);
        block->rows += weights[i]->rows;
    }
    must(block->cols % 8 == 0);
    const size_t bytes = backend->group_bytes(backend, weights, n, rank);
    block->data = arena_push(slab, bytes);
    if (block->tail > 0)
        cuda_check(state, cudaMemsetAsync(block->data, 0, bytes, state->stream));
    int64_t row = 0;
    for (int i = 0; i < n; i++) {
        upload_rows(state, weights[i], block, row);
        weights[i]->data = (uint8_t *)block->data + (size_t)(row * block->ld) * 2;
        weights[i]->packed = block;
        row += weights[i]->rows;
    }
    cuda_check(state, cudaGetLastError());
}

void cuda_weight_open(Backend *backend, Weight *weight, Arena *slab)
{
    Weight *const one[1] = {weight};
    cuda_group_open(backend, one, 1, 0, slab);
}
