/* test_format_gguf_read.c — what gguf_parse makes of good files, and says of bad ones.
 *
 * Good: golden/gguf/small.gguf by gguf-py (every kind of value, every type we read), also as
 * version 2. Bad: each check with its message, on files built here byte by byte; every prefix of
 * a good file; every byte of it changed.
 */
#include "test_support.h"

#include "format/gguf.h"

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

static Str golden(const char *name)
{
    return golden_file(&arena, "gguf", name);
}

/* Parses a copy in memory of exactly that size, so that the sanitizer sees every read too far. */
static bool parse_exact(const char *bytes, size_t len, Err *err)
{
    Gguf gguf;
    uint8_t *copy = heap_resize(NULL, len + (len == 0));
    if (len > 0)
        memcpy(copy, bytes, len);
    const size_t mark = arena_mark(&arena);
    const bool ok = gguf_parse(&gguf, copy, len, "x.gguf", &arena, err);
    if (!ok)
        assert_int_equal(arena_mark(&arena), mark);
    arena_rewind(&arena, mark);
    heap_free(copy);
    return ok;
}

static void check_scalars(const Gguf *gguf)
{
    assert_true(str_eq_text(gguf_str(gguf, "general.architecture"), "llama"));
    assert_true(str_eq_text(gguf_str(gguf, "general.name"), "Kleines Modell – ü"));
    assert_int_equal(gguf_int(gguf, "t.u8", 0), 250);
    assert_int_equal(gguf_int(gguf, "t.i8", 0), -100);
    assert_int_equal(gguf_int(gguf, "t.u16", 0), 65000);
    assert_int_equal(gguf_int(gguf, "t.i16", 0), -30000);
    assert_int_equal(gguf_int(gguf, "t.u32", 0), 4000000000);
    assert_int_equal(gguf_int(gguf, "t.i32", 0), -2000000000);
    assert_int_equal(gguf_int(gguf, "t.i64", 0), -(INT64_C(1) << 62));
    assert_int_equal(gguf_find(gguf, "t.u64")->as.u, (UINT64_C(1) << 63) + 5);
    assert_true(gguf_float(gguf, "t.f32", 0.0) == (double)0.1f);
    assert_true(gguf_float(gguf, "t.f64", 0.0) == 0.1);
    assert_true(gguf_bool(gguf, "t.bool", false));
    assert_true(gguf_find(gguf, "t.empty") != NULL && gguf_str(gguf, "t.empty").len == 0);
}

/* Absent keys and other kinds give the fallback. */
static void check_fallbacks(const Gguf *gguf)
{
    assert_null(gguf_find(gguf, "t.absent"));
    assert_null(gguf_find(gguf, ""));
    assert_null(gguf_tensor(gguf, "t.u8"));
    assert_int_equal(gguf_int(gguf, "t.absent", -7), -7);
    assert_int_equal(gguf_int(gguf, "t.u64", -7), -7); /* does not fit */
    assert_int_equal(gguf_int(gguf, "t.f32", -7), -7);
    assert_int_equal(gguf_int(gguf, "t.strings", -7), -7);
    assert_true(gguf_float(gguf, "general.name", 0.5) == 0.5);
    assert_true(gguf_float(gguf, "t.bool", 0.5) == 0.5);
    assert_true(gguf_float(gguf, "t.i8", 0.5) == -100.0);
    assert_true(gguf_bool(gguf, "t.u8", false) == false);
    assert_int_equal(gguf_str(gguf, "t.u8").len, 0);
}

static void check_arrays(const Gguf *gguf)
{
    const GgufValue *strings = gguf_find(gguf, "t.strings");
    assert_true(strings->type == GGUF_ARRAY && strings->element == GGUF_STRING);
    assert_int_equal(strings->count, 4);
    assert_true(str_eq_text(strings->as.strs[0], "<s>") && strings->as.strs[1].len == 0);
    assert_true(str_eq_text(strings->as.strs[3], "日本"));
    const GgufValue *ints = gguf_find(gguf, "t.i32s");
    assert_true(ints->count == 3 && gguf_array_number(ints, 1) == -2.0);
    assert_true(gguf_array_number(gguf_find(gguf, "t.f32s"), 1) == -1000.0);
    assert_true(gguf_array_number(gguf_find(gguf, "t.u8s"), 1) == 255.0);
    assert_true(gguf_array_number(gguf_find(gguf, "t.bools"), 0) == 1.0);
    assert_true(gguf_array_number(gguf_find(gguf, "t.bools"), 1) == 0.0);
    assert_true(gguf_array_number(gguf_find(gguf, "t.f64s"), 0) == 1e300);
}

static void check_tensors(const Gguf *gguf)
{
    assert_int_equal(gguf->n_tensors, 9);
    const GgufTensor *embedding = gguf_tensor(gguf, "token_embd.weight");
    assert_true(embedding == &gguf->tensors[0] && embedding->dtype == DTYPE_F32);
    assert_true(embedding->n_dims == 2 && embedding->ne[0] == 5 && embedding->ne[1] == 3);
    assert_true(embedding->ne[2] == 1 && embedding->bytes == 60);
    const GgufTensor *cube = gguf_tensor(gguf, "cube.weight");
    assert_true(cube->n_dims == 3 && cube->ne[0] == 4 && cube->ne[1] == 3 && cube->ne[2] == 2);
    const int32_t ids[7] = {-3, -2, -1, 0, 1, 2, 3};
    assert_memory_equal(gguf_tensor(gguf, "ids")->data, ids, sizeof ids);
    assert_int_equal(gguf_tensor(gguf, "q4_0.weight")->bytes, 3 * 2 * 18);
    assert_int_equal(gguf_tensor(gguf, "q4_1.weight")->bytes, 3 * 2 * 20);
    assert_int_equal(gguf_tensor(gguf, "q8_0.weight")->bytes, 3 * 2 * 34);
    assert_int_equal(gguf_tensor(gguf, "bf16.weight")->dtype, DTYPE_BF16);
    assert_int_equal(gguf_tensor(gguf, "half.weight")->dtype, DTYPE_F16);
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        const uint8_t *data = gguf->tensors[i].data;
        assert_int_equal((size_t)(data - gguf->map.data) % gguf->alignment, 0);
    }
}

static void test_files_of_gguf_py(void **state)
{
    static const struct {
        const char *name;
        uint32_t version;
        uint64_t alignment;
    } files[] = {{"small.gguf", 3, 32}, {"small_v2.gguf", 2, 32}, {"aligned.gguf", 3, 64}};
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        Err err = {0};
        Gguf gguf;
        const char *path = path_join(&arena, TEST_DATA "/golden/gguf", files[f].name);
        if (!gguf_open(&gguf, path, &arena, &err))
            fail_msg("%s", err.message);
        assert_int_equal(gguf.version, files[f].version);
        assert_int_equal(gguf.alignment, files[f].alignment);
        check_scalars(&gguf);
        check_fallbacks(&gguf);
        check_arrays(&gguf);
        check_tensors(&gguf);
        gguf_close(&gguf);
        assert_null(gguf.map.data);
    }
}

static void test_every_prefix_is_refused(void **state)
{
    static const char *const files[] = {"small.gguf", "small_v2.gguf"};
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        const Str whole = golden(files[f]);
        assert_true(parse_exact(whole.data, whole.len, NULL));
        for (size_t len = 0; len < whole.len; len++) {
            Err err = {0};
            assert_false(parse_exact(whole.data, len, &err));
            assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
            const char *expected = len == 0  ? "the file is empty"
                                   : len < 4 ? "does not start with 'GGUF'"
                                             : "the file ends inside";
            if (strstr(err.message, expected) == NULL)
                fail_msg("%zu bytes: %s", len, err.message);
        }
    }
}

static void test_changed_bytes_never_crash(void **state)
{
    const Str whole = golden("small.gguf");
    char *copy = arena_strndup(&arena, whole.data, whole.len);
    static const unsigned char changes[] = {0x01, 0x80, 0xff};
    size_t refused = 0;
    for (size_t i = 0; i < whole.len; i++) {
        for (size_t c = 0; c < COUNT_OF(changes); c++) {
            copy[i] = (char)((unsigned char)whole.data[i] ^ changes[c]);
            Err err = {0};
            if (!parse_exact(copy, whole.len, &err)) {
                assert_true(err_is_set(&err));
                refused++;
            }
        }
        copy[i] = whole.data[i];
    }
    assert_true(refused > 500);
}

/* Builders of bad files. */
static void add_u32(Buf *b, uint32_t value) { buf_append(b, &value, sizeof value); }
static void add_u64(Buf *b, uint64_t value) { buf_append(b, &value, sizeof value); }

static void add_str(Buf *b, Str text)
{
    add_u64(b, text.len);
    buf_str(b, text);
}

static void add_header(Buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    buf_text(b, "GGUF");
    add_u32(b, version);
    add_u64(b, n_tensors);
    add_u64(b, n_keys);
}

static void add_key_u32(Buf *b, const char *key, uint32_t value)
{
    add_str(b, str_of(key));
    add_u32(b, GGUF_U32);
    add_u32(b, value);
}

static void add_tensor(Buf *b, const char *name, uint64_t ne0, uint32_t type, uint64_t offset)
{
    add_str(b, str_of(name));
    add_u32(b, 1);
    add_u64(b, ne0);
    add_u32(b, type);
    add_u64(b, offset);
}

static void add_zeros(Buf *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_char(b, '\0');
}

static void expect_message(Buf *b, const char *message)
{
    Err err = {0};
    if (parse_exact(b->data, b->len, &err))
        fail_msg("a file was taken that should be refused: %s", message);
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
    if (strstr(err.message, message) == NULL || strstr(err.message, "'x.gguf'") == NULL)
        fail_msg("'%s' does not say '%s'", err.message, message);
    buf_free(b);
}

static void expect_good(Buf *b)
{
    Err err = {0};
    if (!parse_exact(b->data, b->len, &err))
        fail_msg("%s", err.message);
    buf_free(b);
}

static void test_bad_headers(void **state)
{
    Buf b = {0};
    buf_text(&b, "PK\3\4 a zip file");
    expect_message(&b, "does not start with 'GGUF'");
    add_header(&b, 1, 0, 0);
    expect_message(&b, "version 1 is not one of 2 to 3");
    add_header(&b, 4, 0, 0);
    expect_message(&b, "version 4 is not");
    add_header(&b, 0, 0, 0);
    expect_message(&b, "version 0 is not");
    add_header(&b, 0x03000000, 0, 0);
    expect_message(&b, "big-endian");
    add_header(&b, 3, UINT64_MAX, 0);
    expect_message(&b, "claims 18446744073709551615 tensors");
    add_header(&b, 3, 0, 1 << 20);
    expect_message(&b, "claims 1048576 keys");
    add_header(&b, 3, 0, 1000);
    expect_message(&b, "ends inside its keys");
    add_header(&b, 3, 1000, 0);
    expect_message(&b, "ends inside its tensor list");
    add_header(&b, 3, 0, 0);
    expect_good(&b);
}

static void test_bad_keys(void **state)
{
    Buf b = {0};
    add_header(&b, 3, 0, 2);
    add_key_u32(&b, "a", 1);
    add_key_u32(&b, "a", 1);
    expect_message(&b, "key 'a' stands twice");
    add_header(&b, 3, 0, 1);
    add_key_u32(&b, "", 1);
    expect_message(&b, "key 0 is empty");
    add_header(&b, 3, 0, 1);
    add_str(&b, STR("\x1b[31m\n"));
    add_u32(&b, 13);
    expect_message(&b, "key '?[31m?' is of unknown type 13");
    add_header(&b, 3, 0, 1);
    add_u64(&b, 65536);
    add_zeros(&b, 65600);
    expect_message(&b, "key 0 has 65536 bytes, more than 65535");
    add_header(&b, 3, 0, 1);
    add_u64(&b, UINT64_MAX);
    add_zeros(&b, 40);
    expect_message(&b, "ends inside key 0");
    add_header(&b, 3, 0, 1);
    add_str(&b, STR("s"));
    add_u32(&b, GGUF_STRING);
    add_u64(&b, UINT64_MAX - 7);
    expect_message(&b, "ends inside key 's'");
    static const uint32_t alignments[] = {0, 1, 4, 31, 48, 1 << 17};
    for (size_t i = 0; i < COUNT_OF(alignments); i++) {
        add_header(&b, 3, 0, 1);
        add_key_u32(&b, "general.alignment", alignments[i]);
        expect_message(&b, "'general.alignment' is not");
    }
    add_header(&b, 3, 0, 1);
    add_str(&b, STR("general.alignment"));
    add_u32(&b, GGUF_U64);
    add_u64(&b, 32);
    expect_message(&b, "'general.alignment' is not");
}

static void add_array(Buf *b, uint32_t element, uint64_t count)
{
    add_header(b, 3, 0, 1);
    add_str(b, STR("list"));
    add_u32(b, GGUF_ARRAY);
    add_u32(b, element);
    add_u64(b, count);
}

static void test_bad_arrays(void **state)
{
    Buf b = {0};
    add_array(&b, GGUF_ARRAY, 1);
    add_zeros(&b, 64);
    expect_message(&b, "key 'list' is an array of arrays");
    add_array(&b, 99, 1);
    add_zeros(&b, 64);
    expect_message(&b, "key 'list' has elements of unknown type 99");
    add_array(&b, GGUF_U32, 17);
    add_zeros(&b, 64);
    expect_message(&b, "ends inside key 'list'");
    add_array(&b, GGUF_F64, UINT64_C(1) << 61); /* times 8 is 0 */
    add_zeros(&b, 64);
    expect_message(&b, "ends inside key 'list'");
    add_array(&b, GGUF_STRING, UINT64_C(1) << 60);
    add_zeros(&b, 64);
    expect_message(&b, "ends inside key 'list'");
    add_array(&b, GGUF_STRING, 2);
    add_str(&b, STR("one"));
    add_u64(&b, 4);
    expect_message(&b, "ends inside key 'list'");
    add_array(&b, GGUF_STRING, 0);
    expect_good(&b);
    add_array(&b, GGUF_U16, 0);
    expect_good(&b);
}

/* A file of one tensor; message NULL = it is good. */
static void expect_tensor(const char *name, uint64_t ne0, uint32_t type, uint64_t offset,
                          const char *message)
{
    Buf b = {0};
    add_header(&b, 3, 1, 0);
    add_tensor(&b, name, ne0, type, offset);
    add_zeros(&b, 512);
    if (message != NULL)
        expect_message(&b, message);
    else
        expect_good(&b);
}

static void test_bad_tensors(void **state)
{
    const char *name63 = "a23456789012345678901234567890123456789012345678901234567890123";
    const char *name64 = "a234567890123456789012345678901234567890123456789012345678901234";
    expect_tensor(name63, 4, 0, 0, NULL);
    expect_tensor(name64, 4, 0, 0, "tensor 0 has 64 bytes, more than 63");
    expect_tensor("", 4, 0, 0, "tensor 0 has an empty name");
    expect_tensor("t", 4, 0, 32, "tensor 't' lies at offset 32 instead of 0");
    expect_tensor("t", 31, 8, 0, "has rows of 31 elements, not whole blocks of 32");
    expect_tensor("t", 256, 16, 0,
                  "tensor 't' is of type IQ2_XXS, which this program does not read");
    expect_tensor("t", 4, 4, 0, "tensor 't' is of unknown type 4");
    expect_tensor("t", 4, 0xffffffff, 0, "is of unknown type 4294967295");
    expect_tensor("t", 0, 0, 0, "impossible dimension of 0");
    expect_tensor("t", UINT64_C(1) << 63, 0, 0, "impossible dimension of 9223372036854775808");
    expect_tensor("t", INT64_MAX, 0, 0, "ends inside tensor 't'");
    expect_tensor("t", 129, 0, 0, "ends inside the data of tensor 't'");
    Buf b = {0};
    add_header(&b, 3, 1, 0);
    add_str(&b, STR("a\0b"));
    add_zeros(&b, 64);
    expect_message(&b, "or one with a NUL byte");
    add_header(&b, 3, 1, 0);
    add_str(&b, STR("t"));
    add_u32(&b, 5);
    add_zeros(&b, 64);
    expect_message(&b, "tensor 't' has 5 dimensions, more than 4");
    add_header(&b, 3, 1, 0); /* 2^32 x 2^32 x 2^32 elements */
    add_str(&b, STR("t"));
    add_u32(&b, 3);
    for (int d = 0; d < 3; d++)
        add_u64(&b, UINT64_C(1) << 32);
    add_zeros(&b, 64);
    expect_message(&b, "ends inside tensor 't'");
}

static void test_order_and_padding(void **state)
{
    Buf b = {0};
    add_header(&b, 3, 2, 0);
    add_tensor(&b, "t", 1, 0, 0);
    add_tensor(&b, "t", 1, 0, 32);
    add_zeros(&b, 128);
    expect_message(&b, "tensor 't' stands twice");
    add_header(&b, 3, 2, 0);
    add_tensor(&b, "a", 1, 0, 0);
    add_tensor(&b, "b", 1, 0, 64); /* a gap */
    add_zeros(&b, 128);
    expect_message(&b, "tensor 'b' lies at offset 64 instead of 32");
    add_header(&b, 3, 2, 0);
    add_tensor(&b, "a", 1, 0, 0);
    add_tensor(&b, "b", 1, 0, 0); /* an overlap */
    add_zeros(&b, 128);
    expect_message(&b, "tensor 'b' lies at offset 0 instead of 32");
    add_header(&b, 3, 1, 0); /* padding after the last tensor may be missing, but no data */
    add_tensor(&b, "a", 1, 0, 0);
    add_zeros(&b, 32 - b.len % 32 + 4);
    b.len -= 1;
    Err err = {0};
    assert_false(parse_exact(b.data, b.len, &err));
    b.len += 1;
    expect_good(&b);
}

static void test_missing_files(void **state)
{
    Err err = {0};
    Gguf gguf;
    assert_false(gguf_open(&gguf, "no_such_file.gguf", &arena, &err));
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
    assert_non_null(strstr(err.message, "no_such_file.gguf"));
    gguf_close(&gguf);
}

/* Ten thousand keys and tensor names with a long common beginning: found, and quickly. */
static void test_many_names(void **state)
{
    enum { COUNT = 10000 };
    Buf b = {0};
    add_header(&b, 3, COUNT, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        add_key_u32(&b, arena_printf(&arena, "a.long.common.beginning.%u", i * 7919 % COUNT), i);
    for (uint32_t i = 0; i < COUNT; i++)
        add_tensor(&b, arena_printf(&arena, "blk.%u.weight", i * 7919 % COUNT), 1, 0, i * 32);
    add_zeros(&b, COUNT * 32 + 32);
    Gguf gguf;
    Err err = {0};
    if (!gguf_parse(&gguf, (const uint8_t *)b.data, b.len, "many", &arena, &err))
        fail_msg("%s", err.message);
    for (uint32_t i = 0; i < COUNT; i++) {
        const char *key = arena_printf(&arena, "a.long.common.beginning.%u", i * 7919 % COUNT);
        assert_int_equal(gguf_int(&gguf, key, -1), i);
        const char *name = arena_printf(&arena, "blk.%u.weight", i * 7919 % COUNT);
        assert_ptr_equal(gguf_tensor(&gguf, name), &gguf.tensors[i]);
    }
    assert_null(gguf_find(&gguf, "a.long.common.beginning"));
    assert_null(gguf_find(&gguf, "a.long.common.beginning.10000"));
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_gguf_py),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_changed_bytes_never_crash),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_arrays),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_order_and_padding),
        cmocka_unit_test(test_missing_files),
        cmocka_unit_test(test_many_names),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
