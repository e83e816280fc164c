/* cuda_kernels.h — the border between the backend (C) and its kernels (.cu): one launcher a kernel.
 *
 * Launchers only enqueue on `stream`; a failed launch shows in cudaGetLastError, which the caller
 * reads. Activations are bf16. Pointers are 16-byte aligned, and row strides and widths are
 * multiples of 8 elements, unless said otherwise: kernels move 16 bytes a thread.
 * Sums have a fixed order; nothing here uses atomics.
 */
#ifndef COMPUTE_CUDA_KERNELS_H
#define COMPUTE_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A device matrix of bf16, or of f32 where is_f32 says so (the residual stream may be either). */
typedef struct DeviceMatrix {
    void *data;
    int64_t stride; /* elements */
    int is_f32;
} DeviceMatrix;

/* Storage types that can be converted; values are those of the kernel's switch. */
typedef enum SourceType {
    SOURCE_BF16, SOURCE_F16, SOURCE_F32,
    SOURCE_Q4_0, SOURCE_Q4_1, SOURCE_Q5_0, SOURCE_Q5_1, SOURCE_Q8_0, SOURCE_IQ4_NL, /* blocks */
    SOURCE_Q2_K, SOURCE_Q3_K, SOURCE_Q4_K, SOURCE_Q5_K, SOURCE_Q6_K, SOURCE_IQ4_XS  /* of 256 */
} SourceType;

/* dst[row][0..cols) = bf16(src[row]); any cols (of packed types: whole blocks, and dst as vectors
 * ask). src: rows as a file has them, one after another; may be pinned host memory. */
void kernel_convert_rows(cudaStream_t stream, SourceType type, const void *src, void *dst,
                         int64_t dst_stride, int64_t rows, int64_t cols);

/* dst[row][0..cols) = src[row], cols short and a multiple of 8; src rows one after another. */
void kernel_copy_tail(cudaStream_t stream, const void *src, int64_t cols, void *dst,
                      int64_t dst_stride, int64_t rows);
/* As kernel_embed_fwd, from rows of a packed type. */
void kernel_embed_packed(cudaStream_t stream, SourceType type, const void *table,
                         const int32_t *tokens, float scale, DeviceMatrix y, int64_t n_tokens,
                         int64_t cols);
void kernel_embed_fwd(cudaStream_t stream, const void *table, int64_t table_stride,
                      const int32_t *tokens, float scale, DeviceMatrix y, int64_t n_tokens,
                      int64_t cols);
void kernel_embed_bwd(cudaStream_t stream, float *dtable, int64_t table_stride,
                      const int32_t *tokens, float scale, DeviceMatrix dy, int64_t n_tokens,
                      int64_t cols);

typedef struct RmsnormKernel {
    DeviceMatrix x, delta, sum, y, dy, dx, ddelta; /* data NULL = not given */
    const float *w;
    float *rstd; /* [tokens, heads] */
    int64_t rstd_stride;
    float eps, dx_beta;
    int64_t rows, cols; /* rows: heads of all tokens, where a token's row holds several */
    int heads;          /* 1, or heads of `cols` elements in a row of the matrices */
} RmsnormKernel;
void kernel_rmsnorm_fwd(cudaStream_t stream, const RmsnormKernel *args);
void kernel_rmsnorm_bwd(cudaStream_t stream, const RmsnormKernel *args);
/* dw[c] += sum over rows of dy * x * rstd. partials: COLUMN_PIECES x cols f32. */
enum { COLUMN_PIECES = 64 };
void kernel_rmsnorm_dw(cudaStream_t stream, const RmsnormKernel *args, float *dw, float *partials);
/* out[c] += sum over rows of x. */
void kernel_column_sum(cudaStream_t stream, DeviceMatrix x, int64_t rows, int64_t cols, float *out,
                       float *partials);

typedef struct RopeKernel {
    void *x; /* [rows, heads * head_dim], in place */
    int64_t stride;
    const float *table; /* [positions, rot]: cos, then sin */
    int64_t table_stride;
    const int32_t *positions;
    int64_t rows;
    int heads, head_dim, rot;
    int interleaved;
    float direction; /* 1, or -1 for the inverse */
} RopeKernel;
void kernel_rope(cudaStream_t stream, const RopeKernel *args);

/* Integers a token; the formulas are at WindowSpansArgs and RopeRowsArgs in compute.h. */
typedef struct WindowSpansKernel {
    const int32_t *kv_begin, *kv_end, *q_end; /* q_end and end may be NULL */
    int32_t *begin, *end;
    int64_t n;
    int window;
} WindowSpansKernel;
void kernel_window_spans(cudaStream_t stream, const WindowSpansKernel *args);
typedef struct RopeRowsKernel {
    const int32_t *positions, *kv_begin, *q_end; /* q_end may be NULL */
    int32_t *rows;
    int64_t n, length;
    int longest, offset;
} RopeRowsKernel;
void kernel_rope_rows(cudaStream_t stream, const RopeRowsKernel *args);

typedef struct GluKernel {
    const void *gate, *up, *dy;
    void *y, *dgate, *dup;
    int64_t gate_stride, up_stride, y_stride, dy_stride, dgate_stride, dup_stride;
    int64_t rows, cols;
    int gelu; /* 0: silu */
} GluKernel;
void kernel_glu_fwd(cudaStream_t stream, const GluKernel *args);
void kernel_glu_bwd(cudaStream_t stream, const GluKernel *args);

/* dst[index[t]] = src[t]. */
void kernel_copy_rows(cudaStream_t stream, const void *src, int64_t src_stride, void *dst,
                      int64_t dst_stride, const int32_t *index, int64_t rows, int64_t cols);

/* Attention (compute.h, AttentionArgs). head_dim 16, 32, 64, 80, 128 or 256. */
typedef struct AttentionKernel {
    const void *q, *k, *v, *dy;
    void *y, *dq, *dk, *dv;
    int64_t q_stride, k_stride, v_stride, y_stride, dy_stride, dq_stride, dk_stride, dv_stride;
    float *lse;   /* [heads, n_queries], rows lse_stride apart */
    int64_t lse_stride;
    /* [heads, n_queries]: sum over d of y * dy. On sm_90 two arrays [heads, n_queries rounded up to
     * ATTENTION_ROWS]: that sum, and lse in base 2. */
    float *delta;
    /* Where splits > 1: dK and dV of each split, [n_keys, n_kv_heads * splits * head_dim] bf16. */
    void *dk_parts, *dv_parts;
    int splits; /* blocks that share the query heads of one key head; divides their number */
    const int32_t *kv_begin, *kv_end, *q_end;
    int n_queries, n_keys, n_heads, n_kv_heads;
    float scale;
} AttentionKernel;
enum { ATTENTION_ROWS = 64 };
int kernel_attention_supports(int head_dim);
void kernel_attention_fwd(cudaStream_t stream, int head_dim, const AttentionKernel *args);
/* Needs delta and the parts as memory; fills them. */
void kernel_attention_bwd(cudaStream_t stream, int head_dim, const AttentionKernel *args);
/* dk and dv from their parts; either may be NULL. */
void kernel_attention_join(cudaStream_t stream, int head_dim, const AttentionKernel *args);
/* The same on Hopper's own instructions (compute capability 9.x), for n_keys == n_queries. They
 * return NULL or what went wrong. */
int kernel_attention_sm90_supports(int head_dim);
const char *kernel_attention_fwd_sm90(cudaStream_t stream, int head_dim,
                                      const AttentionKernel *args);
const char *kernel_attention_bwd_sm90(cudaStream_t stream, int head_dim,
                                      const AttentionKernel *args);

/* Loss over one chunk of logits. The step's count of loss rows is read on the device. */
typedef struct LossKernel {
    void *logits; /* [n_rows, stride] bf16; becomes the gradient when want_gradient */
    int64_t stride, vocab;
    const int32_t *targets; /* of the chunk's first row on */
    float *nll; /* [n_rows, 1] */
    int64_t nll_stride;
    const float *inv_loss_tokens;
    const int32_t *n_loss;
    int64_t first_row, n_rows;
    int want_gradient;
} LossKernel;
void kernel_loss(cudaStream_t stream, const LossKernel *args);
/* dst[i] = src[rows[i]], zero from n_loss on (rows counted from first_row). */
void kernel_gather_rows(cudaStream_t stream, const void *src, int64_t src_stride, void *dst,
                        const int32_t *rows, const int32_t *n_loss, int64_t first_row,
                        int64_t n_rows, int64_t cols);
/* dst[rows[i]] = src[i] for the rows below n_loss. */
void kernel_scatter_rows(cudaStream_t stream, const void *src, void *dst, int64_t dst_stride,
                         const int32_t *rows, const int32_t *n_loss, int64_t first_row,
                         int64_t n_rows, int64_t cols);

enum { SUM_SQUARES_BLOCKS = 512 };
/* partials: SUM_SQUARES_BLOCKS doubles. */
void kernel_sum_squares(cudaStream_t stream, const float *x, int64_t n, double *partials,
                        double *out);
typedef struct AdamwKernel {
    float *p, *g, *m, *v;
    int64_t n;
    const float *lr;
    const int32_t *step;
    const double *sum_squares;
    float max_norm, beta1, beta2, eps, decay;
} AdamwKernel;
void kernel_adamw(cudaStream_t stream, const AdamwKernel *args);

/* Thin products over a tall matrix x [rows, cols] (cuda_thin.cu). Parts are ranges of its columns,
 * each with `rank` columns of h (and of b) from rank_at on; all multiples of 8. */
enum { THIN_COLUMNS = 512, THIN_RANK_ROWS = 32, THIN_RANK_COLUMNS = 48 };
typedef struct ThinPart {
    int column, columns, rank_at, rank, first_chunk; /* chunks of THIN_COLUMNS, part by part */
} ThinPart;
/* to[column * column_stride + rank * rank_stride] += scale * (x^T h), both counted from the first
 * of this output. rank_at: in the partials, where every part begins at 0. */
typedef struct ThinOut {
    float *to;
    int64_t column_stride, rank_stride;
    int column, columns, rank_at, rank;
    float scale;
} ThinOut;
typedef struct ThinKernel {
    const void *x, *h; /* [rows, cols], [rows, h_cols] */
    const void *b;     /* [cols, h_cols]: also row_out = x b; NULL: column products alone */
    void *row_out;     /* [rows, h_cols] bf16; columns of no part become 0 */
    int64_t x_stride, h_stride, b_stride, row_out_stride, rows, cols;
    float *row_partials;    /* [n_chunks, rows, rank_max in 16s] */
    float *column_partials; /* [strips, rank_max in 16s, cols] */
    int h_cols, rank_max, n_parts, n_chunks, strip_rows, n_outs;
    ThinPart part[3];
    ThinOut out[3];
} ThinKernel;
void kernel_thin(cudaStream_t stream, const ThinKernel *args);
/* Shared memory that a block of it takes. */
size_t kernel_thin_shared(int rank_max, int with_rows);

/* dst (bf16) = scale * src (f32), several matrices in one launch; any width; src NULL: zeros. */
enum { ROUND_MAX_PIECES = 6 };
typedef struct RoundPiece {
    const float *src;
    void *dst;
    int64_t src_stride, dst_stride, rows, cols;
    float scale;
} RoundPiece;
typedef struct RoundPieces {
    RoundPiece piece[ROUND_MAX_PIECES];
    int n;
} RoundPieces;
void kernel_round_pieces(cudaStream_t stream, const RoundPieces *args);
/* n values of bf16, uniform in +-1 (what products are timed on: zeros would flatter). */
void kernel_random(cudaStream_t stream, void *to, int64_t n);
/* dst += scale * src; any width. */
void kernel_add_scaled(cudaStream_t stream, const float *src, int64_t src_stride, float *dst,
                       int64_t dst_stride, int64_t rows, int64_t cols, float scale);

#ifdef __cplusplus
}
#endif
#endif
