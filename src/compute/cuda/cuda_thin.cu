/* cuda_thin.cu — the thin products of low-rank backward, one pass over their tall matrix x [T, N]:
 *
 *     row product   x B      [T, r]   (dh = dy B),       summed over N
 *     column product x^T h   [N, r]   (dB = dy^T h, dA = dh^T x),  summed over T
 *
 * A block owns THIN_COLUMNS columns of one part and a strip of tokens. It streams 32 tokens at a
 * time through shared memory, in two stages. Each of its 8 warps owns 64 columns: their column
 * products stay in registers to the end; their share of the tile's row product is added over the
 * warps in shared memory and written out. Both results are partial sums (by chunk of columns, by
 * strip of tokens); thin_reduce adds them in order, so bits do not depend on who was first.
 *
 * These products are bound by reading x: two cuBLAS calls a part read it twice or three times.
 */
#include "compute/cuda/cuda_mma.cuh"

enum { THIN_THREADS = 256, THIN_TOKENS = 32, THIN_WARPS = 8, THIN_STAGES = 2 };
enum { WARP_COLUMNS = THIN_COLUMNS / THIN_WARPS };

template <int RP> struct ThinShared {
    bf16 x[THIN_STAGES][THIN_TOKENS * (THIN_COLUMNS + TILE_PAD)];
    bf16 h[THIN_STAGES][THIN_TOKENS * (RP + TILE_PAD)];
};

/* The part that a chunk of columns belongs to. */
static __device__ __forceinline__ int part_of(const ThinKernel &a, int chunk)
{
    int part = 0;
    while (part + 1 < a.n_parts && chunk >= a.part[part + 1].first_chunk)
        part++;
    return part;
}

template <int RP>
static __device__ __forceinline__ void thin_load(const ThinKernel &a, ThinShared<RP> *shared,
                                                 int stage, int column, int column_end,
                                                 int rank_at, int token, int token_end)
{
    const uint32_t x_tile = shared_address(shared->x[stage]);
    const uint32_t h_tile = shared_address(shared->h[stage]);
#pragma unroll
    for (int i = threadIdx.x; i < THIN_TOKENS * THIN_COLUMNS / VEC; i += THIN_THREADS) {
        const int row = i / (THIN_COLUMNS / VEC), at = i % (THIN_COLUMNS / VEC) * VEC;
        const int inside = token + row < token_end && column + at < column_end;
        const bf16 *from = (const bf16 *)a.x +
                           (inside ? (int64_t)(token + row) * a.x_stride + column + at : 0);
        copy16_async(x_tile + (uint32_t)((row * (THIN_COLUMNS + TILE_PAD) + at) * 2), from,
                     inside ? 16 : 0);
    }
    for (int i = threadIdx.x; i < THIN_TOKENS * RP / VEC; i += THIN_THREADS) {
        const int row = i / (RP / VEC), at = i % (RP / VEC) * VEC;
        const int inside = token + row < token_end && rank_at + at < a.h_cols;
        const bf16 *from = (const bf16 *)a.h +
                           (inside ? (int64_t)(token + row) * a.h_stride + rank_at + at : 0);
        copy16_async(h_tile + (uint32_t)((row * (RP + TILE_PAD) + at) * 2), from, inside ? 16 : 0);
    }
    copies_commit();
}

/* B of this warp's columns as the second operand of x B: constant over the tokens. */
template <int NT>
static __device__ __forceinline__ void load_b(const ThinKernel &a, uint32_t (&b)[4][NT][2],
                                              int column, int column_end, int rank_at, int rank)
{
    const int lane = threadIdx.x % 32;
    const uint16_t *base = (const uint16_t *)a.b;
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t word = 0;
                const int n = 8 * j + lane / 4;
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int c = column + 16 * k + 8 * half + lane % 4 * 2 + e;
                    if (c < column_end && n < rank)
                        word |= (uint32_t)base[(int64_t)c * a.b_stride + rank_at + n] << 16 * e;
                }
                b[k][j][half] = word;
            }
}

/* acc += x^T h over one tile: 4 x 16 columns of this warp, NT x 8 ranks. */
template <int NT>
static __device__ __forceinline__ void column_product(float (&acc)[4][NT][4], uint32_t x_tile,
                                                      uint32_t h_tile, int warp_column)
{
#pragma unroll
    for (int k = 0; k < THIN_TOKENS; k += 16) {
        uint32_t h[NT / 2][4];
#pragma unroll
        for (int j = 0; j < NT / 2; j++)
            load_matrices_transposed(h[j], fragment_a<8 * NT>(h_tile, k, 16 * j));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t x[4];
            load_matrices_transposed(
                x, fragment_b<THIN_COLUMNS>(x_tile, k, warp_column + 16 * i));
#pragma unroll
            for (int j = 0; j < NT / 2; j++) {
                mma(acc[i][2 * j], x, h[j][0], h[j][1]);
                mma(acc[i][2 * j + 1], x, h[j][2], h[j][3]);
            }
        }
    }
}

/* The tile's x B over this warp's columns, left in `mine` [THIN_TOKENS, 8 NT]. */
template <int NT>
static __device__ __forceinline__ void row_product(const uint32_t (&b)[4][NT][2], uint32_t x_tile,
                                                   int warp_column, float *mine)
{
    float acc[2][NT][4];
    const int lane = threadIdx.x % 32;
    clear(acc);
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t x[4];
            load_matrices(x, fragment_a<THIN_COLUMNS>(x_tile, 16 * i, warp_column + 16 * k));
#pragma unroll
            for (int j = 0; j < NT; j++)
                mma(acc[i][j], x, b[k][j][0], b[k][j][1]);
        }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *(float2 *)(mine + (16 * i + 8 * half + lane / 4) * 8 * NT + 8 * j +
                            lane % 4 * 2) =
                    make_float2(acc[i][j][2 * half], acc[i][j][2 * half + 1]);
}

/* Adds the warps' shares of a tile's row product in order and writes its partial. */
template <int RP>
static __device__ __forceinline__ void write_rows(const ThinKernel &a, const float *shares,
                                                  int chunk, int token, int token_end)
{
    for (int i = threadIdx.x; i < THIN_TOKENS * RP; i += THIN_THREADS) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < THIN_WARPS; w++)
            sum += shares[w * THIN_TOKENS * RP + i];
        if (token + i / RP < token_end)
            a.row_partials[((int64_t)chunk * a.rows + token + i / RP) * RP + i % RP] = sum;
    }
}

template <int NT, int WITH_ROWS>
static __global__ void __launch_bounds__(THIN_THREADS, 2) thin_pass(ThinKernel a)
{
    constexpr int RP = 8 * NT;
    extern __shared__ __align__(16) uint8_t memory[];
    ThinShared<RP> *shared = (ThinShared<RP> *)memory;
    float *shares = (float *)(memory + sizeof(ThinShared<RP>));
    const int chunk = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const ThinPart part = a.part[part_of(a, chunk)];
    const int column = part.column + (chunk - part.first_chunk) * THIN_COLUMNS;
    const int column_end = part.column + part.columns;
    const int token_begin = blockIdx.y * a.strip_rows;
    const int token_end = min((int)a.rows, token_begin + a.strip_rows);
    uint32_t b[4][NT][2];
    float acc[4][NT][4];
    clear(acc);
    if (WITH_ROWS)
        load_b<NT>(a, b, column + warp * WARP_COLUMNS, column_end, part.rank_at, part.rank);

    thin_load<RP>(a, shared, 0, column, column_end, part.rank_at, token_begin, token_end);
    int stage = 0;
    for (int token = token_begin; token < token_end; token += THIN_TOKENS, stage ^= 1) {
        copies_wait();
        __syncthreads(); /* the tile is there; nobody reads the other stage or the shares */
        if (token + THIN_TOKENS < token_end)
            thin_load<RP>(a, shared, stage ^ 1, column, column_end, part.rank_at,
                          token + THIN_TOKENS, token_end);
        const uint32_t x_tile = shared_address(shared->x[stage]);
        column_product<NT>(acc, x_tile, shared_address(shared->h[stage]), warp * WARP_COLUMNS);
        if (WITH_ROWS) {
            row_product<NT>(b, x_tile, warp * WARP_COLUMNS, shares + warp * THIN_TOKENS * RP);
            __syncthreads();
            write_rows<RP>(a, shares, chunk, token, token_end);
        }
    }

    float *to = a.column_partials + (int64_t)blockIdx.y * RP * a.cols;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int c = column + warp * WARP_COLUMNS + 16 * i + e / 2 * 8 + lane / 4;
                if (c < column_end)
                    to[(int64_t)(8 * j + lane % 4 * 2 + e % 2) * a.cols + c] = acc[i][j][e];
            }
}

/* Blocks below n_row_blocks finish the row product, the others the column products: one thread an
 * element, partials in order. */
static __global__ void thin_reduce(ThinKernel a, int rp, int strips, int n_row_blocks)
{
    if ((int)blockIdx.x < n_row_blocks) {
        const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
        const int64_t token = i / a.h_cols;
        const int rank = (int)(i % a.h_cols);
        if (token >= a.rows)
            return;
        float sum = 0;
        for (int p = 0; p < a.n_parts; p++) {
            const ThinPart part = a.part[p];
            const int j = rank - part.rank_at;
            if (j < 0 || j >= part.rank)
                continue;
            const int chunks = (part.columns + THIN_COLUMNS - 1) / THIN_COLUMNS;
#pragma unroll 8
            for (int c = 0; c < chunks; c++)
                sum += a.row_partials[((int64_t)(part.first_chunk + c) * a.rows + token) * rp + j];
        }
        ((bf16 *)a.row_out)[token * a.row_out_stride + rank] = __float2bfloat16(sum);
        return;
    }
    const int64_t i = (int64_t)(blockIdx.x - n_row_blocks) * blockDim.x + threadIdx.x;
    const int64_t column = i % a.cols;
    const int j = (int)(i / a.cols); /* of the partials */
    if (j >= rp)
        return;
    for (int o = 0; o < a.n_outs; o++) {
        const ThinOut out = a.out[o];
        if (column < out.column || column >= out.column + out.columns || j < out.rank_at ||
            j >= out.rank_at + out.rank)
            continue;
        float sum = 0;
#pragma unroll 8
        for (int s = 0; s < strips; s++)
            sum += a.column_partials[((int64_t)s * rp + j) * a.cols + column];
        out.to[(column - out.column) * out.column_stride + (j - out.rank_at) * out.rank_stride] +=
            out.scale * sum;
    }
}

template <int NT, int WITH_ROWS> static constexpr size_t shared_bytes(void)
{
    return sizeof(ThinShared<8 * NT>) +
           (WITH_ROWS ? sizeof(float) * THIN_WARPS * THIN_TOKENS * 8 * NT : 0);
}

extern "C" size_t kernel_thin_shared(int rank_max, int with_rows)
{
    if (with_rows)
        return rank_max <= 16 ? shared_bytes<2, 1>() : shared_bytes<4, 1>();
    return rank_max <= 16 ? shared_bytes<2, 0>()
                          : rank_max <= 32 ? shared_bytes<4, 0>() : shared_bytes<6, 0>();
}

template <int NT, int WITH_ROWS> static void run_thin(cudaStream_t stream, const ThinKernel *args)
{
    constexpr int RP = 8 * NT;
    const size_t bytes = shared_bytes<NT, WITH_ROWS>();
    const int strips = (int)blocks_for(args->rows, args->strip_rows);
    cudaFuncSetAttribute(thin_pass<NT, WITH_ROWS>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         (int)bytes);
    thin_pass<NT, WITH_ROWS><<<dim3(args->n_chunks, strips), THIN_THREADS, bytes, stream>>>(*args);
    const unsigned rows = WITH_ROWS ? blocks_for(args->rows * args->h_cols, 256) : 0;
    thin_reduce<<<rows + blocks_for(args->cols * RP, 256), 256, 0, stream>>>(*args, RP, strips,
                                                                             (int)rows);
}

extern "C" void kernel_thin(cudaStream_t stream, const ThinKernel *args)
{
    const int tiles = (args->rank_max + 15) / 16 * 2;
    if (args->b != NULL) {
        if (tiles == 2)
            run_thin<2, 1>(stream, args);
        else
            run_thin<4, 1>(stream, args);
    } else if (tiles == 2) {
        run_thin<2, 0>(stream, args);
    } else if (tiles == 4) {
        run_thin<4, 0>(stream, args);
    } else {
        run_thin<6, 0>(stream, args);
    }
}
