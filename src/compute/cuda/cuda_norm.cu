/* cuda_norm.cu — RMSNorm with the residual addition fused in, its backward, and sums over rows.
 *
 * A block holds one row in registers, so each tensor is read and written once. With a bf16 stream
 * the sum is rounded before it is normalised: backward reads the rounded value. A norm over heads
 * is the same with shorter rows.
 */
#include "compute/cuda/cuda_device.cuh"

/* ---- kernels ---- */

/* Where a row begins: rows are heads of tokens (RmsnormKernel.heads). */
static __device__ __forceinline__ int64_t row_start(const RmsnormKernel &a, int64_t stride,
                                                    int64_t row)
{
    if (a.heads == 1)
        return row * stride;
    const unsigned token = (unsigned)row / (unsigned)a.heads;
    return token * stride + ((unsigned)row - token * (unsigned)a.heads) * a.cols;
}

static __device__ __forceinline__ int64_t rstd_at(const RmsnormKernel &a, int64_t row)
{
    if (a.heads == 1)
        return row * a.rstd_stride;
    const unsigned token = (unsigned)row / (unsigned)a.heads;
    return token * a.rstd_stride + ((unsigned)row - token * (unsigned)a.heads);
}

template <int VPT, int RES32> static __global__ void rmsnorm_fwd(RmsnormKernel a)
{
    const int64_t row = blockIdx.x;
    const int cols = (int)a.cols;
    float s[VPT][VEC];
    float squares = 0;
#pragma unroll
    for (int i = 0; i < VPT; i++) {
        const int c = (i * blockDim.x + threadIdx.x) * VEC;
        if (c >= cols)
            continue;
        load8<RES32>(a.x.data, row_start(a, a.x.stride, row) + c, s[i]);
        if (a.delta.data != NULL) {
            float delta[VEC];
            load8<0>(a.delta.data, row_start(a, a.delta.stride, row) + c, delta);
#pragma unroll
            for (int j = 0; j < VEC; j++) {
                s[i][j] += delta[j];
                if (!RES32)
                    s[i][j] = __bfloat162float(__float2bfloat16_rn(s[i][j]));
            }
            store8<RES32>(a.sum.data, row_start(a, a.sum.stride, row) + c, s[i]);
        }
#pragma unroll
        for (int j = 0; j < VEC; j++)
            squares += s[i][j] * s[i][j];
    }
    const float rstd = rsqrtf(block_sum(squares) / (float)cols + a.eps);
    if (a.rstd != NULL && threadIdx.x == 0)
        a.rstd[rstd_at(a, row)] = rstd;
#pragma unroll
    for (int i = 0; i < VPT; i++) {
        const int c = (i * blockDim.x + threadIdx.x) * VEC;
        if (c >= cols)
            continue;
        float w[VEC];
        load8<1>(a.w, c, w);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            w[j] *= s[i][j] * rstd;
        store8<0>(a.y.data, row_start(a, a.y.stride, row) + c, w);
    }
}

template <int VPT, int RES32> static __global__ void rmsnorm_bwd(RmsnormKernel a)
{
    const int64_t row = blockIdx.x;
    const int cols = (int)a.cols;
    const float rstd = a.rstd[rstd_at(a, row)];
    float xhat[VPT][VEC], g[VPT][VEC];
    float dot = 0;
#pragma unroll
    for (int i = 0; i < VPT; i++) {
        const int c = (i * blockDim.x + threadIdx.x) * VEC;
        if (c >= cols)
            continue;
        float w[VEC];
        load8<1>(a.w, c, w);
        load8<RES32>(a.x.data, row_start(a, a.x.stride, row) + c, xhat[i]);
        load8<0>(a.dy.data, row_start(a, a.dy.stride, row) + c, g[i]);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            xhat[i][j] *= rstd;
            g[i][j] *= w[j];
            dot += xhat[i][j] * g[i][j];
        }
    }
    const float mean = block_sum(dot) / (float)cols;
#pragma unroll
    for (int i = 0; i < VPT; i++) {
        const int c = (i * blockDim.x + threadIdx.x) * VEC;
        if (c >= cols)
            continue;
        float dx[VEC];
        if (a.dx_beta != 0)
            load8<RES32>(a.dx.data, row_start(a, a.dx.stride, row) + c, dx);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            const float d = rstd * (g[i][j] - xhat[i][j] * mean);
            dx[j] = a.dx_beta != 0 ? a.dx_beta * dx[j] + d : d;
        }
        store8<RES32>(a.dx.data, row_start(a, a.dx.stride, row) + c, dx);
        if (a.ddelta.data != NULL)
            store8<0>(a.ddelta.data, row_start(a, a.ddelta.stride, row) + c, dx);
    }
}

static __device__ __forceinline__ float matrix_at(const RmsnormKernel &a, DeviceMatrix m,
                                                  int64_t row, int64_t c)
{
    const int64_t at = row_start(a, m.stride, row) + c;
    return m.is_f32 ? ((const float *)m.data)[at] : __bfloat162float(((const bf16 *)m.data)[at]);
}

/* One thread a column and piece. NORM: the terms are dy * x * rstd, else x. */
template <int NORM> static __global__ void column_partials(RmsnormKernel a, float *partials)
{
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= a.cols)
        return;
    const int64_t rows_each = (a.rows + COLUMN_PIECES - 1) / COLUMN_PIECES;
    const int64_t first = blockIdx.y * rows_each;
    const int64_t end = first + rows_each < a.rows ? first + rows_each : a.rows;
    float sum = 0;
    for (int64_t row = first; row < end; row++) {
        const float x = matrix_at(a, a.x, row, c);
        sum += NORM ? matrix_at(a, a.dy, row, c) * x * a.rstd[rstd_at(a, row)] : x;
    }
    partials[blockIdx.y * a.cols + c] = sum;
}

static __global__ void column_finish(const float *partials, float *out, int64_t cols)
{
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols)
        return;
    float sum = 0;
    for (int piece = 0; piece < COLUMN_PIECES; piece++)
        sum += partials[piece * cols + c];
    out[c] += sum;
}

/* ---- launchers ---- */

enum { NORM_MAX_THREADS = 256 };

template <int VPT> static void launch_norm(cudaStream_t stream, const RmsnormKernel *a, int threads,
                                           int backward)
{
    const unsigned blocks = (unsigned)a->rows;
    const int res32 = a->x.is_f32;
    if (backward && res32)
        rmsnorm_bwd<VPT, 1><<<blocks, threads, 0, stream>>>(*a);
    else if (backward)
        rmsnorm_bwd<VPT, 0><<<blocks, threads, 0, stream>>>(*a);
    else if (res32)
        rmsnorm_fwd<VPT, 1><<<blocks, threads, 0, stream>>>(*a);
    else
        rmsnorm_fwd<VPT, 0><<<blocks, threads, 0, stream>>>(*a);
}

static void launch_norm_any(cudaStream_t stream, const RmsnormKernel *a, int backward)
{
    const int64_t vectors = a->cols / VEC;
    int threads = (int)((vectors + 31) / 32 * 32);
    if (threads > NORM_MAX_THREADS)
        threads = NORM_MAX_THREADS;
    const int64_t each = (vectors + threads - 1) / threads;
    if (each <= 1)
        launch_norm<1>(stream, a, threads, backward);
    else if (each <= 2)
        launch_norm<2>(stream, a, threads, backward);
    else if (each <= 4)
        launch_norm<4>(stream, a, threads, backward);
    else
        launch_norm<8>(stream, a, threads, backward);
}

extern "C" void kernel_rmsnorm_fwd(cudaStream_t stream, const RmsnormKernel *args)
{
    launch_norm_any(stream, args, 0);
}

extern "C" void kernel_rmsnorm_bwd(cudaStream_t stream, const RmsnormKernel *args)
{
    launch_norm_any(stream, args, 1);
}

enum { COLUMN_THREADS = 128 };

extern "C" void kernel_rmsnorm_dw(cudaStream_t stream, const RmsnormKernel *args, float *dw,
                                  float *partials)
{
    const unsigned blocks = blocks_for(args->cols, COLUMN_THREADS);
    column_partials<1><<<dim3(blocks, COLUMN_PIECES), COLUMN_THREADS, 0, stream>>>(*args, partials);
    column_finish<<<blocks, COLUMN_THREADS, 0, stream>>>(partials, dw, args->cols);
}

extern "C" void kernel_column_sum(cudaStream_t stream, DeviceMatrix x, int64_t rows, int64_t cols,
                                  float *out, float *partials)
{
    RmsnormKernel args = {};
    args.x = x;
    args.rows = rows;
    args.cols = cols;
    args.heads = 1;
    const unsigned blocks = blocks_for(cols, COLUMN_THREADS);
    column_partials<0><<<dim3(blocks, COLUMN_PIECES), COLUMN_THREADS, 0, stream>>>(args, partials);
    column_finish<<<blocks, COLUMN_THREADS, 0, stream>>>(partials, out, cols);
}
