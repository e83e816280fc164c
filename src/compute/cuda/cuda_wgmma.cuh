/* cuda_wgmma.cuh — Hopper's building blocks (sm_90a only; PTX ISA, "Asynchronous warpgroup level
 * matrix operations" and "Tensor copies"): tiles fetched by the copy engine, barriers in shared
 * memory that count its bytes, and products by warpgroups of 128 threads.
 *
 * A tile of ROWS x D elements of bf16 lies as D / 64 panels of ROWS rows of 128 bytes, 16-byte
 * pieces of a row exchanged by the 128-byte swizzle (piece ^ row % 8), starting at a multiple of
 * 1024 bytes. The same tile serves as an operand both ways: its rows as rows of the product
 * ("by rows": sum over D) and its rows as what is summed over ("transposed").
 *
 * Accumulators lie as in cuda_mma.cuh: warp w of the warpgroup has rows 16 w .. 16 w + 15, and two
 * neighbouring 8-column pieces, rounded to bf16, are an operand of the next product.
 */
#ifndef COMPUTE_CUDA_WGMMA_CUH
#define COMPUTE_CUDA_WGMMA_CUH

#include <cudaTypedefs.h>

#include "compute/cuda/cuda_mma.cuh"

enum {
    GROUP_THREADS = 128, GROUP_WARPS = 4, GROUP_ROWS = 64, /* of a warpgroup */
    PANEL_COLUMNS = 64, PANEL_ROW_BYTES = 128, BOX_ROWS = 64, TILE_ALIGN = 1024
};
static const int BLOCK_SHARED_BYTES = 227 * 1024; /* most that a block of this card may have */
static_assert(PANEL_ROW_BYTES == PANEL_COLUMNS * sizeof(bf16), "a panel's row is one swizzle");
static_assert(TILE_ALIGN % (8 * PANEL_ROW_BYTES) == 0, "the swizzle repeats every 8 rows");

/* ---- barriers ---- */

static __device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

/* After the inits, before any use by another thread or by the copy engine (and a __syncthreads). */
static __device__ __forceinline__ void barriers_publish(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ __forceinline__ void barrier_expect(uint32_t barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                 "r"(bytes)
                 : "memory");
}

/* One arrival a warp, once all its lanes are here: what they have read may be overwritten after it.
 * One for a whole warpgroup would not do, its warps do not wait for each other. */
static __device__ __forceinline__ void warp_arrive(uint32_t barrier)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

static __device__ __forceinline__ void barrier_wait(uint32_t barrier, int parity)
{
    asm volatile("{\n.reg .pred done;\nagain:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra leave;\nbra again;\nleave:\n}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

/* Named barriers among warpgroups of a block; 0 is __syncthreads. */
static __device__ __forceinline__ void groups_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

static __device__ __forceinline__ void groups_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* A ring of STAGES buffers: which one, and the parity of its barriers this time round. */
template <int STAGES> struct Ring {
    int stage, parity;
    __device__ __forceinline__ Ring() : stage(0), parity(0) {}
    __device__ __forceinline__ void next(void)
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* ---- copies ---- */

static __device__ __forceinline__ void box_fetch(uint32_t to, const CUtensorMap *map,
                                                 uint32_t barrier, int column, int row)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(barrier), "r"(column), "r"(row)
                 : "memory");
}

/* `bytes` and both addresses are multiples of 16. */
static __device__ __forceinline__ void bytes_fetch(uint32_t to, const void *from, int bytes,
                                                   uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* Rows [row, row + ROWS) of columns [column, column + D); rows outside the matrix become 0, and
 * count among the bytes all the same. One thread calls it. */
template <int D, int ROWS>
static __device__ __forceinline__ void swizzled_fetch(uint32_t to, const CUtensorMap *map,
                                                      uint32_t barrier, int column, int row)
{
    static_assert(D % PANEL_COLUMNS == 0 && ROWS % BOX_ROWS == 0, "whole boxes");
#pragma unroll
    for (int panel = 0; panel < D / PANEL_COLUMNS; panel++)
#pragma unroll
        for (int r = 0; r < ROWS; r += BOX_ROWS)
            box_fetch(to + (uint32_t)((panel * ROWS + r) * PANEL_ROW_BYTES), map, barrier,
                      column + panel * PANEL_COLUMNS, row + r);
}

/* ---- products ---- */

template <int REGISTERS> static __device__ __forceinline__ void registers_take(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> static __device__ __forceinline__ void registers_give(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/* Before the first product after the warpgroup touched accumulators or operands in registers. */
static __device__ __forceinline__ void products_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void products_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most PENDING of the last committed groups are unfinished. */
template <int PENDING> static __device__ __forceinline__ void products_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* Keeps the compiler from moving uses of accumulators across a wait. */
template <int NT> static __device__ __forceinline__ void pin(float (&acc)[NT][4])
{
#pragma unroll
    for (int j = 0; j < NT; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            asm volatile("" : "+f"(acc[j][e])::"memory");
}

/* Descriptor of an operand in shared memory with the 128-byte swizzle. Groups of 8 rows follow
 * each other; `panel_bytes` is from one panel to the next (used where the product's rows or
 * columns run along D and leave the panel). */
static __device__ __forceinline__ uint64_t operand_at(uint32_t at, uint32_t panel_bytes)
{
    const uint64_t SWIZZLE_128 = (uint64_t)1 << 62, GROUPS = (uint64_t)(1024 >> 4) << 32;
    return SWIZZLE_128 | GROUPS | (uint64_t)(panel_bytes >> 4) << 16 | ((at & 0x3ffff) >> 4);
}

#define ACCUMULATORS_64 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define ACCUMULATORS_128 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, " \
    "%37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, " \
    "%55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define PIECE(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define PIECES_8 PIECE(0), PIECE(1), PIECE(2), PIECE(3), PIECE(4), PIECE(5), PIECE(6), PIECE(7)
#define PIECES_16 \
    PIECES_8, PIECE(8), PIECE(9), PIECE(10), PIECE(11), PIECE(12), PIECE(13), PIECE(14), PIECE(15)

/* c (64 x 64) = or += a (64 x 16) times b (16 x 64). ADD 0: the old c is ignored. */
template <int ADD, int TRANSPOSED_A, int TRANSPOSED_B>
static __device__ __forceinline__ void wgmma(float (&c)[8][4], uint64_t a, uint64_t b)
{
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " ACCUMULATORS_64
                 ", %32, %33, add, 1, 1, %35, %36;\n}"
                 : PIECES_8
                 : "l"(a), "l"(b), "n"(ADD), "n"(TRANSPOSED_A), "n"(TRANSPOSED_B));
}

template <int ADD, int TRANSPOSED_A, int TRANSPOSED_B>
static __device__ __forceinline__ void wgmma(float (&c)[16][4], uint64_t a, uint64_t b)
{
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " ACCUMULATORS_128
                 ", %64, %65, add, 1, 1, %67, %68;\n}"
                 : PIECES_16
                 : "l"(a), "l"(b), "n"(ADD), "n"(TRANSPOSED_A), "n"(TRANSPOSED_B));
}

/* The same with a in registers; b is transposed (its rows are what is summed over). */
static __device__ __forceinline__ void wgmma(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " ACCUMULATORS_64
                 ", {%32, %33, %34, %35}, %36, add, 1, 1, 1;\n}"
                 : PIECES_8
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

static __device__ __forceinline__ void wgmma(float (&c)[16][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " ACCUMULATORS_128
                 ", {%64, %65, %66, %67}, %68, add, 1, 1, 1;\n}"
                 : PIECES_16
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/* acc = rows [0, 64) at `a` (of a tile of A_ROWS) times rows [0, 8 NT) of tile `b`, sum over D. */
template <int D, int A_ROWS, int NT>
static __device__ __forceinline__ void group_product_rows(float (&acc)[NT][4], uint32_t a,
                                                          uint32_t b)
{
    enum { B_ROWS = 8 * NT, STEP_BYTES = 32 };
    const uint64_t from_a = operand_at(a, 0), from_b = operand_at(b, 0);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        const int panel = k / 4, inside = k % 4 * STEP_BYTES;
        const uint64_t at_a = from_a + ((panel * A_ROWS * PANEL_ROW_BYTES + inside) >> 4);
        const uint64_t at_b = from_b + ((panel * B_ROWS * PANEL_ROW_BYTES + inside) >> 4);
        if (k == 0)
            wgmma<0, 0, 0>(acc, at_a, at_b);
        else
            wgmma<1, 0, 0>(acc, at_a, at_b);
    }
}

/* acc += p (64 x 8 NT, rounded accumulators) times the tile `b` of 8 NT rows of D. */
template <int D, int NT>
static __device__ __forceinline__ void group_product_registers(float (&acc)[D / 8][4],
                                                               const uint32_t (&p)[NT][2],
                                                               uint32_t b)
{
    enum { B_ROWS = 8 * NT, STEP_BYTES = 16 * PANEL_ROW_BYTES };
    const uint64_t from = operand_at(b, B_ROWS * PANEL_ROW_BYTES);
#pragma unroll
    for (int k = 0; k < NT / 2; k++) {
        const uint32_t a[4] = {p[2 * k][0], p[2 * k][1], p[2 * k + 1][0], p[2 * k + 1][1]};
        wgmma(acc, a, from + (k * STEP_BYTES >> 4));
    }
}

/* Accumulators as an operand of the next product. */
template <int NT>
static __device__ __forceinline__ void round_pairs(const float (&s)[NT][4], uint32_t (&p)[NT][2])
{
#pragma unroll
    for (int j = 0; j < NT; j++) {
        p[j][0] = bf16x2_from_floats(s[j][0], s[j][1]);
        p[j][1] = bf16x2_from_floats(s[j][2], s[j][3]);
    }
}

/* A warp writes its 16 accumulator rows, scaled, to rows [row, ..) of `matrix`, by way of 16 rows
 * (`at`, a multiple of 8 rows into a tile of ROWS) that no product and no copy uses any more. */
template <int D, int ROWS>
static __device__ __forceinline__ void group_store(const float (&acc)[D / 8][4],
                                                   const float (&scale)[2], uint8_t *at,
                                                   bf16 *matrix, int64_t stride, int row, int end)
{
    const int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < D / 8; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = 8 * h + lane / 4, piece = (j % 8) ^ (r % 8);
            uint8_t *to = at + (j / 8 * ROWS + r) * PANEL_ROW_BYTES + piece * 16 + lane % 4 * 4;
            *(uint32_t *)to = bf16x2_from_floats(acc[j][2 * h] * scale[h],
                                                 acc[j][2 * h + 1] * scale[h]);
        }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * (D / VEC); i += 32) {
        const int r = i / (D / VEC), j = i % (D / VEC), piece = (j % 8) ^ (r % 8);
        if (row + r < end)
            *(uint4 *)(matrix + (int64_t)(row + r) * stride + j * VEC) =
                *(const uint4 *)(at + (j / 8 * ROWS + r) * PANEL_ROW_BYTES + piece * 16);
    }
}

/* Of the dynamic shared memory, the first byte that a tile may begin at. */
static __device__ __forceinline__ uint8_t *tiles_begin(uint8_t *shared)
{
    const uint32_t at = shared_address(shared);
    return shared + ((at + TILE_ALIGN - 1) / TILE_ALIGN * TILE_ALIGN - at);
}

/* Warpgroup of this thread, known to the compiler to be equal in a warp. */
static __device__ __forceinline__ int group_index(void)
{
    return __shfl_sync(0xffffffffu, (int)threadIdx.x / GROUP_THREADS, 0);
}

/* ---- host ---- */

/* Describes a [rows, cols] matrix of bf16 for swizzled_fetch. False: the driver refused. */
static inline int tensor_map(CUtensorMap *map, const void *data, int64_t stride, int64_t rows,
                             int64_t cols)
{
    static PFN_cuTensorMapEncodeTiled_v12000 encode;
    if (encode == NULL) {
        void *found = NULL;
        cudaDriverEntryPointQueryResult result;
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                             cudaEnableDefault, &result) != cudaSuccess ||
            result != cudaDriverEntryPointSuccess)
            return 0;
        encode = (PFN_cuTensorMapEncodeTiled_v12000)found;
    }
    const cuuint64_t size[2] = {(cuuint64_t)cols, (cuuint64_t)rows};
    const cuuint64_t stride_bytes[1] = {(cuuint64_t)stride * 2};
    const cuuint32_t box[2] = {PANEL_COLUMNS, BOX_ROWS}, step[2] = {1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)data, size, stride_bytes, box,
                  step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

#endif
