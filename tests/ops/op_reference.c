/* op_reference.c — what every op should compute, from its text in compute.h: plain loops in
 * double, one after the other, on the values that were uploaded. And the proof of its backward
 * half: central differences of its forward half.
 */
#include "ops/op_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

OpSlot *op_slot(OpTest *test, const char *name)
{
    for (int i = 0; i < test->n_slots; i++)
        if (strcmp(test->slot[i].name, name) == 0)
            return &test->slot[i];
    return NULL;
}

OpSlot *op_slot_i(OpTest *test, const char *name, int i)
{
    char full[24];
    snprintf(full, sizeof full, "%s%d", name, i);
    return op_slot(test, full);
}

static double *val(OpTest *t, const char *name)
{
    OpSlot *s = op_slot(t, name);
    return s == NULL ? NULL : s->val;
}

static double *want(OpTest *t, const char *name)
{
    OpSlot *s = op_slot(t, name);
    return s == NULL ? NULL : s->want;
}

static double *val_i(OpTest *t, const char *name, int i)
{
    OpSlot *s = op_slot_i(t, name, i);
    return s == NULL ? NULL : s->val;
}

static double *want_i(OpTest *t, const char *name, int i)
{
    OpSlot *s = op_slot_i(t, name, i);
    return s == NULL ? NULL : s->want;
}

/* Accumulated outputs start from what is there. */
static void start(OpTest *t)
{
    for (int i = 0; i < t->n_slots; i++) {
        OpSlot *s = &t->slot[i];
        for (int64_t j = 0; s->want != NULL && j < s->rows * s->cols; j++)
            s->want[j] = s->accumulates ? s->val[j] : 0;
    }
}

/* ==== Simple ops ==== */

static double ref_embed(OpTest *t)
{
    const EmbedArgs *a = &t->call.embed;
    const int64_t C = t->c->C;
    const double *table = val(t, "table"), *dy = val(t, "dy");
    double *y = want(t, "y"), *dtable = want(t, "dtable");
    for (int64_t i = 0; i < t->c->T; i++) {
        const int64_t token = t->ints[0].host[i];
        for (int64_t c = 0; c < C; c++) {
            y[i * C + c] = a->scale * table[token * C + c];
            if (dtable != NULL)
                dtable[token * C + c] += a->scale * dy[i * C + c];
        }
    }
    return 0;
}

/* One head of one row; returns the residual stream's share of the loss. */
static double ref_rmsnorm_row(OpTest *t, int64_t i)
{
    const RmsnormArgs *a = &t->call.rmsnorm;
    const int64_t C = t->c->C;
    const double *x = val(t, "x") + i * C, *w = val(t, "w");
    const double *delta = val(t, "delta") == NULL ? NULL : val(t, "delta") + i * C;
    const double *dy = val(t, "dy") == NULL ? NULL : val(t, "dy") + i * C;
    double *sum = want(t, "sum"), *rstd = want(t, "rstd"), *dx = want(t, "dx");
    double *ddelta = want(t, "ddelta"), *dw = want(t, "dw");
    double squares = 0, pull = 0, loss = 0;
    for (int64_t c = 0; c < C; c++) {
        const double s = x[c] + (delta == NULL ? 0 : delta[c]);
        squares += s * s;
        pull += dy == NULL ? 0 : dy[c] * w[c] * s;
    }
    const double r = 1.0 / sqrt(squares / (double)C + a->eps);
    if (rstd != NULL)
        rstd[i] = r;
    for (int64_t c = 0; c < C; c++) {
        const double s = x[c] + (delta == NULL ? 0 : delta[c]);
        want(t, "y")[i * C + c] = s * r * w[c];
        if (sum != NULL)
            sum[i * C + c] = s;
        if (dy == NULL)
            continue;
        double ds = r * dy[c] * w[c] - s * r * r * r * pull / (double)C;
        if (a->dx_beta != 0 && val(t, "dx") != NULL) {
            ds += a->dx_beta * val(t, "dx")[i * C + c];
            loss += a->dx_beta * val(t, "dx")[i * C + c] * s;
        }
        if (dx != NULL)
            dx[i * C + c] = ds;
        if (ddelta != NULL)
            ddelta[i * C + c] = ds;
        if (dw != NULL)
            dw[c] += dy[c] * s * r;
    }
    return loss;
}

/* Heads of a row lie one behind the other: they are as many rows. */
static double ref_rmsnorm(OpTest *t)
{
    const int64_t heads = t->c->heads == 0 ? 1 : t->c->heads;
    double loss = 0;
    for (int64_t i = 0; i < t->c->T * heads; i++)
        loss += ref_rmsnorm_row(t, i);
    return loss;
}

static double ref_window_spans(OpTest *t)
{
    const int64_t window = t->call.window_spans.window;
    const bool cache = t->c->variant == SPANS_CACHE;
    const int32_t *begin = t->ints[0].host, *end = t->ints[1].host;
    for (int64_t i = 0; i < t->c->T; i++) {
        const bool cut = end[i] - begin[i] > window;
        t->ints[cache ? 2 : 3].want[i] = cut ? (int32_t)(end[i] - window) : begin[i];
        if (cache)
            continue;
        const int32_t last = t->ints[2].host[i];
        t->ints[4].want[i] = last - i > window ? (int32_t)(i + window) : last;
    }
    return 0;
}

static double ref_rope_rows(OpTest *t)
{
    const RopeRowsArgs *a = &t->call.rope_rows;
    const bool cache = t->c->variant == SPANS_CACHE;
    for (int64_t i = 0; i < t->c->T; i++) {
        const int64_t length = cache ? a->length : t->ints[2].host[i] - t->ints[1].host[i];
        t->ints[cache ? 2 : 3].want[i] =
            t->ints[0].host[i] + (length > a->longest ? a->offset : 0);
    }
    return 0;
}

static void ref_rope_tensor(OpTest *t, const char *name, double direction)
{
    const OpCase *c = t->c;
    OpSlot *s = op_slot(t, name);
    if (s == NULL)
        return;
    memcpy(s->want, s->val, (size_t)(s->rows * s->cols) * sizeof *s->want);
    for (int64_t i = 0; i < s->rows; i++) {
        const double *table = val(t, "table") + (int64_t)t->ints[0].host[i] * c->rot;
        for (int64_t h = 0; h < s->cols / c->head_dim; h++)
            for (int j = 0; j < c->rot / 2; j++) {
                const bool halves = c->variant == ROPE_HALVES;
                const int64_t head = i * s->cols + h * c->head_dim;
                const int64_t one = head + (halves ? j : 2 * j);
                const int64_t two = head + (halves ? j + c->rot / 2 : 2 * j + 1);
                const double cosine = table[j], sine = direction * table[c->rot / 2 + j];
                s->want[one] = s->val[one] * cosine - s->val[two] * sine;
                s->want[two] = s->val[two] * cosine + s->val[one] * sine;
            }
    }
}

static double ref_rope(OpTest *t)
{
    ref_rope_tensor(t, "q", 1);
    ref_rope_tensor(t, "k", 1);
    ref_rope_tensor(t, "dq", -1);
    ref_rope_tensor(t, "dk", -1);
    return 0;
}

static double ref_glu(OpTest *t)
{
    const double k = sqrt(2.0 / acos(-1.0));
    const double *gate = val(t, "gate"), *up = val(t, "up"), *dy = val(t, "dy");
    double *y = want(t, "y"), *dgate = want(t, "dgate"), *dup = want(t, "dup");
    for (int64_t i = 0; i < (int64_t)t->c->T * t->c->C; i++) {
        const double g = gate[i];
        double value, slope;
        if (t->c->variant == ACT_SILU) {
            const double sigmoid = 1.0 / (1.0 + exp(-g));
            value = g * sigmoid;
            slope = sigmoid * (1 + g * (1 - sigmoid));
        } else {
            const double th = tanh(k * (g + 0.044715 * g * g * g));
            value = 0.5 * g * (1 + th);
            slope = 0.5 * (1 + th) + 0.5 * g * (1 - th * th) * k * (1 + 3 * 0.044715 * g * g);
        }
        y[i] = value * up[i];
        if (dgate != NULL)
            dgate[i] = dy[i] * up[i] * slope;
        if (dup != NULL)
            dup[i] = dy[i] * value;
    }
    return 0;
}

static double ref_copy_rows(OpTest *t)
{
    const int64_t C = t->c->C;
    OpSlot *dst = op_slot(t, "dst");
    memcpy(dst->want, dst->val, (size_t)(dst->rows * C) * sizeof *dst->want);
    for (int64_t i = 0; i < t->c->T; i++)
        memcpy(dst->want + t->ints[0].host[i] * C, val(t, "src") + i * C,
               (size_t)C * sizeof *dst->want);
    return 0;
}

static double ref_sum_squares(OpTest *t)
{
    t->scalar_want = 0;
    for (int64_t i = 0; i < t->c->N; i++)
        t->scalar_want += val(t, "x")[i] * val(t, "x")[i];
    return 0;
}

static double ref_adamw(OpTest *t)
{
    const AdamwArgs *a = &t->call.adamw;
    double clip = 1;
    if (a->max_norm != 0)
        clip = fmin(1, a->max_norm / (sqrt(t->scalar) + 1e-6));
    const double lr = t->step.lr, bias1 = 1 - pow(a->beta1, t->step.step);
    const double bias2 = 1 - pow(a->beta2, t->step.step);
    for (int64_t i = 0; i < t->c->N; i++) {
        const double g = val(t, "g")[i] * clip;
        const double m = a->beta1 * val(t, "m")[i] + (1 - (double)a->beta1) * g;
        const double v = a->beta2 * val(t, "v")[i] + (1 - (double)a->beta2) * g * g;
        double p = val(t, "p")[i] * (1 - lr * a->decay);
        p -= lr * (m / bias1) / (sqrt(v / bias2) + a->eps);
        want(t, "p")[i] = p;
        want(t, "g")[i] = 0;
        want(t, "m")[i] = m;
        want(t, "v")[i] = v;
    }
    return 0;
}

/* ==== Products ==== */

/* c[m, n] += scale * op(a) op(b); the strides say how a[i, k] and b[k, j] lie. */
static void product(double *c, int64_t m, int64_t n, int64_t k, double scale, const double *a,
                    const int64_t a_step[2], const double *b, const int64_t b_step[2])
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++) {
            const double x = scale * a[i * a_step[0] + l * a_step[1]];
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += x * b[l * b_step[0] + j * b_step[1]];
        }
}
#define BY_ROW(cols) ((const int64_t[2]){(cols), 1})
#define BY_COLUMN(cols) ((const int64_t[2]){1, (cols)})

/* dy times magnitude / norm; the magnitude's gradient on the way. */
static const double *ref_scaled_dy(OpTest *t, int i, const double *dy)
{
    const int64_t T = t->c->T, out = op_slot_i(t, "w", i)->rows;
    const double *magnitude = val_i(t, "magnitude", i), *norm = val_i(t, "norm", i);
    const double *kept = want_i(t, "product", i);
    double *dmagnitude = want_i(t, "dmagnitude", i);
    double *scaled = arena_array(t->arena, double, T * out);
    for (int64_t j = 0; j < T * out; j++) {
        scaled[j] = dy[j] * magnitude[j % out] / norm[j % out];
        if (dmagnitude != NULL)
            dmagnitude[j % out] += dy[j] * kept[j] / norm[j % out];
    }
    return scaled;
}

/* h of one part and everything that does not need it is done by the caller; r may be 0. */
static void ref_linear_bwd(OpTest *t, int i, const double *hidden, int64_t r)
{
    const int64_t T = t->c->T, in = t->c->C, out = op_slot_i(t, "w", i)->rows;
    const double *dy = val_i(t, "dy", i), scale = t->call.linear.part[i].scale;
    double *dx = want(t, "dx"), *dbias = want_i(t, "dbias", i);
    for (int64_t j = 0; dbias != NULL && j < T * out; j++)
        dbias[j % out] += dy[j];
    if (val_i(t, "magnitude", i) != NULL)
        dy = ref_scaled_dy(t, i, dy);
    if (dx != NULL)
        product(dx, T, in, out, 1, dy, BY_ROW(out), val_i(t, "w", i), BY_ROW(in));
    if (want_i(t, "dw", i) != NULL)
        product(want_i(t, "dw", i), out, in, T, 1, dy, BY_COLUMN(out), val(t, "x"), BY_ROW(in));
    if (r == 0)
        return;
    double *dh = arena_array(t->arena, double, T * r);
    product(dh, T, r, out, scale, dy, BY_ROW(out), val_i(t, "b", i), BY_ROW(r));
    if (dx != NULL)
        product(dx, T, in, r, 1, dh, BY_ROW(r), val_i(t, "a", i), BY_ROW(in));
    if (want_i(t, "da", i) != NULL)
        product(want_i(t, "da", i), r, in, T, 1, dh, BY_COLUMN(r), val(t, "x"), BY_ROW(in));
    if (want_i(t, "db", i) != NULL)
        product(want_i(t, "db", i), out, r, T, 1, dy, BY_COLUMN(out), hidden, BY_ROW(r));
}

static double ref_linear(OpTest *t)
{
    const size_t mark = arena_mark(t->arena);
    const int64_t T = t->c->T, in = t->c->C;
    OpSlot *h = op_slot(t, "h");
    int64_t column = 0;
    for (int i = 0; i < t->c->parts; i++) {
        OpSlot *w = op_slot_i(t, "w", i), *a = op_slot_i(t, "a", i);
        const int64_t out = w->rows, r = a == NULL ? 0 : a->rows;
        double *y = want_i(t, "y", i), *bias = val_i(t, "bias", i);
        product(y, T, out, in, 1, val(t, "x"), BY_ROW(in), w->val, BY_COLUMN(in));
        double *hidden = arena_array(t->arena, double, T * r + 1);
        if (r > 0) {
            product(hidden, T, r, in, t->call.linear.part[i].scale, val(t, "x"), BY_ROW(in),
                    a->val, BY_COLUMN(in));
            product(y, T, out, r, 1, hidden, BY_ROW(r), val_i(t, "b", i), BY_COLUMN(r));
        }
        const double *magnitude = val_i(t, "magnitude", i), *norm = val_i(t, "norm", i);
        double *kept = want_i(t, "product", i);
        for (int64_t j = 0; j < T * out; j++) {
            if (kept != NULL)
                kept[j] = y[j];
            if (magnitude != NULL)
                y[j] *= magnitude[j % out] / norm[j % out];
            y[j] += bias == NULL ? 0 : bias[j % out];
        }
        for (int64_t j = 0; j < T * r; j++)
            h->want[j / r * h->cols + column + j % r] = hidden[j];
        column += r;
        if ((t->c->flags & FORWARD_ONLY) == 0)
            ref_linear_bwd(t, i, hidden, r);
    }
    arena_rewind(t->arena, mark);
    return 0;
}

static double ref_row_norms(OpTest *t)
{
    const OpSlot *w = op_slot(t, "w");
    const double *a = val(t, "a"), *b = val(t, "b"), scale = t->call.row_norms.scale;
    for (int64_t i = 0; i < w->rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < w->cols; j++) {
            double x = w->val[i * w->cols + j];
            for (int64_t k = 0; k < t->c->rank; k++)
                x += scale * b[i * t->c->rank + k] * a[k * w->cols + j];
            sum += x * x;
        }
        want(t, "norm")[i] = sqrt(sum);
    }
    return 0;
}

static double ref_cross_entropy(OpTest *t)
{
    const size_t mark = arena_mark(t->arena);
    const int64_t C = t->c->C, V = t->c->N;
    double *logits = arena_array(t->arena, double, V), *dx = want(t, "dx"), *dw = want(t, "dw");
    const double *w = val(t, "w"), inv = t->step.inv_loss_tokens;
    double loss = 0;
    for (int64_t i = 0; i < t->step.n_loss; i++) {
        const int64_t row = t->ints[0].host[i], target = t->ints[1].host[i];
        const double *x = val(t, "x") + row * C;
        double sum = 0;
        memset(logits, 0, (size_t)V * sizeof *logits);
        product(logits, 1, V, C, 1, x, BY_ROW(C), w, BY_COLUMN(C));
        for (int64_t v = 0; v < V; v++)
            sum += exp(logits[v]);
        want(t, "nll")[i] = log(sum) - logits[target];
        loss += inv * want(t, "nll")[i];
        for (int64_t v = 0; v < V; v++)
            logits[v] = inv * (exp(logits[v]) / sum - (v == target));
        if (dx != NULL)
            product(dx + row * C, 1, C, V, 1, logits, BY_ROW(V), w, BY_ROW(C));
        if (dw != NULL)
            product(dw, V, C, 1, 1, logits, BY_COLUMN(V), x, BY_ROW(C));
    }
    arena_rewind(t->arena, mark);
    return loss;
}

/* ==== Attention ==== */

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void add(double *y, double a, const double *x, int64_t n)
{
    for (int64_t i = 0; y != NULL && i < n; i++)
        y[i] += a * x[i];
}

/* Query row i of head h; p: room for the probabilities of all keys. */
static void ref_attention_row(OpTest *t, int64_t i, int64_t h, double *p)
{
    const AttentionArgs *a = &t->call.attention;
    const int64_t D = a->head_dim, wide = a->n_heads * D, narrow = a->n_kv_heads * D;
    const int64_t at = i * wide + h * D, group = h / (a->n_heads / a->n_kv_heads) * D;
    const int64_t begin = t->ints[0].host[i], end = t->ints[1].host[i];
    const double *q = val(t, "q") + at, *k = val(t, "k") + group, *v = val(t, "v") + group;
    double *y = want(t, "y") + at, sum = 0, most = -INFINITY;
    for (int64_t s = begin; s < end; s++) {
        p[s] = a->scale * dot(q, k + s * narrow, D);
        most = fmax(most, p[s]);
    }
    for (int64_t s = begin; s < end; s++)
        sum += exp(p[s] - most);
    if (want(t, "lse") != NULL)
        want(t, "lse")[h * t->c->T + i] = begin == end ? -INFINITY : most + log(sum);
    for (int64_t s = begin; s < end; s++) {
        p[s] = exp(p[s] - most) / sum;
        add(y, p[s], v + s * narrow, D);
    }
    if (val(t, "dy") == NULL)
        return;
    const double *dy = val(t, "dy") + at, delta = dot(dy, y, D);
    double *dq = want(t, "dq"), *dk = want(t, "dk"), *dv = want(t, "dv");
    for (int64_t s = begin; s < end; s++) {
        const double ds = a->scale * p[s] * (dot(dy, v + s * narrow, D) - delta);
        add(dq == NULL ? NULL : dq + at, ds, k + s * narrow, D);
        add(dk == NULL ? NULL : dk + group + s * narrow, ds, q, D);
        add(dv == NULL ? NULL : dv + group + s * narrow, p[s], dy, D);
    }
}

static double ref_attention(OpTest *t)
{
    const size_t mark = arena_mark(t->arena);
    double *p = arena_array(t->arena, double, t->c->N);
    for (int64_t h = 0; h < t->c->heads; h++)
        for (int64_t i = 0; i < t->c->T; i++)
            ref_attention_row(t, i, h, p);
    arena_rewind(t->arena, mark);
    return 0;
}

double op_reference(OpTest *t)
{
    static double (*const reference[OP_COUNT])(OpTest *) = {
        [OP_embed] = ref_embed,
        [OP_rmsnorm] = ref_rmsnorm,
        [OP_linear] = ref_linear,
        [OP_rope] = ref_rope,
        [OP_attention] = ref_attention,
        [OP_glu] = ref_glu,
        [OP_cross_entropy] = ref_cross_entropy,
        [OP_window_spans] = ref_window_spans,
        [OP_rope_rows] = ref_rope_rows,
        [OP_copy_rows] = ref_copy_rows,
        [OP_sum_squares] = ref_sum_squares,
        [OP_row_norms] = ref_row_norms,
        [OP_adamw] = ref_adamw,
    };
    start(t);
    return reference[t->c->op](t);
}

/* ==== Slopes ==== */

/* The slot that holds the gradient of s ("d" + its name), or NULL. */
static OpSlot *gradient_slot(OpTest *t, const OpSlot *s)
{
    char name[16];
    snprintf(name, sizeof name, "d%s", s->name);
    return op_slot(t, name);
}

/* sum of dy * y over the outputs that have an upstream gradient, and what the op adds itself. */
static double loss_of(OpTest *t)
{
    double loss = op_reference(t);
    for (int i = 0; i < t->n_slots; i++) {
        const OpSlot *y = &t->slot[i], *dy = gradient_slot(t, y);
        const bool upstream = dy != NULL && dy->val != NULL && !dy->accumulates;
        if (y->want != NULL && upstream)
            loss += dot(y->want, dy->val, y->rows * y->cols);
    }
    return loss;
}

double op_slope_error(OpTest *t)
{
    enum { SAMPLES = 40 };
    const double step = 1e-5;
    double worst = 0;
    for (int i = 0; i < t->n_slots; i++) {
        OpSlot *x = &t->slot[i], *dx = gradient_slot(t, x);
        if (x->val == NULL || dx == NULL || dx->want == NULL)
            continue;
        const int64_t n = x->rows * x->cols, stride = max_i64(1, n / SAMPLES);
        for (int64_t j = 0; j < n; j += stride) {
            const double kept = x->val[j];
            op_reference(t);
            const double analytic = dx->want[j] - (dx->accumulates ? dx->val[j] : 0);
            x->val[j] = kept + step;
            const double above = loss_of(t);
            x->val[j] = kept - step;
            const double below = loss_of(t);
            x->val[j] = kept;
            const double slope = (above - below) / (2 * step);
            worst = fmax(worst, fabs(slope - analytic) / (1 + fabs(analytic)));
        }
    }
    op_reference(t);
    return worst;
}
