/* gpu_ops.c — every op on the CUDA backend against the reference in double, with the tolerances of
 * tests/ops, and twice: the same bits. The shapes are those that kernels tile: ragged ends, several
 * tiles, grouped heads, packed spans, every stored dtype. Widths are multiples of 8, as everywhere
 * on this backend. Prints a line a case that fails, then a count; exit code 1 when one failed.
 */
#include "compute/cuda_loader.h"
#include "ops/op_cases.h"

#include <stdio.h>
#include <string.h>

#define LORA (WANT_DX | WANT_LOWRANK)
#define ALL (WANT_DX | WANT_LOWRANK | WANT_DW | WANT_DBIAS | WITH_BIAS)

const OpCase op_cases[] = {
    {.name = "embed bf16", .op = OP_embed, .T = 300, .C = 72, .N = 30, .dtype = DTYPE_BF16,
     .variant = 1, .flags = WANT_DW | STRIDED},
    {.name = "embed f16", .op = OP_embed, .T = 40, .C = 576, .N = 30, .dtype = DTYPE_F16,
     .flags = WANT_DW},
    {.name = "embed f32", .op = OP_embed, .T = 9, .C = 64, .N = 7, .dtype = DTYPE_F32,
     .flags = FORWARD_ONLY},
    {.name = "embed q4_0", .op = OP_embed, .T = 33, .C = 96, .N = 11, .dtype = DTYPE_Q4_0,
     .flags = FORWARD_ONLY},
    {.name = "embed q4_1", .op = OP_embed, .T = 33, .C = 160, .N = 11, .dtype = DTYPE_Q4_1,
     .flags = FORWARD_ONLY},
    {.name = "embed q8_0", .op = OP_embed, .T = 33, .C = 64, .N = 50, .dtype = DTYPE_Q8_0,
     .flags = FORWARD_ONLY},

    {.name = "rmsnorm", .op = OP_rmsnorm, .T = 3, .C = 16, .flags = WANT_DX | WANT_DW},
    {.name = "rmsnorm 576 delta", .op = OP_rmsnorm, .T = 130, .C = 576, .variant = 1,
     .flags = WITH_DELTA | WANT_DX | WANT_DW | STRIDED},
    {.name = "rmsnorm 896", .op = OP_rmsnorm, .T = 65, .C = 896, .variant = 1,
     .flags = WITH_DELTA | WANT_DX},
    {.name = "rmsnorm 4096 in place", .op = OP_rmsnorm, .T = 33, .C = 4096,
     .flags = WITH_DELTA | IN_PLACE | WANT_DX},
    {.name = "rmsnorm 8192", .op = OP_rmsnorm, .T = 9, .C = 8192, .variant = 1,
     .flags = WITH_DELTA | WANT_DX | WANT_DW},
    {.name = "rmsnorm 16384", .op = OP_rmsnorm, .T = 3, .C = 16384, .flags = WANT_DX},
    {.name = "rmsnorm one row", .op = OP_rmsnorm, .T = 1, .C = 576,
     .flags = FORWARD_ONLY | NO_RSTD},
    {.name = "rmsnorm only dw", .op = OP_rmsnorm, .T = 256, .C = 40, .flags = WANT_DW},

    {.name = "linear plain", .op = OP_linear, .T = 64, .C = 96, .N = 64, .parts = 1,
     .dtype = DTYPE_BF16, .flags = WANT_DX},
    {.name = "linear one token", .op = OP_linear, .T = 1, .C = 64, .N = 40, .parts = 1, .rank = 8,
     .dtype = DTYPE_BF16, .flags = LORA},
    {.name = "linear bf16", .op = OP_linear, .T = 130, .C = 576, .N = 192, .parts = 1, .rank = 16,
     .dtype = DTYPE_BF16, .flags = LORA | STRIDED},
    {.name = "linear qkv", .op = OP_linear, .T = 300, .C = 320, .N = 192, .parts = 3, .rank = 16,
     .dtype = DTYPE_BF16, .flags = LORA | WITH_BIAS | EVEN_PARTS},
    {.name = "linear gate up", .op = OP_linear, .T = 257, .C = 192, .N = 512, .parts = 2,
     .rank = 8, .dtype = DTYPE_F16, .flags = LORA | EVEN_PARTS | STRIDED},
    {.name = "linear r 64 by part", .op = OP_linear, .T = 200, .C = 256, .N = 256, .parts = 3,
     .rank = 64, .dtype = DTYPE_BF16, .flags = LORA | EVEN_PARTS},
    {.name = "linear r 4", .op = OP_linear, .T = 96, .C = 64, .N = 64, .parts = 3, .rank = 4,
     .dtype = DTYPE_BF16, .flags = LORA | EVEN_PARTS},
    {.name = "linear odd ranks", .op = OP_linear, .T = 96, .C = 64, .N = 90, .parts = 2, .rank = 3,
     .dtype = DTYPE_BF16, .flags = LORA},
    {.name = "linear bare part", .op = OP_linear, .T = 96, .C = 128, .N = 64, .parts = 3,
     .rank = 16, .dtype = DTYPE_BF16, .flags = LORA | BARE_PART | EVEN_PARTS},
    {.name = "linear everything", .op = OP_linear, .T = 200, .C = 64, .N = 96, .parts = 3,
     .rank = 8, .dtype = DTYPE_BF16, .flags = ALL | EVEN_PARTS},
    {.name = "linear q4_0", .op = OP_linear, .T = 64, .C = 96, .N = 64, .parts = 1, .rank = 16,
     .dtype = DTYPE_Q4_0, .flags = LORA},
    {.name = "linear q8_0", .op = OP_linear, .T = 64, .C = 288, .N = 64, .parts = 1, .rank = 16,
     .dtype = DTYPE_Q8_0, .flags = LORA},
    {.name = "linear thin", .op = OP_linear, .T = 300, .C = 536, .N = 1200, .parts = 3, .rank = 16,
     .dtype = DTYPE_BF16, .flags = LORA | EVEN_PARTS},
    {.name = "linear thin one", .op = OP_linear, .T = 333, .C = 72, .N = 1544, .parts = 1,
     .rank = 32, .dtype = DTYPE_BF16, .flags = LORA | STRIDED},
    {.name = "linear thin gap", .op = OP_linear, .T = 64, .C = 520, .N = 528, .parts = 3,
     .rank = 8, .dtype = DTYPE_BF16, .flags = LORA | EVEN_PARTS | BARE_PART},
    {.name = "linear no dx", .op = OP_linear, .T = 64, .C = 64, .N = 32, .parts = 2, .rank = 4,
     .dtype = DTYPE_BF16, .flags = WANT_LOWRANK | EVEN_PARTS},

    {.name = "rope halves", .op = OP_rope, .T = 70, .N = 90, .heads = 4, .kv_heads = 2,
     .head_dim = 64, .rot = 64, .variant = ROPE_HALVES, .flags = WANT_DX | STRIDED},
    {.name = "rope interleaved", .op = OP_rope, .T = 70, .N = 90, .heads = 9, .kv_heads = 3,
     .head_dim = 64, .rot = 64, .variant = ROPE_INTERLEAVED, .flags = WANT_DX},
    {.name = "rope 128", .op = OP_rope, .T = 33, .N = 64, .heads = 3, .kv_heads = 3,
     .head_dim = 128, .rot = 128, .variant = ROPE_HALVES, .flags = WANT_DX},
    {.name = "rope partial", .op = OP_rope, .T = 17, .N = 30, .heads = 2, .kv_heads = 1,
     .head_dim = 16, .rot = 12, .variant = ROPE_HALVES, .flags = WANT_DX | ONLY_HALF},
    {.name = "rope partial pairs", .op = OP_rope, .T = 17, .N = 30, .heads = 2, .kv_heads = 1,
     .head_dim = 24, .rot = 12, .variant = ROPE_INTERLEAVED, .flags = WANT_DX},

    {.name = "attention 16", .op = OP_attention, .T = 330, .N = 330, .heads = 3, .kv_heads = 1,
     .head_dim = 16, .variant = SPANS_CAUSAL, .flags = WANT_DX},
    {.name = "attention 32 packed", .op = OP_attention, .T = 500, .N = 500, .heads = 4,
     .kv_heads = 2, .head_dim = 32, .variant = SPANS_PACKED, .flags = WANT_DX | STRIDED},
    {.name = "attention 64", .op = OP_attention, .T = 530, .N = 530, .heads = 3, .kv_heads = 1,
     .head_dim = 64, .variant = SPANS_CAUSAL, .flags = WANT_DX},
    {.name = "attention 64 packed", .op = OP_attention, .T = 500, .N = 500, .heads = 4,
     .kv_heads = 2, .head_dim = 64, .variant = SPANS_PACKED, .flags = WANT_DX | STRIDED},
    {.name = "attention 64 window", .op = OP_attention, .T = 400, .N = 400, .heads = 2,
     .kv_heads = 2, .head_dim = 64, .variant = SPANS_WINDOW, .flags = WANT_DX},
    {.name = "attention 128", .op = OP_attention, .T = 401, .N = 401, .heads = 4, .kv_heads = 1,
     .head_dim = 128, .variant = SPANS_CAUSAL, .flags = WANT_DX},
    {.name = "attention 128 packed", .op = OP_attention, .T = 440, .N = 440, .heads = 2,
     .kv_heads = 2, .head_dim = 128, .variant = SPANS_PACKED, .flags = WANT_DX | STRIDED},
    {.name = "attention 128 window", .op = OP_attention, .T = 300, .N = 300, .heads = 2,
     .kv_heads = 1, .head_dim = 128, .variant = SPANS_WINDOW, .flags = WANT_DX},
    {.name = "attention 80", .op = OP_attention, .T = 270, .N = 270, .heads = 4, .kv_heads = 2,
     .head_dim = 80, .variant = SPANS_CAUSAL, .flags = WANT_DX},
    {.name = "attention 256", .op = OP_attention, .T = 201, .N = 201, .heads = 4, .kv_heads = 1,
     .head_dim = 256, .variant = SPANS_CAUSAL, .flags = WANT_DX},
    {.name = "attention 256 packed", .op = OP_attention, .T = 240, .N = 240, .heads = 2,
     .kv_heads = 2, .head_dim = 256, .variant = SPANS_PACKED, .flags = WANT_DX | STRIDED},
    {.name = "attention 256 window", .op = OP_attention, .T = 200, .N = 200, .heads = 2,
     .kv_heads = 1, .head_dim = 256, .variant = SPANS_WINDOW, .flags = WANT_DX},
    {.name = "attention 256 cache", .op = OP_attention, .T = 1, .N = 300, .heads = 4,
     .kv_heads = 1, .head_dim = 256, .variant = SPANS_CACHE, .flags = FORWARD_ONLY | NO_RSTD},
    {.name = "attention empty tail 64", .op = OP_attention, .T = 300, .N = 300, .heads = 3,
     .kv_heads = 3, .head_dim = 64, .variant = SPANS_EMPTY_TAIL, .flags = WANT_DX},
    {.name = "attention empty tail 128", .op = OP_attention, .T = 300, .N = 300, .heads = 2,
     .kv_heads = 1, .head_dim = 128, .variant = SPANS_EMPTY_TAIL, .flags = WANT_DX},
    {.name = "attention only dk", .op = OP_attention, .T = 140, .N = 140, .heads = 2,
     .kv_heads = 1, .head_dim = 64, .variant = SPANS_CAUSAL, .flags = ONLY_HALF},
    {.name = "attention one token", .op = OP_attention, .T = 1, .N = 1, .heads = 2, .kv_heads = 1,
     .head_dim = 64, .variant = SPANS_CAUSAL, .flags = WANT_DX},
    {.name = "attention full", .op = OP_attention, .T = 150, .N = 300, .heads = 2, .kv_heads = 1,
     .head_dim = 128, .variant = SPANS_FULL, .flags = FORWARD_ONLY},
    {.name = "attention cache", .op = OP_attention, .T = 1, .N = 600, .heads = 9, .kv_heads = 3,
     .head_dim = 64, .variant = SPANS_CACHE, .flags = FORWARD_ONLY | NO_RSTD},
    {.name = "attention cache chunk", .op = OP_attention, .T = 5, .N = 300, .heads = 4,
     .kv_heads = 4, .head_dim = 128, .variant = SPANS_CACHE, .flags = FORWARD_ONLY | STRIDED},

    {.name = "silu", .op = OP_glu, .T = 33, .C = 1536, .variant = ACT_SILU, .flags = WANT_DX},
    {.name = "gelu", .op = OP_glu, .T = 3, .C = 72, .variant = ACT_GELU_TANH, .flags = WANT_DX},
    {.name = "silu in place", .op = OP_glu, .T = 70, .C = 104, .variant = ACT_SILU,
     .flags = WANT_DX | IN_PLACE | STRIDED},
    {.name = "silu without dup", .op = OP_glu, .T = 4, .C = 32, .variant = ACT_SILU,
     .flags = ONLY_HALF},

    {.name = "loss", .op = OP_cross_entropy, .T = 70, .C = 64, .N = 333, .dtype = DTYPE_BF16,
     .variant = 55, .flags = WANT_DX | WANT_DW},
    {.name = "loss only", .op = OP_cross_entropy, .T = 20, .C = 16, .N = 50, .dtype = DTYPE_F32,
     .variant = 20, .flags = 0},
    {.name = "loss no rows", .op = OP_cross_entropy, .T = 20, .C = 16, .N = 56,
     .dtype = DTYPE_BF16, .variant = 0, .flags = WANT_DX},
    {.name = "loss strided", .op = OP_cross_entropy, .T = 400, .C = 64, .N = 777,
     .dtype = DTYPE_BF16, .variant = 330, .flags = WANT_DX | STRIDED},
    {.name = "loss f32 head", .op = OP_cross_entropy, .T = 100, .C = 64, .N = 512,
     .dtype = DTYPE_F32, .variant = 99, .flags = WANT_DX},

    {.name = "loss wide", .op = OP_cross_entropy, .T = 12, .C = 16, .N = 131072,
     .dtype = DTYPE_BF16, .variant = 9, .flags = WANT_DX},

    {.name = "copy rows", .op = OP_copy_rows, .T = 6, .C = 192, .N = 20,
     .flags = FORWARD_ONLY | STRIDED},
    {.name = "sum of squares", .op = OP_sum_squares, .N = 200003, .flags = FORWARD_ONLY},
    {.name = "sum of squares of 1", .op = OP_sum_squares, .N = 1, .flags = FORWARD_ONLY},
    {.name = "adamw first step", .op = OP_adamw, .N = 37, .T = 1, .flags = FORWARD_ONLY},
    {.name = "adamw clipped", .op = OP_adamw, .N = 9001, .T = 7, .variant = 1,
     .flags = FORWARD_ONLY},
    {.name = "adamw not clipped", .op = OP_adamw, .N = 4096, .T = 1000, .variant = 1,
     .flags = FORWARD_ONLY | ONLY_HALF},
};
const int op_case_count = COUNT_OF(op_cases);

static int run_case(const OpCase *c, Backend *backend, Arena *arena, Arena *slab, uint64_t *result)
{
    const size_t mark = arena_mark(arena);
    OpTest *test = op_make(arena, c, &backend->traits);
    int bad = 0;
    if (!op_run(test, backend, slab)) {
        fprintf(stderr, "%s: device error, or wrote behind its scratch\n", c->name);
        bad++;
    }
    const uint64_t bits = op_bits(test);
    *result = bits;
    bad += op_check(test, "cuda");
    if (!op_run(test, backend, slab) || op_bits(test) != bits) {
        fprintf(stderr, "%s: two runs differ\n", c->name);
        bad++;
    }
    arena_rewind(arena, mark);
    return bad;
}

/* The shared cases are small; this head is taken in two slices (cuda_traits.c). */
static const OpCase large_head = {.name = "loss sliced head", .op = OP_cross_entropy, .T = 8,
                                  .C = 1024, .N = 168000, .dtype = DTYPE_Q8_0, .variant = 6,
                                  .flags = WANT_DX | SMALL_LOGITS};
static const size_t SLAB_BYTES = (size_t)2 << 30;

typedef struct Tally {
    int run, failed;
} Tally;

/* Weights of packed types both ways, which give the same bits. */
static void run_ways(const OpCase *c, Backend *backend, Arena *arena, Arena *slab, Tally *tally)
{
    const int ways = dtype_is_plain(c->dtype) ? 1 : 2;
    uint64_t bits[2];
    for (int way = 0; way < ways; way++) {
        backend->traits.weights = (WeightStorage)way;
        tally->run++;
        if (run_case(c, backend, arena, slab, &bits[way]) != 0 || bits[way] != bits[0]) {
            fprintf(stderr, "FAILED %s%s\n", c->name, way > 0 ? ", packed" : "");
            tally->failed++;
        }
    }
}

int main(int argc, char **argv)
{
    Err err = {0};
    Backend backend;
    Arena arena, slab;
    if (!backend_open_cuda(&backend, 0, &err)) {
        fprintf(stderr, "%s\n%s\n", err.message, err_hint_text(&err));
        return 77;
    }
    if (!arena_open(&arena, 0, &err) ||
        !backend.slab_open(&backend, &slab, SLAB_BYTES, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    Tally tally = {0};
    for (int i = 0; i < op_case_count; i++)
        if (argc == 1 || strstr(op_cases[i].name, argv[1]) != NULL)
            run_ways(&op_cases[i], &backend, &arena, &slab, &tally);
    if (argc == 1 || strstr(large_head.name, argv[1]) != NULL)
        run_ways(&large_head, &backend, &arena, &slab, &tally);
    fprintf(stderr, "%d cases, %d failed, largest error %.2f of what is allowed\n", tally.run,
            tally.failed, op_worst());
    backend.slab_close(&backend, &slab);
    backend.close(&backend);
    arena_close(&arena);
    return tally.failed != 0;
}
