/* cuda_traits.h — what can be known of the CUDA backend without a device: traits, scratch bytes,
 * weight bytes. Compiled into the library, for planning on any machine, and into the plug-in, so
 * that both count alike.
 */
#ifndef COMPUTE_CUDA_TRAITS_H
#define COMPUTE_CUDA_TRAITS_H

#include "compute/compute.h"

/* Fills traits, scratch, weight_bytes and group_bytes; ops are stubs that must not run. Good for
 * backend_open_plan. */
void backend_traits_cuda(Backend *backend);

enum { CUDA_ROW_TAIL = 16, CUDA_ALIGN = 256, CUDA_NORM_MAX_COLS = 16384 };

/* Where a linear group lies in its slab (WeightBlock in cuda_state.h), offsets in bytes. */
typedef struct GroupLayout {
    int64_t rows, cols, tail; /* of all parts; tail: row tail of the inputs */
    bool packed;
    size_t part[LINEAR_MAX_PARTS]; /* packed */
    size_t a, b, total;
    int64_t b_stride; /* elements */
} GroupLayout;
GroupLayout cuda_group_layout(const BackendTraits *traits, const Weight *const *weights, int n,
                              int64_t rank);
/* What making it wide takes at each use, at the end of the call's scratch; 0 when it is not packed.
 */
size_t cuda_panel_bytes(const GroupLayout *layout);

/* How the scratch of a call is divided; offsets in bytes, all multiples of CUDA_ALIGN. */
typedef struct LinearScratch {
    size_t bias;     /* forward: [sum out] bf16 */
    size_t da;       /* backward: [tail, in] f32, or the next two where thin */
    size_t row_partials, column_partials; /* of cuda_thin.cu, for dy and then for x */
    size_t partials; /* backward: column sums of dy */
    size_t total;
    bool thin;       /* low-rank gradients by cuda_thin.cu, in one pass over dy and one over x */
} LinearScratch;
/* How a tall matrix is cut for cuda_thin.cu: columns into chunks, rows into strips. */
enum { THIN_CHUNK = 512, THIN_MAX_RANK = 32, THIN_MAX_TAIL = 48 };
int64_t cuda_thin_chunks(const LinearArgs *args);
int64_t cuda_thin_strip_rows(int64_t rows, int64_t n_chunks);
LinearScratch cuda_linear_scratch(const LinearArgs *args, Pass pass);

typedef struct AttentionScratch { /* backward */
    int splits;              /* see cuda_attention_bwd.cu */
    size_t delta;            /* two of [H, T rounded up] f32 */
    size_t dk_parts, dv_parts;
    size_t total;
} AttentionScratch;
AttentionScratch cuda_attention_scratch(const AttentionArgs *args);

typedef struct LossScratch {
    int64_t chunk;  /* rows a chunk */
    int64_t stride; /* of the logits, elements */
    int64_t slice;  /* rows of the head a product takes */
    size_t rows;    /* [chunk, C] bf16: gathered x, then its gradient */
    size_t logits;  /* [chunk, stride] bf16 */
    size_t sums;    /* [chunk, C] f32: the gradient, where there are several slices */
    size_t total;
} LossScratch;
LossScratch cuda_loss_scratch(const CrossEntropyArgs *args);

/* Total width and low-rank tail of a linear call. */
int64_t cuda_linear_out(const LinearArgs *args);
int64_t cuda_linear_tail(const LinearArgs *args);

#endif
