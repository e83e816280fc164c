/* test_format_encode.c — the block encoders against ggml's own bytes (golden/encode, see its
 * README.md), on every instruction set that this processor has, with and without importance.
 */
#include "test_support.h"

#include "format/quant.h"

#include <math.h>

#include "core/arena.h"
#include "core/quant_block.h"
#include "format/quant_encode.h"

static Arena arena;

static const Dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0,   DTYPE_Q5_1,
                              DTYPE_Q8_0, DTYPE_Q2_K, DTYPE_Q3_K,   DTYPE_Q4_K,
                              DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS};
static const char *const tables[] = {"generic", "avx2", "avx512"};
enum { COLS = 768 };

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
    return golden_file(&arena, "encode", name);
}

static float mean_square(const float *row)
{
    float sum = 0;
    for (int i = 0; i < COLS; i++)
        sum += row[i] * row[i];
    return sum / COLS;
}

static void compare(const EncodeKernels *kernels, Dtype dtype, const float *importance)
{
    const char *name = dtype_info(dtype)->name;
    const Str input = golden("input.f32");
    const Str expected =
        golden(arena_printf(&arena, "expected.%s%s", name, importance != NULL ? ".weighed" : ""));
    const size_t row_bytes = dtype_row_bytes(dtype, COLS);
    const int64_t rows = (int64_t)(input.len / (COLS * sizeof(float)));
    const size_t block_bytes = (size_t)dtype_info(dtype)->block_bytes;
    assert_int_equal(expected.len, (size_t)rows * row_bytes);
    int bad = 0;
    for (int64_t r = 0; r < rows; r++) {
        const float *row = (const float *)(const void *)input.data + r * COLS;
        uint8_t *got = arena_push(&arena, row_bytes);
        memset(got, 0x5a, row_bytes);
        kernels->encode(&(EncodeCall){.dtype = dtype, .src = row, .dst = got, .n = COLS,
                                      .importance = importance,
                                      .mean_square = mean_square(row)});
        const char *want = expected.data + (size_t)r * row_bytes;
        for (size_t b = 0; b < row_bytes; b += block_bytes) {
            if (memcmp(got + b, want + b, block_bytes) == 0)
                continue;
            print_message("%s %s%s: row %d, block %d differs\n", kernels->name, name,
                          importance != NULL ? " weighed" : "", (int)r, (int)(b / block_bytes));
            bad++;
        }
    }
    if (bad > 0)
        fail_msg("%s: %d blocks differ", name, bad);
}

static void test_bytes_are_ggmls(void **state)
{
    const Str weights = golden("importance.f32");
    const float *importance = (const float *)(const void *)weights.data;
    int tried = 0;
    assert_int_equal(weights.len, COLS * sizeof(float));
    for (size_t k = 0; k < COUNT_OF(tables); k++) {
        const EncodeKernels *kernels = quant_encode_named(tables[k]);
        if (kernels == NULL)
            continue;
        assert_string_equal(kernels->name, tables[k]);
        for (size_t t = 0; t < COUNT_OF(types); t++) {
            compare(kernels, types[t], NULL);
            if (types[t] != DTYPE_Q8_0)
                compare(kernels, types[t], importance);
        }
        tried++;
    }
    assert_true(tried >= 1);
}

/* All rows at once are the rows one by one, from any address; Q8_0 heeds no importance. */
static void test_rows_are_independent(void **state)
{
    const Str input = golden("input.f32"), weights = golden("importance.f32");
    const float *importance = (const float *)(const void *)weights.data;
    const int64_t rows = (int64_t)(input.len / (COLS * sizeof(float)));
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const char *name = dtype_info(types[t])->name;
        const Str plain = golden(arena_printf(&arena, "expected.%s", name));
        const bool weighed = types[t] != DTYPE_Q8_0;
        const Str other =
            weighed ? golden(arena_printf(&arena, "expected.%s.weighed", name)) : plain;
        char *from = arena_push(&arena, input.len + 4);
        uint8_t *got = arena_push(&arena, plain.len + 1);
        memcpy(from + 4, input.data, input.len);
        const float *src = (const float *)(const void *)(from + 4);
        quant_encode_rows(types[t], src, got + 1, rows, COLS, NULL);
        assert_memory_equal(got + 1, plain.data, plain.len);
        quant_encode_rows(types[t], src, got + 1, rows, COLS, importance);
        assert_memory_equal(got + 1, other.data, plain.len);
    }
}

/* Numbers that no model should hold write blocks, not past them. */
static void test_broken_values_stay_in_their_block(void **state)
{
    float row[COLS];
    for (int i = 0; i < COLS; i++)
        row[i] = i % 5 == 0 ? NAN : i % 5 == 1 ? INFINITY : i % 5 == 2 ? -3e38f : 1e-44f;
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        const size_t bytes = dtype_row_bytes(types[t], COLS);
        uint8_t *got = arena_push(&arena, bytes + 1);
        got[bytes] = 0x77;
        quant_encode_rows(types[t], row, got, 1, COLS, NULL);
        quant_encode_rows(types[t], row, got, 1, COLS, row);
        assert_int_equal(got[bytes], 0x77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_ggmls),
        cmocka_unit_test(test_rows_are_independent),
        cmocka_unit_test(test_broken_values_stay_in_their_block),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
