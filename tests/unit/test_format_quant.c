/* test_format_quant.c — the codecs against gguf.quants and numpy, and against the definitions.
 *
 * Golden bytes: golden/quant (see its README.md). The 16-bit floats are also checked for every one
 * of the 65,536 patterns against arithmetic done here in double.
 */
#include "test_support.h"

#include "format/quant.h"

#include <math.h>

#include "core/arena.h"
#include "core/quant_run.h"

static Arena arena;

static int open_arena(void **state)
{
    return arena_open(&arena, 0, NULL) ? 0 : 1;
}

static int close_arena(void **state)
{
    arena_close(&arena);
    return 0;
}

static Str golden(const char *name)
{
    return golden_file(&arena, "quant", name);
}

/* The value of a half by its definition. */
static double half_value(uint16_t half)
{
    const int exponent = (half >> 10) & 31;
    const int mantissa = half & 0x3ff;
    const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == 31)
        return mantissa != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, -24);
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

/* quant_run.h spells the same values once more: any bytes, any scales, bit for bit. */
static void test_runs_are_blocks(void **state)
{
    (void)state;
    static const struct {
        void (*whole)(const uint8_t *restrict block, float *restrict out);
        void (*run)(const uint8_t *restrict block, int run, float *restrict out);
        int bytes, elements;
    } types[] = {
#define TYPE(kind, KIND, elements) {qb_decode_##kind, qb_run_##kind, QB_##KIND##_BYTES, elements}
        TYPE(q4_0, Q4_0, QB_BLOCK), TYPE(q4_1, Q4_1, QB_BLOCK), TYPE(q5_0, Q5_0, QB_BLOCK),
        TYPE(q5_1, Q5_1, QB_BLOCK), TYPE(q8_0, Q8_0, QB_BLOCK), TYPE(iq4_nl, IQ4_NL, QB_BLOCK),
        TYPE(q2_k, Q2_K, QB_SUPER), TYPE(q3_k, Q3_K, QB_SUPER), TYPE(q4_k, Q4_K, QB_SUPER),
        TYPE(q5_k, Q5_K, QB_SUPER), TYPE(q6_k, Q6_K, QB_SUPER), TYPE(iq4_xs, IQ4_XS, QB_SUPER),
#undef TYPE
    };
    uint64_t x = 88172645463325252u; /* xorshift64 (Marsaglia 2003) */
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        for (int trial = 0; trial < 500; trial++) {
            uint8_t block[QB_Q6_K_BYTES];
            float whole[QB_SUPER], runs[QB_SUPER];
            for (size_t i = 0; i < sizeof block; i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                block[i] = (uint8_t)(x >> 32);
            }
            types[t].whole(block, whole);
            for (int run = 0; run < types[t].elements / QB_RUN; run++)
                types[t].run(block, run, runs + run * QB_RUN);
            for (int e = 0; e < types[t].elements; e++)
                assert_true(qb_bits(whole[e]) == qb_bits(runs[e]) ||
                            (isnan(whole[e]) && isnan(runs[e])));
        }
    }
}

static void test_every_half_decodes(void **state)
{
    for (uint32_t i = 0; i <= 0xffff; i++) {
        const uint16_t half = (uint16_t)i;
        const float value = qb_from_f16(half);
        const double expected = half_value(half);
        if (isnan(expected)) {
            assert_true(isnan(value));
            assert_int_equal(qb_to_f16(value), half | 0x200);
            continue;
        }
        assert_true((double)value == expected);
        assert_int_equal(signbit(value) != 0, half >> 15);
        assert_int_equal(qb_to_f16(value), half);
    }
}

/* Between two neighbouring halves: the tie goes to the even one, its neighbours to the nearer. */
static void test_halves_round_to_nearest_even(void **state)
{
    for (uint32_t i = 0; i < 0x7c00; i++) {
        const double low = half_value((uint16_t)i);
        const double high = i == 0x7bff ? 65536.0 : half_value((uint16_t)(i + 1));
        const float tie = (float)((low + high) / 2);
        assert_true((double)tie == (low + high) / 2);
        const uint16_t even = (uint16_t)(i + (i & 1));
        assert_int_equal(qb_to_f16(tie), even);
        assert_int_equal(qb_to_f16(-tie), even | 0x8000);
        assert_int_equal(qb_to_f16(nextafterf(tie, INFINITY)), i + 1);
        assert_int_equal(qb_to_f16(nextafterf(tie, 0.0f)), i);
    }
    assert_int_equal(qb_to_f16(INFINITY), 0x7c00);
    assert_int_equal(qb_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(qb_to_f16(3.4e38f), 0x7c00);
    assert_int_equal(qb_to_f16(1e-45f), 0);
    assert_int_equal(qb_to_f16(qb_float(0x7f800001)), 0x7e00);
    assert_int_equal(qb_to_f16(qb_float(0xffc02000)), 0xfe01);
}

static void test_every_bf16_both_ways(void **state)
{
    for (uint32_t i = 0; i <= 0xffff; i++) {
        const uint32_t bits = i << 16;
        const float value = qb_from_bf16((uint16_t)i);
        assert_int_equal(qb_bits(value), bits);
        if (isnan(value)) {
            assert_int_equal(qb_to_bf16(value), i | 0x40);
            continue;
        }
        assert_int_equal(qb_to_bf16(value), i);
        if ((i & 0x7fff) >= 0x7f80)
            continue;
        assert_int_equal(qb_to_bf16(qb_float(bits | 0x7fff)), i);
        assert_int_equal(qb_to_bf16(qb_float(bits | 0x8000)), i + (i & 1));
        assert_int_equal(qb_to_bf16(qb_float(bits | 0x8001)), i + 1);
    }
    assert_int_equal(qb_to_bf16(qb_float(0x7f800001)), 0x7fc0);
}

static void test_blocks_decode_as_gguf_py(void **state)
{
    static const struct {
        Dtype dtype;
        const char *name;
    } cases[] = {
        {DTYPE_Q4_0, "q4_0"}, {DTYPE_Q4_1, "q4_1"}, {DTYPE_Q5_0, "q5_0"}, {DTYPE_Q5_1, "q5_1"},
        {DTYPE_Q8_0, "q8_0"}, {DTYPE_Q2_K, "q2_k"}, {DTYPE_Q3_K, "q3_k"}, {DTYPE_Q4_K, "q4_k"},
        {DTYPE_Q5_K, "q5_k"}, {DTYPE_Q6_K, "q6_k"}, {DTYPE_IQ4_NL, "iq4_nl"},
        {DTYPE_IQ4_XS, "iq4_xs"},
    };
    for (size_t c = 0; c < COUNT_OF(cases); c++) {
        const Str blocks = golden(arena_printf(&arena, "blocks.%s", cases[c].name));
        const Str expected = golden(arena_printf(&arena, "blocks.%s.f32", cases[c].name));
        const int64_t count = (int64_t)(expected.len / sizeof(float));
        assert_int_equal(count, dtype_info(cases[c].dtype)->block == 32 ? 64 * 32 : 8 * 256);
        assert_int_equal(blocks.len, dtype_row_bytes(cases[c].dtype, count));
        float *got = arena_push(&arena, expected.len);
        quant_decode_row(cases[c].dtype, blocks.data, got, count);
        assert_memory_equal(got, expected.data, expected.len);
        /* the same from an odd address */
        char *shifted = arena_push(&arena, blocks.len + 1);
        memcpy(shifted + 1, blocks.data, blocks.len);
        memset(got, 0, expected.len);
        quant_decode_row(cases[c].dtype, shifted + 1, got, count);
        assert_memory_equal(got, expected.data, expected.len);
    }
}

static void test_rows_encode_as_gguf_py(void **state)
{
    static const struct {
        Dtype dtype;
        const char *name;
    } cases[] = {
        {DTYPE_F16, "expected.f16"}, {DTYPE_BF16, "expected.bf16"}, {DTYPE_Q8_0, "expected.q8_0"}};
    const Str input = golden("input.f32");
    const int64_t count = (int64_t)(input.len / sizeof(float));
    for (size_t c = 0; c < COUNT_OF(cases); c++) {
        const Str expected = golden(cases[c].name);
        assert_int_equal(expected.len, dtype_row_bytes(cases[c].dtype, count));
        uint8_t *got = arena_push(&arena, expected.len);
        quant_encode_row(cases[c].dtype, (const float *)(const void *)input.data, got, count);
        assert_memory_equal(got, expected.data, expected.len);
    }
}

static void test_rows_of_any_length(void **state)
{
    const float source[40] = {1.0f, -2.5f, 65504.0f, 1e-7f, [35] = 3.0f, [39] = -0.125f};
    static const Dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t c = 0; c < COUNT_OF(dtypes); c++) {
        for (int64_t cols = 0; cols <= 40; cols++) {
            uint8_t bytes[40 * 4 + 1];
            float whole[40];
            float back[41];
            memset(bytes, 0xaa, sizeof bytes);
            back[cols] = 77.0f;
            quant_encode_row(dtypes[c], source, bytes, cols);
            assert_int_equal(bytes[dtype_row_bytes(dtypes[c], cols)], 0xaa);
            quant_decode_row(dtypes[c], bytes, back, cols);
            assert_true(back[cols] == 77.0f);
            for (int64_t i = 0; i < cols; i++)
                whole[i] = dtypes[c] == DTYPE_F32   ? source[i]
                           : dtypes[c] == DTYPE_F16 ? qb_from_f16(qb_to_f16(source[i]))
                                                    : qb_from_bf16(qb_to_bf16(source[i]));
            assert_memory_equal(back, whole, (size_t)cols * sizeof *back);
        }
    }
    const int32_t ids[3] = {-7, 0, 123456};
    float numbers[3];
    quant_decode_row(DTYPE_I32, ids, numbers, 3);
    assert_true(numbers[0] == -7.0f && numbers[1] == 0.0f && numbers[2] == 123456.0f);
}

/* Values that no sound model has: they must neither trap nor hide. */
static void test_q8_0_of_broken_values(void **state)
{
    float row[32] = {1.0f, NAN, 2.0f};
    uint8_t block[QB_Q8_0_BYTES];
    float back[32];
    quant_encode_row(DTYPE_Q8_0, row, block, 32);
    quant_decode_row(DTYPE_Q8_0, block, back, 32);
    assert_true(isnan(back[0]) && isnan(back[31]));
    row[1] = -INFINITY;
    quant_encode_row(DTYPE_Q8_0, row, block, 32);
    assert_int_equal(qb_load16(block), 0x7c00);
    /* so small that 1/d is infinite */
    const float tiny[32] = {1e-44f, -1e-44f, 1e-45f};
    const uint8_t zeros[QB_Q8_0_BYTES] = {0};
    quant_encode_row(DTYPE_Q8_0, tiny, block, 32);
    assert_memory_equal(block, zeros, sizeof zeros);
}

static void test_which_types_encode(void **state)
{
    assert_true(quant_can_encode(DTYPE_F32) && quant_can_encode(DTYPE_F16));
    assert_true(quant_can_encode(DTYPE_BF16) && quant_can_encode(DTYPE_Q8_0));
    assert_true(quant_can_encode(DTYPE_Q4_0) && quant_can_encode(DTYPE_IQ4_XS));
    assert_false(quant_can_encode(DTYPE_I32));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_decodes),
        cmocka_unit_test(test_runs_are_blocks),
        cmocka_unit_test(test_halves_round_to_nearest_even),
        cmocka_unit_test(test_every_bf16_both_ways),
        cmocka_unit_test(test_blocks_decode_as_gguf_py),
        cmocka_unit_test(test_rows_encode_as_gguf_py),
        cmocka_unit_test(test_rows_of_any_length),
        cmocka_unit_test(test_q8_0_of_broken_values),
        cmocka_unit_test(test_which_types_encode),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
