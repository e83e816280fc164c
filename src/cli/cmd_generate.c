/* cmd_generate.c — `backprop generate`: the answer on stdout as it comes.
 * Owns nothing; the work is bp_generate.
 */
#include "cli/cli.h"

#include <string.h>

static void on_event(void *context, const bp_event *event)
{
    const bool *json = context;
    if (strcmp(event->name, "text") == 0 && !*json) {
        fputs(event->text, stdout);
        fflush(stdout);
    }
}

int cmd_generate(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 2);
    bool json = flag_is_set(t, "json");
    bp_on_event(t, on_event, &json);
    const char *answer = bp_generate(t, positionals[1]);
    if (answer != NULL)
        puts(json ? bp_result_json(t) : "");
    return 0;
}
