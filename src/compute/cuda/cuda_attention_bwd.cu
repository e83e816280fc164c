/* cuda_attention_bwd.cu — attention backward in two kernels, both with the forward's structure and
 * no sums between blocks, so that the bits never depend on timing:
 *
 *   keys     a block owns a tile of keys of one key head, walks the queries of all heads that read
 *            it, and keeps dK and dV in registers. Scores are made transposed (keys as rows), so
 *            that P^T and dS^T are operands of the next products as they lie in registers. Where
 *            that makes too few blocks, each takes one query head and a last kernel adds up.
 *   queries  a block owns a tile of queries and walks the keys for dQ.
 *
 * Scores are computed in both: 7 products instead of the 5 of FlashAttention-2 (Dao 2023), which
 * adds dQ tiles of different blocks through memory. delta = sum over d of y * dy comes first.
 */
#include "compute/cuda/cuda_mma.cuh"

/* ---- kernels ---- */

template <int D> static __global__ void attention_delta(AttentionKernel a)
{
    enum { LANES = RowLanes<D>::LANES };
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    const int lane = threadIdx.x % LANES;
    const int64_t t = i / a.n_heads;
    const int head = (int)(i % a.n_heads);
    const float sum = attention_row_delta<D>(a, t, head, lane);
    if (t < a.n_queries && lane == 0)
        a.delta[(int64_t)head * a.n_queries + t] = sum;
}

/* A warp owns 16 keys; BQ: queries a tile. */
template <int D, int BQ, int WARPS, int BLOCKS>
static __global__ void __launch_bounds__(WARPS * 32, BLOCKS) attention_bwd_keys(AttentionKernel a)
{
    enum { THREADS = WARPS * 32, BK = WARPS * 16, NT = BQ / 8, STRIDE = D + TILE_PAD };
    extern __shared__ __align__(16) uint8_t shared[];
    bf16 *k_tile = (bf16 *)shared, *v_tile = k_tile + BK * STRIDE;
    const float *lse_tile = (const float *)(v_tile + BK * STRIDE + 4 * BQ * STRIDE);
    const uint32_t k_at = shared_address(k_tile), v_at = k_at + BK * STRIDE * 2;
    const uint32_t q_at = v_at + BK * STRIDE * 2, dy_at = q_at + 2 * BQ * STRIDE * 2;
    const uint32_t lse_at = dy_at + 2 * BQ * STRIDE * 2; /* lse [2][BQ], delta [2][BQ] */
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int n_heads = a.n_heads / a.n_kv_heads / a.splits; /* that this block walks */
    const int kv_head = blockIdx.x / a.splits, first_head = blockIdx.x * n_heads;
    const int s0 = (int)blockIdx.y * BK; /* early keys have most queries: first */

    int seen_to = 0, seen_by_all = a.n_queries; /* last query + 1 of any key, of every key */
    for (int i = lane; i < BK; i += 32) {
        const int e = s0 + i < a.n_keys ? a.q_end[s0 + i] : 0;
        seen_to = max(seen_to, e);
        seen_by_all = min(seen_by_all, e);
    }
    seen_to = min(__reduce_max_sync(0xffffffffu, seen_to), a.n_queries);
    seen_by_all = __reduce_min_sync(0xffffffffu, seen_by_all);
    const int n_tiles = seen_to > s0 ? (seen_to - s0 + BQ - 1) / BQ : 0;
    const int n_steps = n_tiles * n_heads;

    tile_load<D, BK, THREADS>(k_at, (const bf16 *)a.k + (int64_t)kv_head * D, a.k_stride, s0,
                              a.n_keys);
    tile_load<D, BK, THREADS>(v_at, (const bf16 *)a.v + (int64_t)kv_head * D, a.v_stride, s0,
                              a.n_keys);
    auto queries_load = [&](int step) {
        const int head = first_head + step / n_tiles, t0 = s0 + step % n_tiles * BQ;
        const uint32_t at = (uint32_t)(step % 2 * BQ);
        tile_load<D, BQ, THREADS>(q_at + at * STRIDE * 2, (const bf16 *)a.q + (int64_t)head * D,
                                  a.q_stride, t0, seen_to);
        tile_load<D, BQ, THREADS>(dy_at + at * STRIDE * 2, (const bf16 *)a.dy + (int64_t)head * D,
                                  a.dy_stride, t0, seen_to);
        if (threadIdx.x < BQ) {
            const int t = t0 + (int)threadIdx.x, inside = t < seen_to;
            const float *l = a.lse + (int64_t)head * a.lse_stride + (inside ? t : 0);
            const float *d = a.delta + (int64_t)head * a.n_queries + (inside ? t : 0);
            copy4_async(lse_at + (at + threadIdx.x) * 4, l, inside ? 4 : 0);
            copy4_async(lse_at + (2 * BQ + at + threadIdx.x) * 4, d, inside ? 4 : 0);
        }
    };
    if (n_steps > 0)
        queries_load(0);
    copies_commit();

    const float scale2 = a.scale * LOG2E;
    int q_end[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int s = s0 + warp * 16 + 8 * h + lane / 4;
        q_end[h] = s < a.n_keys ? a.q_end[s] : 0;
    }
    float dk[1][D / 8][4], dv[1][D / 8][4];
    clear(dk);
    clear(dv);

    for (int step = 0; step < n_steps; step++) {
        copies_wait();
        __syncthreads();
        if (step + 1 < n_steps) {
            queries_load(step + 1);
            copies_commit();
        }
        const int t0 = s0 + step % n_tiles * BQ;
        const uint32_t here = (uint32_t)(step % 2 * BQ * STRIDE * 2);
        const float *lse = lse_tile + step % 2 * BQ, *delta = lse + 2 * BQ;
        float s[1][NT][4];
        clear(s);
        product_rows<D, 1, NT>(s, k_at, warp * 16, q_at + here);
        const int masked = t0 < s0 + BK - 1 || t0 + BQ > seen_by_all;
        uint32_t p[1][NT][2];
#pragma unroll
        for (int j = 0; j < NT; j++) {
            const float2 at = *(const float2 *)(lse + 8 * j + lane % 4 * 2);
            const float base[2] = {at.x * LOG2E, at.y * LOG2E};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int t = t0 + 8 * j + lane % 4 * 2 + e % 2;
                const int key = s0 + warp * 16 + e / 2 * 8 + lane / 4;
                const float x = fast_exp2(s[0][j][e] * scale2 - base[e % 2]);
                s[0][j][e] = masked && (t < key || t >= q_end[e / 2]) ? 0.0f : x;
            }
            p[0][j][0] = bf16x2_from_floats(s[0][j][0], s[0][j][1]);
            p[0][j][1] = bf16x2_from_floats(s[0][j][2], s[0][j][3]);
        }
        product_registers<D, 1, NT>(dv, p, dy_at + here);
        float dp[1][NT][4];
        clear(dp);
        product_rows<D, 1, NT>(dp, v_at, warp * 16, dy_at + here);
#pragma unroll
        for (int j = 0; j < NT; j++) {
            const float2 at = *(const float2 *)(delta + 8 * j + lane % 4 * 2);
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[0][j][e] *= dp[0][j][e] - (e % 2 ? at.y : at.x);
            p[0][j][0] = bf16x2_from_floats(s[0][j][0], s[0][j][1]);
            p[0][j][1] = bf16x2_from_floats(s[0][j][2], s[0][j][3]);
        }
        product_registers<D, 1, NT>(dk, p, q_at + here);
    }

    copies_wait();
    __syncthreads();
    const float k_scale[1][2] = {{a.scale, a.scale}}, v_scale[1][2] = {{1.0f, 1.0f}};
    const int row = s0 + warp * 16;
    const int64_t column = (int64_t)blockIdx.x * D; /* of the whole or of the parts */
    if (a.dk != NULL)
        tile_store<D, 1>(dk, k_scale, k_tile, warp * 16, (bf16 *)a.dk + column, a.dk_stride, row,
                         a.n_keys);
    if (a.dv != NULL)
        tile_store<D, 1>(dv, v_scale, v_tile, warp * 16, (bf16 *)a.dv + column, a.dv_stride, row,
                         a.n_keys);
}

/* out[s][g] = sum over splits of parts[s][g][split], in order; n = elements of a row of out. */
static __global__ void attention_join(const bf16 *parts, bf16 *out, int64_t out_stride, int n,
                                      int head_dim, int splits)
{
    const int64_t s = blockIdx.y;
    const int c = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (c >= n)
        return;
    const bf16 *from = parts + (s * n + c / head_dim * head_dim) * splits + c % head_dim;
    float sum[VEC] = {};
    for (int i = 0; i < splits; i++) {
        float x[VEC];
        load8<0>(from, (int64_t)i * head_dim, x);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            sum[j] += x[j];
    }
    store8<0>(out, s * out_stride + c, sum);
}

/* A warp owns 16 * MT queries; BN: keys a tile. */
template <int D, int MT, int BN, int WARPS>
static __global__ void __launch_bounds__(WARPS * 32, 2) attention_bwd_queries(AttentionKernel a)
{
    enum { THREADS = WARPS * 32, BM = WARPS * MT * 16, NT = BN / 8, STRIDE = D + TILE_PAD };
    extern __shared__ __align__(16) uint8_t shared[];
    bf16 *q_tile = (bf16 *)shared;
    const uint32_t q_at = shared_address(q_tile), dy_at = q_at + BM * STRIDE * 2;
    const uint32_t k_at = dy_at + BM * STRIDE * 2, v_at = k_at + 2 * BN * STRIDE * 2;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int head = blockIdx.x, kv_head = head / (a.n_heads / a.n_kv_heads);
    const int t0 = (int)(gridDim.y - 1 - blockIdx.y) * BM;
    const int t_last = min(t0 + BM, a.n_queries) - 1;
    const int begin = a.kv_begin[t0], end = a.kv_end[t_last];
    const int all_from = a.kv_begin[t_last], all_to = a.kv_end[t0];
    const bf16 *k = (const bf16 *)a.k + (int64_t)kv_head * D;
    const bf16 *v = (const bf16 *)a.v + (int64_t)kv_head * D;

    tile_load<D, BM, THREADS>(q_at, (const bf16 *)a.q + (int64_t)head * D, a.q_stride, t0,
                              a.n_queries);
    tile_load<D, BM, THREADS>(dy_at, (const bf16 *)a.dy + (int64_t)head * D, a.dy_stride, t0,
                              a.n_queries);
    if (begin < end) {
        tile_load<D, BN, THREADS>(k_at, k, a.k_stride, begin, end);
        tile_load<D, BN, THREADS>(v_at, v, a.v_stride, begin, end);
    }
    copies_commit();

    const float scale2 = a.scale * LOG2E;
    int from[MT][2], to[MT][2];
    float base[MT][2], delta[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int t = t0 + (warp * MT + i) * 16 + 8 * h + lane / 4, inside = t < a.n_queries;
            const int at = inside ? t : 0;
            from[i][h] = inside ? a.kv_begin[t] : 0;
            to[i][h] = inside ? a.kv_end[t] : 0;
            base[i][h] = a.lse[(int64_t)head * a.lse_stride + at] * LOG2E;
            delta[i][h] = a.delta[(int64_t)head * a.n_queries + at];
        }
    float dq[MT][D / 8][4];
    clear(dq);

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
        float s[MT][NT][4], dp[MT][NT][4];
        clear(s);
        product_rows<D, MT, NT>(s, q_at, warp * MT * 16, k_at + here);
        clear(dp);
        product_rows<D, MT, NT>(dp, dy_at, warp * MT * 16, v_at + here);
        const int masked = s0 < all_from || s0 + BN > all_to;
        uint32_t p[MT][NT][2];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int key = s0 + 8 * j + lane % 4 * 2 + e % 2, h = e / 2;
                    const float x = fast_exp2(s[i][j][e] * scale2 - base[i][h]);
                    const float ds = x * (dp[i][j][e] - delta[i][h]);
                    s[i][j][e] = masked && (key < from[i][h] || key >= to[i][h]) ? 0.0f : ds;
                }
                p[i][j][0] = bf16x2_from_floats(s[i][j][0], s[i][j][1]);
                p[i][j][1] = bf16x2_from_floats(s[i][j][2], s[i][j][3]);
            }
        product_registers<D, MT, NT>(dq, p, k_at + here);
    }

    copies_wait();
    __syncthreads();
    float scale[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++)
        scale[i][0] = scale[i][1] = a.scale;
    tile_store<D, MT>(dq, scale, q_tile, warp * MT * 16, (bf16 *)a.dq + (int64_t)head * D,
                      a.dq_stride, t0 + warp * MT * 16, a.n_queries);
}

/* ---- launchers ---- */

extern "C" void kernel_attention_join(cudaStream_t stream, int head_dim,
                                      const AttentionKernel *args)
{
    const int n = args->n_kv_heads * head_dim;
    const dim3 grid(blocks_for(n, 64 * VEC), (unsigned)args->n_keys);
    if (args->dk != NULL)
        attention_join<<<grid, 64, 0, stream>>>((const bf16 *)args->dk_parts, (bf16 *)args->dk,
                                                args->dk_stride, n, head_dim, args->splits);
    if (args->dv != NULL)
        attention_join<<<grid, 64, 0, stream>>>((const bf16 *)args->dv_parts, (bf16 *)args->dv,
                                                args->dv_stride, n, head_dim, args->splits);
}

template <int D, int BQ, int WARPS, int BLOCKS>
static void launch_keys(cudaStream_t stream, const AttentionKernel *args)
{
    enum { BK = WARPS * 16, BYTES = (2 * BK + 4 * BQ) * (D + TILE_PAD) * 2 + 4 * BQ * 4 };
    const dim3 grid((unsigned)(args->n_kv_heads * args->splits), blocks_for(args->n_keys, BK));
    cudaFuncSetAttribute(attention_bwd_keys<D, BQ, WARPS, BLOCKS>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    if (args->splits == 1) {
        attention_bwd_keys<D, BQ, WARPS, BLOCKS><<<grid, WARPS * 32, BYTES, stream>>>(*args);
        return;
    }
    AttentionKernel parts = *args;
    parts.dk = args->dk != NULL ? args->dk_parts : NULL;
    parts.dv = args->dv != NULL ? args->dv_parts : NULL;
    parts.dk_stride = parts.dv_stride = (int64_t)args->n_kv_heads * args->splits * D;
    attention_bwd_keys<D, BQ, WARPS, BLOCKS><<<grid, WARPS * 32, BYTES, stream>>>(parts);
    kernel_attention_join(stream, D, args);
}

template <int D, int MT, int BN, int WARPS>
static void launch_queries(cudaStream_t stream, const AttentionKernel *args)
{
    enum { BM = WARPS * MT * 16, BYTES = (2 * BM + 4 * BN) * (D + TILE_PAD) * 2 };
    const dim3 grid((unsigned)args->n_heads, blocks_for(args->n_queries, BM));
    cudaFuncSetAttribute(attention_bwd_queries<D, MT, BN, WARPS>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    attention_bwd_queries<D, MT, BN, WARPS><<<grid, WARPS * 32, BYTES, stream>>>(*args);
}

template <int D> static void launch_delta(cudaStream_t stream, const AttentionKernel *args)
{
    const int64_t threads = (int64_t)args->n_queries * args->n_heads * RowLanes<D>::LANES;
    attention_delta<D><<<blocks_for(threads, 256), 256, 0, stream>>>(*args);
}

extern "C" void kernel_attention_bwd(cudaStream_t stream, int head_dim, const AttentionKernel *args)
{
    const int keys = args->dk != NULL || args->dv != NULL, queries = args->dq != NULL;
    switch (head_dim) {
    case 16:
        launch_delta<16>(stream, args);
        if (keys) launch_keys<16, 64, 4, 2>(stream, args);
        if (queries) launch_queries<16, 1, 64, 4>(stream, args);
        break;
    case 32:
        launch_delta<32>(stream, args);
        if (keys) launch_keys<32, 64, 4, 2>(stream, args);
        if (queries) launch_queries<32, 1, 64, 4>(stream, args);
        break;
    case 64:
        launch_delta<64>(stream, args);
        if (keys) launch_keys<64, 64, 4, 3>(stream, args);
        if (queries) launch_queries<64, 2, 32, 4>(stream, args);
        break;
    case 80:
        launch_delta<80>(stream, args);
        if (keys) launch_keys<80, 64, 4, 2>(stream, args);
        if (queries) launch_queries<80, 2, 32, 4>(stream, args);
        break;
    case 256: /* small tiles: those of 128 would not fit the shared memory of consumer cards */
        launch_delta<256>(stream, args);
        if (keys) launch_keys<256, 16, 2, 1>(stream, args);
        if (queries) launch_queries<256, 1, 16, 2>(stream, args);
        break;
    default:
        launch_delta<128>(stream, args);
        if (keys) launch_keys<128, 64, 4, 2>(stream, args);
        if (queries) launch_queries<128, 2, 32, 4>(stream, args);
        break;
    }
}
