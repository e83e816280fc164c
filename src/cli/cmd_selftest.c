/* cmd_selftest.c — `backprop selftest`: what must not change a run's numbers, tried here, in a
 * table. Owns the table; the trials are bp_selftest_json's. Exit code 2 when one does not hold.
 */
#include "cli/cli.h"

#include <string.h>

int cmd_selftest(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_selftest_json(t, positionals[0]);
    if (text == NULL)
        return 0;
    Json *r = json_parse((Str){text, strlen(text)}, "selftest", ERR_INTERNAL_ERROR, NULL);
    const bool all = json_bool(json_get(r, "all_hold"), false);
    const Json *checks = json_get(r, "checks");
    if (flag_is_set(t, "json"))
        puts(text);
    for (size_t i = 0; !flag_is_set(t, "json") && i < json_len(checks); i++) {
        const Json *check = json_at(checks, i);
        const bool holds = json_bool(json_get(check, "holds"), false);
        term_paint(stdout, holds ? COLOUR_GREEN : COLOUR_RED, holds ? "[OK]   " : "[FAILED]");
        printf(" %-58s %.1e (limit %.0e)\n", json_text(json_get(check, "name")),
               json_double(json_get(check, "difference"), 0),
               json_double(json_get(check, "limit"), 0));
    }
    json_free(r);
    return all ? 0 : 2;
}
