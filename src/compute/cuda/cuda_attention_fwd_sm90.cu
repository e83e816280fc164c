/* cuda_attention_fwd_sm90.cu — attention forward for Hopper, as in FlashAttention-3 (Shah et al.
 * 2024): one warp keeps the copy engine busy, warpgroups of 64 queries each take turns, so that the
 * softmax of one runs beside the products of another, and inside a warpgroup the scores of the next
 * tile are under way while this one's probabilities meet the values. Keys are walked backwards.
 *
 * Same contract and saved data as cuda_attention_fwd.cu. Keys that no query of a tile sees are read
 * all the same, so they must be finite: the caller has as many keys as queries, all written.
 */
#include "compute/cuda/cuda_wgmma.cuh"

typedef struct ForwardCall {
    CUtensorMap q, k, v;
    AttentionKernel a;
} ForwardCall;

/* Running softmax of this thread's two rows. */
typedef struct Softmax {
    float peak[2], sum[2];
} Softmax;

/* ---- kernel ---- */

/* Scores become exponentials; shrink is what to multiply earlier results by. */
template <int NT>
static __device__ __forceinline__ void softmax_step(Softmax *softmax, float (&s)[NT][4],
                                                    float scale2, float (&shrink)[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float m = softmax->peak[h];
#pragma unroll
        for (int j = 0; j < NT; j++)
            m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
        m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
        m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
        const float base = m == -INFINITY ? 0.0f : m * scale2;
        shrink[h] = fast_exp2(softmax->peak[h] * scale2 - base);
        softmax->peak[h] = m;
        float total = 0;
#pragma unroll
        for (int j = 0; j < NT; j++) {
            s[j][2 * h] = fast_exp2(s[j][2 * h] * scale2 - base);
            s[j][2 * h + 1] = fast_exp2(s[j][2 * h + 1] * scale2 - base);
            total += s[j][2 * h] + s[j][2 * h + 1];
        }
        softmax->sum[h] = softmax->sum[h] * shrink[h] + total;
    }
}

template <int D, int GROUPS, int BN, int STAGES> struct ForwardShared {
    enum {
        BM = GROUPS * GROUP_ROWS, Q_BYTES = BM * D * 2, KV_BYTES = BN * D * 2,
        K_AT = Q_BYTES, V_AT = K_AT + STAGES * KV_BYTES, BARRIERS_AT = V_AT + STAGES * KV_BYTES,
        BYTES = BARRIERS_AT + (1 + 4 * STAGES) * 8 + TILE_ALIGN
    };
    static_assert(D % PANEL_COLUMNS == 0 && BN % BOX_ROWS == 0, "whole boxes of whole panels");
    static_assert(K_AT % TILE_ALIGN == 0 && V_AT % TILE_ALIGN == 0, "tiles are aligned");
    static_assert(BARRIERS_AT % 8 == 0 && BYTES <= BLOCK_SHARED_BYTES, "fits in a block");
    uint32_t q, k, v, q_full, k_full, k_empty, v_full, v_empty;
    __device__ __forceinline__ ForwardShared(uint32_t at)
        : q(at), k(at + K_AT), v(at + V_AT), q_full(at + BARRIERS_AT), k_full(q_full + 8),
          k_empty(k_full + STAGES * 8), v_full(k_empty + STAGES * 8), v_empty(v_full + STAGES * 8)
    {
    }
};

/* One thread: fetches the queries, then keys and values in the order in which they are used. */
template <int D, int GROUPS, int BN, int STAGES>
static __device__ __forceinline__ void forward_fetch(const ForwardCall &call,
                                                     ForwardShared<D, GROUPS, BN, STAGES> at,
                                                     int head, int kv_head, int t0, int begin,
                                                     int n_tiles)
{
    typedef ForwardShared<D, GROUPS, BN, STAGES> Shared;
    barrier_expect(at.q_full, Shared::Q_BYTES);
    swizzled_fetch<D, Shared::BM>(at.q, &call.q, at.q_full, head * D, t0);
    Ring<STAGES> ring;
    for (int i = n_tiles - 1; i >= 0; i--, ring.next()) {
        const uint32_t offset = (uint32_t)(ring.stage * Shared::KV_BYTES);
        const uint32_t bit = (uint32_t)(ring.stage * 8);
        barrier_wait(at.k_empty + bit, ring.parity ^ 1);
        barrier_expect(at.k_full + bit, Shared::KV_BYTES);
        swizzled_fetch<D, BN>(at.k + offset, &call.k, at.k_full + bit, kv_head * D,
                              begin + i * BN);
        barrier_wait(at.v_empty + bit, ring.parity ^ 1);
        barrier_expect(at.v_full + bit, Shared::KV_BYTES);
        swizzled_fetch<D, BN>(at.v + offset, &call.v, at.v_full + bit, kv_head * D,
                              begin + i * BN);
    }
}

template <int D, int GROUPS, int BN, int STAGES>
static __device__ __forceinline__ void forward_barriers(ForwardShared<D, GROUPS, BN, STAGES> at)
{
    barrier_init(at.q_full, 1);
    for (int i = 0; i < STAGES; i++) {
        barrier_init(at.k_full + i * 8, 1);
        barrier_init(at.v_full + i * 8, 1);
        barrier_init(at.k_empty + i * 8, GROUPS * GROUP_WARPS);
        barrier_init(at.v_empty + i * 8, GROUPS * GROUP_WARPS);
    }
    barriers_publish();
}

/* Scores of the tile that begins at key s0: none outside the spans of this thread's two rows. */
template <int NT>
static __device__ __forceinline__ void mask_scores(float (&s)[NT][4], int s0, const int (&from)[2],
                                                   const int (&to)[2])
{
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int key = s0 + 8 * j + threadIdx.x % 4 * 2 + e % 2;
            if (key < from[e / 2] || key >= to[e / 2])
                s[j][e] = -INFINITY;
        }
}

/* The keys that this thread's rows (first, first + 8) see. */
static __device__ __forceinline__ void row_spans(const AttentionKernel &a, int first,
                                                 int (&from)[2], int (&to)[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int t = first + 8 * h;
        from[h] = t < a.n_queries ? a.kv_begin[t] : 0;
        to[h] = t < a.n_queries ? a.kv_end[t] : 0;
    }
}

/* Writes the logarithms of the sums of this thread's rows (first, first + 8); inverse: what the
 * rows of y are to be multiplied by. */
static __device__ __forceinline__ void finish_rows(const AttentionKernel &a, int head,
                                                   const Softmax &softmax, int first,
                                                   float (&inverse)[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float total = softmax.sum[h];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        inverse[h] = total > 0 ? 1.0f / total : 0.0f;
        const int t = first + 8 * h;
        if (a.lse != NULL && threadIdx.x % 4 == 0 && t < a.n_queries)
            a.lse[(int64_t)head * a.lse_stride + t] =
                total > 0 ? softmax.peak[h] * a.scale + logf(total) : -INFINITY;
    }
}

/* GROUPS warpgroups of 64 queries; BN: keys a tile. */
template <int D, int GROUPS, int BN, int STAGES>
static __global__ void __launch_bounds__((GROUPS + 1) * GROUP_THREADS, 1)
    attention_fwd_sm90(const __grid_constant__ ForwardCall call)
{
    typedef ForwardShared<D, GROUPS, BN, STAGES> Shared;
    enum { BM = Shared::BM, NT = BN / 8, TURNS = GROUPS * GROUP_THREADS };
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
        forward_barriers<D, GROUPS, BN, STAGES>(at);
    __syncthreads();

    if (group < 0) {
        registers_give<GROUPS == 2 ? 24 : 32>();
        if (threadIdx.x == 0)
            forward_fetch<D, GROUPS, BN, STAGES>(call, at, head, kv_head, t0, begin, n_tiles);
    } else {
        registers_take<GROUPS == 2 ? 240 : 160>();
        const int lane = threadIdx.x % 32, warp = threadIdx.x % GROUP_THREADS / 32;
        const int first = t0 + group * GROUP_ROWS, last = min(first + GROUP_ROWS, a.n_queries) - 1;
        const float scale2 = a.scale * LOG2E;
        /* Keys that every query of the group sees. */
        const int all_from = first <= last ? a.kv_begin[last] : end;
        const int all_to = first <= last ? a.kv_end[first] : begin;
        int from[2], to[2];
        row_spans(a, first + warp * 16 + lane / 4, from, to);
        Softmax softmax = {{-INFINITY, -INFINITY}, {0, 0}};
        float acc[D / 8][4], s[NT][4], shrink[2];
        uint32_t p[NT][2];
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.0f;
        auto mask = [&](int i) {
            const int s0 = begin + i * BN;
            if (s0 < all_from || s0 + BN > all_to)
                mask_scores<NT>(s, s0, from, to);
        };
        const uint32_t q_at = at.q + (uint32_t)(group * GROUP_ROWS * PANEL_ROW_BYTES);
        Ring<STAGES> ring;
        barrier_wait(at.q_full, 0);
        if (n_tiles > 0) {
            barrier_wait(at.k_full, 0);
            products_begin();
            group_product_rows<D, BM, NT>(s, q_at, at.k);
            products_commit();
            products_wait<0>();
            pin(s);
            warp_arrive(at.k_empty);
            mask(n_tiles - 1);
            softmax_step<NT>(&softmax, s, scale2, shrink);
            round_pairs<NT>(s, p);
            if (GROUPS > 1 && group > 0)
                for (int other = 0; other < group; other++)
                    groups_arrive(1 + other, TURNS);
        }
        for (int i = n_tiles - 2; i >= 0; i--) {
            const uint32_t v_bit = (uint32_t)(ring.stage * 8);
            const uint32_t v_at = at.v + (uint32_t)(ring.stage * Shared::KV_BYTES);
            const int v_parity = ring.parity;
            ring.next();
            const uint32_t k_bit = (uint32_t)(ring.stage * 8);
            barrier_wait(at.k_full + k_bit, ring.parity);
            groups_sync(1 + group, TURNS); /* this group's turn */
            products_begin();
            group_product_rows<D, BM, NT>(s, q_at,
                                          at.k + (uint32_t)(ring.stage * Shared::KV_BYTES));
            products_commit();
            barrier_wait(at.v_full + v_bit, v_parity);
            group_product_registers<D, NT>(acc, p, v_at);
            products_commit();
#pragma unroll
            for (int other = 1; other < GROUPS; other++)
                groups_arrive(1 + (group + other) % GROUPS, TURNS);
            products_wait<1>();
            pin(s);
            warp_arrive(at.k_empty + k_bit);
            mask(i);
            softmax_step<NT>(&softmax, s, scale2, shrink);
            products_wait<0>();
            pin(acc);
            warp_arrive(at.v_empty + v_bit);
            round_pairs<NT>(s, p);
#pragma unroll
            for (int j = 0; j < D / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    acc[j][e] *= shrink[e / 2];
        }
        if (n_tiles > 0) {
            barrier_wait(at.v_full + (uint32_t)(ring.stage * 8), ring.parity);
            products_begin();
            group_product_registers<D, NT>(acc, p,
                                           at.v + (uint32_t)(ring.stage * Shared::KV_BYTES));
            products_commit();
            products_wait<0>();
            pin(acc);
        }

        float inverse[2];
        finish_rows(a, head, softmax, first + warp * 16 + lane / 4, inverse);
        groups_sync(1 + GROUPS + group, GROUP_THREADS); /* the group has read its queries */
        group_store<D, BM>(acc, inverse,
                           tiles + (group * GROUP_ROWS + warp * 16) * PANEL_ROW_BYTES,
                           (bf16 *)a.y + (int64_t)head * D, a.y_stride, first + warp * 16,
                           a.n_queries);
    }
}

/* ---- launchers ---- */

template <int D, int GROUPS, int BN, int STAGES>
static void launch(cudaStream_t stream, const ForwardCall *call)
{
    typedef ForwardShared<D, GROUPS, BN, STAGES> Shared;
    const dim3 grid((unsigned)call->a.n_heads, blocks_for(call->a.n_queries, Shared::BM));
    cudaFuncSetAttribute(attention_fwd_sm90<D, GROUPS, BN, STAGES>,
                         cudaFuncAttributeMaxDynamicSharedMemorySize, Shared::BYTES);
    attention_fwd_sm90<D, GROUPS, BN, STAGES>
        <<<grid, (GROUPS + 1) * GROUP_THREADS, Shared::BYTES, stream>>>(*call);
}

extern "C" int kernel_attention_sm90_supports(int head_dim)
{
    return head_dim == 64 || head_dim == 128;
}

extern "C" const char *kernel_attention_fwd_sm90(cudaStream_t stream, int head_dim,
                                                 const AttentionKernel *args)
{
    const int64_t wide = (int64_t)args->n_heads * head_dim;
    const int64_t narrow = (int64_t)args->n_kv_heads * head_dim;
    ForwardCall call;
    call.a = *args;
    if (!tensor_map(&call.q, args->q, args->q_stride, args->n_queries, wide) ||
        !tensor_map(&call.k, args->k, args->k_stride, args->n_keys, narrow) ||
        !tensor_map(&call.v, args->v, args->v_stride, args->n_keys, narrow))
        return "cannot describe attention's tensors to the copy engine";
    if (head_dim == 64)
        launch<64, 3, 128, 2>(stream, &call);
    else
        launch<128, 2, 128, 2>(stream, &call);
    return NULL;
}
