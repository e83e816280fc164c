/* quant_encode_body.h — the block encoders, written once in GCC vector extensions. The including
 * quant_encode_<isa>.c defines, before the include:
 *
 *   VL                      floats in a vector (4, 8, 16)
 *   V_MIN(a, b) V_MAX(a, b) of vectors of 32-bit integers
 *   V_SQRT(a)               of floats, correctly rounded
 *   ENCODE_NAME             text of the table
 *   ENCODE_TABLE            the function that hands it out
 *
 * Work goes in chunks. In a chunk the sub-blocks are searched, VL of them side by side
 * (quant_search_body.h); then for every super-block the scales of its sub-blocks are rounded, the
 * levels are made anew with the rounded scales, and all is packed. Where a rounded scale is 0 the
 * levels of the search stay, as in the reference. Layouts: core/quant_block.h.
 */
#include "format/quant_search_body.h"

enum { CHUNK = 4096, MAX_SUBS = CHUNK / 16 + VL, MAX_SUPERS = CHUNK / QB_SUPER };

typedef uint8_t vb __attribute__((vector_size(VL)));

/* What the search found for the sub-blocks of a chunk. */
typedef struct Subs {
    const float *x;
    int64_t n;       /* sub-blocks */
    int size;        /* elements in one */
    int per_super;
    float scale[MAX_SUBS], min[MAX_SUBS], inverse[MAX_SUBS], low[MAX_SUBS], sum_w[MAX_SUBS];
    uint8_t scale_level[MAX_SUBS], min_level[MAX_SUBS]; /* rounded, in units of d and m */
    float d[MAX_SUPERS], m[MAX_SUPERS];
    uint8_t level[CHUNK]; /* of search_refined */
} Subs;

static void put16(uint8_t *dst, uint16_t value)
{
    dst[0] = (uint8_t)(value & 0xff);
    dst[1] = (uint8_t)(value >> 8);
}

static void put_half(uint8_t *dst, float value) { put16(dst, qb_to_f16(value)); }
static float rounded_half(float value) { return qb_from_f16(qb_to_f16(value)); }

static int nearest_one(float x)
{
    return (int)(qb_bits(x + 12582912.0f) & 0x007fffff) - 0x00400000;
}

static int clamp_one(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

BODY_INLINE void v_store_bytes(uint8_t *dst, vi levels)
{
    const vb bytes = __builtin_convertvector(levels, vb);
    memcpy(dst, &bytes, sizeof bytes);
}

/* ==== Weights ==== */

typedef enum WeightRule {
    WEIGHT_SQUARE,     /* x^2 */
    WEIGHT_MAGNITUDE,  /* |x| */
    WEIGHT_RMS,        /* rms of the sub-block + |x| */
    WEIGHT_IMPORTANCE, /* importance * sqrt(mean square + x^2) */
    WEIGHT_GIVEN       /* importance */
} WeightRule;

/* mean_square: a lane's, for WEIGHT_IMPORTANCE. */
BODY_INLINE void make_weights(WeightRule rule, int size, const vf *x, const vf *importance,
                              vf mean_square, vf *w)
{
    vf rms = {0};
    for (int j = 0; rule == WEIGHT_RMS && j < size; j++)
        rms += x[j] * x[j];
    if (rule == WEIGHT_RMS)
        rms = V_SQRT(rms / (float)size);
    for (int j = 0; j < size; j++) {
        switch (rule) {
        case WEIGHT_SQUARE: w[j] = x[j] * x[j]; break;
        case WEIGHT_MAGNITUDE: w[j] = v_abs(x[j]); break;
        case WEIGHT_RMS: w[j] = rms + v_abs(x[j]); break;
        case WEIGHT_IMPORTANCE: w[j] = importance[j] * V_SQRT(mean_square + x[j] * x[j]); break;
        case WEIGHT_GIVEN: w[j] = importance[j]; break;
        }
    }
}

/* Lane k: the sum of x^2 of block k, in order, over whole blocks of `size`, times `factor`. */
static void mean_squares(const float *x, int64_t n, int size, float factor, float *out)
{
    for (int64_t b = 0; b < n / size; b += 4) {
        float sum[4] = {0};
        const int64_t count = min_i64(4, n / size - b);
        for (int j = 0; j < size; j++)
            for (int64_t k = 0; k < 4; k++) {
                const float v = x[(b + (k < count ? k : 0)) * size + j];
                sum[k] += v * v;
            }
        for (int64_t k = 0; k < count; k++)
            out[b + k] = sum[k] * factor;
    }
}

/* ==== Searches over a chunk ==== */

typedef enum SearchKind { SEARCH_MIN, SEARCH_SIGNED, SEARCH_REFINED, SEARCH_TABLE } SearchKind;

typedef struct SearchPlan {
    SearchKind kind;
    WeightRule rule;
    MinSearch min;
    int half;           /* of SEARCH_SIGNED, SEARCH_REFINED */
    const float *importance;
    const float *means; /* mean square of every super-block */
} SearchPlan;

BODY_INLINE void keep_refined(Subs *s, int64_t first, const vi *level, vi zero, int half)
{
    for (int j = 0; j < s->size; j++) {
        int32_t lane[VL];
        const vi raised = level[j] + (~zero & half);
        memcpy(lane, &raised, sizeof lane);
        for (int64_t k = 0; k < VL && first + k < s->n; k++)
            s->level[(first + k) * s->size + j] = (uint8_t)lane[k];
    }
}

/* plan: constants where this is inlined. */
BODY_INLINE void search_group(Subs *s, const SearchPlan *plan, int size, int64_t first)
{
    vf x[MAX_BLOCK], w[MAX_BLOCK], importance[MAX_BLOCK], sum = {0};
    const int64_t count = min_i64(VL, s->n - first);
    float means[VL] = {0};
    transpose(s->x + first * size, size, count, x);
    if (plan->importance != NULL)
        transpose(plan->importance + first * size, size, count, importance);
    for (int64_t k = 0; plan->means != NULL && k < count; k++)
        means[k] = plan->means[(first + k) / s->per_super];
    make_weights(plan->rule, size, x, importance, v_load(means), w);
    for (int j = 0; j < size; j++)
        sum += w[j];
    store_lanes(s->sum_w + first, sum, count);
    if (plan->kind == SEARCH_MIN) {
        const MinFit fit = search_min(&plan->min, x, w);
        store_lanes(s->scale + first, fit.scale, count);
        store_lanes(s->min + first, -fit.min, count);
        store_lanes(s->inverse + first, fit.inverse, count);
        store_lanes(s->low + first, fit.low, count);
    } else if (plan->kind == SEARCH_SIGNED) {
        const SignedFit fit = search_signed(x, w, size, plan->half);
        store_lanes(s->scale + first, fit.scale, count);
        store_lanes(s->inverse + first, fit.inverse, count);
    } else if (plan->kind == SEARCH_REFINED) {
        vi level[MAX_BLOCK], zero;
        store_lanes(s->scale + first, search_refined(x, size, plan->half, level, &zero), count);
        keep_refined(s, first, level, zero, plan->half);
    } else {
        store_lanes(s->scale + first, search_table(x, w, size), count);
    }
}

BODY_INLINE void search_all(Subs *s, SearchPlan plan)
{
    plan.min.size = s->size;
    for (int64_t first = 0; first < s->n; first += VL)
        search_group(s, &plan, s->size, first);
}

/* The scales (or minima) of super-blocks by search_positive, weighted by the sums of weights. */
static void round_by_search(const Subs *s, const float *values, int top, uint8_t *level,
                            float *unit)
{
    const int size = s->per_super;
    const int64_t supers = s->n / size;
    for (int64_t first = 0; first < supers; first += VL) {
        vf x[MAX_BLOCK], w[MAX_BLOCK];
        vi found[MAX_BLOCK];
        const int64_t count = min_i64(VL, supers - first);
        transpose(values + first * size, size, count, x);
        transpose(s->sum_w + first * size, size, count, w);
        store_lanes(unit + first, search_positive(x, w, size, top, found), count);
        for (int j = 0; j < size; j++) {
            int32_t lane[VL];
            memcpy(lane, &found[j], sizeof lane);
            for (int64_t k = 0; k < count; k++)
                level[(first + k) * size + j] = (uint8_t)lane[k];
        }
    }
}

/* The same by the largest: the unit is max / top. limit: what a level is cut to. */
static void round_by_max(const Subs *s, const float *values, int top, int limit, uint8_t *level,
                         float *unit)
{
    for (int64_t i = 0; i < s->n / s->per_super; i++) {
        const float *v = values + i * s->per_super;
        float max = 0;
        for (int j = 0; j < s->per_super; j++)
            max = v[j] > max ? v[j] : max;
        const float inverse = max > 0 ? (float)top / max : 0.0f;
        for (int j = 0; j < s->per_super; j++) {
            const int l = nearest_one(inverse * v[j]) & 255;
            level[i * s->per_super + j] = (uint8_t)(l < limit ? l : limit);
        }
        unit[i] = max / (float)top;
    }
}

static void round_scales(Subs *s, bool by_search, int top, int limit)
{
    if (by_search) {
        round_by_search(s, s->scale, top, s->scale_level, s->d);
        round_by_search(s, s->min, top, s->min_level, s->m);
    } else {
        round_by_max(s, s->scale, top, limit, s->scale_level, s->d);
        round_by_max(s, s->min, top, limit, s->min_level, s->m);
    }
}

/* ==== Levels ==== */

/* level = nearest((x + min) / d), or the search's own where d is 0. */
BODY_INLINE void levels_min(const float *x, int size, int top, float d, float min, float inverse,
                            float low, uint8_t *level)
{
    for (int j = 0; j < size; j += VL) {
        const vf v = v_load(x + j);
        const vf q = d != 0 ? (v + min) / d : inverse * (v - low);
        v_store_bytes(level + j, v_clamp(v_nearest(q), 0, top));
    }
}

/* Raised by half. Blocks of zeros (inverse 0) keep a bare 0. */
BODY_INLINE void levels_signed(const float *x, int size, int half, float d, float inverse,
                               uint8_t *level)
{
    for (int j = 0; j < size; j += VL) {
        const vf v = v_load(x + j);
        const vf q = d != 0 ? v / d : inverse * v;
        const vi l = v_clamp(v_nearest(q), -half, half - 1) + half;
        v_store_bytes(level + j, d == 0 && inverse == 0 ? (vi){0} : l);
    }
}

BODY_INLINE void levels_table(const float *x, int size, float inverse, uint8_t *level)
{
    for (int j = 0; j < size; j += VL)
        v_store_bytes(level + j, table_index(inverse * v_load(x + j)));
}

/* 256 two-bit levels: 32 bytes a half, shifts 0, 2, 4, 6 for its quarters. */
static void pack_two_bits(const uint8_t *restrict level, uint8_t *restrict qs)
{
    for (int h = 0; h < 2; h++, level += 128, qs += 32)
        for (int j = 0; j < 32; j++)
            qs[j] = (uint8_t)((level[j] & 3) | (level[j + 32] & 3) << 2 | (level[j + 64] & 3) << 4 |
                              (level[j + 96] & 3) << 6);
}

/* n nibbles of level[0..n) low and level[n..2n) high. */
static void pack_nibbles(const uint8_t *restrict level, int n, uint8_t *restrict qs)
{
    for (int j = 0; j < n; j++)
        qs[j] = (uint8_t)((level[j] & 15) | (level[j + n] & 15) << 4);
}

/* The twelve bytes of Q4_K and Q5_K; inverse of qb_scale_k4 and qb_min_k4. */
static void pack_scales_k4(const uint8_t *scale, const uint8_t *min, uint8_t *sc)
{
    for (int s = 0; s < 4; s++) {
        sc[s] = (uint8_t)(scale[s] | (scale[s + 4] >> 4) << 6);
        sc[s + 4] = (uint8_t)(min[s] | (min[s + 4] >> 4) << 6);
        sc[s + 8] = (uint8_t)((scale[s + 4] & 15) | (min[s + 4] & 15) << 4);
    }
}

static void pack_scales_q3_k(const uint8_t *scale, uint8_t *sc)
{
    memset(sc, 0, 12);
    for (int s = 0; s < 16; s++) {
        sc[s % 8] |= (uint8_t)((scale[s] & 15) << (4 * (s / 8)));
        sc[8 + s % 4] |= (uint8_t)((scale[s] >> 4) << (2 * (s / 4)));
    }
}

/* ==== Super-blocks ==== */

static void finish_q2_k(const Subs *s, int64_t i, uint8_t *block)
{
    uint8_t level[QB_SUPER];
    const float d = rounded_half(s->d[i]), m = rounded_half(s->m[i]);
    for (int64_t j = 0, at = 16 * i; j < 16; j++, at++) {
        const uint8_t packed = (uint8_t)(s->scale_level[at] | s->min_level[at] << 4);
        block[j] = packed;
        levels_min(s->x + 16 * at, 16, 3, d * (float)(packed & 15), m * (float)(packed >> 4),
                   s->inverse[at], s->low[at], level + 16 * j);
    }
    pack_two_bits(level, block + 16);
    put_half(block + 80, s->d[i]);
    put_half(block + 82, s->m[i]);
}

static void finish_q45_k(const Subs *s, int64_t i, bool five, uint8_t *block)
{
    uint8_t level[QB_SUPER];
    const float d = rounded_half(s->d[i]), m = rounded_half(s->m[i]);
    put_half(block, s->d[i]);
    put_half(block + 2, s->m[i]);
    pack_scales_k4(s->scale_level + 8 * i, s->min_level + 8 * i, block + 4);
    for (int64_t j = 0, at = 8 * i; j < 8; j++, at++)
        levels_min(s->x + 32 * at, 32, five ? 31 : 15, d * (float)s->scale_level[at],
                   m * (float)s->min_level[at], s->inverse[at], s->low[at], level + 32 * j);
    for (int pair = 0; pair < 4; pair++)
        pack_nibbles(level + 64 * pair, 32, block + (five ? 48 : 16) + 32 * pair);
    for (int j = 0; five && j < 32; j++) {
        uint8_t bits = 0;
        for (int k = 0; k < 8; k++)
            bits |= (uint8_t)((level[32 * k + j] >> 4) << k);
        block[16 + j] = bits;
    }
}

/* The signed value of largest magnitude; of equal ones the first; 0 for none. */
static float largest_scale(const float *values, int n)
{
    float most = 0;
    for (int j = 0; j < n; j++)
        most = fabsf(values[j]) > fabsf(most) ? values[j] : most;
    return most;
}

/* Scales of Q3_K by the largest. */
static void round_q3_k(Subs *s)
{
    for (int64_t i = 0; i < s->n / 16; i++) {
        const float most = largest_scale(s->scale + 16 * i, 16);
        const float inverse = -32.0f / most;
        for (int64_t at = 16 * i; at < 16 * i + 16; at++) {
            const int l = most != 0 ? (int8_t)nearest_one(inverse * s->scale[at]) : -32;
            s->scale_level[at] = (uint8_t)(clamp_one(l, -32, 31) + 32);
        }
        s->d[i] = most != 0 ? 1.0f / inverse : 0.0f;
    }
}

/* Scales of Q3_K by search_signed over them. */
static void search_q3_k(Subs *s)
{
    for (int64_t first = 0; first < s->n / 16; first += VL) {
        vf x[16], w[16];
        float inverse[VL];
        const int64_t count = min_i64(VL, s->n / 16 - first);
        transpose(s->scale + first * 16, 16, count, x);
        transpose(s->sum_w + first * 16, 16, count, w);
        const SignedFit fit = search_signed(x, w, 16, 32);
        store_lanes(s->d + first, fit.scale, count);
        store_lanes(inverse, fit.inverse, count);
        for (int64_t k = 0; k < count; k++)
            levels_signed(s->scale + (first + k) * 16, 16, 32, 0.0f, inverse[k],
                          s->scale_level + (first + k) * 16);
    }
}

static void finish_q3_k(const Subs *s, int64_t i, bool refined, uint8_t *block)
{
    uint8_t level[QB_SUPER];
    const float d = rounded_half(s->d[i]);
    pack_scales_q3_k(s->scale_level + 16 * i, block + 96);
    for (int64_t j = 0, at = 16 * i; j < 16; j++, at++) {
        const float scale = d * (float)(s->scale_level[at] - 32);
        if (refined && scale == 0)
            memcpy(level + 16 * j, s->level + 16 * at, 16);
        else
            levels_signed(s->x + 16 * at, 16, 4, scale, refined ? 0.0f : s->inverse[at],
                          level + 16 * j);
    }
    for (int j = 0; j < 32; j++) {
        uint8_t bits = 0;
        for (int k = 0; k < 8; k++)
            bits |= (uint8_t)((level[32 * k + j] > 3) << k);
        block[j] = bits;
    }
    pack_two_bits(level, block + 32);
    put_half(block + 108, s->d[i]);
}

static void finish_q6_k(const Subs *s, int64_t i, uint8_t *block)
{
    uint8_t level[QB_SUPER];
    const float most = largest_scale(s->scale + 16 * i, 16);
    if (fabsf(most) < ALL_ZERO) {
        memset(block, 0, QB_Q6_K_BYTES);
        return;
    }
    const float inverse = -128.0f / most;
    const float d = rounded_half(1.0f / inverse);
    for (int64_t j = 0, at = 16 * i; j < 16; j++, at++) {
        const int l = nearest_one(inverse * s->scale[at]);
        block[192 + j] = (uint8_t)(l < 127 ? l : 127);
        levels_signed(s->x + 16 * at, 16, 32, d * (float)(int8_t)block[192 + j], s->inverse[at],
                      level + 16 * j);
    }
    put_half(block + 208, 1.0f / inverse);
    for (int h = 0; h < 2; h++) {
        const uint8_t *l = level + 128 * h;
        pack_nibbles(l, 64, block + 64 * h);
        for (int j = 0; j < 32; j++)
            block[128 + 32 * h + j] = (uint8_t)(l[j] >> 4 | (l[j + 32] >> 4) << 2 |
                                                (l[j + 64] >> 4) << 4 | (l[j + 96] >> 4) << 6);
    }
}

/* Levels are chosen with the scales before d is rounded. */
static void finish_iq4_xs(const Subs *s, int64_t i, uint8_t *block)
{
    const float d = -largest_scale(s->scale + 8 * i, 8) / 32.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    uint32_t high = 0;
    put_half(block, d);
    memset(block + 4, 0, 4);
    for (int64_t j = 0, at = 8 * i; j < 8; j++, at++) {
        uint8_t level[32];
        const int l = clamp_one(nearest_one(inverse * s->scale[at]), -32, 31);
        const float scale = d * (float)l;
        levels_table(s->x + 32 * at, 32, scale != 0 ? 1.0f / scale : 0.0f, level);
        pack_nibbles(level, 16, block + 8 + 16 * j);
        block[4 + j / 2] |= (uint8_t)(((l + 32) & 15) << (4 * (j % 2)));
        high |= (uint32_t)((l + 32) >> 4) << (2 * j);
    }
    put16(block + 2, (uint16_t)high);
}

static void encode_supers(Dtype dtype, Subs *s, const float *importance, uint8_t *dst)
{
    float means[MAX_SUPERS];
    const bool weighed = importance != NULL;
    const int64_t n = s->n * s->size;
    if (weighed)
        mean_squares(s->x, n, QB_SUPER, dtype == DTYPE_Q2_K ? 1.0f / QB_SUPER : 2.0f / QB_SUPER,
                     means);
    const float *m = weighed ? means : NULL;
    const WeightRule rule = weighed ? WEIGHT_IMPORTANCE : WEIGHT_SQUARE;
    const MinSearch fine = {.first = -0.9f, .step = 0.05f, .steps = 36};
    MinSearch q2 = {.top = 3, .first = -0.5f, .step = 0.1f, .steps = 15, .absolute = 1};
    MinSearch q4 = {.top = 15, .first = -1.0f, .step = 0.1f, .steps = 20};
    MinSearch q5 = {.top = 31, .first = -0.5f, .step = 0.1f, .steps = 15};
    if (weighed) {
        q2 = q4 = q5 = fine;
        q2.top = 3, q4.top = 15, q5.top = 31;
    }
    switch (dtype) {
    case DTYPE_Q2_K:
        search_all(s, (SearchPlan){SEARCH_MIN, weighed ? rule : WEIGHT_MAGNITUDE, q2, 0, importance,
                                   m});
        round_scales(s, weighed, 15, 255);
        break;
    case DTYPE_Q3_K:
        if (weighed) {
            search_all(s, (SearchPlan){SEARCH_SIGNED, rule, q2, 4, importance, m});
            search_q3_k(s);
        } else {
            search_all(s, (SearchPlan){SEARCH_REFINED, rule, q2, 4, NULL, NULL});
            round_q3_k(s);
        }
        break;
    case DTYPE_Q4_K:
        search_all(s, (SearchPlan){SEARCH_MIN, weighed ? rule : WEIGHT_RMS, q4, 0, importance, m});
        round_scales(s, weighed, 63, 63);
        break;
    case DTYPE_Q5_K:
        search_all(s, (SearchPlan){SEARCH_MIN, weighed ? rule : WEIGHT_RMS, q5, 0, importance, m});
        round_scales(s, weighed, 63, 63);
        break;
    case DTYPE_Q6_K:
        search_all(s, (SearchPlan){SEARCH_SIGNED, weighed ? WEIGHT_GIVEN : rule, q2, 32, importance,
                                   NULL});
        break;
    default:
        assert(dtype == DTYPE_IQ4_XS);
        search_all(s, (SearchPlan){SEARCH_TABLE, rule, q2, 0, importance, m});
    }
    for (int64_t i = 0; i < n / QB_SUPER; i++, dst += dtype_info(dtype)->block_bytes) {
        switch (dtype) {
        case DTYPE_Q2_K: finish_q2_k(s, i, dst); break;
        case DTYPE_Q3_K: finish_q3_k(s, i, !weighed, dst); break;
        case DTYPE_Q4_K: finish_q45_k(s, i, false, dst); break;
        case DTYPE_Q5_K: finish_q45_k(s, i, true, dst); break;
        case DTYPE_Q6_K: finish_q6_k(s, i, dst); break;
        default: finish_iq4_xs(s, i, dst);
        }
    }
}

/* ==== Blocks of 32 ==== */

/* Truncates towards zero; what no sound block gives (not within -1 .. 127) becomes 0. */
BODY_INLINE vi v_truncate(vf q)
{
    const vi sound = (q > -1.0f) & (q < 128.0f);
    return __builtin_convertvector(v_select(sound, q, (vf){0}), vi);
}

static float block_largest(const float *x)
{
    vf most = {0};
    for (int j = 0; j < QB_BLOCK; j += VL) {
        const vf a = v_abs(v_load(x + j));
        most = v_select(a > most, a, most);
    }
    float lane[VL], magnitude = 0;
    memcpy(lane, &most, sizeof lane);
    for (int k = 0; k < VL; k++)
        magnitude = lane[k] > magnitude ? lane[k] : magnitude;
    vi positive = {0}, negative = {0};
    for (int j = 0; j < QB_BLOCK; j += VL) {
        positive |= v_load(x + j) == magnitude;
        negative |= v_load(x + j) == -magnitude;
    }
    if (!v_any(negative) || magnitude == 0)
        return magnitude;
    if (!v_any(positive))
        return -magnitude;
    return largest_scale(x, QB_BLOCK); /* both signs: the first counts */
}

static void block_range(const float *x, float *least, float *most)
{
    vf low = v_load(x), high = low;
    for (int j = VL; j < QB_BLOCK; j += VL) {
        const vf v = v_load(x + j);
        low = v_select(v < low, v, low);
        high = v_select(v > high, v, high);
    }
    float a[VL], b[VL];
    memcpy(a, &low, sizeof a);
    memcpy(b, &high, sizeof b);
    for (int k = 1; k < VL; k++) {
        a[0] = a[k] < a[0] ? a[k] : a[0];
        b[0] = b[k] > b[0] ? b[k] : b[0];
    }
    *least = a[0];
    *most = b[0];
    if (a[0] != 0 && b[0] != 0)
        return;
    *least = *most = x[0]; /* the first zero decides the sign */
    for (int j = 1; j < QB_BLOCK; j++) {
        *least = x[j] < *least ? x[j] : *least;
        *most = x[j] > *most ? x[j] : *most;
    }
}

static void pack_five(const uint8_t *level, uint8_t *qh, uint8_t *qs)
{
    uint32_t bits = 0;
    for (int j = 0; j < QB_BLOCK; j++)
        bits |= (uint32_t)(level[j] >> 4) << j;
    put16(qh, (uint16_t)bits);
    put16(qh + 2, (uint16_t)(bits >> 16));
    pack_nibbles(level, 16, qs);
}

static void pack_block(Dtype dtype, float d, float m, const uint8_t *level, uint8_t *block)
{
    put_half(block, d);
    if (dtype == DTYPE_Q4_1 || dtype == DTYPE_Q5_1)
        put_half(block + 2, m);
    switch (dtype) {
    case DTYPE_Q4_1: pack_nibbles(level, 16, block + 4); return;
    case DTYPE_Q5_0: pack_five(level, block + 2, block + 6); return;
    case DTYPE_Q5_1: pack_five(level, block + 4, block + 8); return;
    default: pack_nibbles(level, 16, block + 2);
    }
}

static void encode_signed(Dtype dtype, const float *x, int half, uint8_t *block)
{
    uint8_t level[QB_BLOCK];
    const float d = block_largest(x) / (float)-half;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    for (int j = 0; j < QB_BLOCK; j += VL) {
        const vf q = v_load(x + j) * inverse + ((float)half + 0.5f);
        v_store_bytes(level + j, V_MIN(v_truncate(q), v_int(2 * half - 1)));
    }
    pack_block(dtype, d, 0, level, block);
}

static void encode_range(Dtype dtype, const float *x, int top, uint8_t *block)
{
    uint8_t level[QB_BLOCK];
    float least, most;
    block_range(x, &least, &most);
    const float d = (most - least) / (float)top;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    for (int j = 0; j < QB_BLOCK; j += VL) {
        const vf q = (v_load(x + j) - least) * inverse + 0.5f;
        v_store_bytes(level + j, V_MIN(v_truncate(q), v_int(top)));
    }
    pack_block(dtype, d, least, level, block);
}

/* Rounded half away from zero. Not trunc(x + 0.5): that sum rounds 0.49999997 up to 1. The largest
 * magnitude is taken over the bits, whose order is that of the values, with NaN above infinity: a
 * block with a NaN gets d = NaN and stays visibly broken. */
static void encode_q8_0(const float *x, uint8_t *block)
{
    vi most = {0};
    for (int j = 0; j < QB_BLOCK; j += VL)
        most = V_MAX(most, (vi)v_load(x + j) & 0x7fffffff);
    int32_t lane[VL], bits = 0;
    memcpy(lane, &most, sizeof lane);
    for (int k = 0; k < VL; k++)
        bits = lane[k] > bits ? lane[k] : bits;
    const float d = qb_float((uint32_t)bits) / 127.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    put_half(block, d);
    for (int j = 0; j < QB_BLOCK; j += VL) {
        const vf q = v_load(x + j) * inverse;
        const vf bounded = v_select(v_abs(q) < 127.5f, q, (vf){0});
        const vi whole = __builtin_convertvector(bounded, vi);
        const vf rest = bounded - v_float(whole); /* exact */
        v_store_bytes(block + 2 + j, whole - (rest >= 0.5f) + (rest <= -0.5f));
    }
}

static void encode_blocks(Dtype dtype, const float *x, int64_t n, uint8_t *dst)
{
    const int bytes = dtype_info(dtype)->block_bytes;
    for (int64_t i = 0; i < n; i += QB_BLOCK, dst += bytes) {
        switch (dtype) {
        case DTYPE_Q4_0: encode_signed(dtype, x + i, 8, dst); break;
        case DTYPE_Q5_0: encode_signed(dtype, x + i, 16, dst); break;
        case DTYPE_Q4_1: encode_range(dtype, x + i, 15, dst); break;
        case DTYPE_Q5_1: encode_range(dtype, x + i, 31, dst); break;
        default: encode_q8_0(x + i, dst);
        }
    }
}

/* Blocks of 32 whose scale is searched. means: of every block for IQ4_NL, else the row's. */
static void encode_searched(Dtype dtype, Subs *s, const float *importance, float row_mean,
                            uint8_t *dst)
{
    float means[CHUNK / QB_BLOCK];
    const bool signed_type = dtype == DTYPE_Q4_0 || dtype == DTYPE_Q5_0;
    const int half = dtype == DTYPE_Q4_0 ? 8 : 16, top = dtype == DTYPE_Q4_1 ? 15 : 31;
    const WeightRule rule = importance != NULL ? WEIGHT_IMPORTANCE : WEIGHT_SQUARE;
    const MinSearch fine = {.top = top, .first = -0.9f, .step = 0.05f, .steps = 36};
    for (int64_t i = 0; i < s->n; i++)
        means[i] = row_mean;
    if (dtype == DTYPE_IQ4_NL) {
        mean_squares(s->x, s->n * QB_BLOCK, QB_BLOCK, 2.0f / QB_BLOCK, means);
        search_all(s, (SearchPlan){SEARCH_TABLE, rule, fine, 0, importance, means});
    } else if (signed_type) {
        search_all(s, (SearchPlan){SEARCH_SIGNED, rule, fine, half, importance, means});
    } else {
        search_all(s, (SearchPlan){SEARCH_MIN, rule, fine, 0, importance, means});
    }
    for (int64_t i = 0; i < s->n; i++, dst += dtype_info(dtype)->block_bytes) {
        const float *x = s->x + i * QB_BLOCK, scale = s->scale[i];
        uint8_t level[QB_BLOCK];
        if (dtype == DTYPE_IQ4_NL)
            levels_table(x, QB_BLOCK, scale != 0 ? 1.0f / scale : 0.0f, level);
        else if (signed_type)
            levels_signed(x, QB_BLOCK, half, 0.0f, s->inverse[i], level);
        else
            levels_min(x, QB_BLOCK, top, 0.0f, 0.0f, s->inverse[i], s->low[i], level);
        pack_block(dtype, scale, -s->min[i], level, dst);
    }
}

/* ==== The table ==== */

static void encode(const EncodeCall *call)
{
    const DtypeInfo *info = dtype_info(call->dtype);
    const bool super = info->block == QB_SUPER;
    assert(call->n % info->block == 0);
    if (!super && call->dtype != DTYPE_IQ4_NL &&
        (call->importance == NULL || call->dtype == DTYPE_Q8_0)) {
        encode_blocks(call->dtype, call->src, call->n, call->dst);
        return;
    }
    const bool small = call->dtype == DTYPE_Q2_K || call->dtype == DTYPE_Q3_K ||
                       call->dtype == DTYPE_Q6_K;
    Subs subs;
    memset(subs.min, 0, sizeof subs.min);
    for (int64_t at = 0; at < call->n; at += CHUNK) {
        const float *importance = call->importance == NULL ? NULL : call->importance + at;
        uint8_t *dst = call->dst + at / info->block * info->block_bytes;
        subs.x = call->src + at;
        subs.size = small ? 16 : 32;
        subs.n = min_i64(CHUNK, call->n - at) / subs.size;
        subs.per_super = info->block / subs.size;
        if (super)
            encode_supers(call->dtype, &subs, importance, dst);
        else
            encode_searched(call->dtype, &subs, importance, call->mean_square, dst);
    }
}

const EncodeKernels *ENCODE_TABLE(void)
{
    static const EncodeKernels table = {ENCODE_NAME, encode};
    return &table;
}
