/* cuda_device.cuh — what every kernel file shares: 8-element vectors of bf16 or f32, warp and block
 * sums in a fixed order. Device code only; no state.
 */
#ifndef COMPUTE_CUDA_DEVICE_CUH
#define COMPUTE_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <stdint.h>

#include "compute/cuda/cuda_kernels.h"

typedef __nv_bfloat16 bf16;

enum { VEC = 8 }; /* elements a thread moves at once: 16 bytes of bf16 */

static __device__ __forceinline__ float2 bf16x2_to_float2(uint32_t packed)
{
    return make_float2(__uint_as_float(packed << 16), __uint_as_float(packed & 0xffff0000u));
}

/* Lower half = a. Round to nearest even. */
static __device__ __forceinline__ uint32_t bf16x2_from_floats(float a, float b)
{
    __nv_bfloat162 packed = __floats2bfloat162_rn(a, b);
    return *(uint32_t *)&packed;
}

static __device__ __forceinline__ void unpack8(uint4 packed, float (&out)[VEC])
{
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 pair = bf16x2_to_float2(words[i]);
        out[2 * i] = pair.x;
        out[2 * i + 1] = pair.y;
    }
}

static __device__ __forceinline__ uint4 pack8(const float (&in)[VEC])
{
    return make_uint4(bf16x2_from_floats(in[0], in[1]), bf16x2_from_floats(in[2], in[3]),
                      bf16x2_from_floats(in[4], in[5]), bf16x2_from_floats(in[6], in[7]));
}

template <int IS_F32>
static __device__ __forceinline__ void load8(const void *base, int64_t index, float (&out)[VEC])
{
    if (IS_F32) {
        const float4 *at = (const float4 *)((const float *)base + index);
        float4 a = at[0], b = at[1];
        out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
        out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
    } else {
        unpack8(*(const uint4 *)((const bf16 *)base + index), out);
    }
}

template <int IS_F32>
static __device__ __forceinline__ void store8(void *base, int64_t index, const float (&in)[VEC])
{
    if (IS_F32) {
        float4 *at = (float4 *)((float *)base + index);
        at[0] = make_float4(in[0], in[1], in[2], in[3]);
        at[1] = make_float4(in[4], in[5], in[6], in[7]);
    } else {
        *(uint4 *)((bf16 *)base + index) = pack8(in);
    }
}

static __device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

/* Every thread gets the sum; blockDim.x is a multiple of 32, at most 1024. */
static __device__ __forceinline__ float block_sum(float x)
{
    __shared__ float partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    x = warp_sum(x);
    __syncthreads(); /* a previous call's readers are done */
    if (lane == 0)
        partial[warp] = x;
    __syncthreads();
    return warp_sum(lane < n_warps ? partial[lane] : 0.0f);
}

static inline unsigned blocks_for(int64_t n, int64_t per_block)
{
    return (unsigned)((n + per_block - 1) / per_block);
}

#endif
