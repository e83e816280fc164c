/* op_build.c — draws the inputs of a case and lays out its buffers.
 *
 * Names are the ones of the Args structs; a gradient is "d" + the name, which is how op_slope_error
 * finds what belongs together.
 */
#include "ops/op_cases.h"

#include "core/quant_block.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>

static const float GAP = 12345.0f; /* exact in every dtype we use but bf16, where it is rounded */

/* ==== Drawing ==== */

static double draw(OpTest *t) /* uniform in [-1, 1) */
{
    return 2.0 * rng_uniform53(7, RNG_TEST, (uint32_t)t->c->op, t->draws++) - 1.0;
}

static int64_t draw_below(OpTest *t, int64_t n)
{
    return (int64_t)rng_below(8, RNG_TEST, (uint32_t)t->c->op, t->draws++, (uint64_t)n);
}

static float rounded(Dtype dtype, double x)
{
    if (dtype == DTYPE_F16)
        return qb_from_f16(qb_to_f16((float)x));
    return dtype == DTYPE_BF16 ? qb_from_bf16(qb_to_bf16((float)x)) : (float)x;
}

/* ==== Blocks and slots ==== */

/* A matrix of cols columns and `tail` more that the backend may use as it likes. */
static int block_make(OpTest *t, Dtype dtype, int64_t rows, int64_t cols, int64_t tail)
{
    must(t->n_blocks < OP_MAX_BLOCKS);
    OpBlock *b = &t->block[t->n_blocks];
    const bool odd = (t->c->flags & STRIDED) != 0 && rows > 1;
    const int64_t gap = !odd ? 0 : t->traits.row_tail_multiple != 0 ? 16 : 5;
    b->dtype = dtype;
    b->rows = rows;
    b->stride = cols + tail + gap;
    const int64_t n = rows * b->stride;
    b->image = arena_array(t->arena, float, n);
    b->owner = arena_array(t->arena, int16_t, n);
    b->got = arena_array(t->arena, float, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t column = i % b->stride;
        b->image[i] = rounded(dtype, GAP);
        b->owner[i] = column >= cols && column < cols + tail ? OWNER_FREE : OWNER_FIXED;
    }
    return t->n_blocks++;
}

static OpSlot *slot_make(OpTest *t, const char *name, int i, int block, int64_t column,
                         int64_t rows, int64_t cols, Tensor *field)
{
    must(t->n_slots < OP_MAX_SLOTS);
    OpSlot *s = &t->slot[t->n_slots++];
    *s = (OpSlot){.block = block, .column = column, .rows = rows, .cols = cols, .field = field,
                  .terms = 1};
    const int length = i < 0 ? snprintf(s->name, sizeof s->name, "%s", name)
                             : snprintf(s->name, sizeof s->name, "%s%d", name, i);
    must(length > 0 && length < (int)sizeof s->name);
    return s;
}

static void slot_fill(OpTest *t, OpSlot *s, double size, bool random)
{
    OpBlock *b = &t->block[s->block];
    if (random)
        s->val = arena_array(t->arena, double, s->rows * s->cols);
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t c = 0; c < s->cols; c++) {
            float *x = &b->image[r * b->stride + s->column + c];
            *x = random ? rounded(b->dtype, size * draw(t)) : NAN;
            if (random)
                s->val[r * s->cols + c] = *x;
        }
}

/* From here on the slot's elements are outputs. */
static OpSlot *slot_writes(OpTest *t, OpSlot *s, int64_t terms)
{
    OpBlock *b = &t->block[s->block];
    s->terms = terms;
    s->want = arena_array(t->arena, double, s->rows * s->cols);
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t c = 0; c < s->cols; c++)
            b->owner[r * b->stride + s->column + c] = (int16_t)(s - t->slot);
    return s;
}

static OpSlot *input(OpTest *t, const char *name, int i, Dtype dtype, int64_t rows, int64_t cols,
                     double size, Tensor *field)
{
    OpSlot *s = slot_make(t, name, i, block_make(t, dtype, rows, cols, 0), 0, rows, cols, field);
    slot_fill(t, s, size, true);
    return s;
}

static OpSlot *output(OpTest *t, const char *name, int i, Dtype dtype, int64_t rows, int64_t cols,
                      int64_t terms, Tensor *field)
{
    OpSlot *s = slot_make(t, name, i, block_make(t, dtype, rows, cols, 0), 0, rows, cols, field);
    slot_fill(t, s, 0, false);
    return slot_writes(t, s, terms);
}

/* A parameter's gradient: f32, added to what is there. */
static OpSlot *gradient(OpTest *t, const char *name, int i, int64_t rows, int64_t cols,
                        int64_t terms, Tensor *field)
{
    OpSlot *s = input(t, name, i, DTYPE_F32, rows, cols, 1.0, field);
    s->accumulates = true;
    return slot_writes(t, s, terms);
}

static int32_t *ints_make(OpTest *t, int64_t n, const int32_t **field)
{
    must(t->n_ints < OP_MAX_INTS);
    t->ints[t->n_ints] = (OpInts){arena_array(t->arena, int32_t, n), n, field};
    return t->ints[t->n_ints++].host;
}

/* ==== Stored weights ==== */

static void put16(uint8_t *p, uint16_t x)
{
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
}

/* Half-precision bits of +-(1 + f/1024) 2^e and their value, from the definition. */
static double draw_half(OpTest *t, int least_exponent, uint8_t *p)
{
    const int e = least_exponent + (int)draw_below(t, 3), f = (int)draw_below(t, 1024);
    const int sign = (int)draw_below(t, 2);
    put16(p, (uint16_t)(sign << 15 | (e + 15) << 10 | f));
    return (sign ? -1.0 : 1.0) * ldexp(1.0 + f / 1024.0, e);
}

static void draw_plain(OpTest *t, Dtype dtype, uint8_t *p, double *value)
{
    if (dtype == DTYPE_F16) {
        *value = draw_half(t, -3, p);
        return;
    }
    const float x = rounded(dtype, draw(t) * 0.5);
    const uint32_t bits = qb_bits(x);
    *value = x;
    if (dtype == DTYPE_BF16)
        put16(p, (uint16_t)(bits >> 16));
    else
        memcpy(p, &x, sizeof x);
}

/* 32 values of a block type, decoded as the head of core/quant_block.h describes it. */
static void draw_block(OpTest *t, Dtype dtype, uint8_t *p, double *value)
{
    const int head = dtype == DTYPE_Q4_1 ? 4 : 2;
    const double d = draw_half(t, dtype == DTYPE_Q8_0 ? -9 : -5, p);
    const double m = dtype == DTYPE_Q4_1 ? draw_half(t, -2, p + 2) : 0;
    for (int j = 0; j < 32; j++) {
        if (dtype == DTYPE_Q8_0) {
            const int q = (int)draw_below(t, 256) - 128;
            p[head + j] = (uint8_t)q;
            value[j] = d * q;
            continue;
        }
        const int q = (int)draw_below(t, 16);
        uint8_t *byte = &p[head + j % 16];
        *byte = j < 16 ? (uint8_t)q : (uint8_t)(*byte | q << 4);
        value[j] = dtype == DTYPE_Q4_0 ? d * (q - 8) : d * q + m;
    }
}

/* Blocks whose layouts are proved elsewhere (tests/golden/quant): random levels and scales, with
 * halves of a size that makes values near 1. */
static void draw_decoded(OpTest *t, Dtype dtype, uint8_t *p, double *value)
{
    static const struct {
        void (*decode)(const uint8_t *restrict block, float *restrict out);
        int d, d_exponent, m, m_exponent; /* m -1: none */
    } kinds[DTYPE_COUNT] = {
        [DTYPE_Q5_0] = {qb_decode_q5_0, 0, -5, -1, 0},
        [DTYPE_Q5_1] = {qb_decode_q5_1, 0, -6, 2, -2},
        [DTYPE_IQ4_NL] = {qb_decode_iq4_nl, 0, -8, -1, 0},
        [DTYPE_Q2_K] = {qb_decode_q2_k, 80, -6, 82, -5},
        [DTYPE_Q3_K] = {qb_decode_q3_k, 108, -8, -1, 0},
        [DTYPE_Q4_K] = {qb_decode_q4_k, 0, -11, 2, -7},
        [DTYPE_Q5_K] = {qb_decode_q5_k, 0, -12, 2, -7},
        [DTYPE_Q6_K] = {qb_decode_q6_k, 208, -13, -1, 0},
        [DTYPE_IQ4_XS] = {qb_decode_iq4_xs, 0, -13, -1, 0},
    };
    const DtypeInfo *info = dtype_info(dtype);
    must(kinds[dtype].decode != NULL && info->block <= QB_SUPER);
    for (int i = 0; i < info->block_bytes; i++)
        p[i] = (uint8_t)draw_below(t, 256);
    draw_half(t, kinds[dtype].d_exponent, p + kinds[dtype].d);
    if (kinds[dtype].m >= 0)
        draw_half(t, kinds[dtype].m_exponent, p + kinds[dtype].m);
    float out[QB_SUPER];
    kinds[dtype].decode(p, out);
    for (int j = 0; j < info->block; j++)
        value[j] = out[j];
}

static OpSlot *weight_make(OpTest *t, const char *name, int i, int64_t rows, int64_t cols,
                           const Weight **field)
{
    must(t->n_weights < LINEAR_MAX_PARTS);
    OpWeight *w = &t->weight[t->n_weights++];
    OpSlot *s = slot_make(t, name, i, -1, 0, rows, cols, NULL);
    const Dtype dtype = t->c->dtype;
    const DtypeInfo *info = dtype_info(dtype);
    const size_t bytes = (size_t)rows * dtype_row_bytes(dtype, cols);
    w->bytes = arena_zeroed(t->arena, bytes, 1);
    w->weight = (Weight){.source = w->bytes, .dtype = dtype, .rows = rows, .cols = cols};
    w->field = field;
    s->val = arena_array(t->arena, double, rows * cols);
    for (int64_t b = 0; b < rows * cols / info->block; b++) {
        uint8_t *p = w->bytes + (size_t)b * (size_t)info->block_bytes;
        if (info->block == 1)
            draw_plain(t, dtype, p, s->val + b);
        else if (dtype == DTYPE_Q4_0 || dtype == DTYPE_Q4_1 || dtype == DTYPE_Q8_0)
            draw_block(t, dtype, p, s->val + b * info->block);
        else
            draw_decoded(t, dtype, p, s->val + b * info->block);
    }
    return s;
}

/* ==== Ops ==== */

static void build_embed(OpTest *t)
{
    const OpCase *c = t->c;
    EmbedArgs *a = &t->call.embed;
    a->scale = c->variant != 0 ? 0.75f : 1.0f;
    weight_make(t, "table", -1, c->N, c->C, &a->table);
    int32_t *tokens = ints_make(t, c->T, &a->tokens);
    for (int i = 0; i < c->T; i++)
        tokens[i] = (int32_t)draw_below(t, i % 3 == 0 ? 2 : c->N); /* some come often */
    output(t, "y", -1, t->traits.residual, c->T, c->C, 1, &a->y);
    if ((c->flags & FORWARD_ONLY) != 0)
        return;
    input(t, "dy", -1, t->traits.residual, c->T, c->C, 1, &a->dy);
    if ((c->flags & WANT_DW) != 0)
        gradient(t, "dtable", -1, c->N, c->C, c->T, &a->dtable);
}

static void build_rmsnorm(OpTest *t)
{
    const OpCase *c = t->c;
    const unsigned f = c->flags;
    const int heads = c->heads == 0 ? 1 : c->heads;
    const int64_t wide = (int64_t)c->C * heads;
    /* The stream has its own dtype; heads are activations. */
    const Dtype residual = heads == 1 ? t->traits.residual : t->traits.activation;
    RmsnormArgs *a = &t->call.rmsnorm;
    a->eps = 1e-5f;
    a->dx_beta = (float)c->variant;
    OpSlot *x = input(t, "x", -1, residual, c->T, wide, 2, &a->x);
    if ((f & WITH_DELTA) != 0) {
        input(t, "delta", -1, t->traits.activation, c->T, wide, 1, &a->delta);
        if ((f & IN_PLACE) != 0) {
            OpSlot *sum = slot_make(t, "sum", -1, x->block, 0, c->T, wide, &a->sum);
            slot_writes(t, sum, 1);
        } else {
            output(t, "sum", -1, residual, c->T, wide, 1, &a->sum);
        }
    }
    input(t, "w", -1, DTYPE_F32, 1, c->C, 1, &a->w);
    output(t, "y", -1, t->traits.activation, c->T, wide, c->C, &a->y);
    if ((f & NO_RSTD) == 0)
        output(t, "rstd", -1, DTYPE_F32, c->T, heads, c->C, &a->rstd);
    if ((f & FORWARD_ONLY) != 0)
        return;
    input(t, "dy", -1, t->traits.activation, c->T, wide, 1, &a->dy);
    if ((f & WANT_DX) != 0) {
        OpSlot *dx = c->variant != 0 ? input(t, "dx", -1, residual, c->T, wide, 1, &a->dx)
                                     : output(t, "dx", -1, residual, c->T, wide, c->C, &a->dx);
        slot_writes(t, dx, c->C);
        if ((f & WITH_DELTA) != 0)
            output(t, "ddelta", -1, t->traits.activation, c->T, wide, c->C, &a->ddelta);
    }
    if ((f & WANT_DW) != 0)
        gradient(t, "dw", -1, 1, c->C, (int64_t)c->T * heads, &a->dw);
}

static int64_t part_out(const OpCase *c, int i)
{
    if (i > 0 && (c->flags & EVEN_PARTS) != 0)
        return c->N / 2;
    return i == 0 ? c->N : c->N / 2 + i;
}
static int64_t part_rank(const OpCase *c, int i)
{
    if (i == 1 && (c->flags & BARE_PART) != 0)
        return 0;
    return c->rank + (c->rank > 0 && (c->flags & EVEN_PARTS) == 0 ? i : 0);
}

/* x with h, and y with its parts, where the backend wants row tails; otherwise h on its own. */
static void build_linear_activations(OpTest *t, int64_t out, int64_t rank)
{
    const OpCase *c = t->c;
    LinearArgs *a = &t->call.linear;
    const Dtype dtype = t->traits.activation;
    const int multiple = t->traits.row_tail_multiple;
    const int64_t tail = multiple == 0 ? 0 : round_up(rank, multiple);
    const bool backward = (c->flags & FORWARD_ONLY) == 0;
    const int x = block_make(t, dtype, c->T, c->C, tail);
    slot_fill(t, slot_make(t, "x", -1, x, 0, c->T, c->C, &a->x), 1, true);
    if (rank > 0) {
        const int h = tail > 0 ? x : block_make(t, dtype, c->T, rank, 0);
        OpSlot *s = slot_make(t, "h", -1, h, tail > 0 ? c->C : 0, c->T, rank, &a->h);
        slot_fill(t, s, 0, false);
        slot_writes(t, s, c->C);
    }
    const int y = block_make(t, dtype, c->T, out, tail);
    const int dy = backward ? block_make(t, dtype, c->T, out, tail) : -1;
    int64_t column = 0;
    for (int i = 0; i < c->parts; column += part_out(c, i), i++) {
        OpSlot *s = slot_make(t, "y", i, y, column, c->T, part_out(c, i), &a->part[i].y);
        slot_fill(t, s, 0, false);
        slot_writes(t, s, c->C + part_rank(c, i));
        if (backward)
            slot_fill(t, slot_make(t, "dy", i, dy, column, c->T, part_out(c, i), &a->part[i].dy),
                      1, true);
    }
    if (backward && (c->flags & WANT_DX) != 0)
        output(t, "dx", -1, dtype, c->T, c->C, out + rank, &a->dx);
}

/* A [1, n] vector of numbers between 0.5 and 1.5. */
static void positive(OpTest *t, const char *name, int i, int64_t n, Tensor *field)
{
    OpSlot *s = input(t, name, i, DTYPE_F32, 1, n, 0.5, field);
    for (int64_t j = 0; j < n; j++) {
        s->val[j] = (double)(float)(s->val[j] + 1);
        t->block[s->block].image[j] = (float)s->val[j];
    }
}

static void build_linear_magnitude(OpTest *t, int i, bool trained)
{
    LinearPart *p = &t->call.linear.part[i];
    const int64_t out = part_out(t->c, i), T = t->c->T;
    positive(t, "magnitude", i, out, &p->magnitude);
    positive(t, "norm", i, out, &p->norm);
    if (!trained)
        return;
    output(t, "product", i, t->traits.activation, T, out, t->c->C + part_rank(t->c, i),
           &p->product);
    gradient(t, "dmagnitude", i, 1, out, T + t->c->C, &p->dmagnitude);
}

static void build_linear_part(OpTest *t, int i)
{
    const OpCase *c = t->c;
    LinearPart *p = &t->call.linear.part[i];
    const int64_t out = part_out(c, i), r = part_rank(c, i);
    const bool backward = (c->flags & FORWARD_ONLY) == 0;
    p->scale = 0.5f + 0.75f * (float)i;
    weight_make(t, "w", i, out, c->C, &p->w);
    if (backward && (c->flags & WANT_DW) != 0)
        gradient(t, "dw", i, out, c->C, c->T, &p->dw);
    if ((c->flags & WITH_BIAS) != 0) {
        input(t, "bias", i, DTYPE_F32, 1, out, 1, &p->bias);
        if (backward && (c->flags & WANT_DBIAS) != 0)
            gradient(t, "dbias", i, 1, out, c->T, &p->dbias);
    }
    if ((c->flags & WITH_MAGNITUDE) != 0)
        build_linear_magnitude(t, i, backward && (c->flags & WANT_LOWRANK) != 0);
    if (r == 0)
        return;
    input(t, "a", i, DTYPE_F32, r, c->C, 0.5, &p->a);
    input(t, "b", i, DTYPE_F32, out, r, 0.5, &p->b);
    if (backward && (c->flags & WANT_LOWRANK) != 0) {
        gradient(t, "da", i, r, c->C, c->T + out, &p->da);
        gradient(t, "db", i, out, r, c->T + c->C, &p->db);
    }
}

static void build_linear(OpTest *t)
{
    const OpCase *c = t->c;
    int64_t out = 0, rank = 0;
    for (int i = 0; i < c->parts; i++) {
        out += part_out(c, i);
        rank += part_rank(c, i);
    }
    t->call.linear.n_parts = c->parts;
    build_linear_activations(t, out, rank);
    for (int i = 0; i < c->parts; i++)
        build_linear_part(t, i);
}

static void build_rope(OpTest *t)
{
    const OpCase *c = t->c;
    RopeArgs *a = &t->call.rope;
    const Dtype dtype = t->traits.activation;
    const bool both = (c->flags & ONLY_HALF) == 0, backward = (c->flags & FORWARD_ONLY) == 0;
    a->head_dim = c->head_dim;
    a->rot = c->rot;
    a->pairing = (RopePairing)c->variant;
    const int64_t wide = (int64_t)c->heads * c->head_dim;
    const int64_t narrow = (int64_t)c->kv_heads * c->head_dim;
    slot_writes(t, input(t, "q", -1, dtype, c->T, wide, 1, &a->q), 2);
    if (both)
        slot_writes(t, input(t, "k", -1, dtype, c->T, narrow, 1, &a->k), 2);
    if (backward)
        slot_writes(t, input(t, "dq", -1, dtype, c->T, wide, 1, &a->dq), 2);
    if (backward && both)
        slot_writes(t, input(t, "dk", -1, dtype, c->T, narrow, 1, &a->dk), 2);
    OpSlot *table = input(t, "table", -1, DTYPE_F32, c->N, c->rot, 1, &a->table);
    OpBlock *b = &t->block[table->block];
    for (int64_t i = 0; i < (int64_t)c->N * c->rot; i++) {
        const int64_t p = i / c->rot, j = i % (c->rot / 2);
        const double angle = (double)p * pow(100.0, -2.0 * (double)j / c->rot);
        float *x = &b->image[p * b->stride + i % c->rot];
        *x = (float)(i % c->rot < c->rot / 2 ? cos(angle) : sin(angle));
        table->val[i] = *x;
    }
    int32_t *positions = ints_make(t, c->T, &a->positions);
    for (int i = 0; i < c->T; i++)
        positions[i] = (int32_t)draw_below(t, c->N);
}

/* Spans of one causal sequence [begin, end) with a window. */
static void span_sequence(int32_t *const span[3], int64_t begin, int64_t end, int64_t window)
{
    for (int64_t i = begin; i < end; i++) {
        span[0][i] = (int32_t)max_i64(begin, i + 1 - window);
        span[1][i] = (int32_t)(i + 1);
        span[2][i] = (int32_t)min_i64(end, i + window);
    }
}

static void build_spans(OpTest *t, int32_t *const span[3])
{
    static const int lengths[] = {5, 1, 130, 64, 3, 200, 31};
    const int64_t T = t->c->T, S = t->c->N;
    int64_t at = 0;
    switch ((Spans)t->c->variant) {
    case SPANS_CAUSAL:
        span_sequence(span, 0, T, T);
        return;
    case SPANS_PACKED:
    case SPANS_WINDOW:
        for (size_t i = 0; at < T; i++) {
            const int64_t length = i < COUNT_OF(lengths) ? lengths[i] : 1;
            const int64_t end = min_i64(at + length, T);
            span_sequence(span, at, end, t->c->variant == SPANS_WINDOW ? 20 : T);
            at = end;
        }
        return;
    case SPANS_EMPTY_TAIL:
        span_sequence(span, 0, T / 2, T);
        for (at = T / 2; at < T; at++)
            span[0][at] = span[1][at] = (int32_t)(T / 2), span[2][at] = (int32_t)at;
        return;
    case SPANS_FULL:
        for (; at < T; at++)
            span[0][at] = 0, span[1][at] = (int32_t)S;
        return;
    case SPANS_CACHE:
        for (; at < T; at++)
            span[0][at] = 0, span[1][at] = (int32_t)(S - T + at + 1);
        return;
    }
    must(!"a Spans");
}

static void build_attention(OpTest *t)
{
    const OpCase *c = t->c;
    AttentionArgs *a = &t->call.attention;
    const Dtype dtype = t->traits.activation;
    const int64_t wide = (int64_t)c->heads * c->head_dim;
    const int64_t narrow = (int64_t)c->kv_heads * c->head_dim;
    const int64_t S = c->N;
    a->n_heads = c->heads;
    a->n_kv_heads = c->kv_heads;
    a->head_dim = c->head_dim;
    a->scale = (float)(1.0 / sqrt(c->head_dim));
    int32_t *span[3] = {ints_make(t, c->T, &a->kv_begin), ints_make(t, c->T, &a->kv_end),
                        ints_make(t, S, &a->q_end)};
    build_spans(t, span);
    input(t, "q", -1, dtype, c->T, wide, 2, &a->q);
    input(t, "k", -1, dtype, S, narrow, 2, &a->k);
    input(t, "v", -1, dtype, S, narrow, 1, &a->v);
    output(t, "y", -1, dtype, c->T, wide, S, &a->y);
    if ((c->flags & NO_RSTD) == 0)
        output(t, "lse", -1, DTYPE_F32, c->heads, c->T, S, &a->lse);
    if ((c->flags & FORWARD_ONLY) != 0)
        return;
    input(t, "dy", -1, dtype, c->T, wide, 1, &a->dy);
    if ((c->flags & ONLY_HALF) == 0) {
        output(t, "dq", -1, dtype, c->T, wide, S + c->head_dim, &a->dq);
        output(t, "dv", -1, dtype, S, narrow, S + c->head_dim, &a->dv);
    }
    output(t, "dk", -1, dtype, S, narrow, S + c->head_dim, &a->dk);
}

static void build_glu(OpTest *t)
{
    const OpCase *c = t->c;
    GluArgs *a = &t->call.glu;
    const Dtype dtype = t->traits.activation;
    a->act = (Activation)c->variant;
    OpSlot *gate = input(t, "gate", -1, dtype, c->T, c->C, 12, &a->gate);
    OpSlot *up = input(t, "up", -1, dtype, c->T, c->C, 2, &a->up);
    output(t, "y", -1, dtype, c->T, c->C, 4, &a->y);
    if ((c->flags & FORWARD_ONLY) != 0)
        return;
    input(t, "dy", -1, dtype, c->T, c->C, 1, &a->dy);
    if ((c->flags & IN_PLACE) != 0) {
        slot_writes(t, slot_make(t, "dgate", -1, gate->block, 0, c->T, c->C, &a->dgate), 8);
        slot_writes(t, slot_make(t, "dup", -1, up->block, 0, c->T, c->C, &a->dup), 8);
        return;
    }
    output(t, "dgate", -1, dtype, c->T, c->C, 8, &a->dgate);
    if ((c->flags & ONLY_HALF) == 0)
        output(t, "dup", -1, dtype, c->T, c->C, 8, &a->dup);
}

static void build_cross_entropy(OpTest *t)
{
    const OpCase *c = t->c;
    CrossEntropyArgs *a = &t->call.cross_entropy;
    const int64_t max_rows = c->T;
    t->step = (StepState){.inv_loss_tokens = 1.0f / 37.0f, .n_loss = c->variant};
    t->step_field = &a->step;
    const double size = (c->flags & SMALL_LOGITS) != 0 ? 1 / sqrt((double)c->C) : 1;
    input(t, "x", -1, t->traits.activation, c->T, c->C, size, &a->x);
    weight_make(t, "w", -1, c->N, c->C, &a->w);
    int32_t *rows = ints_make(t, max_rows, &a->rows);
    int32_t *targets = ints_make(t, max_rows, &a->targets);
    for (int64_t i = 0; i < max_rows; i++) { /* increasing where they count, nonsense behind */
        rows[i] = i < c->variant ? (int32_t)(i + (c->T - c->variant) * i / c->variant) : -1;
        targets[i] = i < c->variant ? (int32_t)draw_below(t, c->N) : -1;
    }
    output(t, "nll", -1, DTYPE_F32, max_rows, 1, c->C + c->N, &a->nll);
    if ((c->flags & WANT_DX) != 0)
        output(t, "dx", -1, t->traits.activation, c->T, c->C, c->C + c->N, &a->dx);
    if ((c->flags & WANT_DW) != 0)
        gradient(t, "dw", -1, c->N, c->C, c->C + c->T, &a->dw);
}

static int32_t *ints_written(OpTest *t, int64_t n, int32_t **field)
{
    int32_t *host = ints_make(t, n, (const int32_t **)(uintptr_t)field);
    OpInts *ints = &t->ints[t->n_ints - 1];
    ints->want = arena_array(t->arena, int32_t, n);
    ints->got = arena_array(t->arena, int32_t, n);
    for (int64_t i = 0; i < n; i++)
        host[i] = -77;
    return host;
}

/* FORWARD_ONLY spans (a cache) have no q_end. */
static void build_window_spans(OpTest *t)
{
    const OpCase *c = t->c;
    WindowSpansArgs *a = &t->call.window_spans;
    const bool cache = c->variant == SPANS_CACHE;
    int32_t *none = arena_array(t->arena, int32_t, c->T);
    a->n = c->T;
    a->window = c->rank;
    int32_t *span[3] = {ints_make(t, c->T, &a->kv_begin), ints_make(t, c->T, &a->kv_end), none};
    if (!cache)
        span[2] = ints_make(t, c->T, &a->q_end);
    build_spans(t, span);
    ints_written(t, c->T, &a->begin);
    if (!cache)
        ints_written(t, c->T, &a->end);
}

static void build_rope_rows(OpTest *t)
{
    const OpCase *c = t->c;
    RopeRowsArgs *a = &t->call.rope_rows;
    const bool cache = c->variant == SPANS_CACHE;
    int32_t *none[2] = {arena_array(t->arena, int32_t, c->T), arena_array(t->arena, int32_t, c->T)};
    a->n = c->T;
    a->length = c->N;
    a->longest = c->rank;
    a->offset = 1000;
    int32_t *span[3] = {none[0], none[1], none[1]};
    int32_t *positions = ints_make(t, c->T, &a->positions);
    span[0] = ints_make(t, c->T, &a->kv_begin);
    if (!cache)
        span[2] = ints_make(t, c->T, &a->q_end);
    build_spans(t, span);
    for (int64_t i = 0; i < c->T; i++)
        positions[i] = (int32_t)(i - span[0][i]);
    ints_written(t, c->T, &a->rows);
}

static void build_copy_rows(OpTest *t)
{
    const OpCase *c = t->c;
    CopyRowsArgs *a = &t->call.copy_rows;
    input(t, "src", -1, t->traits.activation, c->T, c->C, 1, &a->src);
    slot_writes(t, input(t, "dst", -1, t->traits.activation, c->N, c->C, 1, &a->dst), 1);
    int32_t *index = ints_make(t, c->T, &a->index);
    for (int i = 0; i < c->T; i++)
        index[i] = (int32_t)((i * 7 + 3) % c->N); /* 7 and N have no common divisor */
}

static OpSlot *flat(OpTest *t, const char *name, int64_t n, double size, float **raw)
{
    OpSlot *s = input(t, name, -1, DTYPE_F32, 1, n, size, NULL);
    s->raw = raw;
    return s;
}

static void build_sum_squares(OpTest *t)
{
    SumSquaresArgs *a = &t->call.sum_squares;
    a->n = t->c->N;
    flat(t, "x", t->c->N, 1, (float **)(uintptr_t)&a->x);
    t->scalar_out = &a->out;
}

static void build_row_norms(OpTest *t)
{
    const OpCase *c = t->c;
    RowNormsArgs *a = &t->call.row_norms;
    a->scale = 0.75f;
    weight_make(t, "w", -1, c->N, c->C, &a->w);
    if (c->rank > 0) {
        input(t, "a", -1, DTYPE_F32, c->rank, c->C, 0.5, &a->a);
        input(t, "b", -1, DTYPE_F32, c->N, c->rank, 0.5, &a->b);
    }
    output(t, "norm", -1, DTYPE_F32, 1, c->N, c->rank + 1, &a->norm);
}

static void build_adamw(OpTest *t)
{
    const OpCase *c = t->c;
    AdamwArgs *a = &t->call.adamw;
    a->n = c->N;
    a->beta1 = 0.9f, a->beta2 = 0.999f, a->eps = 1e-8f, a->decay = 0.01f;
    a->max_norm = (float)c->variant;
    slot_writes(t, flat(t, "p", c->N, 1, &a->p), 4);
    slot_writes(t, flat(t, "g", c->N, 0.1, &a->g), 1);
    slot_writes(t, flat(t, "m", c->N, 0.1, &a->m), 2);
    OpSlot *v = slot_writes(t, flat(t, "v", c->N, 0.01, &a->v), 2);
    for (int64_t i = 0; i < c->N; i++) {
        v->val[i] = fabs(v->val[i]);
        t->block[v->block].image[i] = (float)v->val[i];
    }
    t->step = (StepState){.lr = 2e-3f, .step = c->T};
    t->step_field = &a->step;
    t->scalar = (c->flags & ONLY_HALF) != 0 ? 0.25 : 400.0;
    if (c->variant != 0)
        t->scalar_in = &a->sum_squares;
}

OpTest *op_make(Arena *arena, const OpCase *c, const BackendTraits *traits)
{
    static void (*const build[OP_COUNT])(OpTest *) = {
        [OP_embed] = build_embed,
        [OP_rmsnorm] = build_rmsnorm,
        [OP_linear] = build_linear,
        [OP_rope] = build_rope,
        [OP_attention] = build_attention,
        [OP_glu] = build_glu,
        [OP_cross_entropy] = build_cross_entropy,
        [OP_window_spans] = build_window_spans,
        [OP_rope_rows] = build_rope_rows,
        [OP_copy_rows] = build_copy_rows,
        [OP_sum_squares] = build_sum_squares,
        [OP_row_norms] = build_row_norms,
        [OP_adamw] = build_adamw,
    };
    OpTest *t = arena_new(arena, OpTest);
    t->c = c;
    t->arena = arena;
    t->traits = *traits;
    t->call.op = c->op;
    must(build[c->op] != NULL);
    build[c->op](t);
    op_reference(t);
    return t;
}
