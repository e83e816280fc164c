/* op_runner.c — carries a built case to a backend and back, and judges what came out. The only
 * tolerance of the op tests is here.
 */
#include "ops/op_cases.h"

#include "core/quant_block.h"

#include <math.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(ptr, bytes) __asan_poison_memory_region((ptr), (bytes))
#define UNPOISON(ptr, bytes) __asan_unpoison_memory_region((ptr), (bytes))
#else
#define POISON(ptr, bytes) ((void)(ptr), (void)(bytes))
#define UNPOISON(ptr, bytes) ((void)(ptr), (void)(bytes))
#endif

enum { FEW_TOKENS = 8 };
enum { GUARD_BYTES = 4096, SCRATCH_FILL = 0xFF /* NaN in every float type */, GUARD_FILL = 0xA5 };

/* ==== To the device and back ==== */

static size_t block_bytes(const OpBlock *b)
{
    return (size_t)(b->rows * b->stride) * (size_t)dtype_info(b->dtype)->block_bytes;
}

static void encode(const OpBlock *b, uint8_t *bytes)
{
    for (int64_t i = 0; i < b->rows * b->stride; i++) {
        const uint16_t half = b->dtype == DTYPE_F16 ? qb_to_f16(b->image[i])
                                                    : qb_to_bf16(b->image[i]);
        if (b->dtype == DTYPE_F32)
            memcpy(bytes + i * 4, &b->image[i], 4);
        else
            memcpy(bytes + i * 2, &half, 2);
    }
}

static void decode(const OpBlock *b, const uint8_t *bytes)
{
    for (int64_t i = 0; i < b->rows * b->stride; i++)
        if (b->dtype == DTYPE_F32)
            memcpy(&b->got[i], bytes + i * 4, 4);
        else if (b->dtype == DTYPE_F16)
            b->got[i] = qb_from_f16(qb_load16(bytes + i * 2));
        else
            b->got[i] = qb_from_bf16(qb_load16(bytes + i * 2));
}

static void *to_device(Backend *backend, Arena *slab, const void *bytes, size_t n)
{
    void *device = arena_push(slab, n);
    backend->upload(backend, device, bytes, n);
    return device;
}

static void bind_weights(OpTest *t, Backend *backend, Arena *slab)
{
    Weight *group[LINEAR_MAX_PARTS];
    int64_t rank = 0;
    for (int i = 0; i < t->n_weights; i++) {
        OpWeight *w = &t->weight[i];
        w->weight.source = w->bytes;
        group[i] = &w->weight;
        *w->field = &w->weight;
    }
    if (t->c->op == OP_linear) {
        for (int i = 0; i < t->c->parts; i++)
            rank += t->call.linear.part[i].a.rows;
        backend_open_group(backend, group, t->n_weights, rank, slab);
    } else if (t->n_weights == 1) {
        backend->weight_open(backend, group[0], slab);
    }
}

static void bind(OpTest *t, Backend *backend, Arena *slab)
{
    for (int i = 0; i < t->n_blocks; i++) {
        OpBlock *b = &t->block[i];
        const size_t mark = arena_mark(t->arena);
        uint8_t *bytes = arena_push(t->arena, block_bytes(b));
        encode(b, bytes);
        b->device = to_device(backend, slab, bytes, block_bytes(b));
        arena_rewind(t->arena, mark);
    }
    for (int i = 0; i < t->n_slots; i++) {
        const OpSlot *s = &t->slot[i];
        if (s->block < 0)
            continue;
        const OpBlock *b = &t->block[s->block];
        uint8_t *data = (uint8_t *)b->device +
                        (size_t)s->column * (size_t)dtype_info(b->dtype)->block_bytes;
        if (s->raw != NULL) {
            *s->raw = (float *)(void *)data;
            continue;
        }
        *s->field = tensor_make(data, b->dtype, s->rows, s->cols);
        s->field->stride = b->stride;
    }
    for (int i = 0; i < t->n_ints; i++)
        *t->ints[i].field = to_device(backend, slab, t->ints[i].host,
                                      (size_t)t->ints[i].n * sizeof(int32_t));
    if (t->step_field != NULL)
        *t->step_field = to_device(backend, slab, &t->step, sizeof t->step);
    if (t->scalar_in != NULL)
        *t->scalar_in = to_device(backend, slab, &t->scalar, sizeof t->scalar);
    if (t->scalar_out != NULL)
        *t->scalar_out = to_device(backend, slab, &(double){NAN}, sizeof(double));
    bind_weights(t, backend, slab);
}

static void collect(OpTest *t, Backend *backend)
{
    for (int i = 0; i < t->n_blocks; i++) {
        const OpBlock *b = &t->block[i];
        const size_t mark = arena_mark(t->arena);
        uint8_t *bytes = arena_push(t->arena, block_bytes(b));
        backend->download(backend, bytes, b->device, block_bytes(b));
        decode(b, bytes);
        arena_rewind(t->arena, mark);
    }
    for (int i = 0; i < t->n_ints; i++)
        if (t->ints[i].want != NULL)
            backend->download(backend, t->ints[i].got, *t->ints[i].field,
                              (size_t)t->ints[i].n * sizeof(int32_t));
    if (t->scalar_out != NULL)
        backend->download(backend, &t->scalar_got, *t->scalar_out, sizeof t->scalar_got);
}

/* One pass with exactly the scratch it asked for, full of NaN, and guards behind it. */
static bool run_pass(OpTest *t, Backend *backend, Arena *slab, OpId op, Pass pass)
{
    const size_t mark = arena_mark(slab);
    OpCall call = t->call;
    call.op = op;
    if (op == OP_lowrank_refresh) {
        call.lowrank_refresh.n_parts = t->call.linear.n_parts;
        for (int i = 0; i < t->call.linear.n_parts; i++)
            call.lowrank_refresh.part[i] = t->call.linear.part[i];
    }
    const size_t bytes = (size_t)round_up((int64_t)backend->scratch(backend, &call, pass),
                                          ARENA_ALIGN);
    uint8_t *host = arena_push(t->arena, bytes + GUARD_BYTES);
    memset(host, SCRATCH_FILL, bytes);
    memset(host + bytes, GUARD_FILL, GUARD_BYTES);
    call.scratch = to_device(backend, slab, host, bytes + GUARD_BYTES);
    uint8_t *guard = (uint8_t *)call.scratch + bytes;
    const bool on_host = t->traits.row_tail_multiple == 0 && strcmp(t->traits.name, "cpu") == 0;
    if (on_host)
        POISON(guard, GUARD_BYTES);
    must(backend->run[pass][op] != NULL);
    backend->run[pass][op](backend, &call);
    if (on_host)
        UNPOISON(guard, GUARD_BYTES);
    backend->download(backend, host, guard, GUARD_BYTES);
    bool intact = true;
    for (int i = 0; i < GUARD_BYTES; i++)
        intact = intact && host[i] == GUARD_FILL;
    arena_rewind(slab, mark);
    return intact;
}

bool op_run(OpTest *t, Backend *backend, Arena *slab)
{
    const size_t mark = arena_mark(slab), host_mark = arena_mark(t->arena);
    bind(t, backend, slab);
    bool intact = true;
    if (t->c->op == OP_linear)
        intact = run_pass(t, backend, slab, OP_lowrank_refresh, PASS_FWD) && intact;
    intact = run_pass(t, backend, slab, t->c->op, PASS_FWD) && intact;
    if ((t->c->flags & FORWARD_ONLY) == 0)
        intact = run_pass(t, backend, slab, t->c->op, PASS_BWD) && intact;
    const char *trouble = backend->finish(backend);
    if (trouble != NULL)
        fprintf(stderr, "%s: %s\n", t->c->name, trouble);
    collect(t, backend);
    arena_rewind(slab, mark);
    arena_rewind(t->arena, host_mark);
    return intact && trouble == NULL;
}

/* ==== Judging ==== */

static double worst_ratio;
double op_worst(void) { return worst_ratio; }

/* Rounding errors of a sum of K products grow like sqrt(K) units of the accumulator; activations in
 * 16 bits add units of their own at each place where they are stored. FACTOR covers the handful of
 * roundings around the sum, and elements that are the difference of larger ones: inputs are drawn
 * so that these are at most a few times larger. */
double op_tolerance(Dtype activation, int64_t terms)
{
    const double FACTOR = 8;
    const double accumulator = ldexp(1, -24);
    const double storage = activation == DTYPE_BF16  ? ldexp(1, -9)
                           : activation == DTYPE_F16 ? ldexp(1, -12)
                                                     : 0;
    return FACTOR * (accumulator * sqrt((double)terms) + storage);
}

static double largest(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i]) && fabs(x[i]) > most)
            most = fabs(x[i]);
    return most;
}

static bool is_close(double got, double want, double allowed)
{
    if (!isfinite(want))
        return got == want;
    const double error = fabs(got - want);
    if (allowed > 0 && error / allowed > worst_ratio)
        worst_ratio = error / allowed;
    return error <= allowed;
}

static int complain(int n, const OpTest *t, const char *label, const char *what, int64_t row,
                    int64_t column, double got, double want)
{
    enum { SHOWN = 4 };
    if (n < SHOWN)
        fprintf(stderr, "%s (%s): %s[%lld, %lld] = %.9g, should be %.9g\n", t->c->name, label,
                what, (long long)row, (long long)column, got, want);
    return n + 1;
}

/* Errors are measured against the largest element of the row, or a tenth of the tensor's. */
static int check_slot(const OpTest *t, const OpSlot *s, const char *label, int bad)
{
    const OpBlock *b = &t->block[s->block];
    const double whole = largest(s->want, s->rows * s->cols);
    /* In 16 bits some results inherit two roundings, each as large as the tolerance's unit, from
     * values larger than themselves. Attention's gradients start from sum(y * dy) over the stored
     * y, which for few keys is a small difference. On the CPU dB = dy^T h also comes after the
     * rounding of A and of h, and a loss gradient is a difference of rounded rows of the head. */
    const OpId op = t->c->op;
    const bool is_host = t->traits.memory == MEMORY_HOST;
    const bool twice = op == OP_attention ||
                       (is_host && (op == OP_linear || op == OP_cross_entropy));
    const bool chained = twice && t->traits.activation != DTYPE_F32;
    double tolerance = op_tolerance(t->traits.activation, s->terms) * (chained ? 2 : 1);
    /* The CPU multiplies a few rows with blocks of 4 or 8 bits in whole numbers, with x rounded to
     * 2^-16 of a block's largest element. */
    if (op == OP_linear && t->c->T <= FEW_TOKENS && dtype_info(t->c->dtype)->block > 1 &&
        is_host)
        tolerance += op_tolerance(DTYPE_F16, 0) * ldexp(1, -4);
    for (int64_t r = 0; r < s->rows; r++) {
        const double *want = s->want + r * s->cols;
        const double allowed = tolerance * fmax(largest(want, s->cols), 0.1 * whole);
        for (int64_t c = 0; c < s->cols; c++) {
            const int64_t at = r * b->stride + s->column + c;
            if (b->owner[at] != s - t->slot)
                continue; /* overwritten in place by another output */
            if (!is_close(b->got[at], want[c], allowed))
                bad = complain(bad, t, label, s->name, r, c, b->got[at], want[c]);
        }
    }
    return bad;
}

int op_check(const OpTest *t, const char *label)
{
    int bad = 0;
    for (int i = 0; i < t->n_slots; i++)
        if (t->slot[i].want != NULL)
            bad = check_slot(t, &t->slot[i], label, bad);
    for (int i = 0; i < t->n_blocks; i++) {
        const OpBlock *b = &t->block[i];
        for (int64_t j = 0; j < b->rows * b->stride; j++)
            if (b->owner[j] == OWNER_FIXED && memcmp(&b->got[j], &b->image[j], 4) != 0)
                bad = complain(bad, t, label, "what must not change", j / b->stride,
                               j % b->stride, b->got[j], b->image[j]);
    }
    for (int i = 0; i < t->n_ints; i++)
        for (int64_t j = 0; t->ints[i].want != NULL && j < t->ints[i].n; j++)
            if (t->ints[i].got[j] != t->ints[i].want[j])
                bad = complain(bad, t, label, "integers", i, j, t->ints[i].got[j],
                               t->ints[i].want[j]);
    if (t->scalar_out != NULL &&
        !(fabs(t->scalar_got - t->scalar_want) <= 1e-13 * fabs(t->scalar_want)))
        bad = complain(bad, t, label, "out", 0, 0, t->scalar_got, t->scalar_want);
    return bad;
}

uint64_t op_bits(const OpTest *t)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a, a word at a time */
    for (int i = 0; i < t->n_blocks; i++)
        for (int64_t j = 0; j < t->block[i].rows * t->block[i].stride; j++)
            if (t->block[i].owner[j] != OWNER_FREE)
                hash = (hash ^ qb_bits(t->block[i].got[j])) * 1099511628211u;
    for (int i = 0; i < t->n_ints; i++)
        for (int64_t j = 0; t->ints[i].want != NULL && j < t->ints[i].n; j++)
            hash = (hash ^ (uint32_t)t->ints[i].got[j]) * 1099511628211u;
    uint64_t bits;
    memcpy(&bits, &t->scalar_got, sizeof bits);
    return (hash ^ bits) * 1099511628211u;
}
