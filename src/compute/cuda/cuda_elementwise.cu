/* cuda_elementwise.cu — kernels that read and write each element once: storage conversion,
 * embedding, rotary embedding, gated units, row copies, and the bf16 copies of low-rank factors.
 */
#include "compute/cuda/cuda_device.cuh"
#include "core/quant_run.h"

#include <type_traits>

/* ---- storage conversion ---- */

static __global__ void convert_plain(SourceType type, const void *src, bf16 *dst,
                                     int64_t dst_stride, int64_t rows, int64_t cols)
{
    const int64_t n = rows * cols;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        float x;
        if (type == SOURCE_F32)
            x = ((const float *)src)[i];
        else if (type == SOURCE_F16)
            x = qb_from_f16(((const uint16_t *)src)[i]);
        else
            x = qb_from_bf16(((const uint16_t *)src)[i]);
        dst[i / cols * dst_stride + i % cols] = __float2bfloat16_rn(x);
    }
}

/* bf16 to bf16, rows of whole 16-byte vectors: the common load path. */
static __global__ void convert_copy(const uint4 *src, bf16 *dst, int64_t dst_stride, int64_t rows,
                                    int64_t vectors)
{
    const int64_t n = rows * vectors;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        *(uint4 *)(dst + i / vectors * dst_stride + i % vectors * VEC) = src[i];
}

/* Every packed type: its name in capitals, in small letters, elements of a block. */
#define PACKED_TYPES(X)                                                                       \
    X(Q4_0, q4_0, QB_BLOCK) X(Q4_1, q4_1, QB_BLOCK)                                           \
    X(Q5_0, q5_0, QB_BLOCK) X(Q5_1, q5_1, QB_BLOCK)                                           \
    X(Q8_0, q8_0, QB_BLOCK) X(IQ4_NL, iq4_nl, QB_BLOCK)                                       \
    X(Q2_K, q2_k, QB_SUPER) X(Q3_K, q3_k, QB_SUPER)                                           \
    X(Q4_K, q4_k, QB_SUPER) X(Q5_K, q5_k, QB_SUPER)                                           \
    X(Q6_K, q6_k, QB_SUPER) X(IQ4_XS, iq4_xs, QB_SUPER)

/* A thread a run of sixteen elements, a block of threads a row. */
template <int TYPE>
static __device__ __forceinline__ void decode_run(const uint8_t *row, int run, float *out)
{
#define RUN_OF(KIND, kind, elements)                                                           \
    if (TYPE == SOURCE_##KIND)                                                                 \
        qb_run_##kind(row + (int64_t)(run / ((elements) / QB_RUN)) * QB_##KIND##_BYTES,        \
                      run % ((elements) / QB_RUN), out);
    PACKED_TYPES(RUN_OF)
#undef RUN_OF
}

template <int TYPE>
static __global__ void convert_runs(const uint8_t *src, int64_t row_bytes, bf16 *dst,
                                    int64_t dst_stride, int row_runs)
{
    const uint8_t *from = src + blockIdx.x * row_bytes;
    for (int run = threadIdx.x; run < row_runs; run += blockDim.x) {
        float x[QB_RUN / VEC][VEC];
        decode_run<TYPE>(from, run, x[0]);
        const int64_t at = blockIdx.x * dst_stride + (int64_t)run * QB_RUN;
        store8<0>(dst, at, x[0]);
        store8<0>(dst, at + VEC, x[1]);
    }
}

template <int TYPE, int RES32>
static __global__ void embed_runs(const uint8_t *table, int64_t row_bytes, const int32_t *tokens,
                                  float scale, DeviceMatrix y, int row_runs)
{
    const uint8_t *from = table + tokens[blockIdx.x] * row_bytes;
    for (int run = threadIdx.x; run < row_runs; run += blockDim.x) {
        float x[QB_RUN / VEC][VEC];
        decode_run<TYPE>(from, run, x[0]);
#pragma unroll
        for (int j = 0; j < QB_RUN; j++)
            x[j / VEC][j % VEC] =
                __bfloat162float(__float2bfloat16_rn(x[j / VEC][j % VEC])) * scale;
        const int64_t at = blockIdx.x * y.stride + (int64_t)run * QB_RUN;
        store8<RES32>(y.data, at, x[0]);
        store8<RES32>(y.data, at + VEC, x[1]);
    }
}

/* Calls f with the type as a constant, and the bytes of a row of it. */
template <typename F> static void for_packed_type(SourceType type, int64_t cols, F f)
{
#define PACKED(KIND, kind, elements)                                                           \
    case SOURCE_##KIND:                                                                        \
        f(std::integral_constant<int, SOURCE_##KIND>{}, cols / (elements) * QB_##KIND##_BYTES); \
        break;
    switch (type) {
        PACKED_TYPES(PACKED)
    default: break; /* plain types do not come here */
    }
#undef PACKED
}

static unsigned run_threads(int64_t row_runs)
{
    enum { THREADS_MOST = 256, WARP_SIZE = 32 };
    const int64_t whole = (row_runs + WARP_SIZE - 1) / WARP_SIZE * WARP_SIZE;
    return (unsigned)(whole < THREADS_MOST ? whole : THREADS_MOST);
}

extern "C" void kernel_embed_packed(cudaStream_t stream, SourceType type, const void *table,
                                    const int32_t *tokens, float scale, DeviceMatrix y,
                                    int64_t n_tokens, int64_t cols)
{
    const int runs = (int)(cols / QB_RUN);
    for_packed_type(type, cols, [&](auto kind, int64_t row_bytes) {
        constexpr int TYPE = decltype(kind)::value;
        if (y.is_f32)
            embed_runs<TYPE, 1><<<(unsigned)n_tokens, run_threads(runs), 0, stream>>>(
                (const uint8_t *)table, row_bytes, tokens, scale, y, runs);
        else
            embed_runs<TYPE, 0><<<(unsigned)n_tokens, run_threads(runs), 0, stream>>>(
                (const uint8_t *)table, row_bytes, tokens, scale, y, runs);
    });
}

static __global__ void copy_tail(const uint4 *src, int vectors, bf16 *dst, int64_t dst_stride,
                                 int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        *(uint4 *)(dst + i / vectors * dst_stride + i % vectors * VEC) = src[i];
}

extern "C" void kernel_copy_tail(cudaStream_t stream, const void *src, int64_t cols, void *dst,
                                 int64_t dst_stride, int64_t rows)
{
    enum { THREADS = 256 };
    const int64_t n = rows * cols / VEC;
    copy_tail<<<blocks_for(n, THREADS), THREADS, 0, stream>>>(
        (const uint4 *)src, (int)(cols / VEC), (bf16 *)dst, dst_stride, n);
}

extern "C" void kernel_convert_rows(cudaStream_t stream, SourceType type, const void *src,
                                    void *dst, int64_t dst_stride, int64_t rows, int64_t cols)
{
    enum { THREADS = 256, MAX_BLOCKS = 1024 };
    if (type >= SOURCE_Q4_0) {
        const int runs = (int)(cols / QB_RUN);
        for_packed_type(type, cols, [&](auto kind, int64_t row_bytes) {
            convert_runs<decltype(kind)::value>
                <<<(unsigned)rows, run_threads(runs), 0, stream>>>(
                    (const uint8_t *)src, row_bytes, (bf16 *)dst, dst_stride, runs);
        });
        return;
    }
    const int is_copy = type == SOURCE_BF16 && cols % VEC == 0 && dst_stride % VEC == 0 &&
                        (uintptr_t)src % 16 == 0 && (uintptr_t)dst % 16 == 0;
    const int64_t n = is_copy ? rows * cols / VEC : rows * cols;
    unsigned blocks = blocks_for(n, THREADS);
    if (blocks > MAX_BLOCKS)
        blocks = MAX_BLOCKS;
    if (is_copy)
        convert_copy<<<blocks, THREADS, 0, stream>>>((const uint4 *)src, (bf16 *)dst, dst_stride,
                                                     rows, cols / VEC);
    else
        convert_plain<<<blocks, THREADS, 0, stream>>>(type, src, (bf16 *)dst, dst_stride, rows,
                                                      cols);
}

/* ---- embedding ---- */

template <int RES32>
static __global__ void embed_fwd(const bf16 *table, int64_t table_stride, const int32_t *tokens,
                                 float scale, DeviceMatrix y, int cols)
{
    const int64_t t = blockIdx.x, token = tokens[t];
    for (int c = threadIdx.x * VEC; c < cols; c += blockDim.x * VEC) {
        float x[VEC];
        load8<0>(table, token * table_stride + c, x);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            x[j] *= scale;
        store8<RES32>(y.data, t * y.stride + c, x);
    }
}

/* The block of a token's first occurrence adds all of them, in order; the others leave. */
static __global__ void embed_bwd(float *dtable, int64_t table_stride, const int32_t *tokens,
                                 float scale, DeviceMatrix dy, int n_tokens, int cols)
{
    const int t = blockIdx.x;
    const int32_t token = tokens[t];
    int earlier = 0;
    for (int i = threadIdx.x; i < t; i += blockDim.x)
        earlier |= tokens[i] == token;
    if (__syncthreads_or(earlier))
        return;
    for (int other = t; other < n_tokens; other++) {
        if (tokens[other] != token)
            continue;
        for (int c = threadIdx.x; c < cols; c += blockDim.x) {
            const int64_t at = (int64_t)other * dy.stride + c;
            const float d = dy.is_f32 ? ((const float *)dy.data)[at]
                                      : __bfloat162float(((const bf16 *)dy.data)[at]);
            dtable[token * table_stride + c] += scale * d;
        }
    }
}

extern "C" void kernel_embed_fwd(cudaStream_t stream, const void *table, int64_t table_stride,
                                 const int32_t *tokens, float scale, DeviceMatrix y,
                                 int64_t n_tokens, int64_t cols)
{
    const unsigned blocks = (unsigned)n_tokens;
    if (y.is_f32)
        embed_fwd<1><<<blocks, 128, 0, stream>>>((const bf16 *)table, table_stride, tokens, scale,
                                                 y, (int)cols);
    else
        embed_fwd<0><<<blocks, 128, 0, stream>>>((const bf16 *)table, table_stride, tokens, scale,
                                                 y, (int)cols);
}

extern "C" void kernel_embed_bwd(cudaStream_t stream, float *dtable, int64_t table_stride,
                                 const int32_t *tokens, float scale, DeviceMatrix dy,
                                 int64_t n_tokens, int64_t cols)
{
    embed_bwd<<<(unsigned)n_tokens, 256, 0, stream>>>(dtable, table_stride, tokens, scale, dy,
                                                      (int)n_tokens, (int)cols);
}

/* ---- rotary embedding ---- */

/* N pairs a thread: 8 where the layout allows 16-byte access, else 1. */
template <int N, int INTERLEAVED> static __global__ void rope(RopeKernel a)
{
    const int64_t row = blockIdx.y;
    const int half = a.rot / 2, groups = half / N;
    const int unit = blockIdx.x * blockDim.x + threadIdx.x;
    if (unit >= a.heads * groups)
        return;
    const int head = unit / groups, i = unit % groups * N;
    const float *cosine = a.table + a.positions[row] * a.table_stride + i;
    bf16 *x = (bf16 *)a.x + row * a.stride + (int64_t)head * a.head_dim;
    bf16 *first = INTERLEAVED ? x + 2 * i : x + i;
    bf16 *second = INTERLEAVED ? x + 2 * i + N : x + i + half;
    /* first, second: N elements each; interleaved pairs lie next to each other across both. */
    bf16 in[2 * N];
    if (N == VEC) {
        *(uint4 *)in = *(const uint4 *)first;
        *(uint4 *)(in + N) = *(const uint4 *)second;
    } else {
        in[0] = *first;
        in[N] = *second;
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        const int lo = INTERLEAVED ? 2 * j : j, hi = INTERLEAVED ? 2 * j + 1 : j + N;
        const float c = cosine[j], s = a.direction * cosine[j + half];
        const float u = __bfloat162float(in[lo]), v = __bfloat162float(in[hi]);
        in[lo] = __float2bfloat16_rn(u * c - v * s);
        in[hi] = __float2bfloat16_rn(v * c + u * s);
    }
    if (N == VEC) {
        *(uint4 *)first = *(const uint4 *)in;
        *(uint4 *)second = *(const uint4 *)(in + N);
    } else {
        *first = in[0];
        *second = in[N];
    }
}

extern "C" void kernel_rope(cudaStream_t stream, const RopeKernel *args)
{
    enum { THREADS = 128 };
    const int half = args->rot / 2;
    const int wide = half % VEC == 0 && args->head_dim % VEC == 0 && args->stride % VEC == 0;
    const int n = wide ? VEC : 1;
    const dim3 grid(blocks_for((int64_t)args->heads * (half / n), THREADS), (unsigned)args->rows);
    if (wide && args->interleaved)
        rope<VEC, 1><<<grid, THREADS, 0, stream>>>(*args);
    else if (wide)
        rope<VEC, 0><<<grid, THREADS, 0, stream>>>(*args);
    else if (args->interleaved)
        rope<1, 1><<<grid, THREADS, 0, stream>>>(*args);
    else
        rope<1, 0><<<grid, THREADS, 0, stream>>>(*args);
}

/* ---- gated units ---- */

/* act(g) and its derivative. */
static __device__ __forceinline__ float2 activate(float g, int gelu)
{
    if (!gelu) {
        const float sigmoid = 1.0f / (1.0f + __expf(-g));
        return make_float2(g * sigmoid, sigmoid * (1.0f + g * (1.0f - sigmoid)));
    }
    const float k = 0.7978845608028654f, c = 0.044715f; /* sqrt(2/pi); Hendrycks & Gimpel 2016 */
    const float t = tanhf(k * (g + c * g * g * g));
    const float slope = 0.5f * (1.0f - t * t) * k * (1.0f + 3.0f * c * g * g);
    return make_float2(0.5f * g * (1.0f + t), 0.5f * (1.0f + t) + g * slope);
}

static __global__ void glu_fwd(GluKernel a)
{
    const int64_t row = blockIdx.y, c = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (c >= a.cols)
        return;
    float gate[VEC], up[VEC];
    load8<0>(a.gate, row * a.gate_stride + c, gate);
    load8<0>(a.up, row * a.up_stride + c, up);
#pragma unroll
    for (int j = 0; j < VEC; j++)
        up[j] *= activate(gate[j], a.gelu).x;
    store8<0>(a.y, row * a.y_stride + c, up);
}

static __global__ void glu_bwd(GluKernel a)
{
    const int64_t row = blockIdx.y, c = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (c >= a.cols)
        return;
    float gate[VEC], up[VEC], dy[VEC];
    load8<0>(a.gate, row * a.gate_stride + c, gate);
    load8<0>(a.up, row * a.up_stride + c, up);
    load8<0>(a.dy, row * a.dy_stride + c, dy);
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        const float2 act = activate(gate[j], a.gelu);
        gate[j] = dy[j] * up[j] * act.y;
        up[j] = dy[j] * act.x;
    }
    if (a.dgate != NULL)
        store8<0>(a.dgate, row * a.dgate_stride + c, gate);
    if (a.dup != NULL)
        store8<0>(a.dup, row * a.dup_stride + c, up);
}

enum { GLU_THREADS = 128 };

extern "C" void kernel_glu_fwd(cudaStream_t stream, const GluKernel *args)
{
    const dim3 grid(blocks_for(args->cols, GLU_THREADS * VEC), (unsigned)args->rows);
    glu_fwd<<<grid, GLU_THREADS, 0, stream>>>(*args);
}

extern "C" void kernel_glu_bwd(cudaStream_t stream, const GluKernel *args)
{
    const dim3 grid(blocks_for(args->cols, GLU_THREADS * VEC), (unsigned)args->rows);
    glu_bwd<<<grid, GLU_THREADS, 0, stream>>>(*args);
}

/* ---- rows and low-rank factors ---- */

static __global__ void copy_rows(const bf16 *src, int64_t src_stride, bf16 *dst, int64_t dst_stride,
                                 const int32_t *index, int cols)
{
    const int64_t t = blockIdx.x, to = index[t];
    for (int c = threadIdx.x * VEC; c < cols; c += blockDim.x * VEC)
        *(uint4 *)(dst + to * dst_stride + c) = *(const uint4 *)(src + t * src_stride + c);
}

extern "C" void kernel_copy_rows(cudaStream_t stream, const void *src, int64_t src_stride,
                                 void *dst, int64_t dst_stride, const int32_t *index, int64_t rows,
                                 int64_t cols)
{
    copy_rows<<<(unsigned)rows, 64, 0, stream>>>((const bf16 *)src, src_stride, (bf16 *)dst,
                                                 dst_stride, index, (int)cols);
}

/* One row of blocks a piece. */
static __global__ void round_pieces(RoundPieces a)
{
    const RoundPiece piece = a.piece[blockIdx.y];
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= piece.rows * piece.cols)
        return;
    const int64_t row = i / piece.cols, column = i % piece.cols;
    const float x = piece.src == NULL ? 0.0f : piece.src[row * piece.src_stride + column];
    ((bf16 *)piece.dst)[row * piece.dst_stride + column] = __float2bfloat16_rn(piece.scale * x);
}

extern "C" void kernel_round_pieces(cudaStream_t stream, const RoundPieces *args)
{
    int64_t most = 0;
    for (int i = 0; i < args->n; i++)
        if (args->piece[i].rows * args->piece[i].cols > most)
            most = args->piece[i].rows * args->piece[i].cols;
    if (most > 0)
        round_pieces<<<dim3(blocks_for(most, 256), args->n), 256, 0, stream>>>(*args);
}

static __global__ void random_values(bf16 *to, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t x = (uint32_t)i * 2654435761u + 1u; /* an integer hash (Wang 2007) */
    x = (x ^ 61u ^ x >> 16) * 9u;
    x = (x ^ x >> 4) * 0x27d4eb2du;
    x ^= x >> 15;
    if (i < n)
        to[i] = __float2bfloat16_rn((float)(int32_t)x * 4.6566e-10f);
}

extern "C" void kernel_random(cudaStream_t stream, void *to, int64_t n)
{
    random_values<<<blocks_for(n, 256), 256, 0, stream>>>((bf16 *)to, n);
}

static __global__ void add_scaled(const float *src, int64_t src_stride, float *dst,
                                  int64_t dst_stride, int64_t n, int64_t cols, float scale)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        dst[i / cols * dst_stride + i % cols] += scale * src[i / cols * src_stride + i % cols];
}

extern "C" void kernel_add_scaled(cudaStream_t stream, const float *src, int64_t src_stride,
                                  float *dst, int64_t dst_stride, int64_t rows, int64_t cols,
                                  float scale)
{
    add_scaled<<<blocks_for(rows * cols, 256), 256, 0, stream>>>(src, src_stride, dst, dst_stride,
                                                                 rows * cols, cols, scale);
}

static __global__ void window_spans(WindowSpansKernel a)
{
    const int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= a.n)
        return;
    const int32_t first = a.kv_end[t] - a.window;
    a.begin[t] = a.kv_begin[t] > first ? a.kv_begin[t] : first;
    if (a.end != NULL) {
        const int64_t last = t + a.window;
        a.end[t] = a.q_end[t] < last ? a.q_end[t] : (int32_t)last;
    }
}

extern "C" void kernel_window_spans(cudaStream_t stream, const WindowSpansKernel *args)
{
    window_spans<<<blocks_for(args->n, 256), 256, 0, stream>>>(*args);
}

static __global__ void rope_rows(RopeRowsKernel a)
{
    const int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= a.n)
        return;
    const int64_t length = a.q_end == NULL ? a.length : a.q_end[t] - a.kv_begin[t];
    a.rows[t] = a.positions[t] + (length > a.longest ? a.offset : 0);
}

extern "C" void kernel_rope_rows(cudaStream_t stream, const RopeRowsKernel *args)
{
    rope_rows<<<blocks_for(args->n, 256), 256, 0, stream>>>(*args);
}
