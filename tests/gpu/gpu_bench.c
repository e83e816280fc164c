/* gpu_bench.c — how long each op takes at the shapes of real models, beside what it must do at
 * least: multiply-adds at the rate of a large plain product measured in the same run, or bytes
 * (each input read once, each output written once) at the speed of a device copy, also measured.
 *
 * Device work is timed as many calls enqueued together over the time until the device is done; the
 * figure is the median of several such batches. Inputs are random.
 *
 * gpu_bench [shape|all [attention]]
 */
#include "compute/cuda_loader.h"
#include "core/os.h"
#include "core/quant_block.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Shape {
    const char *name;
    int64_t batch, seq, C, H, G, D, F, V, rank;
} Shape;

static const Shape SHAPES[] = {
    {"8B", 2, 2048, 4096, 32, 8, 128, 14336, 128256, 16},
    {"0.5B", 8, 1024, 896, 14, 2, 64, 4864, 151936, 16},
    {"3B", 4, 2048, 3072, 24, 8, 128, 8192, 128256, 16},
    {"1B", 4, 2048, 2048, 32, 8, 64, 8192, 128256, 16},
};

typedef struct Bench {
    Backend backend;
    Arena host, slab;
    const Shape *s;
    int64_t T;
    size_t mark;
    double peak;  /* FLOP/s of a large product */
    double speed; /* B/s of a copy */
    double total; /* seconds a layer, from the rows printed with a count */
    double floor;
} Bench;

/* ---- memory with something in it ---- */

static Tensor matrix(Bench *b, Dtype dtype, int64_t rows, int64_t cols, int64_t tail)
{
    Tensor t = tensor_make(NULL, dtype, rows, cols);
    t.stride = cols + tail;
    const size_t bytes = tensor_bytes(&t), element = dtype == DTYPE_F32 ? 4 : 2;
    t.data = arena_push(&b->slab, bytes);
    enum { PATTERN = 1 << 16 };
    static uint8_t pattern[PATTERN * 4];
    for (int i = 0; i < PATTERN; i++) {
        const double u = 2 * rng_uniform53(3, RNG_TEST, (uint32_t)dtype, (uint64_t)i) - 1;
        const float f = (float)(0.5 * u);
        const uint16_t half = qb_to_bf16(f);
        memcpy(pattern + (size_t)i * element, dtype == DTYPE_F32 ? (const void *)&f : &half,
               element);
    }
    for (size_t at = 0; at < bytes; at += PATTERN * element) {
        const size_t n = bytes - at < PATTERN * element ? bytes - at : PATTERN * element;
        b->backend.upload(&b->backend, (uint8_t *)t.data + at, pattern, n);
    }
    return t;
}

static Tensor columns(Tensor t, int64_t first, int64_t n)
{
    t.data = (uint8_t *)t.data + first * (t.dtype == DTYPE_F32 ? 4 : 2);
    t.cols = n;
    return t;
}

static const int32_t *integers(Bench *b, const int32_t *host, int64_t n)
{
    int32_t *device = arena_push(&b->slab, (size_t)n * 4);
    b->backend.upload(&b->backend, device, host, (size_t)n * 4);
    return device;
}

static void group(Bench *b, Weight *weights, int n, int64_t rank)
{
    Weight *list[LINEAR_MAX_PARTS];
    for (int i = 0; i < n; i++) {
        const size_t bytes = (size_t)(weights[i].rows * weights[i].cols) * 2;
        uint16_t *source = arena_push(&b->host, bytes);
        for (size_t j = 0; j < bytes / 2; j++)
            source[j] = qb_to_bf16(((float)(j * 2654435761u % 65536) / 65536 - 0.5f) * 0.1f);
        weights[i].source = (const uint8_t *)source;
        weights[i].dtype = DTYPE_BF16;
        list[i] = &weights[i];
    }
    backend_open_group(&b->backend, list, n, rank, &b->slab);
}

/* ---- timing ---- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double seconds(Bench *b, OpCall *call, Pass pass)
{
    enum { BATCHES = 7 };
    double times[BATCHES];
    const size_t mark = arena_mark(&b->slab);
    const size_t bytes = b->backend.scratch(&b->backend, call, pass);
    call->scratch = bytes > 0 ? arena_push(&b->slab, bytes) : NULL;
    OpFn *run = b->backend.run[pass][call->op];
    double start = os_now();
    for (int i = 0; i < 3; i++)
        run(&b->backend, call);
    b->backend.finish(&b->backend);
    const double once = (os_now() - start) / 3;
    const int n = once > 5e-3 ? 3 : once > 5e-4 ? 10 : 50;
    for (int k = 0; k < BATCHES; k++) {
        start = os_now();
        for (int i = 0; i < n; i++)
            run(&b->backend, call);
        b->backend.finish(&b->backend);
        times[k] = (os_now() - start) / n;
    }
    arena_rewind(&b->slab, mark);
    qsort(times, BATCHES, sizeof times[0], by_size);
    return times[BATCHES / 2];
}

static double g_peak_or(const Bench *b) { return b->peak > 0 ? b->peak : 1e15; }

/* flops 0: the op moves bytes; else products. per_layer: how often a layer has it. */
static void row(Bench *b, const char *what, OpCall *call, Pass pass, double flops, double bytes,
                int per_layer)
{
    const double t = seconds(b, call, pass);
    const double least = fmax(flops / g_peak_or(b), b->speed > 0 ? bytes / b->speed : 0);
    printf("%-6s %-28s %9.1f us  floor %8.1f  %5.1f %%   %7.1f TFLOP/s  %6.0f GB/s\n", b->s->name,
           what, t * 1e6, least * 1e6, 100 * least / t, flops / t * 1e-12, bytes / t * 1e-9);
    fflush(stdout);
    b->total += t * per_layer;
    b->floor += least * per_layer;
}

/* ---- ops ---- */

static void bench_linear(Bench *b, const char *name, int64_t in, const int64_t *out, int n,
                         int64_t rank)
{
    const size_t mark = arena_mark(&b->slab), host_mark = arena_mark(&b->host);
    int64_t sum = 0;
    Weight w[LINEAR_MAX_PARTS] = {0};
    for (int i = 0; i < n; i++) {
        w[i].rows = out[i];
        w[i].cols = in;
        sum += out[i];
    }
    group(b, w, n, rank * n);
    const int64_t tail = backend_row_tail(&b->backend, rank * n);
    OpCall call = {.op = OP_linear};
    LinearArgs *a = &call.linear;
    a->x = matrix(b, DTYPE_BF16, b->T, in, tail);
    if (rank > 0)
        a->h = columns(a->x, in, rank * n);
    a->dx = matrix(b, DTYPE_BF16, b->T, in, 0);
    a->n_parts = n;
    const Tensor y = matrix(b, DTYPE_BF16, b->T, sum, tail);
    const Tensor dy = matrix(b, DTYPE_BF16, b->T, sum, tail);
    int64_t at = 0;
    for (int i = 0; i < n; at += out[i], i++) {
        LinearPart *p = &a->part[i];
        *p = (LinearPart){.w = &w[i], .scale = 2, .y = columns(y, at, out[i]),
                          .dy = columns(dy, at, out[i])};
        if (rank == 0)
            continue;
        p->a = matrix(b, DTYPE_F32, rank, in, 0);
        p->b = matrix(b, DTYPE_F32, out[i], rank, 0);
        p->da = matrix(b, DTYPE_F32, rank, in, 0);
        p->db = matrix(b, DTYPE_F32, out[i], rank, 0);
    }
    char text[64];
    const double flops = 2.0 * (double)b->T * (double)in * (double)sum;
    snprintf(text, sizeof text, "%s r=%d fwd", name, (int)rank);
    row(b, text, &call, PASS_FWD, flops, 0, rank == b->s->rank);
    snprintf(text, sizeof text, "%s r=%d bwd", name, (int)rank);
    row(b, text, &call, PASS_BWD, flops, 0, rank == b->s->rank);
    arena_rewind(&b->slab, mark);
    arena_rewind(&b->host, host_mark);
}

static void bench_linears(Bench *b, int64_t rank)
{
    const Shape *s = b->s;
    bench_linear(b, "qkv", s->C, (int64_t[]){s->H * s->D, s->G * s->D, s->G * s->D}, 3, rank);
    bench_linear(b, "o", s->H * s->D, (int64_t[]){s->C}, 1, rank);
    bench_linear(b, "gate up", s->C, (int64_t[]){s->F, s->F}, 2, rank);
    bench_linear(b, "down", s->F, (int64_t[]){s->C}, 1, rank);
}

static void bench_attention(Bench *b)
{
    const Shape *s = b->s;
    const size_t mark = arena_mark(&b->slab), host_mark = arena_mark(&b->host);
    const int64_t q = s->H * s->D, kv = s->G * s->D;
    int32_t *span[4];
    for (int i = 0; i < 4; i++)
        span[i] = arena_array(&b->host, int32_t, b->T);
    for (int64_t t = 0; t < b->T; t++) {
        span[0][t] = (int32_t)(t / s->seq * s->seq);
        span[1][t] = (int32_t)t + 1;
        span[2][t] = (int32_t)((t / s->seq + 1) * s->seq);
        span[3][t] = (int32_t)(t % s->seq);
    }
    OpCall call = {.op = OP_attention};
    AttentionArgs *a = &call.attention;
    const Tensor x = matrix(b, DTYPE_BF16, b->T, q + 2 * kv, 48);
    const Tensor dx = matrix(b, DTYPE_BF16, b->T, q + 2 * kv, 48);
    *a = (AttentionArgs){
        .q = columns(x, 0, q), .k = columns(x, q, kv), .v = columns(x, q + kv, kv),
        .y = matrix(b, DTYPE_BF16, b->T, q, 16), .lse = matrix(b, DTYPE_F32, s->H, b->T, 0),
        .kv_begin = integers(b, span[0], b->T), .kv_end = integers(b, span[1], b->T),
        .q_end = integers(b, span[2], b->T), .n_heads = (int)s->H, .n_kv_heads = (int)s->G,
        .head_dim = (int)s->D, .scale = 1 / sqrtf((float)s->D),
        .dy = matrix(b, DTYPE_BF16, b->T, q, 0), .dq = columns(dx, 0, q),
        .dk = columns(dx, q, kv), .dv = columns(dx, q + kv, kv)};
    const double flops = 2.0 * (double)(b->T * s->seq * q);
    row(b, "attention fwd", &call, PASS_FWD, flops, 0, 1);
    row(b, "attention bwd", &call, PASS_BWD, 2.5 * flops, 0, 1);
    AttentionArgs both = *a;
    a->dq = (Tensor){0};
    row(b, "  of it dk dv", &call, PASS_BWD, 2 * flops, 0, 0);
    *a = both;
    a->dk = a->dv = (Tensor){0};
    row(b, "  of it dq", &call, PASS_BWD, 1.5 * flops, 0, 0);

    OpCall rope = {.op = OP_rope};
    rope.rope = (RopeArgs){.q = both.q, .k = both.k, .dq = both.dq, .dk = both.dk,
                           .table = matrix(b, DTYPE_F32, s->seq, s->D, 0),
                           .positions = integers(b, span[3], b->T), .head_dim = (int)s->D,
                           .rot = (int)s->D, .pairing = ROPE_HALVES};
    row(b, "rope fwd", &rope, PASS_FWD, 0, 4.0 * (double)(b->T * (q + kv)), 1);
    row(b, "rope bwd", &rope, PASS_BWD, 0, 4.0 * (double)(b->T * (q + kv)), 1);
    arena_rewind(&b->slab, mark);
    arena_rewind(&b->host, host_mark);
}

static void bench_pointwise(Bench *b)
{
    const Shape *s = b->s;
    const size_t mark = arena_mark(&b->slab);
    const double n = (double)(b->T * s->C), f = (double)(b->T * s->F);
    OpCall norm = {.op = OP_rmsnorm};
    norm.rmsnorm = (RmsnormArgs){
        .x = matrix(b, DTYPE_BF16, b->T, s->C, 0), .delta = matrix(b, DTYPE_BF16, b->T, s->C, 16),
        .sum = matrix(b, DTYPE_BF16, b->T, s->C, 0), .w = matrix(b, DTYPE_F32, 1, s->C, 0),
        .eps = 1e-5f, .y = matrix(b, DTYPE_BF16, b->T, s->C, 48),
        .rstd = matrix(b, DTYPE_F32, b->T, 1, 0), .dy = matrix(b, DTYPE_BF16, b->T, s->C, 0),
        .dx = matrix(b, DTYPE_BF16, b->T, s->C, 16), .dx_beta = 1};
    row(b, "add + rmsnorm fwd", &norm, PASS_FWD, 0, 8 * n, 2);
    row(b, "add + rmsnorm bwd", &norm, PASS_BWD, 0, 8 * n, 2);
    OpCall glu = {.op = OP_glu};
    const Tensor gu = matrix(b, DTYPE_BF16, b->T, 2 * s->F, 32);
    glu.glu = (GluArgs){.gate = columns(gu, 0, s->F), .up = columns(gu, s->F, s->F),
                        .y = matrix(b, DTYPE_BF16, b->T, s->F, 16),
                        .dy = matrix(b, DTYPE_BF16, b->T, s->F, 0)};
    const Tensor dgu = matrix(b, DTYPE_BF16, b->T, 2 * s->F, 32);
    glu.glu.dgate = columns(dgu, 0, s->F);
    glu.glu.dup = columns(dgu, s->F, s->F);
    row(b, "swiglu fwd", &glu, PASS_FWD, 0, 6 * f, 1);
    row(b, "swiglu bwd", &glu, PASS_BWD, 0, 10 * f, 1);
    arena_rewind(&b->slab, mark);
}

static void bench_loss(Bench *b)
{
    const Shape *s = b->s;
    const size_t mark = arena_mark(&b->slab), host_mark = arena_mark(&b->host);
    Weight w = {.rows = s->V, .cols = s->C};
    group(b, &w, 1, 0);
    int32_t *rows = arena_array(&b->host, int32_t, b->T);
    for (int64_t t = 0; t < b->T; t++)
        rows[t] = (int32_t)t;
    const StepState step = {.inv_loss_tokens = 1.0f / (float)b->T, .n_loss = (int32_t)b->T};
    StepState *device = arena_push(&b->slab, sizeof step);
    b->backend.upload(&b->backend, device, &step, sizeof step);
    OpCall call = {.op = OP_cross_entropy};
    call.cross_entropy = (CrossEntropyArgs){
        .x = matrix(b, DTYPE_BF16, b->T, s->C, 0), .w = &w, .rows = integers(b, rows, b->T),
        .targets = integers(b, rows, b->T), .step = device, .nll = matrix(b, DTYPE_F32, b->T, 1, 0),
        .dx = matrix(b, DTYPE_BF16, b->T, s->C, 0)};
    const double products = 4.0 * (double)b->T * (double)s->C * (double)s->V;
    row(b, "loss, fwd + gradient", &call, PASS_FWD, products, 0, 0);
    arena_rewind(&b->slab, mark);
    arena_rewind(&b->host, host_mark);
}

static void bench_update(Bench *b, int64_t n)
{
    const size_t mark = arena_mark(&b->slab);
    const StepState step = {.lr = 1e-4f, .step = 10};
    StepState *device = arena_push(&b->slab, sizeof step);
    b->backend.upload(&b->backend, device, &step, sizeof step);
    double *squares = arena_push(&b->slab, sizeof *squares);
    OpCall sum = {.op = OP_sum_squares}, adam = {.op = OP_adamw};
    float *v[4];
    for (int i = 0; i < 4; i++)
        v[i] = matrix(b, DTYPE_F32, 1, n, 0).data;
    sum.sum_squares = (SumSquaresArgs){.x = v[1], .n = n, .out = squares};
    row(b, "sum of squares, 42M", &sum, PASS_FWD, 0, 4.0 * (double)n, 0);
    adam.adamw = (AdamwArgs){.p = v[0], .g = v[1], .m = v[2], .v = v[3], .n = n, .step = device,
                             .sum_squares = squares, .max_norm = 1, .beta1 = 0.9f, .beta2 = 0.999f,
                             .eps = 1e-8f};
    row(b, "adamw, 42M", &adam, PASS_FWD, 0, 32.0 * (double)n, 0);
    arena_rewind(&b->slab, mark);
}

/* The two ceilings: a large product, and a copy (rows to themselves in another matrix). */
static void measure_ceilings(Bench *b)
{
    static const Shape square = {"", 1, 8192, 8192, 0, 0, 0, 0, 0, -1};
    b->s = &square;
    b->T = 8192;
    const int64_t out[1] = {8192};
    Weight w = {.rows = 8192, .cols = 8192};
    const size_t mark = arena_mark(&b->slab), host_mark = arena_mark(&b->host);
    group(b, &w, 1, 0);
    OpCall call = {.op = OP_linear};
    call.linear = (LinearArgs){.x = matrix(b, DTYPE_BF16, 8192, 8192, 0), .n_parts = 1};
    call.linear.part[0] = (LinearPart){.w = &w, .y = matrix(b, DTYPE_BF16, 8192, out[0], 0)};
    b->peak = 2.0 * 8192 * 8192 * 8192 / seconds(b, &call, PASS_FWD);
    int32_t *index = arena_array(&b->host, int32_t, 65536);
    for (int i = 0; i < 65536; i++)
        index[i] = i;
    OpCall copy = {.op = OP_copy_rows};
    copy.copy_rows = (CopyRowsArgs){.src = matrix(b, DTYPE_BF16, 65536, 8192, 0),
                                    .dst = matrix(b, DTYPE_BF16, 65536, 8192, 0),
                                    .index = integers(b, index, 65536)};
    b->speed = 4.0 * 65536 * 8192 / seconds(b, &copy, PASS_FWD);
    printf("ceilings: product 8192^3 %.1f TFLOP/s, copy %.2f TB/s\n", b->peak * 1e-12,
           b->speed * 1e-12);
    arena_rewind(&b->slab, mark);
    arena_rewind(&b->host, host_mark);
}

int main(int argc, char **argv)
{
    static Bench b;
    Err err = {0};
    const double start = os_now();
    if (!backend_open_cuda(&b.backend, 0, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 77;
    }
    printf("opened in %.3f s\n", os_now() - start);
    if (!arena_open(&b.host, 0, &err) ||
        !b.backend.slab_open(&b.backend, &b.slab, (size_t)8 << 30, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const bool only_attention = argc > 2 && strcmp(argv[2], "attention") == 0;
    if (!only_attention)
        measure_ceilings(&b);
    for (size_t i = 0; i < COUNT_OF(SHAPES); i++) {
        if (argc > 1 && strcmp(argv[1], "all") != 0 && strcmp(argv[1], SHAPES[i].name) != 0)
            continue;
        b.s = &SHAPES[i];
        b.T = b.s->batch * b.s->seq;
        b.total = b.floor = 0;
        if (only_attention) {
            bench_attention(&b);
            continue;
        }
        bench_linears(&b, 0);
        b.total = b.floor = 0;
        bench_linears(&b, b.s->rank);
        bench_attention(&b);
        bench_pointwise(&b);
        printf("%-6s a layer, forward + backward: %.1f us, floor %.1f\n", b.s->name,
               b.total * 1e6, b.floor * 1e6);
        bench_loss(&b);
    }
    if (!only_attention)
        bench_update(&b, 42000000);
    const char *trouble = b.backend.finish(&b.backend);
    if (trouble != NULL)
        fprintf(stderr, "device error: %s\n", trouble);
    b.backend.slab_close(&b.backend, &b.slab);
    b.backend.close(&b.backend);
    return trouble != NULL;
}
