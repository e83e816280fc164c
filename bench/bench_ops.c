/* bench_ops.c — how fast the CPU backend's ops are on this machine, as shares of what the matrix
 * library itself reaches in the same process. CSV on stdout: op, case, milliseconds, rate, unit,
 * share
 * of the product rate (where the op is products).
 *
 * Build and run: cmake --build build --target bench_ops && build/bench_ops
 */
#include "compute/compute.h"

#include "core/os.h"
#include "core/thread.h"

#include <dnnl.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 2048, ROUNDS = 5 };

typedef struct Bench {
    Backend backend;
    Arena arena;
    double peak; /* GFLOP/s of dnnl_sgemm */
    uint64_t draws;
} Bench;

static float *floats(Bench *b, int64_t n)
{
    float *x = arena_push(&b->arena, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        b->draws = b->draws * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int32_t)(b->draws >> 32) * (1.0f / 2147483648.0f);
    }
    return x;
}

static Tensor tensor(Bench *b, int64_t rows, int64_t cols)
{
    return tensor_make(floats(b, rows * cols), DTYPE_F32, rows, cols);
}

/* Any bytes are valid blocks but for half-precision scales: those are set to 2^-6. */
static Weight *weight(Bench *b, Dtype dtype, int64_t rows, int64_t cols)
{
    Weight *w = arena_new(&b->arena, Weight);
    const size_t bytes = (size_t)rows * dtype_row_bytes(dtype, cols);
    uint8_t *data = (uint8_t *)floats(b, (int64_t)(bytes + 3) / 4);
    const int block = dtype_info(dtype)->block, size = dtype_info(dtype)->block_bytes;
    for (int64_t i = 0; block > 1 && i < rows * cols / block; i++)
        memcpy(data + i * size, "\0\x24\0\x24", dtype == DTYPE_Q4_1 ? 4 : 2);
    *w = (Weight){.source = data, .dtype = dtype, .rows = rows, .cols = cols};
    b->backend.weight_open(&b->backend, w, NULL);
    return w;
}

/* Best of ROUNDS, seconds. */
static double run(Bench *b, OpCall *call, OpId op, Pass pass)
{
    const size_t mark = arena_mark(&b->arena);
    double best = 1e9;
    call->op = op;
    call->scratch = arena_push(&b->arena, b->backend.scratch(&b->backend, call, pass));
    for (int i = 0; i < ROUNDS; i++) {
        const double start = os_now();
        b->backend.run[pass][op](&b->backend, call);
        const double seconds = os_now() - start;
        best = seconds < best ? seconds : best;
    }
    arena_rewind(&b->arena, mark);
    return best;
}

static void report(const Bench *b, const char *op, const char *name, double seconds, double flops)
{
    const double rate = flops / seconds * 1e-9;
    printf("%s,%s,%.3f,%.1f,GFLOP/s,%.2f\n", op, name, seconds * 1e3, rate, rate / b->peak);
}

static void report_bytes(const char *op, const char *name, double seconds, double bytes)
{
    printf("%s,%s,%.3f,%.2f,GB/s,\n", op, name, seconds * 1e3, bytes / seconds * 1e-9);
}

/* The library on the same product, all threads, called as a user would. */
static void measure_peak(Bench *b, int64_t in, int64_t out)
{
    const size_t mark = arena_mark(&b->arena);
    const float *x = floats(b, TOKENS * in), *w = floats(b, out * in);
    float *y = floats(b, TOKENS * out);
    double best = 1e9;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        const double start = os_now();
        dnnl_sgemm('N', 'T', TOKENS, out, in, 1, x, in, w, in, 0, y, out);
        const double seconds = os_now() - start;
        best = seconds < best ? seconds : best;
    }
    const double rate = 2.0 * TOKENS * (double)(in * out) / best * 1e-9;
    printf("dnnl_sgemm,2048 x %lld x %lld,%.3f,%.1f,GFLOP/s,\n", (long long)in, (long long)out,
           best * 1e3, rate);
    b->peak = rate > b->peak ? rate : b->peak;
    arena_rewind(&b->arena, mark);
}

static void bench_linear(Bench *b, Dtype dtype, int64_t in, int64_t out, int64_t rank)
{
    const size_t mark = arena_mark(&b->arena);
    char name[80];
    OpCall call = {.linear = {.x = tensor(b, TOKENS, in), .n_parts = 1}};
    LinearPart *p = &call.linear.part[0];
    *p = (LinearPart){.w = weight(b, dtype, out, in), .y = tensor(b, TOKENS, out)};
    if (rank > 0) {
        call.linear.h = tensor(b, TOKENS, rank);
        p->a = tensor(b, rank, in);
        p->b = tensor(b, out, rank);
        p->scale = 2;
    }
    const double product = 2.0 * TOKENS * (double)(in * out);
    const double thin = 2.0 * TOKENS * (double)(rank * (in + out));
    snprintf(name, sizeof name, "%s %lld to %lld r=%lld", dtype_info(dtype)->name, (long long)in,
             (long long)out, (long long)rank);
    report(b, "linear fwd", name, run(b, &call, OP_linear, PASS_FWD), product + thin);
    call.linear.dx = tensor(b, TOKENS, in);
    p->dy = tensor(b, TOKENS, out);
    if (rank > 0) {
        p->da = tensor(b, rank, in);
        p->db = tensor(b, out, rank);
    }
    report(b, "linear bwd", name, run(b, &call, OP_linear, PASS_BWD), product + 2 * thin);
    arena_rewind(&b->arena, mark);
}

/* One token against weights that no cache holds: bytes of weight a second. */
static void bench_one_token(Bench *b, Dtype dtype)
{
    const size_t mark = arena_mark(&b->arena);
    const int64_t in = 2048, out = dtype == DTYPE_F32 ? 8192 : 24576;
    OpCall call = {.linear = {.x = tensor(b, 1, in), .n_parts = LINEAR_MAX_PARTS}};
    double bytes = 0;
    for (int i = 0; i < LINEAR_MAX_PARTS; i++) {
        call.linear.part[i] = (LinearPart){.w = weight(b, dtype, out, in), .y = tensor(b, 1, out)};
        bytes += (double)out * (double)dtype_row_bytes(dtype, in);
    }
    report_bytes("linear one token", dtype_info(dtype)->name, run(b, &call, OP_linear, PASS_FWD),
                 bytes);
    arena_rewind(&b->arena, mark);
}

static void bench_attention(Bench *b, int64_t length)
{
    enum { HEADS = 9, KV_HEADS = 3, HEAD = 64 };
    const size_t mark = arena_mark(&b->arena);
    char name[80];
    int32_t *begin = arena_array(&b->arena, int32_t, TOKENS);
    int32_t *end = arena_array(&b->arena, int32_t, TOKENS);
    int32_t *q_end = arena_array(&b->arena, int32_t, TOKENS);
    double seen = 0;
    for (int32_t t = 0; t < TOKENS; t++) {
        begin[t] = (int32_t)(t / length * length);
        end[t] = t + 1;
        q_end[t] = (int32_t)min_i64(begin[t] + length, TOKENS);
        seen += end[t] - begin[t];
    }
    OpCall call = {.attention = {.q = tensor(b, TOKENS, HEADS * HEAD),
                                 .k = tensor(b, TOKENS, KV_HEADS * HEAD),
                                 .v = tensor(b, TOKENS, KV_HEADS * HEAD),
                                 .y = tensor(b, TOKENS, HEADS * HEAD),
                                 .lse = tensor(b, HEADS, TOKENS),
                                 .kv_begin = begin, .kv_end = end, .q_end = q_end,
                                 .n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = HEAD,
                                 .scale = 0.125f}};
    snprintf(name, sizeof name, "9/3 heads of 64 sequences of %lld", (long long)length);
    const double product = 2.0 * HEADS * HEAD * seen; /* of one of the products */
    report(b, "attention fwd", name, run(b, &call, OP_attention, PASS_FWD), 2 * product);
    call.attention.dy = tensor(b, TOKENS, HEADS * HEAD);
    call.attention.dq = tensor(b, TOKENS, HEADS * HEAD);
    call.attention.dk = tensor(b, TOKENS, KV_HEADS * HEAD);
    call.attention.dv = tensor(b, TOKENS, KV_HEADS * HEAD);
    report(b, "attention bwd", name, run(b, &call, OP_attention, PASS_BWD), 5 * product);
    arena_rewind(&b->arena, mark);
}

static void bench_cross_entropy(Bench *b, Dtype dtype)
{
    enum { VOCABULARY = 49152, WIDTH = 576, ROWS = 512 };
    const size_t mark = arena_mark(&b->arena);
    int32_t *rows = arena_array(&b->arena, int32_t, ROWS);
    int32_t *targets = arena_array(&b->arena, int32_t, ROWS);
    for (int32_t i = 0; i < ROWS; i++)
        rows[i] = i, targets[i] = i * 7;
    StepState step = {.inv_loss_tokens = 1.0f / ROWS, .n_loss = ROWS};
    OpCall call = {.cross_entropy = {.x = tensor(b, ROWS, WIDTH),
                                     .w = weight(b, dtype, VOCABULARY, WIDTH),
                                     .rows = rows, .targets = targets, .step = &step,
                                     .nll = tensor(b, ROWS, 1)}};
    const double product = 2.0 * ROWS * (double)VOCABULARY * WIDTH;
    const char *name = dtype_info(dtype)->name;
    report(b, "loss only", name, run(b, &call, OP_cross_entropy, PASS_FWD), product);
    call.cross_entropy.dx = tensor(b, ROWS, WIDTH);
    report(b, "loss and dx", name, run(b, &call, OP_cross_entropy, PASS_FWD), 2 * product);
    arena_rewind(&b->arena, mark);
}

static void bench_rows(Bench *b)
{
    const int64_t C = 576, F = 1536;
    const size_t mark = arena_mark(&b->arena);
    const double row = TOKENS * (double)C * 4, wide = TOKENS * (double)F * 4;
    OpCall call = {.rmsnorm = {.x = tensor(b, TOKENS, C), .delta = tensor(b, TOKENS, C),
                               .sum = tensor(b, TOKENS, C), .w = tensor(b, 1, C), .eps = 1e-5f,
                               .y = tensor(b, TOKENS, C), .rstd = tensor(b, TOKENS, 1),
                               .dy = tensor(b, TOKENS, C), .dx = tensor(b, TOKENS, C),
                               .dx_beta = 1}};
    report_bytes("rmsnorm fwd", "576", run(b, &call, OP_rmsnorm, PASS_FWD), 4 * row);
    report_bytes("rmsnorm bwd", "576", run(b, &call, OP_rmsnorm, PASS_BWD), 4 * row);
    call = (OpCall){.glu = {.act = ACT_SILU, .gate = tensor(b, TOKENS, F),
                            .up = tensor(b, TOKENS, F), .y = tensor(b, TOKENS, F),
                            .dy = tensor(b, TOKENS, F)}};
    report_bytes("glu fwd", "1536", run(b, &call, OP_glu, PASS_FWD), 3 * wide);
    call.glu.dgate = call.glu.gate;
    call.glu.dup = call.glu.up;
    report_bytes("glu bwd", "1536", run(b, &call, OP_glu, PASS_BWD), 5 * wide);
    int32_t *positions = arena_array(&b->arena, int32_t, TOKENS);
    for (int32_t t = 0; t < TOKENS; t++)
        positions[t] = t;
    call = (OpCall){.rope = {.q = tensor(b, TOKENS, C), .table = tensor(b, TOKENS, 64),
                             .positions = positions, .head_dim = 64, .rot = 64}};
    report_bytes("rope fwd", "576", run(b, &call, OP_rope, PASS_FWD), 2 * row);
    arena_rewind(&b->arena, mark);
}

static void bench_update(Bench *b)
{
    const int64_t n = 4 << 20;
    const size_t mark = arena_mark(&b->arena);
    double total = 0;
    StepState step = {.lr = 1e-4f, .step = 1};
    OpCall call = {.sum_squares = {.x = floats(b, n), .n = n, .out = &total}};
    report_bytes("sum_squares", "4 Mi", run(b, &call, OP_sum_squares, PASS_FWD), 4.0 * (double)n);
    call = (OpCall){.adamw = {.p = floats(b, n), .g = floats(b, n), .m = floats(b, n),
                              .v = arena_array(&b->arena, float, n), .n = n, .step = &step,
                              .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f}};
    report_bytes("adamw", "4 Mi", run(b, &call, OP_adamw, PASS_FWD), 32.0 * (double)n);
    arena_rewind(&b->arena, mark);
}

int main(void)
{
    Bench b = {0};
    Err err = {0};
    threads_set(0);
    if (!arena_open(&b.arena, 0, &err) || !backend_open_cpu(&b.backend, &err))
        return 1;
    printf("# %s, %s kernels, %d threads, peak of cached products %.1f GFLOP/s\n", os_cpu_name(),
           cpu_kernel_name(), threads_count(), cpu_peak_gflops());
    measure_peak(&b, 576, 1536);
    measure_peak(&b, 1536, 576);
    static const Dtype dtypes[] = {DTYPE_F32, DTYPE_Q4_1, DTYPE_Q8_0, DTYPE_F16};
    for (size_t i = 0; i < COUNT_OF(dtypes); i++)
        bench_linear(&b, dtypes[i], 576, 1536, 16);
    bench_linear(&b, DTYPE_Q4_1, 1536, 576, 16);
    bench_linear(&b, DTYPE_F32, 576, 1536, 0);
    static const Dtype stored[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1,
                                   DTYPE_Q8_0};
    for (size_t i = 0; i < COUNT_OF(stored); i++)
        bench_one_token(&b, stored[i]);
    bench_attention(&b, TOKENS);
    bench_attention(&b, 200);
    bench_cross_entropy(&b, DTYPE_Q8_0);
    bench_cross_entropy(&b, DTYPE_F32);
    bench_rows(&b);
    bench_update(&b);
    b.backend.close(&b.backend);
    arena_close(&b.arena);
    return 0;
}
