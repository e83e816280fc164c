/* cuda_optimizer.cu — the update over one flat f32 vector: sum of squares in double with a fixed
 * order, and AdamW with clipping. Learning rate, step and gradient norm are read on the device, so
 * that the launch is the same every step.
 */
#include "compute/cuda/cuda_device.cuh"

enum { UPDATE_THREADS = 256 };

/* Tree over the block; the result is thread 0's. */
static __device__ double block_sum_double(double x)
{
    __shared__ double partial[UPDATE_THREADS];
    partial[threadIdx.x] = x;
    for (int n = UPDATE_THREADS / 2; n > 0; n /= 2) {
        __syncthreads();
        if (threadIdx.x < n)
            partial[threadIdx.x] += partial[threadIdx.x + n];
    }
    return partial[0];
}

static __global__ void sum_squares_partials(const float *x, int64_t n, double *partials)
{
    double sum = 0;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x)
        sum += (double)x[i] * (double)x[i];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0)
        partials[blockIdx.x] = sum;
}

static __global__ void sum_squares_finish(const double *partials, double *out)
{
    double sum = 0;
    for (int i = threadIdx.x; i < SUM_SQUARES_BLOCKS; i += blockDim.x)
        sum += partials[i];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0)
        *out = sum;
}

extern "C" void kernel_sum_squares(cudaStream_t stream, const float *x, int64_t n, double *partials,
                                   double *out)
{
    sum_squares_partials<<<SUM_SQUARES_BLOCKS, UPDATE_THREADS, 0, stream>>>(x, n, partials);
    sum_squares_finish<<<1, UPDATE_THREADS, 0, stream>>>(partials, out);
}

static __global__ void adamw(AdamwKernel a)
{
    __shared__ float correction1, correction2, clip;
    if (threadIdx.x == 0) {
        correction1 = (float)(1.0 - pow((double)a.beta1, (double)*a.step));
        correction2 = (float)sqrt(1.0 - pow((double)a.beta2, (double)*a.step));
        clip = 1.0f;
        if (a.max_norm > 0 && a.sum_squares != NULL) {
            const double scale = (double)a.max_norm / (sqrt(*a.sum_squares) + 1e-6);
            clip = scale < 1.0 ? (float)scale : 1.0f;
        }
    }
    __syncthreads();
    const float lr = *a.lr;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.n;
         i += (int64_t)gridDim.x * blockDim.x) {
        const float g = a.g[i] * clip;
        const float m = a.beta1 * a.m[i] + (1.0f - a.beta1) * g;
        const float v = a.beta2 * a.v[i] + (1.0f - a.beta2) * g * g;
        const float p = a.p[i] * (1.0f - lr * a.decay);
        a.m[i] = m;
        a.v[i] = v;
        a.p[i] = p - lr / correction1 * m / (sqrtf(v) / correction2 + a.eps);
        a.g[i] = 0;
    }
}

extern "C" void kernel_adamw(cudaStream_t stream, const AdamwKernel *args)
{
    unsigned blocks = blocks_for(args->n, UPDATE_THREADS);
    if (blocks > 2048)
        blocks = 2048;
    adamw<<<blocks, UPDATE_THREADS, 0, stream>>>(*args);
}
