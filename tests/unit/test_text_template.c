/* test_text_template.c — the template evaluator against transformers' renderings, its limits, and
 * its errors.
 *
 * golden/template/cases.jsonl holds the references (its README says how they were made). What
 * transformers refuses must be refused here, too; what it renders must come out byte for byte.
 */
#include "text/template.h"

#include "core/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static Arena arena, scratch;

static int set_up(void **state)
{
    assert_true(arena_open(&arena, 0, NULL));
    assert_true(arena_open(&scratch, 0, NULL));
    return 0;
}

static int tear_down(void **state)
{
    arena_close(&arena);
    arena_close(&scratch);
    return 0;
}

static bool render(const char *source, const Json *messages, Buf *out, Err *err)
{
    TemplateOptions options = {.bos_token = "<s>", .eos_token = "</s>"};
    Template *template = template_parse(str_of(source), "test", &arena, err);
    return template != NULL && template_render(template, messages, &options, &scratch, out, err);
}

/* One line of cases.jsonl; prints the template when it does not come out. */
static bool check_case(const Json *row, const Json *messages, const Json *extra)
{
    Err err = {0};
    Buf out = {0};
    TemplateOptions options = {
        .add_generation_prompt = json_bool(json_get(row, "add_generation_prompt"), false),
        .bos_token = "<s>",
        .eos_token = "</s>",
        .extra = extra,
    };
    const Json *expected = json_get(row, "expected");
    Template *template = template_parse(json_str(json_get(row, "template")), "case", &arena, &err);
    bool ok =
        template != NULL && template_render(template, messages, &options, &scratch, &out, &err);
    bool good = expected == NULL ? !ok && err_is_set(&err) && strstr(err.message, "'case'") != NULL
                                 : ok && str_eq(buf_view(&out), json_str(expected));
    if (!good)
        print_error("template: %s\n  ours: %s\n  error: %s\n", json_text(json_get(row, "template")),
                    out.data != NULL ? out.data : "", err.message);
    assert_int_equal(arena_mark(&scratch), 0);
    buf_free(&out);
    return good;
}

static void renders_as_transformers(void **state)
{
    Str text;
    Err err = {0};
    Json *messages =
        json_load(TEST_DATA "/golden/template/messages.json", ERR_INTERNAL_ERROR, &err);
    assert_non_null(messages);
    assert_true(file_read(TEST_DATA "/golden/template/cases.jsonl", 1 << 20, &arena, &text,
                          ERR_INTERNAL_ERROR, &err));
    Json *extra = json_parse(STR("{\"custom\": [1, 2]}"), "extra", ERR_INTERNAL_ERROR, &err);
    int n = 0, bad = 0;
    for (size_t at = 0; at < text.len; n++) {
        size_t end = at;
        while (text.data[end] != '\n')
            end++;
        Json *row = json_parse(str_sub(text, at, end), "case", ERR_INTERNAL_ERROR, &err);
        assert_non_null(row);
        bad += !check_case(row, messages, extra);
        json_free(row);
        at = end + 1;
    }
    assert_int_equal(bad, 0);
    assert_true(n >= 130);
    json_free(extra);
    json_free(messages);
}

typedef struct Refused {
    const char *source, *message;
    ErrCode code;
} Refused;

#define BAD ERR_DEP_CHAT_TEMPLATE_INVALID

/* Every error names the template, the line, and what is wrong. */
static void names_what_it_refuses(void **state)
{
    static const Refused table[] = {
        {"a\nb\n{{ x | urlencode }}", "line 3: filter 'urlencode' is not supported",
         BAD},
        {"{% if true %}\n{{ 1 | wordwrap }}{% endif %}",
         "line 2: filter 'wordwrap' is not supported", BAD},
        {"{{ 1 is wild }}", "test 'wild' is not supported", BAD},
        {"{% include 'x' %}", "tag 'include' is not supported", BAD},
        {"\n{% block a %}{% endblock %}", "line 2: tag 'block' is not supported",
         BAD},
        {"{{ 'a'.encode() }}", "'encode' of a str is not supported", BAD},
        {"{{ [1].append(1) }}", "'append' of a list is not supported", BAD},
        {"{{ f(*args) }}", "* and ** arguments are not supported", BAD},
        {"{% for x in y recursive %}{% endfor %}", "recursive loops are not supported",
         BAD},
        {"{{ 9223372036854775807 }}", "more than 18 digits", BAD},
        {"{{ 99999999999999999 * 99999999999999999 }}", "beyond 64 bits", BAD},
        {"{% if x %}", "the template ends before 'elif'", BAD},
        {"{{ 'abc", "string has no end", BAD},
        {"{# abc", "missing end of comment", BAD},
        {"\n\n{{ raise_exception('roles must alternate') }}",
         "line 3: the template refuses: roles must alternate", ERR_INPUT_DATASET_VALIDATION_FAILED},
        {"{{ nope.x }}", "'nope' is undefined", ERR_INPUT_DATASET_VALIDATION_FAILED},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        Err err = {0};
        Buf out = {0};
        buf_text(&out, "before");
        assert_false(render(table[i].source, NULL, &out, &err));
        assert_int_equal(err.code, table[i].code);
        if (strstr(err.message, table[i].message) == NULL)
            fail_msg("'%s' is not in '%s'", table[i].message, err.message);
        assert_string_equal(out.data == NULL ? "before" : out.data, "before");
        buf_free(&out);
    }
}

/* A hostile template ends in an error, not in a hang or a crash. */
static void keeps_its_limits(void **state)
{
    static const char *const sources[] = {
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}",
        "{{ 'a' * 99999999999 }}",
        "{{ range(100001) }}",
    };
    for (size_t i = 0; i < COUNT_OF(sources); i++) {
        Err err = {0};
        Buf out = {0};
        assert_false(render(sources[i], NULL, &out, &err));
        assert_true(err_is_set(&err));
        buf_free(&out);
    }
    for (int depth = 50; depth <= 100000; depth *= 10) {
        Err err = {0};
        Buf source = {0}, out = {0};
        buf_text(&source, "{{ ");
        for (int i = 0; i < depth; i++)
            buf_text(&source, "(");
        buf_text(&source, "1");
        for (int i = 0; i < depth; i++)
            buf_text(&source, ")");
        buf_text(&source, " }}");
        assert_int_equal(render(source.data, NULL, &out, &err), depth == 50);
        buf_free(&source);
        buf_free(&out);
    }
}

/* Reasoning is visible under each name that templates read, as transformers arranges it. */
static void aliases_reasoning(void **state)
{
    Err err = {0};
    Buf out = {0};
    Json *messages =
        json_parse(STR("[{\"role\": \"assistant\", \"content\": \"a\", \"reasoning\": \"why\"}]"),
                   "m", ERR_INTERNAL_ERROR, &err);
    assert_true(render("{{ messages[0].thinking }} {{ messages[0].reasoning_content }}", messages,
                       &out, &err));
    assert_string_equal(out.data, "why why");
    buf_free(&out);
    json_free(messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(renders_as_transformers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_what_it_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeps_its_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(aliases_reasoning, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("text_template", tests, NULL, NULL);
}
