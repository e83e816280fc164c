/* cuda_attention_bwd_sm90.cu — attention backward for Hopper in the two kernels of
 * cuda_attention_bwd.cu, on warpgroup products: same contract, same saved data, no sums between
 * blocks but the parts of dK and dV that are added in order.
 *
 *   rows     lse in base 2 and delta = sum over d of y * dy, padded to whole tiles.
 *   keys     warpgroups of 64 keys walk the queries of all their heads. Scores are made transposed,
 *            so that P^T and dS^T are operands in registers.
 *   queries  warpgroups of 64 queries walk the keys for dQ.
 *
 * Keys and queries outside the spans are read all the same, so they must be finite.
 */
#include "compute/cuda/cuda_wgmma.cuh"

typedef struct BackwardCall {
    CUtensorMap q, k, v, dy;
    AttentionKernel a;
    const float *lse2, *delta; /* [n_heads, n_padded] */
    int n_padded;
} BackwardCall;

/* ---- rows ---- */

/* Rows that nobody is to see (behind the last, or without keys) get lse2 = inf: exp2 is 0. */
template <int D>
static __global__ void attention_rows_sm90(AttentionKernel a, float *lse2, float *delta,
                                           int n_padded)
{
    enum { LANES = D / VEC }; /* threads a row */
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    const int lane = threadIdx.x % LANES;
    const int64_t t = i / a.n_heads;
    const int head = (int)(i % a.n_heads);
    const float sum = attention_row_delta<D>(a, t, head, lane);
    if (t < n_padded && lane == 0) {
        float lse = INFINITY;
        if (t < a.n_queries) {
            lse = a.lse[(int64_t)head * a.lse_stride + t] * LOG2E;
            lse = lse == -INFINITY ? INFINITY : lse;
        }
        lse2[(int64_t)head * n_padded + t] = lse;
        delta[(int64_t)head * n_padded + t] = sum;
    }
}

/* ---- keys ---- */

template <int D, int GROUPS, int STAGES> struct KeysShared {
    enum {
        BK = GROUPS * GROUP_ROWS, BQ = GROUP_ROWS, K_BYTES = BK * D * 2, Q_BYTES = BQ * D * 2,
        ROW_BYTES = BQ * 4, V_AT = K_BYTES, Q_AT = V_AT + K_BYTES, DY_AT = Q_AT + STAGES * Q_BYTES,
        ROWS_AT = DY_AT + STAGES * Q_BYTES, BARRIERS_AT = ROWS_AT + 2 * STAGES * ROW_BYTES,
        BYTES = BARRIERS_AT + (1 + 2 * STAGES) * 8 + TILE_ALIGN
    };
    static_assert(D % PANEL_COLUMNS == 0, "a head is whole panels");
    static_assert(Q_AT % TILE_ALIGN == 0 && DY_AT % TILE_ALIGN == 0, "tiles are aligned");
    static_assert(BARRIERS_AT % 8 == 0 && BYTES <= BLOCK_SHARED_BYTES, "fits in a block");
    uint32_t k, v, q, dy, rows, k_full, full, empty;
    __device__ __forceinline__ KeysShared(uint32_t at)
        : k(at), v(at + V_AT), q(at + Q_AT), dy(at + DY_AT), rows(at + ROWS_AT),
          k_full(at + BARRIERS_AT), full(k_full + 8), empty(full + STAGES * 8)
    {
    }
};

/* Last query + 1 of any of the keys [s0, s0 + n), and of every one. */
static __device__ __forceinline__ void seen_range(const AttentionKernel &a, int s0, int n,
                                                  int *seen_to, int *seen_by_all)
{
    int most = 0, least = a.n_queries;
    for (int i = threadIdx.x % 32; i < n; i += 32) {
        const int e = s0 + i < a.n_keys ? a.q_end[s0 + i] : 0;
        most = max(most, e);
        least = min(least, e);
    }
    *seen_to = min(__reduce_max_sync(0xffffffffu, most), a.n_queries);
    *seen_by_all = __reduce_min_sync(0xffffffffu, least);
}

template <int D, int GROUPS, int STAGES>
static __device__ __forceinline__ void keys_fetch(const BackwardCall &call,
                                                  KeysShared<D, GROUPS, STAGES> at, int kv_head,
                                                  int first_head, int n_heads, int s0, int n_tiles)
{
    typedef KeysShared<D, GROUPS, STAGES> Shared;
    barrier_expect(at.k_full, 2 * Shared::K_BYTES);
    swizzled_fetch<D, Shared::BK>(at.k, &call.k, at.k_full, kv_head * D, s0);
    swizzled_fetch<D, Shared::BK>(at.v, &call.v, at.k_full, kv_head * D, s0);
    Ring<STAGES> ring;
    for (int head = first_head; head < first_head + n_heads; head++)
        for (int i = 0; i < n_tiles; i++, ring.next()) {
            const int t0 = s0 + i * Shared::BQ;
            const uint32_t bit = (uint32_t)(ring.stage * 8);
            const uint32_t tile = (uint32_t)(ring.stage * Shared::Q_BYTES);
            const uint32_t row = at.rows + (uint32_t)(ring.stage * 2 * Shared::ROW_BYTES);
            const int64_t t = (int64_t)head * call.n_padded + t0;
            barrier_wait(at.empty + bit, ring.parity ^ 1);
            barrier_expect(at.full + bit, 2 * Shared::Q_BYTES + 2 * Shared::ROW_BYTES);
            swizzled_fetch<D, Shared::BQ>(at.q + tile, &call.q, at.full + bit, head * D, t0);
            swizzled_fetch<D, Shared::BQ>(at.dy + tile, &call.dy, at.full + bit, head * D, t0);
            bytes_fetch(row, call.lse2 + t, Shared::ROW_BYTES, at.full + bit);
            bytes_fetch(row + Shared::ROW_BYTES, call.delta + t, Shared::ROW_BYTES,
                        at.full + bit);
        }
}

/* One barrier for what is fetched once, two for each stage of what is walked. */
template <int GROUPS, int STAGES>
static __device__ __forceinline__ void walk_barriers(uint32_t once, uint32_t full, uint32_t empty)
{
    barrier_init(once, 1);
    for (int i = 0; i < STAGES; i++) {
        barrier_init(full + i * 8, 1);
        barrier_init(empty + i * 8, GROUPS * GROUP_WARPS);
    }
    barriers_publish();
}

/* Probabilities of queries t0 .. for this thread's keys (first, first + 8): none of queries before
 * the key or from q_end on. */
template <int NT>
static __device__ __forceinline__ void mask_queries(float (&s)[NT][4], int t0, int first,
                                                    const int (&q_end)[2])
{
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int t = t0 + 8 * j + threadIdx.x % 4 * 2 + e % 2;
            if (t < first + e / 2 * 8 || t >= q_end[e / 2])
                s[j][e] = 0.0f;
        }
}

/* GROUPS warpgroups of 64 keys; 64 queries a tile. */
template <int D, int GROUPS, int STAGES>
static __global__ void __launch_bounds__((GROUPS + 1) * GROUP_THREADS, 1)
    attention_bwd_keys_sm90(const __grid_constant__ BackwardCall call)
{
    typedef KeysShared<D, GROUPS, STAGES> Shared;
    enum { BK = Shared::BK, BQ = Shared::BQ, NT = BQ / 8 };
    extern __shared__ uint8_t shared[];
    uint8_t *tiles = tiles_begin(shared);
    const Shared at(shared_address(tiles));
    const AttentionKernel &a = call.a;
    const int n_heads = a.n_heads / a.n_kv_heads / a.splits; /* that this block walks */
    const int kv_head = blockIdx.x / a.splits, first_head = blockIdx.x * n_heads;
    const int s0 = (int)blockIdx.y * BK; /* early keys have most queries: first */
    const int group = group_index() - 1; /* -1 fetches */
    int seen_to, seen_by_all;
    seen_range(a, s0, BK, &seen_to, &seen_by_all);
    const int n_tiles = seen_to > s0 ? (seen_to - s0 + BQ - 1) / BQ : 0;
    const int n_steps = n_tiles * n_heads;

    if (threadIdx.x == 0)
        walk_barriers<GROUPS, STAGES>(at.k_full, at.full, at.empty);
    __syncthreads();

    if (group < 0) {
        registers_give<GROUPS == 2 ? 24 : 32>();
        if (threadIdx.x == 0)
            keys_fetch<D, GROUPS, STAGES>(call, at, kv_head, first_head, n_heads, s0, n_tiles);
    } else {
        registers_take<GROUPS == 2 ? 240 : 160>();
        const int lane = threadIdx.x % 32, warp = threadIdx.x % GROUP_THREADS / 32;
        const int first = s0 + group * GROUP_ROWS; /* key */
        const float scale2 = a.scale * LOG2E;
        int q_end[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int s = first + warp * 16 + 8 * h + lane / 4;
            q_end[h] = s < a.n_keys ? a.q_end[s] : 0;
        }
        float dk[D / 8][4], dv[D / 8][4], s[NT][4], dp[NT][4];
        uint32_t ds[NT][2] = {}; /* P^T, then dS^T */
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                dk[j][e] = dv[j][e] = 0.0f;
        const uint32_t rows = (uint32_t)(group * GROUP_ROWS * PANEL_ROW_BYTES);
        Ring<STAGES> ring;
        int before = -1; /* stage of the tile before this one */
        if (n_steps > 0)
            barrier_wait(at.k_full, 0);
        for (int step = 0; step < n_steps; step++, ring.next()) {
            const uint32_t tile = (uint32_t)(ring.stage * Shared::Q_BYTES);
            const float *lse2 = (const float *)(tiles + Shared::ROWS_AT) + ring.stage * 2 * BQ +
                                lane % 4 * 2;
            const float *delta = lse2 + BQ;
            const int t0 = s0 + step % n_tiles * BQ;
            barrier_wait(at.full + (uint32_t)(ring.stage * 8), ring.parity);
            products_begin(); /* dK lags by one tile; the first time it adds nothing */
            group_product_registers<D, NT>(
                dk, ds, at.q + (uint32_t)(max(before, 0) * Shared::Q_BYTES));
            group_product_rows<D, BK, NT>(s, at.k + rows, at.q + tile);
            products_commit();
            group_product_rows<D, BK, NT>(dp, at.v + rows, at.dy + tile);
            products_commit();
            products_wait<1>();
            pin(s);
            pin(dk);
            if (before >= 0)
                warp_arrive(at.empty + (uint32_t)(before * 8));
            before = ring.stage;
#pragma unroll
            for (int j = 0; j < NT; j++) {
                const float2 base = *(const float2 *)(lse2 + 8 * j);
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[j][e] = fast_exp2(s[j][e] * scale2 - (e % 2 ? base.y : base.x));
            }
            if (t0 < first + GROUP_ROWS - 1 || t0 + BQ > seen_by_all)
                mask_queries<NT>(s, t0, first + warp * 16 + lane / 4, q_end);
            round_pairs<NT>(s, ds);
            products_begin();
            group_product_registers<D, NT>(dv, ds, at.dy + tile);
            products_commit();
            products_wait<0>(); /* one more group in flight, and registers would not suffice */
            pin(dp);
            pin(dv);
#pragma unroll
            for (int j = 0; j < NT; j++) {
                const float2 base = *(const float2 *)(delta + 8 * j);
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[j][e] *= dp[j][e] - (e % 2 ? base.y : base.x);
            }
            round_pairs<NT>(s, ds);
        }
        if (n_steps > 0) {
            products_begin();
            group_product_registers<D, NT>(dk, ds,
                                           at.q + (uint32_t)(before * Shared::Q_BYTES));
            products_commit();
            products_wait<0>();
            pin(dk);
        }

        groups_sync(1 + group, GROUP_THREADS); /* the group has read its keys and values */
        const float k_scale[2] = {a.scale, a.scale}, v_scale[2] = {1.0f, 1.0f};
        const int row = first + warp * 16;
        uint8_t *own = tiles + (group * GROUP_ROWS + warp * 16) * PANEL_ROW_BYTES;
        const int64_t column = (int64_t)blockIdx.x * D; /* of the whole or of the parts */
        if (a.dk != NULL)
            group_store<D, BK>(dk, k_scale, own, (bf16 *)a.dk + column, a.dk_stride, row,
                               a.n_keys);
        if (a.dv != NULL)
            group_store<D, BK>(dv, v_scale, own + Shared::V_AT, (bf16 *)a.dv + column,
                               a.dv_stride, row, a.n_keys);
    }
}

/* ---- queries ---- */

template <int D, int GROUPS, int BN, int STAGES> struct QueriesShared {
    enum {
        BM = GROUPS * GROUP_ROWS, Q_BYTES = BM * D * 2, KV_BYTES = BN * D * 2,
        DY_AT = Q_BYTES, K_AT = DY_AT + Q_BYTES, V_AT = K_AT + STAGES * KV_BYTES,
        BARRIERS_AT = V_AT + STAGES * KV_BYTES,
        BYTES = BARRIERS_AT + (1 + 2 * STAGES) * 8 + TILE_ALIGN
    };
    static_assert(D % PANEL_COLUMNS == 0 && BN % BOX_ROWS == 0, "whole boxes of whole panels");
    static_assert(K_AT % TILE_ALIGN == 0 && V_AT % TILE_ALIGN == 0, "tiles are aligned");
    static_assert(BARRIERS_AT % 8 == 0 && BYTES <= BLOCK_SHARED_BYTES, "fits in a block");
    uint32_t q, dy, k, v, q_full, full, empty;
    __device__ __forceinline__ QueriesShared(uint32_t at)
        : q(at), dy(at + DY_AT), k(at + K_AT), v(at + V_AT), q_full(at + BARRIERS_AT),
          full(q_full + 8), empty(full + STAGES * 8)
    {
    }
};

template <int D, int GROUPS, int BN, int STAGES>
static __device__ __forceinline__ void queries_fetch(const BackwardCall &call,
                                                     QueriesShared<D, GROUPS, BN, STAGES> at,
                                                     int head, int kv_head, int t0, int begin,
                                                     int n_tiles)
{
    typedef QueriesShared<D, GROUPS, BN, STAGES> Shared;
    barrier_expect(at.q_full, 2 * Shared::Q_BYTES);
    swizzled_fetch<D, Shared::BM>(at.q, &call.q, at.q_full, head * D, t0);
    swizzled_fetch<D, Shared::BM>(at.dy, &call.dy, at.q_full, head * D, t0);
    Ring<STAGES> ring;
    for (int i = 0; i < n_tiles; i++, ring.next()) {
        const uint32_t bit = (uint32_t)(ring.stage * 8);
        const uint32_t tile = (uint32_t)(ring.stage * Shared::KV_BYTES);
        barrier_wait(at.empty + bit, ring.parity ^ 1);
        barrier_expect(at.full + bit, 2 * Shared::KV_BYTES);
        swizzled_fetch<D, BN>(at.k + tile, &call.k, at.full + bit, kv_head * D, begin + i * BN);
        swizzled_fetch<D, BN>(at.v + tile, &call.v, at.full + bit, kv_head * D, begin + i * BN);
    }
}

/* GROUPS warpgroups of 64 queries; BN: keys a tile. */
template <int D, int GROUPS, int BN, int STAGES>
static __global__ void __launch_bounds__((GROUPS + 1) * GROUP_THREADS, 1)
    attention_bwd_queries_sm90(const __grid_constant__ BackwardCall call)
{
    typedef QueriesShared<D, GROUPS, BN, STAGES> Shared;
    enum { BM = Shared::BM, NT = BN / 8 };
    extern __shared__ uint8_t shared[];
    uint8_t *tiles = tiles_begin(shared);
    const Shared at(shared_address(tiles));
    const AttentionKernel &a = call.a;
    const int head = blockIdx.x, kv_head = head / (a.n_heads / a.n_kv_heads);
    const int t0 = (int)(gridDim.y - 1 - blockIdx.y) * BM; /* late tiles have most keys: first */
    const int begin = a.kv_begin[t0], end = a.kv_end[min(t0 + BM, a.n_queries) - 1];
    const int n_tiles = end > begin ? (end - begin + BN - 1) / BN : 0;
    const int group = group_index() - 1; /* -1 fetches */

    if (threadIdx.x == 0)
        walk_barriers<GROUPS, STAGES>(at.q_full, at.full, at.empty);
    __syncthreads();

    if (group < 0) {
        registers_give<GROUPS == 2 ? 24 : 32>();
        if (threadIdx.x == 0)
            queries_fetch<D, GROUPS, BN, STAGES>(call, at, head, kv_head, t0, begin, n_tiles);
    } else {
        registers_take<GROUPS == 2 ? 240 : 160>();
        const int lane = threadIdx.x % 32, warp = threadIdx.x % GROUP_THREADS / 32;
        const int first = t0 + group * GROUP_ROWS, last = min(first + GROUP_ROWS, a.n_queries) - 1;
        const float scale2 = a.scale * LOG2E;
        const int all_from = first <= last ? a.kv_begin[last] : end;
        const int all_to = first <= last ? a.kv_end[first] : begin;
        int from[2], to[2]; /* span of this thread's rows */
        float lse2[2], delta[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int t = first + warp * 16 + 8 * h + lane / 4, inside = t < a.n_queries;
            const int64_t row = (int64_t)head * call.n_padded + (inside ? t : 0);
            from[h] = inside ? a.kv_begin[t] : 0;
            to[h] = inside ? a.kv_end[t] : 0;
            lse2[h] = inside ? call.lse2[row] : INFINITY;
            delta[h] = inside ? call.delta[row] : 0.0f;
        }
        float dq[D / 8][4], s[NT][4], dp[NT][4];
        uint32_t ds[NT][2] = {};
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            dq[j][0] = dq[j][1] = dq[j][2] = dq[j][3] = 0.0f;
        const uint32_t rows = (uint32_t)(group * GROUP_ROWS * PANEL_ROW_BYTES);
        Ring<STAGES> ring;
        int before = -1; /* stage of the tile before this one */
        barrier_wait(at.q_full, 0);
        for (int i = 0; i < n_tiles; i++, ring.next()) {
            const uint32_t tile = (uint32_t)(ring.stage * Shared::KV_BYTES);
            const int s0 = begin + i * BN;
            barrier_wait(at.full + (uint32_t)(ring.stage * 8), ring.parity);
            products_begin(); /* dQ lags by one tile; the first time it adds nothing */
            group_product_rows<D, BM, NT>(s, at.q + rows, at.k + tile);
            products_commit();
            group_product_rows<D, BM, NT>(dp, at.dy + rows, at.v + tile);
            products_commit();
            group_product_registers<D, NT>(
                dq, ds, at.k + (uint32_t)(max(before, 0) * Shared::KV_BYTES));
            products_commit();
            products_wait<2>();
            pin(s);
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[j][e] = fast_exp2(s[j][e] * scale2 - lse2[e / 2]);
            if (s0 < all_from || s0 + BN > all_to) {
#pragma unroll
                for (int j = 0; j < NT; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int key = s0 + 8 * j + lane % 4 * 2 + e % 2;
                        if (key < from[e / 2] || key >= to[e / 2])
                            s[j][e] = 0.0f;
                    }
            }
            products_wait<1>();
            pin(dp);
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    s[j][e] *= dp[j][e] - delta[e / 2];
            products_wait<0>();
            pin(dq);
            if (before >= 0)
                warp_arrive(at.empty + (uint32_t)(before * 8));
            before = ring.stage;
            round_pairs<NT>(s, ds);
        }
        if (n_tiles > 0) {
            products_begin();
            group_product_registers<D, NT>(dq, ds,
                                           at.k + (uint32_t)(before * Shared::KV_BYTES));
            products_commit();
            products_wait<0>();
            pin(dq);
        }

        groups_sync(1 + group, GROUP_THREADS); /* the group has read its queries */
        const float scale[2] = {a.scale, a.scale};
        group_store<D, BM>(dq, scale, tiles + (group * GROUP_ROWS + warp * 16) * PANEL_ROW_BYTES,
                           (bf16 *)a.dq + (int64_t)head * D, a.dq_stride, first + warp * 16,
                           a.n_queries);
    }
}

/* ---- launchers ---- */

template <int D> static void launch_rows(cudaStream_t stream, const BackwardCall *call)
{
    const int64_t threads = (int64_t)call->n_padded * call->a.n_heads * (D / VEC);
    attention_rows_sm90<D><<<blocks_for(threads, 256), 256, 0, stream>>>(
        call->a, (float *)call->lse2, (float *)call->delta, call->n_padded);
}

template <int D, int GROUPS, int STAGES>
static void launch_keys(cudaStream_t stream, const BackwardCall *whole)
{
    typedef KeysShared<D, GROUPS, STAGES> Shared;
    BackwardCall call = *whole;
    AttentionKernel *a = &call.a;
    const dim3 grid((unsigned)(a->n_kv_heads * a->splits), blocks_for(a->n_keys, Shared::BK));
    if (a->splits > 1) {
        a->dk = a->dk != NULL ? a->dk_parts : NULL;
        a->dv = a->dv != NULL ? a->dv_parts : NULL;
        a->dk_stride = a->dv_stride = (int64_t)a->n_kv_heads * a->splits * D;
    }
    cudaFuncSetAttribute(attention_bwd_keys_sm90<D, GROUPS, STAGES>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, Shared::BYTES);
    attention_bwd_keys_sm90<D, GROUPS, STAGES>
        <<<grid, (GROUPS + 1) * GROUP_THREADS, Shared::BYTES, stream>>>(call);
    if (a->splits > 1)
        kernel_attention_join(stream, D, &whole->a);
}

template <int D, int GROUPS, int BN, int STAGES>
static void launch_queries(cudaStream_t stream, const BackwardCall *call)
{
    typedef QueriesShared<D, GROUPS, BN, STAGES> Shared;
    const dim3 grid((unsigned)call->a.n_heads, blocks_for(call->a.n_queries, Shared::BM));
    cudaFuncSetAttribute(attention_bwd_queries_sm90<D, GROUPS, BN, STAGES>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, Shared::BYTES);
    attention_bwd_queries_sm90<D, GROUPS, BN, STAGES>
        <<<grid, (GROUPS + 1) * GROUP_THREADS, Shared::BYTES, stream>>>(*call);
}

extern "C" const char *kernel_attention_bwd_sm90(cudaStream_t stream, int head_dim,
                                                 const AttentionKernel *args)
{
    const int64_t wide = (int64_t)args->n_heads * head_dim;
    const int64_t narrow = (int64_t)args->n_kv_heads * head_dim;
    const int keys = args->dk != NULL || args->dv != NULL, queries = args->dq != NULL;
    BackwardCall call;
    call.a = *args;
    call.n_padded = (args->n_queries + ATTENTION_ROWS - 1) / ATTENTION_ROWS * ATTENTION_ROWS;
    call.delta = args->delta;
    call.lse2 = args->delta + (int64_t)args->n_heads * call.n_padded;
    if (!tensor_map(&call.q, args->q, args->q_stride, args->n_queries, wide) ||
        !tensor_map(&call.k, args->k, args->k_stride, args->n_keys, narrow) ||
        !tensor_map(&call.v, args->v, args->v_stride, args->n_keys, narrow) ||
        !tensor_map(&call.dy, args->dy, args->dy_stride, args->n_queries, wide))
        return "cannot describe attention's tensors to the copy engine";
    if (head_dim == 64) {
        launch_rows<64>(stream, &call);
        if (keys) launch_keys<64, 2, 4>(stream, &call);
        if (queries) launch_queries<64, 2, 128, 2>(stream, &call);
    } else {
        launch_rows<128>(stream, &call);
        if (keys) launch_keys<128, 2, 4>(stream, &call);
        if (queries) launch_queries<128, 2, 64, 4>(stream, &call);
    }
    return NULL;
}
