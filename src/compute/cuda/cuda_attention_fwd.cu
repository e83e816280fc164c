/* cuda_attention_fwd.cu — attention forward over spans like FlashAttention-2 (Dao 2023): a block
 * owns a tile of queries of one head and walks the keys once, keeping a running maximum and
 * sum per query; scores never leave registers.
 *
 * Spans never decrease with the query, so a tile's keys are one range: from the first query's begin
 * to the last one's end. Only tiles that some query sees in part are masked.
 */
#include "compute/cuda/cuda_mma.cuh"

/* ---- kernel ---- */

/* MT: 16-row pieces a warp owns; BN: keys a tile. The tile of queries has WARPS * MT * 16 rows. */
template <int D, int MT, int BN, int WARPS>
static __global__ void __launch_bounds__(WARPS * 32, 2) attention_fwd(AttentionKernel a)
{
    enum { THREADS = WARPS * 32, BM = WARPS * MT * 16, NT = BN / 8, STRIDE = D + TILE_PAD };
    extern __shared__ __align__(16) uint8_t shared[];
    bf16 *q_tile = (bf16 *)shared;
    const uint32_t q_at = shared_address(q_tile), k_at = q_at + BM * STRIDE * 2;
    const uint32_t v_at = k_at + 2 * BN * STRIDE * 2;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int head = blockIdx.x;
    const int t0 = (int)(gridDim.y - 1 - blockIdx.y) * BM; /* late tiles have most keys: first */
    const int t_last = min(t0 + BM, a.n_queries) - 1;
    const int begin = a.kv_begin[t0], end = a.kv_end[t_last];
    const int all_from = a.kv_begin[t_last], all_to = a.kv_end[t0]; /* keys that every query sees */
    const int kv_head = head / (a.n_heads / a.n_kv_heads);
    const bf16 *q = (const bf16 *)a.q + (int64_t)head * D;
    const bf16 *k = (const bf16 *)a.k + (int64_t)kv_head * D;
    const bf16 *v = (const bf16 *)a.v + (int64_t)kv_head * D;

    tile_load<D, BM, THREADS>(q_at, q, a.q_stride, t0, a.n_queries);
    if (begin < end) {
        tile_load<D, BN, THREADS>(k_at, k, a.k_stride, begin, end);
        tile_load<D, BN, THREADS>(v_at, v, a.v_stride, begin, end);
    }
    copies_commit();

    const float scale2 = a.scale * LOG2E;
    int from[MT][2], to[MT][2]; /* span of this thread's rows */
    float peak[MT][2], sum[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int t = t0 + (warp * MT + i) * 16 + 8 * h + lane / 4;
            from[i][h] = t < a.n_queries ? a.kv_begin[t] : 0;
            to[i][h] = t < a.n_queries ? a.kv_end[t] : 0;
            peak[i][h] = -INFINITY;
            sum[i][h] = 0;
        }
    float acc[MT][D / 8][4];
    clear(acc);

    int stage = 0;
    for (int s0 = begin; s0 < end; s0 += BN, stage ^= 1) {
        copies_wait();
        __syncthreads();
        if (s0 + BN < end) {
            const uint32_t next = (uint32_t)((stage ^ 1) * BN * STRIDE * 2);
            tile_load<D, BN, THREADS>(k_at + next, k, a.k_stride, s0 + BN, end);
            tile_load<D, BN, THREADS>(v_at + next, v, a.v_stride, s0 + BN, end);
            copies_commit();
        }
        const uint32_t here = (uint32_t)(stage * BN * STRIDE * 2);
        float s[MT][NT][4];
        clear(s);
        product_rows<D, MT, NT>(s, q_at, warp * MT * 16, k_at + here);
        if (s0 < all_from || s0 + BN > all_to) {
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int j = 0; j < NT; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int key = s0 + 8 * j + lane % 4 * 2 + e % 2;
                        if (key < from[i][e / 2] || key >= to[i][e / 2])
                            s[i][j][e] = -INFINITY;
                    }
        }
        uint32_t p[MT][NT][2];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float m = peak[i][h];
#pragma unroll
                for (int j = 0; j < NT; j++)
                    m = fmaxf(m, fmaxf(s[i][j][2 * h], s[i][j][2 * h + 1]));
                m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
                m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
                const float base = m == -INFINITY ? 0.0f : m * scale2;
                const float shrink = fast_exp2(peak[i][h] * scale2 - base);
                peak[i][h] = m;
                float total = 0;
#pragma unroll
                for (int j = 0; j < NT; j++) {
                    const float x = fast_exp2(s[i][j][2 * h] * scale2 - base);
                    const float y = fast_exp2(s[i][j][2 * h + 1] * scale2 - base);
                    total += x + y;
                    p[i][j][h] = bf16x2_from_floats(x, y);
                }
                sum[i][h] = sum[i][h] * shrink + total;
#pragma unroll
                for (int j = 0; j < D / 8; j++) {
                    acc[i][j][2 * h] *= shrink;
                    acc[i][j][2 * h + 1] *= shrink;
                }
            }
        product_registers<D, MT, NT>(acc, p, v_at + here);
    }

    copies_wait();
    __syncthreads(); /* with no keys at all the copy of q is still under way */
    float inverse[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float total = sum[i][h];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            inverse[i][h] = total > 0 ? 1.0f / total : 0.0f;
            const int t = t0 + (warp * MT + i) * 16 + 8 * h + lane / 4;
            if (a.lse != NULL && lane % 4 == 0 && t < a.n_queries)
                a.lse[(int64_t)head * a.lse_stride + t] =
                    total > 0 ? peak[i][h] * a.scale + logf(total) : -INFINITY;
        }
    tile_store<D, MT>(acc, inverse, q_tile, warp * MT * 16, (bf16 *)a.y + (int64_t)head * D,
                      a.y_stride, t0 + warp * MT * 16, a.n_queries);
}

/* ---- launchers ---- */

template <int D, int MT, int BN, int WARPS>
static void launch(cudaStream_t stream, const AttentionKernel *args)
{
    enum { BM = WARPS * MT * 16, BYTES = (BM + 4 * BN) * (D + TILE_PAD) * 2 };
    const dim3 grid((unsigned)args->n_heads, blocks_for(args->n_queries, BM));
    cudaFuncSetAttribute(attention_fwd<D, MT, BN, WARPS>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    attention_fwd<D, MT, BN, WARPS><<<grid, WARPS * 32, BYTES, stream>>>(*args);
}

extern "C" int kernel_attention_supports(int head_dim)
{
    return head_dim == 16 || head_dim == 32 || head_dim == 64 || head_dim == 80 ||
           head_dim == 128 || head_dim == 256;
}

extern "C" void kernel_attention_fwd(cudaStream_t stream, int head_dim, const AttentionKernel *args)
{
    switch (head_dim) {
    case 16: launch<16, 1, 64, 4>(stream, args); break;
    case 32: launch<32, 1, 64, 4>(stream, args); break;
    case 64: launch<64, 2, 64, 4>(stream, args); break;
    case 80: launch<80, 2, 64, 4>(stream, args); break;
    case 256: launch<256, 1, 16, 4>(stream, args); break;
    default: launch<128, 2, 64, 4>(stream, args); break;
    }
}
