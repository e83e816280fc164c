/* quant.c — row loops over the block decoders of core/quant_block.h, and the encoders' front.
 *
 * Owns the 16-bit encoders and the choice of block encoders for this processor. Sources and
 * destinations need no alignment.
 */
#include "format/quant.h"

#include <string.h>

#include "core/os.h"
#include "core/quant_block.h"
#include "format/quant_encode.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are copied as they lie");

#define X(name, text, ggml_id, block, bytes) \
    enum { ROW_BLOCK_##name = (block), ROW_BYTES_##name = (bytes) };
#include "core/dtypes.def"
#undef X
static_assert(ROW_BYTES_Q4_0 + 0 == QB_Q4_0_BYTES && ROW_BLOCK_Q4_0 + 0 == QB_BLOCK, "block");
static_assert(ROW_BYTES_Q4_1 + 0 == QB_Q4_1_BYTES && ROW_BLOCK_Q4_1 + 0 == QB_BLOCK, "block");
static_assert(ROW_BYTES_Q5_0 + 0 == QB_Q5_0_BYTES && ROW_BLOCK_Q5_0 + 0 == QB_BLOCK, "block");
static_assert(ROW_BYTES_Q5_1 + 0 == QB_Q5_1_BYTES && ROW_BLOCK_Q5_1 + 0 == QB_BLOCK, "block");
static_assert(ROW_BYTES_Q8_0 + 0 == QB_Q8_0_BYTES && ROW_BLOCK_Q8_0 + 0 == QB_BLOCK, "block");
static_assert(ROW_BYTES_Q2_K + 0 == QB_Q2_K_BYTES && ROW_BLOCK_Q2_K + 0 == QB_SUPER, "block");
static_assert(ROW_BYTES_Q3_K + 0 == QB_Q3_K_BYTES && ROW_BLOCK_Q3_K + 0 == QB_SUPER, "block");
static_assert(ROW_BYTES_Q4_K + 0 == QB_Q4_K_BYTES && ROW_BLOCK_Q4_K + 0 == QB_SUPER, "block");
static_assert(ROW_BYTES_Q5_K + 0 == QB_Q5_K_BYTES && ROW_BLOCK_Q5_K + 0 == QB_SUPER, "block");
static_assert(ROW_BYTES_Q6_K + 0 == QB_Q6_K_BYTES && ROW_BLOCK_Q6_K + 0 == QB_SUPER, "block");
static_assert(ROW_BYTES_IQ4_NL + 0 == QB_IQ4_NL_BYTES && ROW_BLOCK_IQ4_NL + 0 == QB_BLOCK, "block");
static_assert(ROW_BYTES_IQ4_XS + 0 == QB_IQ4_XS_BYTES && ROW_BLOCK_IQ4_XS + 0 == QB_SUPER, "block");
static_assert(sizeof(float) == 4 && sizeof(int32_t) == ROW_BYTES_I32, "plain elements");

/* Rows of 16-bit floats go in pieces of a fixed count, which compilers vectorise at -O2. */
enum { PIECE = 32 };

static void decode_f16_piece(const uint8_t *restrict src, float *restrict dst)
{
    uint16_t halves[PIECE];
    memcpy(halves, src, sizeof halves);
    for (int i = 0; i < PIECE; i++)
        dst[i] = qb_from_f16(halves[i]);
}

static void decode_f16(const uint8_t *src, float *dst, int64_t cols)
{
    int64_t i = 0;
    for (; i + PIECE <= cols; i += PIECE)
        decode_f16_piece(src + 2 * i, dst + i);
    for (; i < cols; i++)
        dst[i] = qb_from_f16(qb_load16(src + 2 * i));
}

static void decode_bf16_piece(const uint8_t *restrict src, float *restrict dst)
{
    uint16_t halves[PIECE];
    memcpy(halves, src, sizeof halves);
    for (int i = 0; i < PIECE; i++)
        dst[i] = qb_from_bf16(halves[i]);
}

static void decode_bf16(const uint8_t *src, float *dst, int64_t cols)
{
    int64_t i = 0;
    for (; i + PIECE <= cols; i += PIECE)
        decode_bf16_piece(src + 2 * i, dst + i);
    for (; i < cols; i++)
        dst[i] = qb_from_bf16(qb_load16(src + 2 * i));
}

static void decode_i32(const uint8_t *restrict src, float *restrict dst, int64_t cols)
{
    for (int64_t i = 0; i < cols; i++) {
        int32_t value;
        memcpy(&value, src + 4 * i, sizeof value);
        dst[i] = (float)value;
    }
}

static void decode_blocks(Dtype dtype, const uint8_t *src, float *dst, int64_t blocks)
{
    static void (*const decoders[DTYPE_COUNT])(const uint8_t *restrict, float *restrict) = {
        [DTYPE_Q4_0] = qb_decode_q4_0,     [DTYPE_Q4_1] = qb_decode_q4_1,
        [DTYPE_Q5_0] = qb_decode_q5_0,     [DTYPE_Q5_1] = qb_decode_q5_1,
        [DTYPE_Q8_0] = qb_decode_q8_0,     [DTYPE_Q2_K] = qb_decode_q2_k,
        [DTYPE_Q3_K] = qb_decode_q3_k,     [DTYPE_Q4_K] = qb_decode_q4_k,
        [DTYPE_Q5_K] = qb_decode_q5_k,     [DTYPE_Q6_K] = qb_decode_q6_k,
        [DTYPE_IQ4_NL] = qb_decode_iq4_nl, [DTYPE_IQ4_XS] = qb_decode_iq4_xs,
    };
    const DtypeInfo *info = dtype_info(dtype);
    must(decoders[dtype] != NULL);
    for (int64_t b = 0; b < blocks; b++)
        decoders[dtype](src + b * info->block_bytes, dst + b * info->block);
}

void quant_decode_row(Dtype dtype, const void *src, float *dst, int64_t cols)
{
    must(dtype < DTYPE_COUNT && cols >= 0);
    const DtypeInfo *info = dtype_info(dtype);
    must(cols % info->block == 0);
    const uint8_t *bytes = src;
    const int64_t blocks = cols / info->block;
    switch (dtype) {
    case DTYPE_F32:
        if (cols > 0)
            memcpy(dst, src, (size_t)cols * sizeof *dst);
        return;
    case DTYPE_F16:
        decode_f16(bytes, dst, cols);
        return;
    case DTYPE_BF16:
        decode_bf16(bytes, dst, cols);
        return;
    case DTYPE_I32:
        decode_i32(bytes, dst, cols);
        return;
    default:
        decode_blocks(dtype, bytes, dst, blocks);
    }
}

static void store16(uint8_t *dst, uint16_t value)
{
    dst[0] = (uint8_t)(value & 0xff);
    dst[1] = (uint8_t)(value >> 8);
}

static void encode_f16_piece(const float *restrict src, uint8_t *restrict dst)
{
    uint16_t halves[PIECE];
    for (int i = 0; i < PIECE; i++)
        halves[i] = qb_to_f16(src[i]);
    memcpy(dst, halves, sizeof halves);
}

static void encode_f16(const float *src, uint8_t *dst, int64_t cols)
{
    int64_t i = 0;
    for (; i + PIECE <= cols; i += PIECE)
        encode_f16_piece(src + i, dst + 2 * i);
    for (; i < cols; i++)
        store16(dst + 2 * i, qb_to_f16(src[i]));
}

static void encode_bf16_piece(const float *restrict src, uint8_t *restrict dst)
{
    uint16_t halves[PIECE];
    for (int i = 0; i < PIECE; i++)
        halves[i] = qb_to_bf16(src[i]);
    memcpy(dst, halves, sizeof halves);
}

static void encode_bf16(const float *src, uint8_t *dst, int64_t cols)
{
    int64_t i = 0;
    for (; i + PIECE <= cols; i += PIECE)
        encode_bf16_piece(src + i, dst + 2 * i);
    for (; i < cols; i++)
        store16(dst + 2 * i, qb_to_bf16(src[i]));
}

/* ---- blocks ------------------------------------------------------------------------------ */

const EncodeKernels *quant_encode_named(const char *name)
{
    const CpuFeatures *features = os_cpu_features();
    if (strcmp(name, "avx512") == 0)
        return features->avx512 ? quant_encode_avx512() : NULL;
    if (strcmp(name, "avx2") == 0)
        return features->avx2 ? quant_encode_avx2() : NULL;
    return strcmp(name, "generic") == 0 ? quant_encode_generic() : NULL;
}

const EncodeKernels *quant_encode_best(void)
{
    const EncodeKernels *best = quant_encode_named("avx512");
    if (best == NULL)
        best = quant_encode_named("avx2");
    return best != NULL ? best : quant_encode_generic();
}

/* In order, as the reference sums it. */
static float mean_square(const float *row, int64_t cols)
{
    float sum = 0;
    for (int64_t i = 0; i < cols; i++)
        sum += row[i] * row[i];
    return sum / (float)cols;
}

void quant_encode_rows(Dtype dtype, const float *src, void *dst, int64_t rows, int64_t cols,
                       const float *importance)
{
    must(quant_can_encode(dtype) && rows >= 0 && cols >= 0);
    must(cols % dtype_info(dtype)->block == 0);
    uint8_t *bytes = dst;
    const int64_t n = rows * cols;
    if (dtype == DTYPE_F32) {
        if (n > 0)
            memcpy(dst, src, (size_t)n * sizeof *src);
    } else if (dtype == DTYPE_F16) {
        encode_f16(src, bytes, n);
    } else if (dtype == DTYPE_BF16) {
        encode_bf16(src, bytes, n);
    } else if (importance == NULL || dtype == DTYPE_Q8_0) {
        quant_encode_best()->encode(
            &(EncodeCall){.dtype = dtype, .src = src, .dst = bytes, .n = n});
    } else {
        const EncodeKernels *kernels = quant_encode_best();
        const size_t row_bytes = dtype_row_bytes(dtype, cols);
        const bool needs_mean = dtype_info(dtype)->block == QB_BLOCK;
        for (int64_t i = 0; i < rows; i++, src += cols, bytes += row_bytes)
            kernels->encode(&(EncodeCall){
                .dtype = dtype, .src = src, .dst = bytes, .n = cols, .importance = importance,
                .mean_square = needs_mean ? mean_square(src, cols) : 0});
    }
}

void quant_encode_row(Dtype dtype, const float *src, void *dst, int64_t cols)
{
    quant_encode_rows(dtype, src, dst, 1, cols, NULL);
}

bool quant_can_encode(Dtype dtype)
{
    return dtype < DTYPE_COUNT && dtype != DTYPE_I32;
}
