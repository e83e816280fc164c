/* test_format_imatrix.c — importance matrices: both of llama.cpp's formats against gguf-py's values
 * (golden/imatrix), writing, and damaged files.
 */
#include "test_support.h"

#include "format/imatrix.h"

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
    return golden_file(&arena, "imatrix", name);
}

static void expect_values(const Imatrix *m, const char *name, bool exactly)
{
    const ImatrixEntry *entry = imatrix_find(m, name);
    const Str bytes = golden(arena_printf(&arena, "%s.f32", name));
    assert_non_null(entry);
    assert_int_equal(entry->n, bytes.len / sizeof(float));
    if (exactly)
        assert_memory_equal(entry->values, bytes.data, bytes.len);
}

static void test_both_formats(void **state)
{
    Err err = {0};
    Imatrix m;
    assert_true(imatrix_open(&m, TEST_DATA "/golden/imatrix/small.gguf", &arena, &err));
    assert_int_equal(m.n_entries, 3);
    assert_int_equal(m.chunks, 12);
    assert_memory_equal(m.dataset.data, "calibration.txt", m.dataset.len);
    expect_values(&m, "blk.0.attn_q.weight", true);
    expect_values(&m, "blk.0.ffn_down_exps.weight", true); /* one group saw nothing: ones */
    expect_values(&m, "blk.1.attn_v.weight", true);
    assert_null(imatrix_find(&m, "blk.2.attn_v.weight"));

    assert_true(imatrix_open(&m, TEST_DATA "/golden/imatrix/small.dat", &arena, &err));
    assert_int_equal(m.n_entries, 2);
    assert_int_equal(m.chunks, 9);
    assert_memory_equal(m.dataset.data, "wiki.txt", 8);
    expect_values(&m, "blk.0.attn_q.weight", false);
    expect_values(&m, "blk.1.attn_v.weight", false);
    /* sums of 40 tokens there, the mean of 5 calls here */
    const float older = imatrix_find(&m, "blk.0.attn_q.weight")->values[3];
    assert_true(imatrix_open(&m, TEST_DATA "/golden/imatrix/small.gguf", &arena, &err));
    const float newer = imatrix_find(&m, "blk.0.attn_q.weight")->values[3];
    assert_true(older > newer * 39.999f && older < newer * 40.001f);
}

static void test_written_is_read(void **state)
{
    Err err = {0};
    Imatrix m;
    float a[3] = {2, 4, 8}, b[2] = {1, 0};
    ImatrixSums sums[] = {{"blk.1.b.weight", b, 2}, {"blk.0.a.weight", a, 3}};
    const ImatrixOrigin origin = {"text.txt", 3, 512, 4};
    const char *path = "test_imatrix.gguf";
    assert_true(imatrix_write(path, sums, 2, &origin, &err));
    assert_true(imatrix_open(&m, path, &arena, &err));
    assert_int_equal(m.n_entries, 2);
    assert_int_equal(m.chunks, 3);
    const ImatrixEntry *entry = imatrix_find(&m, "blk.0.a.weight");
    assert_true(entry->n == 3 && entry->values[0] == 0.5f && entry->values[2] == 2.0f);
    assert_true(imatrix_find(&m, "blk.1.b.weight")->values[1] == 0.0f);
    remove(path);
}

static void expect_refused(const void *data, size_t size, const char *part)
{
    Err err = {0};
    Imatrix m;
    assert_false(imatrix_parse(&m, data, size, "x", &arena, &err));
    assert_int_equal(err.code, ERR_INPUT_VALIDATION_FAILED);
    if (strstr(err.message, part) == NULL)
        fail_msg("'%s' lacks '%s'", err.message, part);
}

static void test_damaged_files(void **state)
{
    const Str old = golden("small.dat"), gguf = golden("small.gguf");
    Err err = {0};
    Imatrix m;
    size_t sound = 0;
    expect_refused("", 0, "neither");
    expect_refused("\xff\xff\xff\x7f", 4, "neither");
    for (size_t n = 0; n < old.len; n++)
        sound += imatrix_parse(&m, (const uint8_t *)old.data, n, "x", &arena, &err);
    /* whole entries without an end, or with the number of chunks alone */
    assert_int_equal(sound, 5);
    expect_refused(old.data, 60, "cut off");
    for (size_t n = 0; n + 32 <= gguf.len; n++) /* it may end in padding */
        assert_false(imatrix_parse(&m, (const uint8_t *)gguf.data, n, "x", &arena, &err));
    uint8_t *broken = arena_push(&arena, old.len);
    memcpy(broken, old.data, old.len);
    memset(broken + 4 + 4 + 19 + 8, 0xff, 4); /* the first value: NaN */
    expect_refused(broken, old.len, "not finite");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_formats),
        cmocka_unit_test(test_written_is_read),
        cmocka_unit_test(test_damaged_files),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
