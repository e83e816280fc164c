/* test_format_gguf_write.c — our GGUF writer against the Python package's, byte for byte.
 *
 * golden/gguf/small.gguf was written by gguf-py. Read and written again it must have the same
 * bytes; the same with another alignment. The copy stays in the build folder for
 * golden/gguf/make.py --verify.
 */
#include "format/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

static Str read_all(const char *path)
{
    Err err = {0};
    Str bytes;
    if (!file_read(path, 1 << 20, &arena, &bytes, ERR_RUNTIME_IO_FAILED, &err))
        fail_msg("%s", err.message);
    return bytes;
}

/* Reads `from`, writes it to `to`, data in pieces of `piece` bytes that cross tensor ends. */
static void copy_file(const char *from, const char *to, size_t piece)
{
    Err err = {0};
    Gguf gguf;
    if (!gguf_open(&gguf, from, &arena, &err))
        fail_msg("%s", err.message);
    GgufWriter *w = gguf_writer_open(to, &err);
    assert_non_null(w);
    for (uint64_t i = 0; i < gguf.n_values; i++)
        gguf_put_copy(w, &gguf.values[i]);
    Buf data = {0};
    for (uint64_t i = 0; i < gguf.n_tensors; i++) {
        const GgufTensor *tensor = &gguf.tensors[i];
        gguf_add_tensor(w, tensor->name, tensor->dtype, tensor->n_dims, tensor->ne);
        buf_append(&data, tensor->data, tensor->bytes);
    }
    gguf_writer_begin_data(w);
    for (size_t at = 0; at < data.len; at += piece)
        gguf_write_data(w, data.data + at, data.len - at < piece ? data.len - at : piece);
    buf_free(&data);
    if (!gguf_writer_commit(w, &err))
        fail_msg("%s", err.message);
    gguf_close(&gguf);
}

static void test_copies_have_equal_bytes(void **state)
{
    static const char *const files[] = {TEST_DATA "/golden/gguf/small.gguf",
                                        TEST_DATA "/golden/gguf/aligned.gguf"};
    static const size_t pieces[] = {1, 100, 1 << 20};
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        const Str expected = read_all(files[f]);
        for (size_t p = 0; p < COUNT_OF(pieces); p++) {
            copy_file(files[f], "format_gguf_copy.gguf", pieces[p]);
            const Str got = read_all("format_gguf_copy.gguf");
            assert_int_equal(got.len, expected.len);
            assert_memory_equal(got.data, expected.data, expected.len);
        }
    }
    copy_file(files[0], "format_gguf_written.gguf", 4096);
}

/* The typed calls write what gguf_read reads back. */
static void test_every_put_reads_back(void **state)
{
    Err err = {0};
    GgufWriter *w = gguf_writer_open("format_gguf_puts.gguf", &err);
    assert_non_null(w);
    const Str strs[3] = {STR("a"), STR(""), STR("b\0c")};
    const int32_t ints[2] = {-1, 1 << 30};
    const float floats[3] = {0.1f, -1e30f, 0.0f};
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_u32(w, "general.alignment", 128);
    gguf_put_u32(w, "u", 4294967295u);
    gguf_put_f32(w, "f", 0.1f);
    gguf_put_bool(w, "yes", true);
    gguf_put_bool(w, "no", false);
    gguf_put_strs(w, "strs", strs, 3);
    gguf_put_strs(w, "none", NULL, 0);
    gguf_put_i32s(w, "ints", ints, 2);
    gguf_put_f32s(w, "floats", floats, 3);
    gguf_add_tensor(w, "x", DTYPE_F32, 1, (const int64_t[]){3});
    gguf_add_tensor(w, "y", DTYPE_F32, 2, (const int64_t[]){1, 2});
    gguf_writer_begin_data(w);
    gguf_write_data(w, floats, sizeof floats);
    gguf_write_data(w, floats, 2 * sizeof *floats);
    if (!gguf_writer_commit(w, &err))
        fail_msg("%s", err.message);

    Gguf gguf;
    if (!gguf_open(&gguf, "format_gguf_puts.gguf", &arena, &err))
        fail_msg("%s", err.message);
    assert_int_equal(gguf.version, 3);
    assert_int_equal(gguf.alignment, 128);
    assert_int_equal(gguf.map.size % 128, 0);
    assert_true(str_eq_text(gguf_str(&gguf, "general.architecture"), "llama"));
    assert_int_equal(gguf_int(&gguf, "u", 0), 4294967295);
    assert_true(gguf_float(&gguf, "f", 0.0) == (double)0.1f);
    assert_true(gguf_bool(&gguf, "yes", false) && !gguf_bool(&gguf, "no", true));
    const GgufValue *list = gguf_find(&gguf, "strs");
    assert_true(list != NULL && list->count == 3 && str_eq(list->as.strs[2], strs[2]));
    assert_int_equal(gguf_find(&gguf, "none")->count, 0);
    assert_true(gguf_array_number(gguf_find(&gguf, "ints"), 1) == (double)(1 << 30));
    assert_true(gguf_array_number(gguf_find(&gguf, "floats"), 1) == (double)-1e30f);
    const GgufTensor *y = gguf_tensor(&gguf, "y");
    assert_true(y != NULL && y->ne[0] == 1 && y->ne[1] == 2 && y->ne[3] == 1 && y->n_dims == 2);
    assert_memory_equal(y->data, floats, 8);
    gguf_close(&gguf);
}

static void expect_refused(GgufWriter *w, const char *path, const char *message)
{
    Err err = {0};
    assert_false(gguf_writer_commit(w, &err));
    assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
    if (strstr(err.message, message) == NULL)
        fail_msg("'%s' does not hold '%s'", err.message, message);
    assert_false(path_exists(path));
    assert_false(path_exists(arena_printf(&arena, "%s.partial", path)));
}

static void test_bad_names_stick_until_commit(void **state)
{
    const char *path = "format_gguf_bad.gguf";
    const int64_t ne[1] = {1};
    const float zero = 0.0f;
    GgufWriter *w = gguf_writer_open(path, NULL);
    gguf_put_u32(w, "key", 1);
    gguf_put_bool(w, "key", true);
    gguf_writer_begin_data(w);
    expect_refused(w, path, "twice the key 'key'");

    w = gguf_writer_open(path, NULL);
    gguf_add_tensor(w, "t", DTYPE_F32, 1, ne);
    gguf_add_tensor(w, "t", DTYPE_F32, 1, ne);
    gguf_writer_begin_data(w);
    gguf_write_data(w, &zero, sizeof zero);
    expect_refused(w, path, "twice the tensor 't'");

    w = gguf_writer_open(path, NULL);
    gguf_add_tensor(w, "a234567890123456789012345678901234567890123456789012345678901234",
                    DTYPE_F32, 1, ne);
    gguf_writer_begin_data(w);
    expect_refused(w, path, "longer than 63 bytes");

    w = gguf_writer_open(path, NULL);
    gguf_put_u32(w, "general.alignment", 48);
    gguf_writer_begin_data(w);
    expect_refused(w, path, "'general.alignment'");
}

static void test_an_unwritable_place(void **state)
{
    Err err = {0};
    assert_null(gguf_writer_open("no/such/folder/x.gguf", &err));
    assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
    GgufWriter *w = gguf_writer_open("format_gguf_abandoned.gguf", NULL);
    gguf_writer_abandon(w);
    assert_false(path_exists("format_gguf_abandoned.gguf.partial"));
    gguf_writer_abandon(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_have_equal_bytes),
        cmocka_unit_test(test_every_put_reads_back),
        cmocka_unit_test(test_bad_names_stick_until_commit),
        cmocka_unit_test(test_an_unwritable_place),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
