/* cmd_check.c — `backprop check`: whether what runs left can be trusted; exit code 2 when something
 * cannot. Owns nothing; the work is bp_check_json.
 */
#include "cli/cli.h"

#include <string.h>

enum { EXIT_BAD = 2 };

static void print_run(const Json *run)
{
    const Json *checks = json_get(run, "checks");
    printf("%s\n", json_text(json_get(run, "run_id")));
    for (size_t i = 0; i < json_len(checks); i++) {
        const Json *row = json_at(checks, i);
        const bool ok = json_bool(json_get(row, "ok"), false);
        fputs("  ", stdout);
        term_paint(stdout, ok ? COLOUR_GREEN : COLOUR_RED, ok ? "ok " : "BAD");
        printf("  %-10s %s\n", json_text(json_get(row, "what")), json_text(json_get(row, "path")));
        if (!ok)
            printf("       %s\n", json_text(json_get(row, "reason")));
    }
}

int cmd_check(bp_trainer *t, const char *const *positionals, int n)
{
    const char *text = bp_check_json(t, n > 0 ? positionals[0] : NULL);
    if (text == NULL)
        return 0;
    Json *all = json_parse((Str){text, strlen(text)}, "check", ERR_INTERNAL_ERROR, NULL);
    const Json *runs = json_get(all, "runs");
    const int64_t bad = json_int(json_get(all, "bad"), 0);
    assert(bad >= 0);
    if (flag_is_set(t, "json"))
        puts(text);
    for (size_t i = 0; i < json_len(runs) && !flag_is_set(t, "json"); i++)
        print_run(json_at(runs, i));
    if (json_len(runs) == 0)
        fprintf(stderr, "no runs in '%s'\n", bp_get(t, "output"));
    json_free(all);
    return bad > 0 ? EXIT_BAD : 0;
}
