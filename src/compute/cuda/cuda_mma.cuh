/* cuda_mma.cuh — the tensor-core building blocks of attention: asynchronous copies of tiles into
 * padded shared memory, ldmatrix, and m16n8k16 products of bf16 into f32 (PTX ISA, "Matrix multiply
 * using mma instruction"). Runs on sm_80 and everything later.
 *
 * Fragment layout of a thread (lane = 4 g + p):
 *   accumulator 16x8   c0 c1: row g, columns 2p 2p+1;  c2 c3: row g + 8
 *   A 16x16            a0: row g, k 2p..;  a1: row g + 8;  a2, a3: the same, k + 8
 * Two neighbouring accumulators, rounded to bf16, therefore are an A operand: probabilities go from
 * one product into the next without leaving registers.
 *
 * Tiles have D + 8 elements a row. The 16 extra bytes make the eight rows that one ldmatrix phase
 * reads fall into different banks, for every D here.
 */
#ifndef COMPUTE_CUDA_MMA_CUH
#define COMPUTE_CUDA_MMA_CUH

#include "compute/cuda/cuda_device.cuh"

enum { TILE_PAD = 8 };

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* bytes_read 0 fills with zeros. */
static __device__ __forceinline__ void copy16_async(uint32_t to, const void *from, int bytes_read)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(bytes_read)
                 : "memory");
}

static __device__ __forceinline__ void copy4_async(uint32_t to, const void *from, int bytes_read)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from),
                 "r"(bytes_read)
                 : "memory");
}

static __device__ __forceinline__ void copies_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

static __device__ __forceinline__ void copies_wait(void)
{
    asm volatile("cp.async.wait_group 0;" ::: "memory");
}

static __device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}

static __device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}

static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Address of this lane's row for the A operand at (row, k), and for B stored as rows of k. The same
 * pattern serves both: 16 rows, two 8-column halves. */
template <int D>
static __device__ __forceinline__ uint32_t fragment_a(uint32_t tile, int row, int column)
{
    const int lane = threadIdx.x % 32;
    return tile + (uint32_t)(((row + lane % 16) * (D + TILE_PAD) + column + lane / 16 * 8) * 2);
}

/* Address for B stored as rows of n: 16 n, then k halves inside. */
template <int D>
static __device__ __forceinline__ uint32_t fragment_b(uint32_t tile, int row, int column)
{
    const int lane = threadIdx.x % 32;
    return tile + (uint32_t)(((row + lane % 8 + lane / 16 * 8) * (D + TILE_PAD) + column +
                              lane / 8 % 2 * 8) * 2);
}

/* acc[i][j] += rows of A (16 i) times rows of B (8 j), both [.., D] in shared memory. */
template <int D, int MT, int NT>
static __device__ __forceinline__ void product_rows(float (&acc)[MT][NT][4], uint32_t a_tile,
                                                    int a_row, uint32_t b_tile)
{
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t a[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++)
            load_matrices(a[i], fragment_a<D>(a_tile, a_row + 16 * i, k));
#pragma unroll
        for (int j = 0; j < NT; j += 2) {
            uint32_t b[4];
            load_matrices(b, fragment_b<D>(b_tile, 8 * j, k));
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma(acc[i][j], a[i], b[0], b[1]);
                mma(acc[i][j + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* acc[i][.] += P (accumulators of NT column tiles, rounded) times B [8 NT rows, D]. */
template <int D, int MT, int NT>
static __device__ __forceinline__ void product_registers(float (&acc)[MT][D / 8][4],
                                                         const uint32_t (&p)[MT][NT][2],
                                                         uint32_t b_tile)
{
#pragma unroll
    for (int k = 0; k < NT; k += 2) {
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t b[4];
            load_matrices_transposed(b, fragment_a<D>(b_tile, 8 * k, 8 * j));
#pragma unroll
            for (int i = 0; i < MT; i++) {
                const uint32_t a[4] = {p[i][k][0], p[i][k][1], p[i][k + 1][0], p[i][k + 1][1]};
                mma(acc[i][j], a, b[0], b[1]);
                mma(acc[i][j + 1], a, b[2], b[3]);
            }
        }
    }
}

/* Starts the copy of rows [first, first + ROWS) of a [.., D] matrix; rows from `end` on are 0. */
template <int D, int ROWS, int THREADS>
static __device__ __forceinline__ void tile_load(uint32_t tile, const bf16 *matrix, int64_t stride,
                                                 int first, int end)
{
    enum { CHUNKS = D / VEC };
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, column = i % CHUNKS * VEC;
        const int inside = first + row < end;
        const bf16 *from = matrix + (int64_t)(inside ? first + row : 0) * stride + column;
        copy16_async(tile + (uint32_t)((row * (D + TILE_PAD) + column) * 2), from, inside ? 16 : 0);
    }
}

/* A warp writes its 16 * MT accumulator rows, scaled, to rows [row, ..) of `matrix` by way of its
 * own rows of a tile nobody else reads any more. */
template <int D, int MT>
static __device__ __forceinline__ void tile_store(const float (&acc)[MT][D / 8][4],
                                                  const float (&scale)[MT][2], bf16 *tile,
                                                  int tile_row, bf16 *matrix, int64_t stride,
                                                  int row, int end)
{
    const int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                bf16 *at = tile + (tile_row + 16 * i + 8 * h + lane / 4) * (D + TILE_PAD) + 8 * j +
                           lane % 4 * 2;
                *(uint32_t *)at = bf16x2_from_floats(acc[i][j][2 * h] * scale[i][h],
                                                     acc[i][j][2 * h + 1] * scale[i][h]);
            }
    __syncwarp();
    for (int i = lane; i < 16 * MT * (D / VEC); i += 32) {
        const int r = i / (D / VEC), c = i % (D / VEC) * VEC;
        if (row + r < end)
            *(uint4 *)(matrix + (int64_t)(row + r) * stride + c) =
                *(const uint4 *)(tile + (tile_row + r) * (D + TILE_PAD) + c);
    }
}

template <int MT, int NT> static __device__ __forceinline__ void clear(float (&acc)[MT][NT][4])
{
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
            acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0.0f;
}

/* 2^x; underflow goes to zero. */
static __device__ __forceinline__ float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#define LOG2E 1.4426950408889634f

/* Threads of a row of D elements, a vector each: a power of two, the last ones idle. */
template <int D> struct RowLanes {
    enum { VECTORS = D / VEC, LANES = VECTORS <= 2 ? 2 : VECTORS <= 4 ? 4 : VECTORS <= 8 ? 8
                                      : VECTORS <= 16 ? 16 : 32 };
};

/* delta of one row and head = sum over d of y * dy, by that many neighbouring threads; 0 behind
 * the last query. */
template <int D>
static __device__ __forceinline__ float attention_row_delta(const AttentionKernel &a, int64_t t,
                                                            int head, int lane)
{
    float sum = 0;
    if (t < a.n_queries && lane < RowLanes<D>::VECTORS) {
        float y[VEC], dy[VEC];
        load8<0>(a.y, t * a.y_stride + (int64_t)head * D + lane * VEC, y);
        load8<0>(a.dy, t * a.dy_stride + (int64_t)head * D + lane * VEC, dy);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            sum += y[j] * dy[j];
    }
#pragma unroll
    for (int offset = RowLanes<D>::LANES / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    return sum;
}

#endif
