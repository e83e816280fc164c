/* cuda_state.h — what the files of the CUDA backend share: the device's state, where weights lie,
 * and the noting of errors. Nobody outside this folder includes it.
 */
#ifndef COMPUTE_CUDA_STATE_H
#define COMPUTE_CUDA_STATE_H

#include <cuda_runtime_api.h>

#include "compute/compute.h"
#include "compute/cuda/cuda_gemm.h"

/* One linear group as products read it, bf16, row stride ld = cols + tail:
 *
 *              cols          tail
 *   rows    [  W  |  B of the parts, block-diagonal  ]
 *   tail    [  scale * A of the parts  |  0          ]
 *
 * so that y = [x | h] [W | B]^T with h = x (scale A)^T, and dx = [dy | dh] [W ; scale A] with
 * dh = dy B. Columns of the tail beyond the parts' ranks are zero. Weight.packed points here.
 *
 * A packed block keeps its parts' rows as their file has them, [A | 0] as a [tail, ld] and B as a
 * [rows, tail] matrix; the matrix above is put together in the scratch of each call. */
typedef struct WeightBlock {
    void *data; /* NULL = packed */
    void *a, *b;
    int64_t rows, cols, tail, ld, b_stride;
    int n_parts;
    struct { /* packed */
        const void *data;
        Dtype dtype;
        int64_t rows;
    } part[LINEAR_MAX_PARTS];
} WeightBlock;

/* Pinned host memory through which everything goes to the device. A slot is filled front to back
 * and reused when the device has passed its event. */
enum { UPLOAD_SLOTS = 8 };
typedef struct UploadRing {
    uint8_t *memory;
    size_t slot_bytes;
    size_t used; /* of the current slot */
    int slot;
    cudaEvent_t done[UPLOAD_SLOTS];
} UploadRing;

/* Copies beside the ops, on a stream of their own. */
typedef struct CopyQueue {
    cudaStream_t stream;
    cudaEvent_t asked, done[COPY_SLOTS];
} CopyQueue;

enum { MAX_RECORDINGS = 16 };

typedef struct CudaState {
    Arena host;
    cudaStream_t stream;
    Gemm *gemm;
    void *workspace;
    int capability;      /* 90 for 9.0 */
    size_t shared_bytes; /* most shared memory of a block */
    UploadRing ring;
    CopyQueue copies;
    cudaGraphExec_t recordings[MAX_RECORDINGS];
    int n_recordings;
    double peak_flops; /* 0 = not measured */
    const char *error; /* first one, sticks */
} CudaState;

static inline CudaState *cuda_state(Backend *backend)
{
    return (CudaState *)backend->state;
}

/* Keeps the first error; NULL is none. */
static inline void cuda_note(CudaState *state, const char *error)
{
    if (state->error == NULL)
        state->error = error;
}

static inline void cuda_check(CudaState *state, cudaError_t status)
{
    if (status != cudaSuccess)
        cuda_note(state, cudaGetErrorString(status));
}

static inline void cuda_gemm(CudaState *state, const GemmCall *call)
{
    cuda_note(state, gemm_run_cuda(state->gemm, state->stream, call));
}

/* Next `bytes` of pinned memory (at most slot_bytes), aligned to 256. */
void *cuda_upload_reserve(CudaState *state, size_t bytes);

/* cuda_weights.c */
void cuda_weight_open(Backend *backend, Weight *weight, Arena *slab);
/* The block's matrix, row stride ld: its own, or one made in `panel` (cuda_panel_bytes). */
const void *cuda_weight_matrix(CudaState *state, const WeightBlock *block, void *panel);
/* Rows [first, first + rows) of a block of one part without a tail, likewise. */
const void *cuda_weight_slice(CudaState *state, const WeightBlock *block, int64_t first,
                              int64_t rows, void *panel);
/* Rows of a table by token, times scale. */
void cuda_weight_rows(CudaState *state, const WeightBlock *block, const int32_t *tokens,
                      float scale, const Tensor *y);
void cuda_group_open(Backend *backend, Weight *const *weights, int n, int64_t rank, Arena *slab);

/* cuda_ops.c, cuda_linear.c: fills backend->run. */
void cuda_ops_install(Backend *backend);
void cuda_linear_fwd(Backend *backend, const OpCall *call);
void cuda_linear_bwd(Backend *backend, const OpCall *call);
void cuda_lowrank_refresh(Backend *backend, const OpCall *call);

/* Element `column` of the first row of a matrix of bf16 (or f32 where the tensor is). */
static inline void *cuda_column(const Tensor *t, int64_t column)
{
    return (uint8_t *)t->data + column * (t->dtype == DTYPE_F32 ? 4 : 2);
}

#endif
