/* test_format_real_model.c — a real model's weights: our reader and decoders against gguf-py's.
 *
 * golden/gguf/smollm2_sums.txt holds, per tensor of SmolLM2-135M-Instruct (Q4_1), its type, sums in
 * double and last element after gguf.quants.dequantize. The model is not part of the sources: its
 * path comes from BP_TEST_MODEL or from .cache/models/, and without it the test is skipped.
 */
#include "format/gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/os.h"
#include "format/quant.h"

static const char *find_model(Arena *arena)
{
    const char *given = os_env("BP_TEST_MODEL");
    if (given != NULL)
        return given;
    const char *folder = TEST_DATA "/../.cache/models";
    const char **names;
    size_t count;
    if (!folder_list(folder, arena, &names, &count))
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (str_starts(str_of(names[i]), "SmolLM2-135M-Instruct") &&
            str_ends(str_of(names[i]), "Q4_1.gguf"))
            return path_join(arena, folder, names[i]);
    }
    return NULL;
}

typedef struct Sums {
    double sum, magnitude;
    float last;
} Sums;

static Sums sums_of(const GgufTensor *tensor, Arena *arena)
{
    const size_t mark = arena_mark(arena);
    const int64_t cols = tensor->ne[0];
    const size_t row_bytes = dtype_row_bytes(tensor->dtype, cols);
    float *row = arena_push(arena, (size_t)cols * sizeof *row);
    const uint8_t *end = (const uint8_t *)tensor->data + tensor->bytes;
    Sums sums = {0};
    for (const uint8_t *at = tensor->data; at < end; at += row_bytes) {
        quant_decode_row(tensor->dtype, at, row, cols);
        for (int64_t i = 0; i < cols; i++) {
            sums.sum += (double)row[i];
            sums.magnitude += fabs((double)row[i]);
        }
        sums.last = row[cols - 1];
    }
    arena_rewind(arena, mark);
    return sums;
}

/* One line of the table: name type sum magnitude last ne… */
static void check_line(const Gguf *gguf, const char *line, Arena *arena)
{
    char name[64];
    char type[16];
    double sum, magnitude, last;
    int used = 0;
    assert_int_equal(
        sscanf(line, "%63s %15s %lf %lf %lf%n", name, type, &sum, &magnitude, &last, &used), 5);
    const GgufTensor *tensor = gguf_tensor(gguf, name);
    assert_non_null(tensor);
    assert_string_equal(dtype_info(tensor->dtype)->name, type);
    const char *rest = line + used;
    for (int d = 0; d < tensor->n_dims; d++) {
        char *next;
        assert_int_equal(strtoll(rest, &next, 10), tensor->ne[d]);
        rest = next;
    }
    const Sums got = sums_of(tensor, arena);
    /* Both add the same values in double, in another order. */
    const double tolerance = 1e-11 * magnitude;
    if (fabs(got.sum - sum) > tolerance || fabs(got.magnitude - magnitude) > tolerance ||
        (double)got.last != last)
        fail_msg("%s: sum %.17g, expected %.17g", name, got.sum, sum);
}

static void test_sums_equal_gguf_py(void **state)
{
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    const char *path = find_model(&arena);
    if (path == NULL) {
        print_message("skipped: no model in BP_TEST_MODEL or .cache/models\n");
        arena_close(&arena);
        skip();
    }
    Str table;
    Gguf gguf;
    if (!file_read(TEST_DATA "/golden/gguf/smollm2_sums.txt", 1 << 20, &arena, &table,
                   ERR_RUNTIME_IO_FAILED, &err) ||
        !gguf_open(&gguf, path, &arena, &err))
        fail_msg("%s", err.message);
    size_t lines = 0;
    for (size_t at = 0; at < table.len; lines++) {
        const char *end = memchr(table.data + at, '\n', table.len - at);
        assert_non_null(end);
        const size_t len = (size_t)(end - (table.data + at));
        check_line(&gguf, arena_strndup(&arena, table.data + at, len), &arena);
        at += len + 1;
    }
    assert_int_equal(lines, gguf.n_tensors);
    assert_int_equal(lines, 272);
    gguf_close(&gguf);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums_equal_gguf_py)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
