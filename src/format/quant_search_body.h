/* quant_search_body.h — the searches for the scales of packed blocks, one block a vector lane.
 *
 * Included by quant_encode_body.h, once per instruction set (the macros are described there). The
 * results are those of ggml's reference quantizers bit for bit: all sums are f32 and run in the
 * order of the elements, which is why a lane, not a vector, holds a block. Products are written
 * with ggml's grouping and never fused (-ffp-contract=off).
 *
 * All searches minimise sum w (x - value(level))^2 over the scale (and minimum) of one block:
 *   search_min       x ~ scale * level + min, min <= 0: a line of scales is tried; for the levels
 *                    that each gives, scale and min follow by least squares
 *   search_signed    x ~ scale * level, level -half .. half - 1: likewise, the scale alone
 *   search_refined   the same, then levels are moved one by one while that lowers the error
 *   search_positive  x ~ scale * level, level 0 .. top; both ways
 *   search_table     x ~ scale * table[level]
 * A search that does not keep the levels reports how to make them again from the element.
 */
#include "core/quant_block.h"

#include <math.h>

#define BODY_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

enum { MAX_BLOCK = 32 }; /* elements in a block of a search */

/* ==== Vectors ==== */

BODY_INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

BODY_INLINE vf v_set(float a) { return a - (vf){0}; }
BODY_INLINE vi v_int(int32_t a) { return a - (vi){0}; }
BODY_INLINE vi v_choose(vi mask, vi yes, vi no) { return (yes & mask) | (no & ~mask); }
BODY_INLINE vf v_select(vi mask, vf yes, vf no) { return (vf)v_choose(mask, (vi)yes, (vi)no); }
BODY_INLINE vf v_abs(vf a) { return (vf)((vi)a & 0x7fffffff); }
BODY_INLINE vf v_float(vi a) { return __builtin_convertvector(a, vf); }
BODY_INLINE vi v_clamp(vi a, int low, int high) { return V_MIN(V_MAX(a, v_int(low)), v_int(high)); }

BODY_INLINE bool v_any(vi mask)
{
    int32_t lane[VL], any = 0;
    memcpy(lane, &mask, sizeof lane);
    for (int i = 0; i < VL; i++)
        any |= lane[i];
    return any != 0;
}

/* The integer nearest to x, ties to even, read from the mantissa of x + 1.5 * 2^23; what that gives
 * beyond 2^22 is what the reference gives there. */
BODY_INLINE vi v_nearest(vf x)
{
    return ((vi)(x + 12582912.0f) & 0x007fffff) - 0x00400000;
}

/* Lane k of out[j] is element j of block k; lanes from n_blocks on repeat the last block. */
BODY_INLINE void transpose(const float *src, int size, int64_t n_blocks, vf *out)
{
    float *to = (float *)out;
    assert(n_blocks > 0);
    for (int k = 0; k < VL; k++) {
        const float *block = src + min_i64(k, n_blocks - 1) * size;
        for (int j = 0; j < size; j++)
            to[j * VL + k] = block[j];
    }
}

/* The first n lanes. */
BODY_INLINE void store_lanes(float *dst, vf v, int64_t n)
{
    float lane[VL];
    memcpy(lane, &v, sizeof lane);
    for (int64_t k = 0; k < VL && k < n; k++)
        dst[k] = lane[k];
}

/* The element of largest magnitude, with its sign; of equal ones the first. */
BODY_INLINE vf largest(const vf *x, int size, vf *magnitude)
{
    vf most = {0}, signed_most = {0};
    for (int j = 0; j < size; j++) {
        const vf a = v_abs(x[j]);
        const vi more = a > most;
        most = v_select(more, a, most);
        signed_most = v_select(more, x[j], signed_most);
    }
    *magnitude = most;
    return signed_most;
}

static const float ALL_ZERO = 1e-15f; /* blocks below are taken for zero */

/* ==== Scale and minimum ==== */

/* Tried scales: levels top + first + step * i over the range, 0 <= i <= steps. */
typedef struct MinSearch {
    int size, top;
    float first, step;
    int steps;
    int absolute; /* the error is sum w |diff| instead of squares */
} MinSearch;

/* level(x) = nearest((x - low) * inverse), clamped to 0 .. top; min <= 0. */
typedef struct MinFit {
    vf scale, min, inverse, low;
} MinFit;

BODY_INLINE vf min_error(const MinSearch *s, const vf *x, const vf *w, const vf *level, vf scale,
                         vf min)
{
    vf error = {0};
    for (int j = 0; j < s->size; j++) {
        vf diff = scale * level[j] + min - x[j];
        diff = s->absolute ? v_abs(diff) : diff * diff;
        error += w[j] * diff;
    }
    return error;
}

BODY_INLINE MinFit search_min(const MinSearch *s, const vf *x, const vf *w)
{
    vf min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    vf level[MAX_BLOCK];
    for (int j = 1; j < s->size; j++) {
        min = v_select(x[j] < min, x[j], min);
        max = v_select(x[j] > max, x[j], max);
        sum_w += w[j];
        sum_x += w[j] * x[j];
    }
    min = v_select(min > 0.0f, (vf){0}, min);
    const vi flat = max == min;
    const vf first_min = min;
    const vf top = v_set((float)s->top);
    MinFit best = {.min = min, .low = min, .inverse = top / (max - min)};
    best.scale = 1.0f / best.inverse;
    for (int j = 0; j < s->size; j++)
        level[j] = v_float(v_clamp(v_nearest(best.inverse * (x[j] - min)), 0, s->top));
    vf least = min_error(s, x, w, level, best.scale, min);
    for (int i = 0; i <= s->steps; i++) {
        const vf inverse = (s->first + s->step * (float)i + top) / (max - best.min);
        vf sum_l = {0}, sum_l2 = {0}, sum_xl = {0};
        for (int j = 0; j < s->size; j++) {
            level[j] = v_float(v_clamp(v_nearest(inverse * (x[j] - best.min)), 0, s->top));
            const vf wl = w[j] * level[j];
            sum_l += wl;
            sum_l2 += wl * level[j];
            sum_xl += wl * x[j];
        }
        const vf det = sum_w * sum_l2 - sum_l * sum_l;
        vf scale = (sum_w * sum_xl - sum_x * sum_l) / det;
        vf low = (sum_l2 * sum_x - sum_l * sum_xl) / det;
        const vi above = low > 0.0f;
        low = v_select(above, (vf){0}, low);
        scale = v_select(above, sum_xl / sum_l2, scale);
        const vf error = min_error(s, x, w, level, scale, low);
        const vi better = (det > 0.0f) & (error < least);
        least = v_select(better, error, least);
        best.inverse = v_select(better, inverse, best.inverse);
        best.low = v_select(better, best.min, best.low); /* the levels were made with the old one */
        best.scale = v_select(better, scale, best.scale);
        best.min = v_select(better, low, best.min);
    }
    best.scale = v_select(flat, (vf){0}, best.scale);
    best.inverse = v_select(flat, (vf){0}, best.inverse);
    best.min = v_select(flat, first_min, best.min);
    best.low = v_select(flat, first_min, best.low);
    return best;
}

/* ==== Scale alone ==== */

/* level(x) = nearest(x * inverse), clamped to -half .. half - 1; inverse 0: a block of zeros. */
typedef struct SignedFit {
    vf scale, inverse;
} SignedFit;

BODY_INLINE void signed_sums(const vf *x, const vf *w, int size, int half, vf inverse, vf *sum_xl,
                             vf *sum_l2)
{
    vf xl = {0}, l2 = {0};
    for (int j = 0; j < size; j++) {
        const vf level = v_float(v_clamp(v_nearest(inverse * x[j]), -half, half - 1));
        xl += w[j] * x[j] * level;
        l2 += w[j] * level * level;
    }
    *sum_xl = xl;
    *sum_l2 = l2;
}

BODY_INLINE SignedFit search_signed(const vf *x, const vf *w, int size, int half)
{
    vf magnitude, sum_xl, sum_l2;
    const vf most = largest(x, size, &magnitude);
    SignedFit best = {.inverse = v_set((float)-half) / most};
    signed_sums(x, w, size, half, best.inverse, &sum_xl, &sum_l2);
    best.scale = v_select(sum_l2 != 0.0f, sum_xl / sum_l2, (vf){0});
    vf score = best.scale * sum_xl;
    for (int i = -9; i <= 9; i++) {
        if (i == 0)
            continue;
        const vf inverse = v_set(-((float)half + 0.1f * (float)i)) / most;
        signed_sums(x, w, size, half, inverse, &sum_xl, &sum_l2);
        const vi better = (sum_l2 > 0.0f) & (sum_xl * sum_xl > score * sum_l2);
        const vf scale = sum_xl / sum_l2;
        best.scale = v_select(better, scale, best.scale);
        best.inverse = v_select(better, inverse, best.inverse);
        score = v_select(better, scale * sum_xl, score);
    }
    const vi zero = magnitude < ALL_ZERO;
    best.scale = v_select(zero, (vf){0}, best.scale);
    best.inverse = v_select(zero, (vf){0}, best.inverse);
    return best;
}

enum { SWEEPS = 5 };

/* With weights x^2. level: -half .. half - 1, and 0 in a block of zeros; returns the scale.
 * *zero: the lanes that are blocks of zeros. */
BODY_INLINE vf search_refined(const vf *x, int size, int half, vi *level, vi *zero)
{
    vf magnitude, sum_xl = {0}, sum_l2 = {0};
    const vf most = largest(x, size, &magnitude);
    const vf inverse = v_set((float)-half) / most;
    for (int j = 0; j < size; j++) {
        level[j] = v_clamp(v_nearest(inverse * x[j]), -half, half - 1);
        const vf l = v_float(level[j]), w = x[j] * x[j];
        sum_xl += w * x[j] * l;
        sum_l2 += w * l * l;
    }
    vi changed = v_int(-1);
    for (int sweep = 0; sweep < SWEEPS && v_any(changed); sweep++) {
        changed = (vi){0};
        for (int j = 0; j < size; j++) {
            const vf w = x[j] * x[j], old = v_float(level[j]);
            const vf less_xl = sum_xl - w * x[j] * old;
            const vf less_l2 = sum_l2 - w * old * old;
            const vi new_level = v_clamp(v_nearest(x[j] * less_l2 / less_xl), -half, half - 1);
            const vf l = v_float(new_level);
            const vf xl = less_xl + w * x[j] * l, l2 = less_l2 + w * l * l;
            const vi better = (less_xl > 0.0f) & (new_level != level[j]) & (l2 > 0.0f) &
                              (xl * xl * sum_l2 > sum_xl * sum_xl * l2);
            level[j] = v_choose(better, new_level, level[j]);
            sum_xl = v_select(better, xl, sum_xl);
            sum_l2 = v_select(better, l2, sum_l2);
            changed |= better;
        }
    }
    *zero = magnitude < ALL_ZERO;
    for (int j = 0; j < size; j++)
        level[j] = v_choose(*zero, (vi){0}, level[j]);
    return v_select(~*zero & (sum_l2 > 0.0f), sum_xl / sum_l2, (vf){0});
}

BODY_INLINE vf positive_error(const vf *x, const vf *w, int size, const vi *level, vf scale)
{
    vf error = {0};
    for (int j = 0; j < size; j++) {
        const vf diff = x[j] - scale * v_float(level[j]);
        error += w[j] * diff * diff;
    }
    return error;
}

/* x >= 0 but for rounding. level: 0 .. top (a negative one wraps to 8 bits, as in the reference);
 * returns the scale. */
BODY_INLINE vf search_positive(const vf *x, const vf *w, int size, int top, vi *level)
{
    vf max = {0}, sum_xl = {0}, sum_l2 = {0};
    vi tried[MAX_BLOCK];
    for (int j = 0; j < size; j++)
        max = v_select(max > x[j], max, x[j]);
    vf inverse = v_set((float)top) / max;
    for (int j = 0; j < size; j++)
        tried[j] = v_nearest(inverse * x[j]) & 255;
    vf least = positive_error(x, w, size, tried, 1.0f / inverse);
    for (int i = -4; i <= 4; i++) {
        if (i == 0)
            continue;
        const vf other = v_set(0.1f * (float)i + (float)top) / max;
        for (int j = 0; j < size; j++)
            tried[j] = V_MIN(v_nearest(other * x[j]), v_int(top));
        const vf error = positive_error(x, w, size, tried, 1.0f / other);
        const vi better = error < least;
        least = v_select(better, error, least);
        inverse = v_select(better, other, inverse);
    }
    for (int j = 0; j < size; j++) {
        const vi chosen = V_MIN(v_nearest(inverse * x[j]), v_int(top));
        const vf l = v_float(chosen);
        sum_xl += w[j] * x[j] * l;
        sum_l2 += w[j] * l * l;
        level[j] = chosen & 255;
    }
    vi changed = v_int(-1);
    for (int sweep = 0; sweep < SWEEPS && v_any(changed); sweep++) {
        changed = (vi){0};
        for (int j = 0; j < size; j++) {
            const vf old = v_float(level[j]);
            const vf less_xl = sum_xl - w[j] * x[j] * old, less_l2 = sum_l2 - w[j] * old * old;
            const vi new_level = V_MIN(v_nearest(x[j] * less_l2 / less_xl), v_int(top));
            const vf l = v_float(new_level);
            const vf xl = less_xl + w[j] * x[j] * l, l2 = less_l2 + w[j] * l * l;
            const vi better = (less_xl > 0.0f) & (less_l2 > 0.0f) & (new_level != level[j]) &
                              (xl * xl * sum_l2 > sum_xl * sum_xl * l2);
            level[j] = v_choose(better, new_level & 255, level[j]);
            sum_xl = v_select(better, xl, sum_xl);
            sum_l2 = v_select(better, l2, sum_l2);
            changed |= better;
        }
    }
    const vi zero = max < ALL_ZERO;
    for (int j = 0; j < size; j++)
        level[j] = v_choose(zero, (vi){0}, level[j]);
    return v_select(~zero & (sum_l2 > 0.0f), sum_xl / sum_l2, (vf){0});
}

/* ==== Scale of a table ==== */

#define ONE_VALUE(value) value,
static const int8_t iq4_values[16] = {QB_IQ4_VALUES(ONE_VALUE)};
#undef ONE_VALUE

/* The index of the table's value nearest to x, of two equally near the higher: how many of the
 * midpoints lie at or below x (midpoints and the differences to them are exact in f32). */
BODY_INLINE vi table_index(vf x)
{
    vi index = {0};
    for (int k = 1; k < 16; k++)
        index -= x >= 0.5f * (float)(iq4_values[k - 1] + iq4_values[k]);
    return index;
}

BODY_INLINE vf table_value(vf x)
{
    vi value = v_int(iq4_values[0]);
    for (int k = 1; k < 16; k++) {
        const int step = iq4_values[k] - iq4_values[k - 1];
        value += (vi)(x >= 0.5f * (float)(iq4_values[k - 1] + iq4_values[k])) & step;
    }
    return v_float(value);
}

BODY_INLINE void table_sums(const vf *x, const vf *w, int size, vf inverse, vf *sum_qx, vf *sum_q2)
{
    vf qx = {0}, q2 = {0};
    for (int j = 0; j < size; j++) {
        const vf q = table_value(inverse * x[j]);
        qx += w[j] * q * x[j];
        q2 += w[j] * q * q;
    }
    *sum_qx = qx;
    *sum_q2 = q2;
}

BODY_INLINE vf search_table(const vf *x, const vf *w, int size)
{
    enum { TRIES = 7 };
    vf magnitude, sum_qx, sum_q2;
    const vf most = largest(x, size, &magnitude);
    const float least = (float)iq4_values[0];
    table_sums(x, w, size, 1.0f / (-most / least), &sum_qx, &sum_q2);
    vf best = v_select(sum_q2 > 0.0f, sum_qx / sum_q2, (vf){0});
    vf score = best * sum_qx;
    for (int i = -TRIES; i <= TRIES; i++) {
        table_sums(x, w, size, v_set((float)i + least) / most, &sum_qx, &sum_q2);
        const vi better = (sum_q2 > 0.0f) & (sum_qx * sum_qx > score * sum_q2);
        const vf scale = sum_qx / sum_q2;
        best = v_select(better, scale, best);
        score = v_select(better, scale * sum_qx, score);
    }
    return v_select(magnitude < ALL_ZERO, (vf){0}, best);
}
