/* cuda_loss.cu — softmax cross-entropy over a chunk of logits, its gradient in place, and the rows
 * that carry loss gathered and scattered.
 *
 * One block a row: a first pass finds the maximum and the sum together (Milakov & Gimelshein 2018),
 * a second writes (softmax - onehot) / loss tokens over the logits. Rows from n_loss on become
 * zero, so that the products over the whole chunk stay right.
 */
#include "compute/cuda/cuda_device.cuh"

/* One block a multiprocessor: the part of the row that does not fit into shared memory is then
 * still in L2 when the second pass comes. */
enum { LOSS_THREADS = 1024, LOSS_CACHE_BYTES = 200 << 10, LOSS_UNROLL = 4 };

/* A running maximum and the sum of exp(x - maximum). */
static __device__ __forceinline__ float2 softmax_join(float2 a, float2 b)
{
    const float m = fmaxf(a.x, b.x);
    if (m == -INFINITY)
        return make_float2(m, 0.0f);
    return make_float2(m, a.y * __expf(a.x - m) + b.y * __expf(b.x - m));
}

static __device__ __forceinline__ float2 warp_softmax(float2 s)
{
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        float2 other = make_float2(__shfl_xor_sync(0xffffffffu, s.x, offset),
                                   __shfl_xor_sync(0xffffffffu, s.y, offset));
        s = softmax_join(s, other);
    }
    return s;
}

/* Keeps the first LOSS_CACHE_BYTES of the row in `cache`. */
static __device__ float2 row_softmax(const bf16 *logits, int64_t vocab, uint4 *cache)
{
    __shared__ float2 partial[LOSS_THREADS / 32];
    float2 s = make_float2(-INFINITY, 0.0f);
    const int64_t vectors = vocab / VEC;
#pragma unroll LOSS_UNROLL
    for (int64_t i = threadIdx.x; i < vectors; i += LOSS_THREADS) {
        const uint4 packed = ((const uint4 *)logits)[i];
        if (i < LOSS_CACHE_BYTES / 16)
            cache[i] = packed;
        float x[VEC];
        unpack8(packed, x);
        float m = x[0];
#pragma unroll
        for (int j = 1; j < VEC; j++)
            m = fmaxf(m, x[j]);
        m = fmaxf(m, s.x);
        float sum = s.y * __expf(s.x - m);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            sum += __expf(x[j] - m);
        s = make_float2(m, sum);
    }
    for (int64_t c = vectors * VEC + threadIdx.x; c < vocab; c += LOSS_THREADS)
        s = softmax_join(s, make_float2(__bfloat162float(logits[c]), 1.0f));
    s = warp_softmax(s);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = s;
    __syncthreads();
    const int lane = threadIdx.x % 32;
    s = lane < LOSS_THREADS / 32 ? partial[lane] : make_float2(-INFINITY, 0.0f);
    return warp_softmax(s);
}

static __global__ void __launch_bounds__(LOSS_THREADS) loss_rows(LossKernel a)
{
    const int64_t row = blockIdx.x;
    bf16 *logits = (bf16 *)a.logits + row * a.stride;
    const int live = a.first_row + row < *a.n_loss;
    if (!live) {
        if (threadIdx.x == 0)
            a.nll[row * a.nll_stride] = 0;
        if (a.want_gradient)
            for (int64_t c = threadIdx.x * VEC; c < a.stride; c += LOSS_THREADS * VEC)
                *(uint4 *)(logits + c) = make_uint4(0, 0, 0, 0);
        return;
    }
    extern __shared__ uint4 cache[];
    const float2 s = row_softmax(logits, a.vocab, cache);
    const int64_t target = a.targets[row];
    const float at_target = __bfloat162float(logits[target]);
    const float lse = s.x + __logf(s.y);
    if (threadIdx.x == 0)
        a.nll[row * a.nll_stride] = lse - at_target;
    if (!a.want_gradient)
        return;
    __syncthreads(); /* everybody has read the target's logit */
    const float inv = *a.inv_loss_tokens;
    const int64_t vectors = a.vocab / VEC;
#pragma unroll LOSS_UNROLL
    for (int64_t i = threadIdx.x; i < vectors; i += LOSS_THREADS) {
        float x[VEC];
        unpack8(i < LOSS_CACHE_BYTES / 16 ? cache[i] : ((const uint4 *)logits)[i], x);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            const float onehot = i * VEC + j == target ? 1.0f : 0.0f;
            x[j] = (__expf(x[j] - lse) - onehot) * inv;
        }
        store8<0>(logits, i * VEC, x);
    }
    for (int64_t c = vectors * VEC + threadIdx.x; c < a.vocab; c += LOSS_THREADS) {
        const float p = __expf(__bfloat162float(logits[c]) - lse);
        logits[c] = __float2bfloat16_rn((p - (c == target ? 1.0f : 0.0f)) * inv);
    }
}

extern "C" void kernel_loss(cudaStream_t stream, const LossKernel *args)
{
    cudaFuncSetAttribute(loss_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, LOSS_CACHE_BYTES);
    loss_rows<<<(unsigned)args->n_rows, LOSS_THREADS, LOSS_CACHE_BYTES, stream>>>(*args);
}

static __global__ void gather_rows(const bf16 *src, int64_t src_stride, bf16 *dst,
                                   const int32_t *rows, const int32_t *n_loss, int64_t first_row,
                                   int cols)
{
    const int64_t i = blockIdx.x;
    const int live = first_row + i < *n_loss;
    const bf16 *from = src + (live ? rows[i] : 0) * src_stride;
    for (int c = threadIdx.x * VEC; c < cols; c += blockDim.x * VEC)
        *(uint4 *)(dst + i * cols + c) = live ? *(const uint4 *)(from + c) : make_uint4(0, 0, 0, 0);
}

static __global__ void scatter_rows(const bf16 *src, bf16 *dst, int64_t dst_stride,
                                    const int32_t *rows, const int32_t *n_loss, int64_t first_row,
                                    int cols)
{
    const int64_t i = blockIdx.x;
    if (first_row + i >= *n_loss)
        return;
    bf16 *to = dst + rows[i] * dst_stride;
    for (int c = threadIdx.x * VEC; c < cols; c += blockDim.x * VEC)
        *(uint4 *)(to + c) = *(const uint4 *)(src + i * cols + c);
}

extern "C" void kernel_gather_rows(cudaStream_t stream, const void *src, int64_t src_stride,
                                   void *dst, const int32_t *rows, const int32_t *n_loss,
                                   int64_t first_row, int64_t n_rows, int64_t cols)
{
    gather_rows<<<(unsigned)n_rows, 128, 0, stream>>>((const bf16 *)src, src_stride, (bf16 *)dst,
                                                      rows, n_loss, first_row, (int)cols);
}

extern "C" void kernel_scatter_rows(cudaStream_t stream, const void *src, void *dst,
                                    int64_t dst_stride, const int32_t *rows, const int32_t *n_loss,
                                    int64_t first_row, int64_t n_rows, int64_t cols)
{
    scatter_rows<<<(unsigned)n_rows, 128, 0, stream>>>((const bf16 *)src, (bf16 *)dst, dst_stride,
                                                       rows, n_loss, first_row, (int)cols);
}
