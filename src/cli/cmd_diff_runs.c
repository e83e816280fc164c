/* cmd_diff_runs.c — `backprop diff-runs`: what two runs differ in, changed rows in colour.
 * Owns nothing; the rows come from bp_diff_runs_json.
 */
#include "cli/cli.h"

#include <math.h>
#include <string.h>

static void value_text(const Json *value, Buf *out)
{
    const double number = json_double(value, 0);
    if (json_is_null(value))
        buf_text(out, "-");
    else if (json_is_string(value))
        buf_text(out, json_text(value));
    else if (!json_is_number(value) || json_is_int(value))
        json_write(value, (JsonStyle){0}, out);
    else
        buf_printf(out, fabs(number) < 1e6 ? "%.4f" : "%.6g", number);
}

static void print_row(const Json *row)
{
    Buf a = {0}, b = {0}, line = {0};
    value_text(json_get(row, "run_a"), &a);
    value_text(json_get(row, "run_b"), &b);
    buf_printf(&line, "%-28s  %-36s  %s", json_text(json_get(row, "field")), a.data, b.data);
    must(!line.failed);
    const bool changed = json_bool(json_get(row, "changed"), false);
    printf("%c ", changed ? '*' : ' ');
    term_paint(stdout, changed ? COLOUR_YELLOW : COLOUR_NONE, line.data);
    putchar('\n');
    buf_free(&a);
    buf_free(&b);
    buf_free(&line);
}

int cmd_diff_runs(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 2);
    const char *text = bp_diff_runs_json(t, positionals[0], positionals[1]);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json") || strcmp(bp_get(t, "diff-format"), "json") == 0) {
        puts(text);
        return 0;
    }
    Json *report = json_parse((Str){text, strlen(text)}, "runs", ERR_INTERNAL_ERROR, NULL);
    printf("  %-28s  %-36s  %s\n", "FIELD",
           json_text(json_get(json_get(report, "run_a"), "run_id")),
           json_text(json_get(json_get(report, "run_b"), "run_id")));
    const Json *rows = json_get(report, "rows");
    for (size_t i = 0; i < json_len(rows); i++)
        print_row(json_at(rows, i));
    printf("%lld of %zu fields differ\n",
           (long long)json_int(json_get(report, "changed_count"), 0), json_len(rows));
    json_free(report);
    return 0;
}
