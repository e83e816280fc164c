/* test_core_err.c — the error table and Err: first error wins, hints, message grammar of the
 * table's own texts, truncation; and must, which aborts.
 */
#include "test_support.h"

#include "core/err.h"

#include <ctype.h>

static void first_error_wins(void **state)
{
    Err err = {0};
    assert_false(err_is_set(&err));
    assert_string_equal(err_hint_text(&err), "");
    assert_false(err_set(&err, ERR_DEP_MODEL_LOAD_FAILED, "cannot open '%s'", "m.gguf"));
    assert_false(err_set(&err, ERR_INTERNAL_ERROR, "later"));
    assert_true(err_is_set(&err));
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
    assert_string_equal(err.message, "cannot open 'm.gguf'");
    assert_string_equal(err_hint_text(&err), err_info(ERR_DEP_MODEL_LOAD_FAILED)->hint);
    assert_false(err_hint(&err, "Pass --model %d", 3));
    assert_false(err_hint(&err, "Later hint"));
    assert_string_equal(err_hint_text(&err), "Pass --model 3");
}

static void null_and_unset_are_fine(void **state)
{
    assert_false(err_set(NULL, ERR_USAGE, "nobody listens"));
    assert_false(err_hint(NULL, "nobody listens"));
    assert_false(err_is_set(NULL));
    Err err = {0};
    assert_false(err_hint(&err, "a hint without an error"));
    assert_string_equal(err.hint, "");
}

static void long_messages_are_cut(void **state)
{
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    Err err = {0};
    err_set(&err, ERR_USAGE, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void table_is_complete_and_consistent(void **state)
{
    assert_string_equal(err_info(ERR_NONE)->name, "NONE");
    for (int code = 1; code < ERR_COUNT; code++) {
        const ErrInfo *info = err_info((ErrCode)code);
        assert_int_equal(err_code(info->name), code);
        assert_true(info->exit_code > 0 && info->exit_code < 256);
        assert_true(strcmp(info->retry, "yes") == 0 || strcmp(info->retry, "no") == 0 ||
                    strcmp(info->retry, "sometimes") == 0);
        assert_true(strlen(info->what) > 0 && !isupper((unsigned char)info->what[0]));
        assert_true(isupper((unsigned char)info->hint[0]));
        assert_true(info->hint[strlen(info->hint) - 1] != '.');
    }
    assert_int_equal(err_code("NO_SUCH_CODE"), ERR_NONE);
    assert_int_equal(err_info(ERR_USAGE)->exit_code, 64);
    assert_int_equal(err_info(ERR_RUNTIME_TRAINING_ABORTED)->exit_code, 130);
}

static void break_invariant(void *context) { must(context != NULL); }
static void ask_bad_code(void *context) { err_info((ErrCode)(ERR_COUNT + 1)); }

static void must_aborts(void **state)
{
    assert_aborts(break_invariant, NULL);
    assert_int_equal(run_in_child(break_invariant, state), 0);
    assert_aborts(ask_bad_code, NULL);
}

static void checked_sizes(void **state)
{
    size_t out = 5;
    assert_true(size_mul(0, SIZE_MAX, &out) && out == 0);
    assert_true(size_mul(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_false(size_mul(SIZE_MAX / 2, 3, &out));
    assert_int_equal(out, SIZE_MAX);
    assert_true(size_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_int_equal(round_up(129, 128), 256);
    assert_int_equal(round_up(128, 128), 128);
    assert_int_equal(ceil_div(1, 128), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_wins),
        cmocka_unit_test(null_and_unset_are_fine),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(table_is_complete_and_consistent),
        cmocka_unit_test(must_aborts),
        cmocka_unit_test(checked_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
