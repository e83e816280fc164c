/* kernels_body.h — the inner loops themselves, written once in GCC vector extensions. The
 * including kernels_<isa>.c defines, before the include:
 *
 *   VL                 floats in a vector (4, 8, 16)
 *   V_FMA(a, b, c)     a * b + c on vectors; one rounding where the processor can
 *   V_U8(p) V_I8(p) V_U16(p)  VL stored integers, widened to 32 bits (compilers do this lane by
 *                      lane when left to themselves)
 *   V_F16(p)           VL half-precision numbers
 *   HALF(bits)         one of them
 *   V_MADD(a, b) V_WIDE_U8(p) V_WIDE_I8(p)  where there are instructions for them: sums of
 *                      neighbouring products of 16 bits, 16 bytes widened to 16 bits
 *   KERNELS_NAME       text of the table
 *   KERNELS_TABLE      the function that hands it out
 *
 * Rows of any length: whole vectors, then one partial vector that is loaded and stored through a
 * zero-filled copy, so nothing outside a row is ever touched.
 */
#include "core/quant_block.h"

#include <math.h>

#define BODY_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));

/* ==== Vectors ==== */

BODY_INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

BODY_INLINE void v_store(float *p, vf v) { memcpy(p, &v, sizeof v); }

/* The first n < VL elements; the rest read as zero and are not written. */
BODY_INLINE vf v_load_part(const float *p, int64_t n)
{
    float part[VL] = {0};
    for (int64_t i = 0; i < n; i++)
        part[i] = p[i];
    return v_load(part);
}

BODY_INLINE void v_store_part(float *p, vf v, int64_t n)
{
    float part[VL];
    v_store(part, v);
    for (int64_t i = 0; i < n; i++)
        p[i] = part[i];
}

/* 1 <= n <= VL elements: whole vectors take the short way. */
BODY_INLINE vf v_load_some(const float *p, int64_t n)
{
    return n == VL ? v_load(p) : v_load_part(p, n);
}

BODY_INLINE void v_store_some(float *p, vf v, int64_t n)
{
    if (n == VL)
        v_store(p, v);
    else
        v_store_part(p, v, n);
}

BODY_INLINE vf v_set1(float a) { return a - (vf){0}; }

BODY_INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

/* Pairwise, so that the order is the same for every n. */
BODY_INLINE float v_sum(vf v)
{
    float lane[VL];
    v_store(lane, v);
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

/* e^x within 1.1 units in the last place (tested): x = n ln2 + r, |r| <= ln2/2, a polynomial of
 * degree 6 in r, then two exact multiplications by powers of two. Below the least normal number
 * the result is 0, above the greatest it is infinite, NaN stays NaN. */
BODY_INLINE vf v_exp(vf x)
{
    const vf magic = v_set1(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const vf t = V_FMA(x, v_set1(1.44269504088896341f), magic);
    const vf n = t - magic;
    /* ln2 in two parts; the first has 9 bits, so n * it is exact also without fused products. */
    vf r = V_FMA(n, v_set1(-0.693359375f), x);
    r = V_FMA(n, v_set1(2.12194440054690583e-4f), r);
    vf poly = v_set1(0x1.6d113cp-10f);
    poly = V_FMA(poly, r, v_set1(0x1.120ba2p-7f));
    poly = V_FMA(poly, r, v_set1(0x1.55551ap-5f));
    poly = V_FMA(poly, r, v_set1(0x1.5554dcp-3f));
    poly = V_FMA(poly, r, v_set1(0.5f));
    const vf y = V_FMA(poly, r * r, r) + 1.0f;
    const vi exponent = (vi)((vu)t - (vu)magic);
    const vi half = exponent >> 1;
    const vf scale1 = (vf)((vu)(half + 127) << 23);
    const vf scale2 = (vf)((vu)(exponent - half + 127) << 23);
    vf result = (y * scale1) * scale2;
    result = v_select((vi)(x < v_set1(-87.3365448f)), (vf){0}, result);
    return v_select((vi)(x > v_set1(88.7228390f)), v_set1(INFINITY), result);
}

/* s = 1 / (1 + e^-x) and 1 - s = e^-x s without the cancellation. Below -80 both are as good as at
 * -80, and e^-x stays finite. */
BODY_INLINE vf v_sigmoid(vf x, vf *complement)
{
    const vf least = v_set1(-80.0f);
    const vf e = v_exp(-v_select((vi)(x < least), least, x));
    const vf s = 1.0f / (1.0f + e);
    *complement = e * s;
    return s;
}

/* ==== Stored rows ==== */

BODY_INLINE vf v_low(vi bytes) { return __builtin_convertvector(bytes & 15, vf); }
BODY_INLINE vf v_high(vi bytes) { return __builtin_convertvector(bytes >> 4, vf); }

enum { GROUP = QB_BLOCK, GROUP_VECTORS = GROUP / VL, HALF_VECTORS = GROUP_VECTORS / 2 };

/* 32 elements of a stored row into vectors, with the values that core/quant_block.h gives; `dtype`
 * is a constant wherever this is inlined. */
BODY_INLINE void load_group(Dtype dtype, const uint8_t *p, vf out[GROUP_VECTORS])
{
    if (dtype == DTYPE_F32) {
        for (int i = 0; i < GROUP_VECTORS; i++)
            memcpy(&out[i], p + (size_t)i * VL * 4, sizeof out[i]);
    } else if (dtype == DTYPE_BF16) {
        for (int i = 0; i < GROUP_VECTORS; i++)
            out[i] = (vf)((vu)V_U16(p + (size_t)i * VL * 2) << 16);
    } else if (dtype == DTYPE_F16) {
        for (int i = 0; i < GROUP_VECTORS; i++)
            out[i] = V_F16(p + (size_t)i * VL * 2);
    } else if (dtype == DTYPE_Q8_0) {
        const vf d = v_set1(HALF(qb_load16(p)));
        for (int i = 0; i < GROUP_VECTORS; i++)
            out[i] = __builtin_convertvector(V_I8(p + 2 + i * VL), vf) * d;
    } else if (dtype == DTYPE_Q5_0 || dtype == DTYPE_Q5_1 || dtype == DTYPE_IQ4_NL) {
        float values[GROUP];
        if (dtype == DTYPE_Q5_0)
            qb_decode_q5_0(p, values);
        else if (dtype == DTYPE_Q5_1)
            qb_decode_q5_1(p, values);
        else
            qb_decode_iq4_nl(p, values);
        memcpy(out, values, sizeof values);
    } else { /* products of a scale and a few bits are exact, so fusing changes nothing */
        assert(dtype == DTYPE_Q4_0 || dtype == DTYPE_Q4_1);
        const bool has_min = dtype == DTYPE_Q4_1;
        const vf d = v_set1(HALF(qb_load16(p)));
        const vf m = has_min ? v_set1(HALF(qb_load16(p + 2))) : -8.0f * d;
        for (int i = 0; i < HALF_VECTORS; i++) {
            const vi bytes = V_U8(p + (has_min ? 4 : 2) + i * VL);
            out[i] = V_FMA(v_low(bytes), d, m);
            out[i + HALF_VECTORS] = V_FMA(v_high(bytes), d, m);
        }
    }
}

/* The last n < 32 elements of a row of plain elements, the rest zero. */
BODY_INLINE void load_group_part(Dtype dtype, const uint8_t *p, int64_t n, vf out[GROUP_VECTORS])
{
    const size_t element = dtype == DTYPE_F32 ? 4 : 2;
    uint8_t padded[GROUP * 4] = {0};
    assert(n < GROUP);
    memcpy(padded, p, (size_t)n * element);
    load_group(dtype, padded, out);
}

BODY_INLINE size_t group_bytes(Dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32: return GROUP * 4;
    case DTYPE_Q4_0: return QB_Q4_0_BYTES;
    case DTYPE_Q4_1: return QB_Q4_1_BYTES;
    case DTYPE_Q5_0: return QB_Q5_0_BYTES;
    case DTYPE_Q5_1: return QB_Q5_1_BYTES;
    case DTYPE_Q8_0: return QB_Q8_0_BYTES;
    case DTYPE_IQ4_NL: return QB_IQ4_NL_BYTES;
    default: assert(dtype == DTYPE_F16 || dtype == DTYPE_BF16); return GROUP * 2;
    }
}

/* One super-block to memory; returns its bytes, 0 for types without super-blocks. */
BODY_INLINE size_t decode_super(Dtype dtype, const uint8_t *p, float out[QB_SUPER])
{
    switch (dtype) {
    case DTYPE_Q2_K: qb_decode_q2_k(p, out); return QB_Q2_K_BYTES;
    case DTYPE_Q3_K: qb_decode_q3_k(p, out); return QB_Q3_K_BYTES;
    case DTYPE_Q4_K: qb_decode_q4_k(p, out); return QB_Q4_K_BYTES;
    case DTYPE_Q5_K: qb_decode_q5_k(p, out); return QB_Q5_K_BYTES;
    case DTYPE_Q6_K: qb_decode_q6_k(p, out); return QB_Q6_K_BYTES;
    case DTYPE_IQ4_XS: qb_decode_iq4_xs(p, out); return QB_IQ4_XS_BYTES;
    default: return 0;
    }
}

BODY_INLINE bool has_supers(Dtype dtype)
{
    return dtype == DTYPE_Q2_K || dtype == DTYPE_Q3_K || dtype == DTYPE_Q4_K ||
           dtype == DTYPE_Q5_K || dtype == DTYPE_Q6_K || dtype == DTYPE_IQ4_XS;
}

BODY_INLINE void dequant_supers(Dtype dtype, const uint8_t *src, float *dst, int64_t n)
{
    assert(n % QB_SUPER == 0);
    for (int64_t i = 0; i < n; i += QB_SUPER)
        src += decode_super(dtype, src, dst + i);
}

BODY_INLINE void dequant_as(Dtype dtype, const uint8_t *src, float *dst, int64_t n)
{
    vf group[GROUP_VECTORS];
    int64_t i = 0;
    for (; i + GROUP <= n; i += GROUP, src += group_bytes(dtype)) {
        load_group(dtype, src, group);
        memcpy(dst + i, group, sizeof group);
    }
    if (i < n) {
        load_group_part(dtype, src, n - i, group);
        memcpy(dst + i, group, (size_t)(n - i) * sizeof(float));
    }
}

static void dequant(Dtype dtype, const uint8_t *src, float *dst, int64_t n)
{
    switch (dtype) {
    case DTYPE_F32: dequant_as(DTYPE_F32, src, dst, n); return;
    case DTYPE_F16: dequant_as(DTYPE_F16, src, dst, n); return;
    case DTYPE_BF16: dequant_as(DTYPE_BF16, src, dst, n); return;
    case DTYPE_Q4_0: dequant_as(DTYPE_Q4_0, src, dst, n); return;
    case DTYPE_Q4_1: dequant_as(DTYPE_Q4_1, src, dst, n); return;
    case DTYPE_Q5_0: dequant_as(DTYPE_Q5_0, src, dst, n); return;
    case DTYPE_Q5_1: dequant_as(DTYPE_Q5_1, src, dst, n); return;
    case DTYPE_Q8_0: dequant_as(DTYPE_Q8_0, src, dst, n); return;
    case DTYPE_IQ4_NL: dequant_as(DTYPE_IQ4_NL, src, dst, n); return;
    case DTYPE_Q2_K: dequant_supers(DTYPE_Q2_K, src, dst, n); return;
    case DTYPE_Q3_K: dequant_supers(DTYPE_Q3_K, src, dst, n); return;
    case DTYPE_Q4_K: dequant_supers(DTYPE_Q4_K, src, dst, n); return;
    case DTYPE_Q5_K: dequant_supers(DTYPE_Q5_K, src, dst, n); return;
    case DTYPE_Q6_K: dequant_supers(DTYPE_Q6_K, src, dst, n); return;
    case DTYPE_IQ4_XS: dequant_supers(DTYPE_IQ4_XS, src, dst, n); return;
    default: must(!"dtype that weights may have");
    }
}

typedef uint16_t vh __attribute__((vector_size(VL * 2)));

static void to_bf16(const float *src, uint16_t *dst, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const vf value = v_load(src + i);
        const vu bits = (vu)value;
        const vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        const vu quiet = (bits >> 16) | 0x40u;
        const vu is_number = (vu)(value == value);
        const vh half =
            __builtin_convertvector((rounded & is_number) | (quiet & ~is_number), vh);
        memcpy(dst + i, &half, sizeof half);
    }
    for (; i < n; i++)
        dst[i] = qb_to_bf16(src[i]);
}

enum { DOT_AT_ONCE = 4, MAX_CHAINS = 4 };

/* acc[t] += group . x[t], spread over `chains` sums. */
BODY_INLINE void accumulate(const vf group[GROUP_VECTORS], const float *x, int64_t x_stride,
                            int n_x, int chains, vf acc[DOT_AT_ONCE][MAX_CHAINS])
{
    for (int t = 0; t < n_x; t++)
        for (int j = 0; j < GROUP_VECTORS; j++) {
            vf *sum = &acc[t][j % chains];
            *sum = V_FMA(group[j], v_load(x + t * x_stride + (int64_t)j * VL), *sum);
        }
}

/* One stored row with n_x (a constant where inlined) rows of x. With few rows the sums are spread
 * over several vectors, or the latency of one chain would be what we wait for. */
BODY_INLINE void dot_row_as(Dtype dtype, const uint8_t *row, const DotRows *a, const float *x,
                            int n_x, float *y)
{
    const int chains = n_x == 1 && GROUP_VECTORS >= 4 ? 4 : GROUP_VECTORS >= 2 ? 2 : 1;
    vf acc[DOT_AT_ONCE][MAX_CHAINS] = {{{0}}};
    vf group[GROUP_VECTORS];
    int64_t i = 0;
    while (has_supers(dtype) && i < a->cols) {
        float block[QB_SUPER];
        row += decode_super(dtype, row, block);
        for (int g = 0; g < QB_SUPER; g += GROUP, i += GROUP) {
            memcpy(group, block + g, sizeof group);
            accumulate(group, x + i, a->x_stride, n_x, chains, acc);
        }
    }
    for (; i + GROUP <= a->cols; i += GROUP, row += group_bytes(dtype)) {
        load_group(dtype, row, group);
        accumulate(group, x + i, a->x_stride, n_x, chains, acc);
    }
    if (i < a->cols) {
        load_group_part(dtype, row, a->cols - i, group);
        float padded[DOT_AT_ONCE][GROUP] = {{0}};
        for (int t = 0; t < n_x; t++)
            memcpy(padded[t], x + t * a->x_stride + i, (size_t)(a->cols - i) * sizeof(float));
        accumulate(group, padded[0], GROUP, n_x, chains, acc);
    }
    for (int t = 0; t < n_x; t++) {
        vf total = acc[t][0];
        for (int c = 1; c < chains; c++)
            total += acc[t][c];
        y[t * a->y_stride] = v_sum(total);
    }
}

BODY_INLINE void dot_rows_as(Dtype dtype, const DotRows *a)
{
    for (int64_t r = 0; r < a->n_rows; r++) {
        const uint8_t *row = a->rows + (size_t)r * a->row_bytes;
        for (int t = 0; t < a->n_x; t += DOT_AT_ONCE) {
            const float *x = a->x + t * a->x_stride;
            float *y = a->y + t * a->y_stride + r;
            switch (a->n_x - t) {
            case 1: dot_row_as(dtype, row, a, x, 1, y); break;
            case 2: dot_row_as(dtype, row, a, x, 2, y); break;
            case 3: dot_row_as(dtype, row, a, x, 3, y); break;
            default: dot_row_as(dtype, row, a, x, DOT_AT_ONCE, y); break;
            }
        }
    }
}

static void dot_rows(const DotRows *a)
{
    assert(a->n_x >= 1 && a->n_x <= DOT_MAX_X);
    switch (a->dtype) {
    case DTYPE_F32: dot_rows_as(DTYPE_F32, a); return;
    case DTYPE_F16: dot_rows_as(DTYPE_F16, a); return;
    case DTYPE_BF16: dot_rows_as(DTYPE_BF16, a); return;
    case DTYPE_Q4_0: dot_rows_as(DTYPE_Q4_0, a); return;
    case DTYPE_Q4_1: dot_rows_as(DTYPE_Q4_1, a); return;
    case DTYPE_Q5_0: dot_rows_as(DTYPE_Q5_0, a); return;
    case DTYPE_Q5_1: dot_rows_as(DTYPE_Q5_1, a); return;
    case DTYPE_Q8_0: dot_rows_as(DTYPE_Q8_0, a); return;
    case DTYPE_IQ4_NL: dot_rows_as(DTYPE_IQ4_NL, a); return;
    case DTYPE_Q2_K: dot_rows_as(DTYPE_Q2_K, a); return;
    case DTYPE_Q3_K: dot_rows_as(DTYPE_Q3_K, a); return;
    case DTYPE_Q4_K: dot_rows_as(DTYPE_Q4_K, a); return;
    case DTYPE_Q5_K: dot_rows_as(DTYPE_Q5_K, a); return;
    case DTYPE_Q6_K: dot_rows_as(DTYPE_Q6_K, a); return;
    case DTYPE_IQ4_XS: dot_rows_as(DTYPE_IQ4_XS, a); return;
    default: must(!"dtype that weights may have");
    }
}

/* ==== Whole-number dot products ==== */

/* What the least value of a block adds: m (sum of x); 0 for types without one. */
BODY_INLINE float block_rest(Dtype dtype, const uint8_t *block, float d, float sum)
{
    if (dtype == DTYPE_Q8_0)
        return 0;
    return (dtype == DTYPE_Q4_1 ? HALF(qb_load16(block + 2)) : -8.0f * d) * sum;
}

#ifdef V_MADD
/* 256 bits whatever VL is: a block is 32 elements. */
typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef int16_t v16q __attribute__((vector_size(32)));

BODY_INLINE v16q q_load(const int16_t *p)
{
    v16q v;
    memcpy(&v, p, sizeof v);
    return v;
}

BODY_INLINE float sum_8(v8f v)
{
    v += __builtin_shuffle(v, (v8i){4, 5, 6, 7, 0, 1, 2, 3});
    v += __builtin_shuffle(v, (v8i){2, 3, 0, 1, 6, 7, 4, 5});
    return v[0] + v[1];
}

/* Whole numbers of a stored block times x's. */
BODY_INLINE v8i whole_numbers(Dtype dtype, const uint8_t *block, v16q x0, v16q x1)
{
    if (dtype == DTYPE_Q8_0)
        return V_MADD(V_WIDE_I8(block + 2), x0) + V_MADD(V_WIDE_I8(block + 18), x1);
    const v16q bytes = V_WIDE_U8(block + (dtype == DTYPE_Q4_1 ? 4 : 2));
    return V_MADD(bytes & 15, x0) + V_MADD(bytes >> 4, x1);
}

/* The row's whole numbers times x's, block by block times both scales. One row at a time: two or
 * four at once are a fifth slower. */
BODY_INLINE float dot_row_blocks(Dtype dtype, const uint8_t *row, int64_t cols, const Rounded *x)
{
    v8f total = {0};
    float rest = 0;
    for (int64_t b = 0; b < cols / QB_BLOCK; b++, row += group_bytes(dtype)) {
        const v16q x0 = q_load(x->q + b * QB_BLOCK), x1 = q_load(x->q + b * QB_BLOCK + 16);
        const float d = HALF(qb_load16(row));
        const v8i whole = whole_numbers(dtype, row, x0, x1);
        total += __builtin_convertvector(whole, v8f) * (d * x->scale[b]);
        rest += block_rest(dtype, row, d, x->sum[b]);
    }
    return sum_8(total) + rest;
}
#else
BODY_INLINE float dot_row_blocks(Dtype dtype, const uint8_t *row, int64_t cols, const Rounded *x)
{
    float total = 0, rest = 0;
    for (int64_t b = 0; b < cols / QB_BLOCK; b++, row += group_bytes(dtype)) {
        const int16_t *q = x->q + b * QB_BLOCK;
        const uint8_t *bytes = row + (dtype == DTYPE_Q4_1 ? 4 : 2);
        const float d = HALF(qb_load16(row));
        int32_t whole = 0;
        for (int i = 0; i < QB_BLOCK / 2; i++) {
            const int low = dtype == DTYPE_Q8_0 ? (int8_t)bytes[i] : bytes[i] & 15;
            const int high = dtype == DTYPE_Q8_0 ? (int8_t)bytes[i + 16] : bytes[i] >> 4;
            whole += low * q[i] + high * q[i + QB_BLOCK / 2];
        }
        total += (float)whole * (d * x->scale[b]);
        rest += block_rest(dtype, row, d, x->sum[b]);
    }
    return total + rest;
}
#endif

BODY_INLINE void dot_blocks_as(Dtype dtype, const DotBlocks *a)
{
    for (int64_t r = 0; r < a->n_rows; r++)
        a->y[r] = dot_row_blocks(dtype, a->rows + (size_t)r * a->row_bytes, a->cols, &a->x);
}

static void dot_blocks(const DotBlocks *a)
{
    assert(a->cols % QB_BLOCK == 0);
    switch (a->dtype) {
    case DTYPE_Q4_0: dot_blocks_as(DTYPE_Q4_0, a); return;
    case DTYPE_Q4_1: dot_blocks_as(DTYPE_Q4_1, a); return;
    case DTYPE_Q8_0: dot_blocks_as(DTYPE_Q8_0, a); return;
    default: must(!"dtype of dot_blocks_takes");
    }
}

static void round_blocks(const float *x, int64_t n, Rounded out)
{
    for (int64_t b = 0; b < n / QB_BLOCK; b++, x += QB_BLOCK) {
        float most = 0, sum = 0;
        for (int i = 0; i < QB_BLOCK; i++) {
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            sum += x[i];
        }
        const float inverse = most > 0 ? 32767.0f / most : 0;
        for (int i = 0; i < QB_BLOCK; i++)
            out.q[b * QB_BLOCK + i] = (int16_t)lrintf(x[i] * inverse);
        out.scale[b] = most / 32767.0f;
        out.sum[b] = sum;
    }
}

/* ==== Rows of floats ==== */

static float dot(const float *a, const float *b, int64_t n)
{
    vf acc0 = {0}, acc1 = {0};
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        acc0 = V_FMA(v_load(a + i), v_load(b + i), acc0);
        acc1 = V_FMA(v_load(a + i + VL), v_load(b + i + VL), acc1);
    }
    for (; i < n; i += VL) {
        const int64_t left = min_i64(n - i, VL);
        acc0 = V_FMA(v_load_part(a + i, left), v_load_part(b + i, left), acc0);
    }
    return v_sum(acc0 + acc1);
}

static void axpy(float *y, float a, const float *x, int64_t n)
{
    const vf va = v_set1(a);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(y + i, V_FMA(va, v_load(x + i), v_load(y + i)));
    if (i < n)
        v_store_part(y + i, V_FMA(va, v_load_part(x + i, n - i), v_load_part(y + i, n - i)), n - i);
}

static void scale_row(float *y, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= a;
}

static void exp_row(float *x, int64_t n, float scale, float shift, float multiplier)
{
    const vf vscale = v_set1(scale), vshift = v_set1(-shift);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(x + i, v_exp(V_FMA(vscale, v_load(x + i), vshift)) * multiplier);
    if (i < n) {
        const vf e = v_exp(V_FMA(vscale, v_load_part(x + i, n - i), vshift)) * multiplier;
        v_store_part(x + i, e, n - i);
    }
}

static float sum_row(const float *x, int64_t n)
{
    vf acc = {0};
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        acc += v_load(x + i);
    if (i < n)
        acc += v_load_part(x + i, n - i);
    return v_sum(acc);
}

static float max_row(const float *x, int64_t n)
{
    float best = -INFINITY;
    int64_t i = 0;
    if (n >= VL) {
        vf m = v_set1(-INFINITY);
        for (; i + VL <= n; i += VL) {
            const vf v = v_load(x + i);
            m = v_select((vi)(v > m), v, m);
        }
        for (int lane = 0; lane < VL; lane++)
            best = m[lane] > best ? m[lane] : best;
    }
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

static float sum_exp(const float *x, int64_t n, float shift)
{
    const vf vshift = v_set1(shift);
    vf acc = {0};
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        acc += v_exp(v_load(x + i) - vshift);
    if (i < n) {
        float part[VL] = {0};
        v_store_part(part, v_exp(v_load_part(x + i, n - i) - vshift), n - i);
        acc += v_load(part);
    }
    return v_sum(acc);
}

static void softmax_bwd_row(float *ds, const float *p, int64_t n, float delta, float scale)
{
    const vf vdelta = v_set1(delta), vscale = v_set1(scale);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(ds + i, v_load(p + i) * (v_load(ds + i) - vdelta) * vscale);
    for (; i < n; i++)
        ds[i] = p[i] * (ds[i] - delta) * scale;
}

/* ==== Norm ==== */

/* s = x + delta from i on, `left` elements. */
BODY_INLINE vf norm_input(const RmsnormRow *r, int64_t i, int64_t left)
{
    const vf x = v_load_some(r->x + i, left);
    return r->delta == NULL ? x : x + v_load_some(r->delta + i, left);
}

static float rmsnorm_fwd(const RmsnormRow *r)
{
    vf acc = {0};
    for (int64_t i = 0; i < r->n; i += VL) {
        const vf s = norm_input(r, i, min_i64(r->n - i, VL));
        acc = V_FMA(s, s, acc);
    }
    const float rstd = 1.0f / sqrtf(v_sum(acc) / (float)r->n + r->eps);
    for (int64_t i = 0; i < r->n; i += VL) {
        const int64_t left = min_i64(r->n - i, VL);
        const vf s = norm_input(r, i, left); /* before the store: sum may be x */
        v_store_some(r->y + i, s * rstd * v_load_some(r->w + i, left), left);
        if (r->sum != NULL)
            v_store_some(r->sum + i, s, left);
    }
    return rstd;
}

/* y = s rstd w. With g = dy w: ds = rstd g - s rstd^3 mean(g s); dw += dy s rstd. */
static void rmsnorm_bwd(const RmsnormRow *r)
{
    vf acc = {0};
    for (int64_t i = 0; i < r->n; i += VL) {
        const int64_t left = min_i64(r->n - i, VL);
        const vf g = v_load_some(r->dy + i, left) * v_load_some(r->w + i, left);
        acc = V_FMA(g, v_load_some(r->s + i, left), acc);
    }
    const vf rstd = v_set1(r->rstd);
    const vf pull = v_set1(r->rstd * r->rstd * r->rstd * (v_sum(acc) / (float)r->n));
    for (int64_t i = 0; i < r->n; i += VL) {
        const int64_t left = min_i64(r->n - i, VL);
        const vf s = v_load_some(r->s + i, left), dy = v_load_some(r->dy + i, left);
        vf ds = dy * v_load_some(r->w + i, left) * rstd - s * pull;
        if (r->dx != NULL && r->dx_beta != 0.0f)
            ds += r->dx_beta * v_load_some(r->dx + i, left);
        if (r->dx != NULL)
            v_store_some(r->dx + i, ds, left);
        if (r->ddelta != NULL)
            v_store_some(r->ddelta + i, ds, left);
        if (r->dw != NULL)
            v_store_some(r->dw + i, V_FMA(dy * s, rstd, v_load_some(r->dw + i, left)), left);
    }
}

/* ==== Gated units ==== */

/* value of the activation and its derivative. */
BODY_INLINE void activate(Activation act, vf g, vf *value, vf *slope)
{
    vf complement;
    if (act == ACT_SILU) {
        const vf s = v_sigmoid(g, &complement);
        *value = g * s;
        *slope = s + g * s * complement;
    } else { /* 0.5 g (1 + tanh u) = g sigmoid(2u), u = sqrt(2/pi) (g + 0.044715 g^3) */
        const float k = 1.5957691216057308f; /* 2 sqrt(2/pi) */
        const vf g2 = g * g;
        const vf s = v_sigmoid(k * g * (1.0f + 0.044715f * g2), &complement);
        *value = g * s;
        *slope = s + g * s * complement * k * (1.0f + 3.0f * 0.044715f * g2);
    }
}

BODY_INLINE void glu_fwd_as(Activation act, const GluRow *r)
{
    for (int64_t i = 0; i < r->n; i += VL) {
        const int64_t left = min_i64(r->n - i, VL);
        vf value, slope;
        activate(act, v_load_some(r->gate + i, left), &value, &slope);
        v_store_some(r->y + i, value * v_load_some(r->up + i, left), left);
    }
}

static void glu_fwd(const GluRow *r)
{
    if (r->act == ACT_SILU)
        glu_fwd_as(ACT_SILU, r);
    else
        glu_fwd_as(ACT_GELU_TANH, r);
}

BODY_INLINE void glu_bwd_as(Activation act, const GluRow *r)
{
    for (int64_t i = 0; i < r->n; i += VL) {
        const int64_t left = min_i64(r->n - i, VL);
        vf value, slope;
        activate(act, v_load_some(r->gate + i, left), &value, &slope);
        const vf up = v_load_some(r->up + i, left), dy = v_load_some(r->dy + i, left);
        if (r->dgate != NULL)
            v_store_some(r->dgate + i, dy * up * slope, left);
        if (r->dup != NULL)
            v_store_some(r->dup + i, dy * value, left);
    }
}

static void glu_bwd(const GluRow *r)
{
    if (r->act == ACT_SILU)
        glu_bwd_as(ACT_SILU, r);
    else
        glu_bwd_as(ACT_GELU_TANH, r);
}

/* ==== Rope ==== */

static void rope_row(const RopeRow *r)
{
    const int half = r->rot / 2;
    const float *cosines = r->table, *sines = r->table + half;
    const int step = r->pairing == ROPE_HALVES ? 1 : 2;
    const int partner = r->pairing == ROPE_HALVES ? half : 1;
    for (int64_t h = 0; h < r->n_heads; h++) {
        float *x = r->x + h * r->head_dim;
        for (int i = 0; i < half; i++) {
            const float a = x[i * step], b = x[i * step + partner];
            const float c = cosines[i], s = sines[i] * r->direction;
            x[i * step] = a * c - b * s;
            x[i * step + partner] = b * c + a * s;
        }
    }
}

/* ==== Optimiser ==== */

static double sum_squares(const float *x, int64_t n)
{
    double lane[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            lane[j] += (double)x[i + j] * x[i + j];
    for (int j = 0; i < n; i++, j++)
        lane[j] += (double)x[i] * x[i];
    for (int width = 8; width > 0; width /= 2)
        for (int j = 0; j < width; j++)
            lane[j] += lane[j + width];
    return lane[0];
}

static void adamw(float *restrict p, float *restrict g, float *restrict m, float *restrict v,
                  int64_t n, const AdamwStep *s)
{
    const AdamwStep k = *s;
    for (int64_t i = 0; i < n; i++) {
        const float gradient = g[i] * k.gradient_scale;
        const float m1 = m[i] + k.one_minus_beta1 * (gradient - m[i]);
        const float v1 = v[i] * k.beta2 + k.one_minus_beta2 * (gradient * gradient);
        const float denominator = sqrtf(v1) * k.inv_bias2_sqrt + k.eps;
        p[i] = p[i] * k.keep - k.step_size * (m1 / denominator);
        m[i] = m1;
        v[i] = v1;
        g[i] = 0.0f;
    }
}

const CpuKernels *KERNELS_TABLE(void)
{
    static const CpuKernels table = {
        .name = KERNELS_NAME,
        .dequant = dequant,
        .dot_rows = dot_rows,
        .dot_blocks = dot_blocks,
        .round_blocks = round_blocks,
        .to_bf16 = to_bf16,
        .dot = dot,
        .axpy = axpy,
        .scale = scale_row,
        .exp_row = exp_row,
        .sum = sum_row,
        .max = max_row,
        .sum_exp = sum_exp,
        .softmax_bwd_row = softmax_bwd_row,
        .rmsnorm_fwd = rmsnorm_fwd,
        .rmsnorm_bwd = rmsnorm_bwd,
        .glu_fwd = glu_fwd,
        .glu_bwd = glu_bwd,
        .rope = rope_row,
        .sum_squares = sum_squares,
        .adamw = adamw,
    };
    return &table;
}
