/* test_core_str.c — slices, the growing buffer and its maximum, strict UTF-8 (every code point
 * there and back, every kind of malformed sequence), edit distance.
 */
#include "test_support.h"

#include "core/str.h"

static void slices(void **state)
{
    Str s = STR("hello world");
    assert_true(str_eq(str_sub(s, 0, 5), STR("hello")));
    assert_true(str_eq(str_sub(s, 6, 999), STR("world")));
    assert_int_equal(str_sub(s, 9, 3).len, 0);
    assert_int_equal(str_sub(s, 99, 100).len, 0);
    assert_true(str_eq_text(str_trim(STR(" \t\r\n a b \v\f")), "a b"));
    assert_int_equal(str_trim(STR(" \n ")).len, 0);
    assert_true(str_starts(s, "hell") && !str_starts(s, "hello world!"));
    assert_true(str_ends(s, "world") && !str_ends(s, "hello"));
    assert_true(str_starts(s, "") && str_ends(s, ""));
    assert_int_equal(str_of(NULL).len, 0);
    assert_true(str_eq(str_of(NULL), STR("")));
    assert_false(str_eq(STR("a"), STR("b")));
    assert_true(str_eq((Str){NULL, 0}, STR("")));
}

static void buffer_grows_and_terminates(void **state)
{
    Buf buf = {0};
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%d,", i);
    buf_char(&buf, '!');
    buf_append(&buf, "\0x", 2);
    assert_int_equal(buf.data[buf.len], '\0');
    assert_int_equal(buf.len, 10 * 2 + 90 * 3 + 900 * 4 + 1 + 2);
    assert_true(str_starts(buf_view(&buf), "0,1,2,3"));
    size_t capacity = buf.capacity;
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.capacity, capacity);
    assert_string_equal(buf.data, "");
    buf_free(&buf);
    buf_free(&buf);
}

static void buffer_refuses_beyond_its_maximum(void **state)
{
    Buf buf = {.max = 10};
    buf_text(&buf, "0123456789");
    assert_false(buf.failed);
    buf_char(&buf, 'x');
    assert_true(buf.failed);
    assert_string_equal(buf.data, "0123456789");
    buf_text(&buf, ""); /* stays failed, changes nothing */
    assert_true(buf.failed);
    buf_clear(&buf);
    buf_printf(&buf, "%s", "abcdefghijk");
    assert_true(buf.failed);
    assert_int_equal(buf.len, 0);
    buf_free(&buf);
    assert_int_equal(buf.max, 10);
}

static void every_codepoint_round_trips(void **state)
{
    Buf buf = {0};
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        if (c >= 0xD800 && c <= 0xDFFF)
            continue;
        buf_clear(&buf);
        buf_codepoint(&buf, c);
        size_t pos = 0;
        uint32_t back = 0;
        assert_true(utf8_next(buf_view(&buf), &pos, &back));
        if (back != c || pos != buf.len || !utf8_valid(buf_view(&buf)))
            fail_msg("U+%04X came back as U+%04X", c, back);
        assert_false(utf8_next(buf_view(&buf), &pos, &back));
    }
    buf_clear(&buf);
    buf_codepoint(&buf, 0xD800);
    buf_codepoint(&buf, 0x110000);
    assert_string_equal(buf.data, "\xEF\xBF\xBD\xEF\xBF\xBD");
    buf_free(&buf);
}

static void malformed_utf8_gives_replacements(void **state)
{
    static const char *const BAD[] = {
        "\x80",             "\xC0\x80",         "\xC1\xBF",     "\xE0\x80\x80", "\xE0\x9F\xBF",
        "\xED\xA0\x80",     "\xED\xBF\xBF",     "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF",             "\xC3",         "\xE2\x82",     "\xF0\x9F\x98",
        "\xC3(",            "\xE2(\xA1",
    };
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        Str s = str_of(BAD[i]);
        assert_false(utf8_valid(s));
        size_t pos = 0, steps = 0;
        uint32_t c;
        bool replaced = false;
        while (utf8_next(s, &pos, &c)) {
            replaced = replaced || c == 0xFFFD;
            steps++;
        }
        assert_int_equal(pos, s.len);
        assert_int_equal(steps, s.len); /* one byte at a time */
        assert_true(replaced);
    }
    assert_true(utf8_valid(STR("a\0b")));
    assert_true(utf8_valid((Str){NULL, 0}));
}

static void distance(void **state)
{
    assert_int_equal(str_distance("", ""), 0);
    assert_int_equal(str_distance("kitten", "sitting"), 3);
    assert_int_equal(str_distance("--model", "--modle"), 2);
    assert_int_equal(str_distance("", "abc"), 3);
    char text[200];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(str_distance(text, ""), 64);
    assert_int_equal(str_distance(text, text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices),
        cmocka_unit_test(buffer_grows_and_terminates),
        cmocka_unit_test(buffer_refuses_beyond_its_maximum),
        cmocka_unit_test(every_codepoint_round_trips),
        cmocka_unit_test(malformed_utf8_gives_replacements),
        cmocka_unit_test(distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
