/* test_core_log.c — log lines in both forms, levels, bindings, the file, and above all redaction:
 * every secret here must vanish, every innocent line must survive letter by letter.
 */
#include "test_support.h"

#include "core/json.h"
#include "core/log.h"

static void assert_redacts(const char *text, const char *expected)
{
    Buf out = {0};
    log_redact(str_of(text), &out);
    assert_string_equal(out.len > 0 ? out.data : "", expected);
    buf_free(&out);
}

static void known_token_shapes(void **state)
{
    static const char *const CASES[][2] = {
        {"Authorization: Bearer abc.def-123", "Authorization: Bearer <REDACTED>"},
        {"curl -H 'bearer   xyz'", "curl -H 'bearer   <REDACTED>'"},
        {"Basic dXNlcjpwYXNzd29yZA== ok", "Basic <REDACTED> ok"},
        {"key sk-abcd1234 end", "key <REDACTED> end"},
        {"sk-proj-Ab_9-xyz12345 end", "<REDACTED> end"},
        {"(hf_abcdefgh)", "(<REDACTED>)"},
        {"AKIAIOSFODNN7EXAMPLE", "<REDACTED>"},
        {"ASIAIOSFODNN7EXAMPLE.", "<REDACTED>."},
        {"ghp_abcdefghijklmnopqrstuvwxyz0123456789", "<REDACTED>"},
        {"x ghs_abcdefghijklmnopqrstuvwxyz0123456789 y", "x <REDACTED> y"},
        {"gho_abcdefghijklmnopqrstuvwxyz0123456789,", "<REDACTED>,"},
        {"ghu_abcdefghijklmnopqrstuvwxyz0123456789", "<REDACTED>"},
        {"ghr_abcdefghijklmnopqrstuvwxyz0123456789", "<REDACTED>"},
        {"glpat-abcdefghij-klmnopqrst", "<REDACTED>"},
        {"github_pat_11ABCDEFG0_abcdefghijklmnop", "<REDACTED>"},
        {"xoxb-123456789012-abc", "<REDACTED>"},
        {"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_123 end", "jwt <REDACTED> end"},
        {"https://user:pass@host/x", "https://<REDACTED>@host/x"},
        {"postgres://me:p%40ss@db:5432/x y", "postgres://<REDACTED>@db:5432/x y"},
        {"git clone https://tok_en123@host.org/a/b", "git clone https://<REDACTED>@host.org/a/b"},
        {"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY end", "<REDACTED> end"},
        {"secret=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "secret=<REDACTED>"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++)
        assert_redacts(CASES[i][0], CASES[i][1]);
}

static void assignments(void **state)
{
    static const char *const CASES[][2] = {
        {"password=hunter2!x", "password=<REDACTED>"},
        {"PASSWD: abc", "PASSWD: <REDACTED>"},
        {"pwd=x", "pwd=<REDACTED>"}, /* short ones too */
        {"client_secret = \"a b c\" next", "client_secret = \"<REDACTED>\" next"},
        {"{\"password\": \"a\\\"b\", \"n\": 1}", "{\"password\": \"<REDACTED>\", \"n\": 1}"},
        {"'api_key': 'k1',", "'api_key': '<REDACTED>',"},
        {"HF_TOKEN=abcd efg", "HF_TOKEN=<REDACTED> efg"},
        {"aws_secret_access_key=abc/def+g", "aws_secret_access_key=<REDACTED>"},
        {"WANDB_API_KEY=0123456789abcdef", "WANDB_API_KEY=<REDACTED>"},
        {"x-api-key: v1;q", "x-api-key: <REDACTED>;q"},
        {"url?token=abcd1234&x=1", "url?token=<REDACTED>&x=1"},
        {"password=\"unclosed", "password=\"<REDACTED>"},
        {"token=12345678", "token=<REDACTED>"},
        {"Authorization: token-value-1", "Authorization: <REDACTED>"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++)
        assert_redacts(CASES[i][0], CASES[i][1]);
}

static void innocent_lines_survive(void **state)
{
    static const char *const CASES[] = {
        "",
        "tokens=512 tokens_per_s=1234.5 loss_tokens=17",
        "eos_token=<|im_end|> bos_token=<|im_start|>",
        "unexpected token: 12",
        "step=3 loss=2.3451 lr=2.00e-04",
        "cannot open 'out/checkpoint-100/adapter_model.safetensors': No such file or directory",
        "sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "commit 0a4f6e7c0a4f6e7c0a4f6e7c0a4f6e7c0a4f6e7c is fine",
        "run_id=9f86d081884c4d659a2feaa0c55ad015",
        "http://localhost:11434/api/tags user@example.com",
        "https://huggingface.co/a/b@main",
        "disk-abcdefghi shelf_abcdefghi task-12345678",
        "the password is wrong; no secret here",
        "eyJhbGciOiJIUzI1NiJ9.only-two",
        "a basic fact and the bearer",
        "sk-short hf_short ghp_short",
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++)
        assert_redacts(CASES[i], CASES[i]);
}

static void long_texts_are_linear(void **state)
{
    static const char *const UNITS[] = {" ", "sk-", "token=\"", "eyJ.",
                                        "://", "a", "Bearer ", "=="};
    for (size_t i = 0; i < COUNT_OF(UNITS); i++) {
        Buf text = {0}, out = {0};
        while (text.len < 200000)
            buf_text(&text, UNITS[i]);
        log_redact(buf_view(&text), &out); /* quadratic work would exceed the test's time limit */
        assert_true(out.len > 0);
        buf_free(&text);
        buf_free(&out);
    }
}

typedef struct Lines {
    Buf text;
    int count;
    LogLevel last;
} Lines;

static void take(void *context, LogLevel level, const char *line)
{
    Lines *lines = context;
    buf_text(&lines->text, line);
    buf_char(&lines->text, '\n');
    lines->count++;
    lines->last = level;
}

static void console_lines(void **state)
{
    Lines lines = {0};
    assert_true(log_open(&(LogOptions){.level = LOG_INFO}, NULL));
    log_set_sink(take, &lines);
    log_bind("run_id", "abc");
    log_debug("hidden", "x=%d", 1);
    assert_int_equal(lines.count, 0);
    log_info("run_started", "steps=%d", 60);
    assert_non_null(strstr(lines.text.data, " INFO    run_started steps=60 run_id=abc\n"));
    log_warn("odd", "text=\"%s\"", "two\nlines\x1b[31m");
    assert_non_null(strstr(lines.text.data, "text=\"two\\nlines\\x1b[31m\""));
    assert_int_equal(lines.last, LOG_WARNING);
    log_error("leak", "password=%s", "geheim");
    assert_null(strstr(lines.text.data, "geheim"));
    log_bind("run_id", NULL);
    buf_clear(&lines.text);
    log_info("plain", "%s", "");
    assert_null(strstr(lines.text.data, "run_id"));
    assert_int_equal(lines.count, 4);
    log_set_sink(NULL, NULL);
    log_close();
    buf_free(&lines.text);
}

static void json_lines(void **state)
{
    Lines lines = {0};
    assert_true(log_open(&(LogOptions){.level = LOG_DEBUG, .format = LOG_JSON}, NULL));
    log_set_sink(take, &lines);
    log_bind("run_id", "r1");
    log_bind("subcommand", "train");
    log_bind("run_id", "r2");
    log_info("step",
             "n=%d loss=%.4f path=\"%s\" ok=yes id=%s bare words level=FAKE token=%s v=1.2.3", 3,
             2.5, "a \"quoted\" b\n", "0007", "hf_abcdefghijk");
    Json *j = json_parse(str_of(lines.text.data), "line", ERR_INTERNAL_ERROR, NULL);
    assert_non_null(j);
    assert_string_equal(json_text(json_get(j, "event")), "step");
    assert_string_equal(json_text(json_get(j, "level")), "INFO");
    const char *stamp = json_text(json_get(j, "timestamp"));
    assert_int_equal(strlen(stamp), 27);
    assert_int_equal(stamp[26], 'Z');
    assert_string_equal(json_text(json_get(j, "run_id")), "r2");
    assert_string_equal(json_text(json_get(j, "subcommand")), "train");
    assert_int_equal(json_int(json_get(j, "n"), 0), 3);
    assert_true(json_double(json_get(j, "loss"), 0) == 2.5);
    assert_string_equal(json_text(json_get(j, "path")), "a \"quoted\" b\n");
    assert_string_equal(json_text(json_get(j, "ok")), "yes");
    assert_string_equal(json_text(json_get(j, "id")), "0007"); /* not a JSON number */
    assert_string_equal(json_text(json_get(j, "v")), "1.2.3");
    assert_string_equal(json_text(json_get(j, "token")), "<REDACTED>");
    assert_string_equal(json_text(json_get(j, "message")), "bare words level=FAKE");
    json_free(j);
    log_set_sink(NULL, NULL);
    log_close();
    buf_free(&lines.text);
}

static void file_is_appended_and_quiet_keeps_it(void **state)
{
    Buf path = {0};
    buf_printf(&path, "%s/log.txt", (char *)*state);
    Lines lines = {0};
    for (int round = 0; round < 2; round++) {
        assert_true(log_open(&(LogOptions){.file = path.data, .level = LOG_INFO, .quiet = true},
                             NULL));
        log_set_sink(take, &lines);
        log_info("quiet_one", "round=%d", round);
        log_error("loud_one", "round=%d", round);
        log_set_sink(NULL, NULL);
        log_close();
    }
    assert_int_equal(lines.count, 2);
    FileMap map;
    assert_true(file_map(&map, path.data, ERR_RUNTIME_IO_FAILED, NULL));
    int newlines = 0;
    for (size_t i = 0; i < map.size; i++)
        newlines += map.data[i] == '\n';
    assert_int_equal(newlines, 4);
    file_unmap(&map);
    Err err = {0};
    assert_false(log_open(&(LogOptions){.file = "/no/such/folder/log"}, &err));
    assert_int_equal(err.code, ERR_CONFIG_INVALID_SETTING);
    log_close();
    buf_free(&lines.text);
    buf_free(&path);
}

static void very_long_fields_are_cut(void **state)
{
    Lines lines = {0};
    log_set_sink(take, &lines);
    char *big = heap_resize(NULL, 200001);
    memset(big, 'y', 200000);
    big[200000] = '\0';
    log_info("big", "v=%s", big);
    assert_true(lines.text.len > 60000 && lines.text.len < 70000);
    heap_free(big);
    log_set_sink(NULL, NULL);
    buf_free(&lines.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_token_shapes),
        cmocka_unit_test(assignments),
        cmocka_unit_test(innocent_lines_survive),
        cmocka_unit_test(long_texts_are_linear),
        cmocka_unit_test(console_lines),
        cmocka_unit_test(json_lines),
        cmocka_unit_test_setup_teardown(file_is_appended_and_quiet_keeps_it, temp_setup,
                                        temp_teardown),
        cmocka_unit_test(very_long_fields_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
