/* test_core_json.c — the JSON wrapper: limits and refusals when reading, types and fallbacks,
 * order and digits when writing.
 */
#include "test_support.h"

#include "core/json.h"
#include "core/rng.h"

static Json *parse(const char *text)
{
    return json_parse(str_of(text), "test", ERR_INPUT_VALIDATION_FAILED, NULL);
}

static void assert_writes(const Json *json, JsonStyle style, const char *expected)
{
    Buf out = {0};
    json_write(json, style, &out);
    assert_string_equal(out.data, expected);
    buf_free(&out);
}

static void reads_every_type(void **state)
{
    Json *j = parse("{\"s\":\"a\\u00e9\\ud83d\\ude00\",\"i\":-7,\"d\":1.5,\"t\":true,\"n\":null,"
                    "\"a\":[1,2,3],\"o\":{\"x\":1},\"w\":3.0}");
    assert_non_null(j);
    assert_string_equal(json_text(json_get(j, "s")), "a\xC3\xA9\xF0\x9F\x98\x80");
    assert_int_equal(json_str(json_get(j, "s")).len, 7);
    assert_int_equal(json_int(json_get(j, "i"), 0), -7);
    assert_true(json_double(json_get(j, "i"), 0) == -7.0);
    assert_true(json_double(json_get(j, "d"), 0) == 1.5);
    assert_int_equal(json_int(json_get(j, "d"), 99), 99);
    assert_int_equal(json_int(json_get(j, "w"), 99), 3);
    assert_true(json_bool(json_get(j, "t"), false));
    assert_true(json_bool(json_get(j, "i"), true)); /* not a bool: the fallback */
    assert_true(json_is_null(json_get(j, "n")) && json_is_null(json_get(j, "absent")));
    assert_int_equal(json_len(json_get(j, "a")), 3);
    assert_int_equal(json_int(json_at(json_get(j, "a"), 2), 0), 3);
    assert_null(json_at(json_get(j, "a"), 3));
    assert_int_equal(json_len(json_get(j, "o")), 1);
    assert_int_equal(json_len(json_get(j, "s")), 0);
    assert_null(json_get(json_get(j, "a"), "x"));
    assert_null(json_text(json_get(j, "i")));
    assert_int_equal(json_str(NULL).len, 0);
    assert_true(json_is_object(j) && json_is_array(json_get(j, "a")));
    assert_true(json_is_number(json_get(j, "d")) && !json_is_int(json_get(j, "d")));
    assert_true(json_is_bool(json_get(j, "t")) && !json_is_string(NULL));
    json_free(j);
    json_free(NULL);
}

static void refuses_what_is_not_json(void **state)
{
    static const char *const BAD[] = {
        "",  " ", "{",  "}",    "[1,]",   "{\"a\":1,}", "{a:1}",   "'a'",       "nul",     "01",
        "1 2", "[1] x", "NaN", "Infinity", "\"\\u0000\"", "\"\\ud800\"", "\"\x01\"", "\"\xC3\"",
        "\"\xED\xA0\x80\"", "\"abc", "\"abc\\", "[\"\\x41\"]", "1e999", "{\"a\\u0000\":1}", "-",
        "[1e]", "\xEF\xBB\xBF{}",
    };
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        Err err = {0};
        Json *j = json_parse(str_of(BAD[i]), "sub.json", ERR_INPUT_DATASET_PARSE_FAILED, &err);
        if (j != NULL)
            fail_msg("accepted: %s", BAD[i]);
        assert_int_equal(err.code, ERR_INPUT_DATASET_PARSE_FAILED);
        assert_non_null(strstr(err.message, "'sub.json'"));
        assert_non_null(strstr(err.message, "line"));
    }
    assert_null(json_parse((Str){"1\0", 2}, "nul byte", ERR_INPUT_VALIDATION_FAILED, NULL));
}

static void nesting_is_bounded(void **state)
{
    for (int depth = JSON_MAX_DEPTH - 1; depth <= JSON_MAX_DEPTH + 1; depth++) {
        Buf text = {0};
        for (int i = 0; i < depth; i++) /* brackets in names are no depth */
            buf_text(&text, i % 2 != 0 ? "[" : "{\"]]]\\\"[[[\":");
        buf_text(&text, "0");
        for (int i = depth - 1; i >= 0; i--)
            buf_text(&text, i % 2 != 0 ? "]" : "}");
        Err err = {0};
        Json *j = json_parse(buf_view(&text), "deep", ERR_INPUT_VALIDATION_FAILED, &err);
        assert_int_equal(j != NULL, depth <= JSON_MAX_DEPTH);
        if (j == NULL)
            assert_non_null(strstr(err.message, "nested"));
        json_free(j);
        buf_free(&text);
    }
    Buf bomb = {0};
    for (int i = 0; i < 1000000; i++)
        buf_char(&bomb, '[');
    assert_null(json_parse(buf_view(&bomb), "bomb", ERR_INPUT_VALIDATION_FAILED, NULL));
    buf_free(&bomb);
}

static void long_integers_become_doubles(void **state)
{
    Json *j = parse("[9223372036854775807,9223372036854775808,1000000000000000019884624838656,"
                    "-9223372036854775807,\"99999999999999999999\",18446744073709551615]");
    assert_non_null(j);
    assert_true(json_int(json_at(j, 0), 0) == INT64_MAX);
    assert_false(json_is_int(json_at(j, 1)));
    assert_true(json_double(json_at(j, 1), 0) == 0x1p63);
    assert_true(json_double(json_at(j, 2), 0) == 1e30);
    assert_int_equal(json_int(json_at(j, 2), -1), -1);
    assert_true(json_int(json_at(j, 3), 0) == -INT64_MAX);
    assert_string_equal(json_text(json_at(j, 4)), "99999999999999999999");
    assert_true(json_double(json_at(j, 5), 0) == 0x1p64);
    json_free(j);
}

static void last_duplicate_wins_and_order_is_kept(void **state)
{
    Json *j = parse("{\"b\":1,\"a\":2,\"c\":3,\"a\":4}");
    assert_int_equal(json_int(json_get(j, "a"), 0), 4);
    assert_writes(j, (JsonStyle){0}, "{\"b\": 1, \"a\": 4, \"c\": 3}");
    assert_writes(j, (JsonStyle){.sorted = true}, "{\"a\": 4, \"b\": 1, \"c\": 3}");
    const char *key, *order = "bac";
    Json *value;
    int i = 0;
    for (void *it = NULL; (it = json_next(j, it, &key, &value)) != NULL; i++)
        assert_int_equal(key[0], order[i]);
    assert_int_equal(i, 3);
    assert_null(json_next(NULL, NULL, &key, &value));
    json_del(j, "b");
    json_put(j, "z", json_new_bool(false));
    assert_writes(j, (JsonStyle){.indent = 2},
                  "{\n  \"a\": 4,\n  \"c\": 3,\n  \"z\": false\n}");
    json_free(j);
}

static void builds_and_cleans_text(void **state)
{
    Json *a = json_new_array();
    json_add(a, json_new_text("plain"));
    json_add(a, json_new_text(NULL));
    json_add(a, json_new_text("bad\xFF!"));
    json_add(a, json_new_str((Str){"nul\0x", 5}));
    json_add(a, json_new_double(0.0 / 1.0));
    json_add(a, json_new_double(1e300 * 1e300));
    json_add(a, json_new_int(INT64_MIN));
    json_add(a, json_new_str((Str){NULL, 0}));
    assert_writes(a, (JsonStyle){0},
                  "[\"plain\", null, \"bad\xEF\xBF\xBD!\", \"nul\xEF\xBF\xBDx\", 0.0, null, "
                  "-9223372036854775808, \"\"]");
    Json *copy = json_clone(a);
    json_add(copy, json_new_null());
    assert_int_equal(json_len(a) + 1, json_len(copy));
    json_free(copy);
    json_free(a);
}

static void doubles_survive_writing(void **state)
{
    for (uint64_t i = 0; i < 2000; i++) {
        uint32_t w[4];
        rng_philox(1, RNG_TEST, 0, i, w);
        union {
            uint32_t words[2];
            double value;
        } bits = {{w[0], w[1]}};
        Json *j = json_new_double(bits.value);
        if (json_is_number(j)) {
            Buf out = {0};
            json_write(j, (JsonStyle){0}, &out);
            Json *back = parse(out.data);
            assert_true(json_double(back, 0) == bits.value);
            json_free(back);
            buf_free(&out);
        }
        json_free(j);
    }
}

static void loads_files(void **state)
{
    Buf path = {0};
    buf_printf(&path, "%s/a.json", (char *)*state);
    Err err = {0};
    assert_null(json_load(path.data, ERR_CONFIG_INVALID, &err));
    assert_int_equal(err.code, ERR_CONFIG_INVALID);
    assert_non_null(strstr(err.message, "cannot open"));
    write_text(path.data, "{\"k\": [1]}\n");
    Json *j = json_load(path.data, ERR_CONFIG_INVALID, NULL);
    assert_int_equal(json_len(json_get(j, "k")), 1);
    json_free(j);
    write_text(path.data, "");
    assert_null(json_load(path.data, ERR_CONFIG_INVALID, NULL));
    buf_free(&path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(long_integers_become_doubles),
        cmocka_unit_test(last_duplicate_wins_and_order_is_kept),
        cmocka_unit_test(builds_and_cleans_text),
        cmocka_unit_test(doubles_survive_writing),
        cmocka_unit_test_setup_teardown(loads_files, temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
