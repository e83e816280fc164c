/* test_format_safetensors.c — the safetensors reader and writer.
 *
 * golden/safetensors/small.safetensors is the Python package's. Bad files are built here, each
 * check with its message. A file of ours stays in the build folder as format_written.safetensors
 * for golden/safetensors/make.py --verify.
 */
#include "format/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "format/quant.h"

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

#define SMALL TEST_DATA "/golden/safetensors/small.safetensors"

static bool parse_exact(const char *bytes, size_t len, Err *err)
{
    SafeTensors st;
    uint8_t *copy = heap_resize(NULL, len + (len == 0));
    if (len > 0)
        memcpy(copy, bytes, len);
    const size_t mark = arena_mark(&arena);
    const bool ok =
        st_parse(&st, copy, len, "x.safetensors", ERR_RUNTIME_LORA_EXPORT_FAILED, &arena, err);
    if (!ok)
        assert_int_equal(arena_mark(&arena), mark);
    arena_rewind(&arena, mark);
    heap_free(copy);
    return ok;
}

/* That tensor's elements are those, and its shape is [rows, cols] (cols 0 = one dimension). */
static void check_values(const SafeTensors *st, const char *name, Dtype dtype, int64_t rows,
                         int64_t cols, const float *expected)
{
    const StTensor *tensor = st_find(st, name);
    assert_non_null(tensor);
    assert_true(tensor->known && tensor->dtype == dtype);
    assert_int_equal(tensor->n_dims, cols == 0 ? 1 : 2);
    assert_int_equal(tensor->shape[0], rows);
    const int64_t count = cols == 0 ? rows : rows * cols;
    if (cols != 0)
        assert_int_equal(tensor->shape[1], cols);
    float got[16];
    assert_true(count <= 16);
    quant_decode_row(tensor->dtype, tensor->data, got, count);
    assert_memory_equal(got, expected, (size_t)count * sizeof *got);
}

static void test_a_file_of_python(void **state)
{
    Err err = {0};
    SafeTensors st;
    if (!st_open(&st, SMALL, ERR_DEP_MODEL_LOAD_FAILED, &arena, &err))
        fail_msg("%s", err.message);
    assert_int_equal(st.n_tensors, 11);
    const float quarters[6] = {-1.0f, -0.75f, -0.5f, -0.25f, 0.0f, 0.25f};
    const float eighths[6] = {0.0f, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f};
    const float threes[6] = {0.0f, 3.0f, 6.0f, 9.0f, 12.0f, 15.0f};
    const float ints[2] = {-5.0f, 2147483648.0f};
    const float ones[2] = {1.0f, 1.0f};
    check_values(&st, "f32", DTYPE_F32, 2, 3, quarters);
    check_values(&st, "f16", DTYPE_F16, 3, 2, eighths);
    check_values(&st, "bf16", DTYPE_BF16, 6, 0, threes);
    check_values(&st, "i32", DTYPE_I32, 2, 0, ints);
    check_values(&st, "base.layers.0.\"ü\"", DTYPE_F32, 2, 0, ones);
    const StTensor *scalar = st_find(&st, "scalar");
    assert_true(scalar->n_dims == 0 && scalar->bytes == 4 && scalar->known);
    const StTensor *empty = st_find(&st, "empty");
    assert_true(empty->bytes == 0 && empty->shape[0] == 0 && empty->shape[1] == 4);
    const StTensor *five = st_find(&st, "five");
    assert_true(!five->known && five->n_dims == 5 && five->dtype == DTYPE_COUNT);
    static const char *const others[] = {"i64", "u8", "bool"};
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_true(st_find(&st, others[i])->known == false);
    assert_string_equal(st_find(&st, "i64")->type_name, "I64");
    assert_string_equal(st_meta(&st, "format"), "pt");
    assert_string_equal(st_meta(&st, "by"), "torch");
    assert_null(st_meta(&st, "absent"));
    assert_null(st_find(&st, "absent"));
    assert_null(st_find(&st, "__metadata__"));
    for (size_t i = 1; i < st.n_tensors; i++)
        assert_true((const char *)st.tensors[i - 1].data <= (const char *)st.tensors[i].data);
    st_close(&st);
}

static void test_every_prefix_is_refused(void **state)
{
    Err err = {0};
    Str whole;
    assert_true(file_read(SMALL, 1 << 20, &arena, &whole, ERR_RUNTIME_IO_FAILED, &err));
    assert_true(parse_exact(whole.data, whole.len, &err));
    for (size_t len = 0; len < whole.len; len++) {
        Err refused = {0};
        assert_false(parse_exact(whole.data, len, &refused));
        assert_int_equal(refused.code, ERR_RUNTIME_LORA_EXPORT_FAILED);
    }
    char *copy = arena_strndup(&arena, whole.data, whole.len);
    for (size_t i = 0; i < whole.len; i++) {
        copy[i] = (char)(whole.data[i] ^ 0x11);
        Err changed = {0};
        if (!parse_exact(copy, whole.len, &changed))
            assert_true(err_is_set(&changed));
        copy[i] = whole.data[i];
    }
}

/* A file of that header and `data_bytes` of data: refused with that message, NULL = good. */
static void expect(const char *header, size_t data_bytes, const char *message)
{
    Buf b = {0};
    const uint64_t length = strlen(header);
    buf_append(&b, &length, sizeof length);
    buf_text(&b, header);
    for (size_t i = 0; i < data_bytes; i++)
        buf_char(&b, (char)i);
    Err err = {0};
    const bool ok = parse_exact(b.data, b.len, &err);
    buf_free(&b);
    if (message == NULL && !ok)
        fail_msg("%s", err.message);
    if (message == NULL)
        return;
    if (ok)
        fail_msg("a file was taken that should be refused: %s", message);
    assert_int_equal(err.code, ERR_RUNTIME_LORA_EXPORT_FAILED);
    if (strstr(err.message, message) == NULL || strstr(err.message, "'x.safetensors'") == NULL)
        fail_msg("'%s' does not say '%s'", err.message, message);
}

#define T(name, dtype, shape, from, to) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "]," \
    "\"data_offsets\":[" from "," to "]}"

static void test_bad_headers(void **state)
{
    Err err = {0};
    assert_false(parse_exact("1234567", 7, &err));
    assert_non_null(strstr(err.message, "7 bytes are too few"));
    const uint64_t lengths[] = {100000001, UINT64_MAX, 3};
    static const char *const says[] = {"more than 100000000", "more than 100000000",
                                       "ends inside its header (3 bytes, 2 are there)"};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        char file[10] = "........{}";
        memcpy(file, &lengths[i], 8);
        Err refused = {0};
        assert_false(parse_exact(file, sizeof file, &refused));
        if (strstr(refused.message, says[i]) == NULL)
            fail_msg("'%s' does not say '%s'", refused.message, says[i]);
    }
    expect("", 0, "does not start with '{'");
    expect(" {}", 0, "does not start with '{'");
    expect("{]", 0, "not valid JSON");
    expect("{} x", 0, "not valid JSON");
    expect("{\"a\\u0000\":1}", 0, "not valid JSON");
    expect("{\"a\":\"\xff\"}", 0, "not valid JSON");
    expect("{}      ", 0, NULL);
    expect("{}", 1, "its tensors take 0 bytes, the file holds 1");
    expect("{\"__metadata__\":{\"a\":\"b\"}}", 0, NULL);
    expect("{\"__metadata__\":{}}", 0, NULL);
    expect("{\"__metadata__\":[]}", 0, "'__metadata__' is not an object");
    expect("{\"__metadata__\":{\"a\":1}}", 0, "'__metadata__' holds 'a', which is not a string");
}

static void test_bad_tensors(void **state)
{
    expect("{" T("a", "F32", "1", "0", "4") "}", 4, NULL);
    expect("{\"a\":1}", 0, "tensor 'a' has no dtype");
    expect("{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, "tensor 'a' has no dtype");
    expect("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor 'a' has no shape");
    expect("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "has no data_offsets");
    expect("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4,
           "has no data_offsets");
    expect("{" T("a", "F32", "1", "-4", "0") "}", 4, "has no data_offsets");
    expect("{" T("a", "F32", "1", "0.0", "4") "}", 4, "has no data_offsets");
    expect("{" T("a", "F32", "-1", "0", "4") "}", 4, "a dimension that is no whole number");
    expect("{" T("a", "F32", "1.0", "0", "4") "}", 4, "a dimension that is no whole number");
    expect("{" T("a", "F32", "99999999999999999999", "0", "4") "}", 4,
           "a dimension that is no whole number");
    expect("{" T("a", "F32", "9223372036854775807,4", "0", "4") "}", 4, "'a' is too large");
    expect("{" T("a", "F32", "4611686018427387905", "0", "4") "}", 4, "not what its shape takes");
    expect("{" T("a", "F32", "2", "0", "4") "}", 4, "has 4 bytes of data, which is not what");
    expect("{" T("a", "F32", "1", "0", "8") "}", 4, "ends at 8 of 4 bytes");
    expect("{" T("a", "F32", "1", "4", "0") "}", 4, "the data of tensor 'a' ends at 0");
    expect("{" T("a", "F4", "3", "0", "1") "}", 1, "not what its shape takes");
    expect("{" T("a", "F4", "2", "0", "1") "}", 1, NULL);
    expect("{" T("a", "NEW_TYPE", "3", "0", "1") "}", 1, NULL);
}

static void test_names_and_places(void **state)
{
    expect("{" T("a", "U8", "1", "0", "1") "," T("a", "U8", "1", "0", "1") "}", 1,
           "a name stands twice");
    expect("{" T("a", "U8", "1", "0", "1") "," T("\\u0061", "U8", "1", "0", "1") "}", 1,
           "a name stands twice");
    expect("{" T("a", "U8", "1", "0", "1") "," T("b", "U8", "1", "2", "3") "}", 3,
           "a gap or an overlap before the data of tensor 'b'");
    expect("{" T("a", "U8", "2", "0", "2") "," T("b", "U8", "2", "1", "3") "}", 3,
           "a gap or an overlap before the data of tensor 'b'");
    expect("{" T("a", "U8", "1", "1", "2") "}", 2, "a gap or an overlap before");
    expect("{" T("a", "U8", "1", "0", "1") "}", 2, "its tensors take 1 bytes, the file holds 2");
    expect("{" T("b", "U8", "1", "1", "2") "," T("a", "U8", "1", "0", "1") "}", 2, NULL);
    /* a ':' or a brace in a name is no member; an empty tensor may lie between two others */
    expect("{" T("a:{\\\"", "U8", "1", "0", "1") "," T("b", "U8", "1", "1", "2") ","
           T("c", "F32", "0", "1", "1") "}", 2, NULL);
}

/* Old files do not pad the header: elements are then copied to an aligned place. */
static void test_odd_addresses(void **state)
{
    const char *header = "{" T("a", "U8", "1", "0", "1") "," T("b", "F32", "2", "1", "9") "}";
    const float values[2] = {1.5f, -2.0f};
    Buf b = {0};
    const uint64_t length = strlen(header);
    buf_append(&b, &length, sizeof length);
    buf_text(&b, header);
    if ((b.len + 1) % 4 == 0) /* so that b is not aligned by chance */
        fail_msg("the header's length makes this test useless");
    buf_char(&b, 'x');
    buf_append(&b, values, sizeof values);
    Err err = {0};
    SafeTensors st;
    if (!st_parse(&st, (const uint8_t *)b.data, b.len, "odd", ERR_DEP_MODEL_LOAD_FAILED, &arena,
                  &err))
        fail_msg("%s", err.message);
    const StTensor *tensor = st_find(&st, "b");
    assert_int_equal((uintptr_t)tensor->data % 4, 0);
    const float *got = tensor->data;
    assert_true(got[0] == 1.5f && got[1] == -2.0f);
    buf_free(&b);
}

static void test_what_we_write(void **state)
{
    const float f32[6] = {-1.0f, -0.75f, -0.5f, -0.25f, 0.0f, 0.25f};
    const float eighths[6] = {0.0f, 0.125f, 0.25f, 0.375f, 0.5f, 0.625f};
    const float threes[6] = {0.0f, 3.0f, 6.0f, 9.0f, 12.0f, 15.0f};
    const float scalar = 2.5f;
    const float ones[2] = {1.0f, 1.0f};
    const int32_t i32[2] = {-5, INT32_MAX};
    uint16_t f16[6], bf16[6];
    quant_encode_row(DTYPE_F16, eighths, f16, 6);
    quant_encode_row(DTYPE_BF16, threes, bf16, 6);
    const StEntry entries[] = {
        {"f32", DTYPE_F32, 2, {2, 3}, f32},
        {"i32", DTYPE_I32, 1, {2}, i32},
        {"scalar", DTYPE_F32, 0, {0}, &scalar},
        {"empty", DTYPE_F32, 2, {0, 4}, NULL},
        {"base.layers.0.\"ü\"", DTYPE_F32, 1, {2}, ones},
        {"f16", DTYPE_F16, 2, {3, 2}, f16},
        {"bf16", DTYPE_BF16, 1, {6}, bf16},
    };
    const char *path = "format_written.safetensors";
    const char *const keys[] = {"format", "note"};
    const char *const values[] = {"pt", "a \"quoted\" line\n"};
    Err err = {0};
    if (!st_write(path, entries, COUNT_OF(entries), keys, values, 2, ERR_RUNTIME_LORA_EXPORT_FAILED,
                  &err))
        fail_msg("%s", err.message);
    SafeTensors st;
    if (!st_open(&st, path, ERR_DEP_MODEL_LOAD_FAILED, &arena, &err))
        fail_msg("%s", err.message);
    assert_int_equal(st.n_tensors, COUNT_OF(entries));
    assert_true((uintptr_t)st.tensors[0].data % 8 == 0);
    check_values(&st, "f32", DTYPE_F32, 2, 3, f32);
    check_values(&st, "f16", DTYPE_F16, 3, 2, eighths);
    check_values(&st, "bf16", DTYPE_BF16, 6, 0, threes);
    check_values(&st, "base.layers.0.\"ü\"", DTYPE_F32, 2, 0, ones);
    assert_memory_equal(st_find(&st, "i32")->data, i32, sizeof i32);
    assert_string_equal(st_meta(&st, "note"), values[1]);
    st_close(&st);
    if (!st_write("format_empty.safetensors", NULL, 0, NULL, NULL, 0,
                  ERR_RUNTIME_LORA_EXPORT_FAILED, &err) ||
        !st_open(&st, "format_empty.safetensors", ERR_DEP_MODEL_LOAD_FAILED, &arena, &err))
        fail_msg("%s", err.message);
    assert_int_equal(st.n_tensors, 0);
    st_close(&st);
}

static void test_places_that_fail(void **state)
{
    Err err = {0};
    SafeTensors st;
    assert_false(st_open(&st, "no_such.safetensors", ERR_DEP_MODEL_LOAD_FAILED, &arena, &err));
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
    st_close(&st);
    Err other = {0};
    assert_false(st_write("no/such/folder/x.safetensors", NULL, 0, NULL, NULL, 0,
                          ERR_STATE_CHECKPOINT_INVALID, &other));
    assert_int_equal(other.code, ERR_STATE_CHECKPOINT_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_of_python),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_names_and_places),
        cmocka_unit_test(test_odd_addresses),
        cmocka_unit_test(test_what_we_write),
        cmocka_unit_test(test_places_that_fail),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
