/* cmd_resume.c — `backprop resume`: goes on with a stopped run; `train --resume` by its own name.
 * Owns nothing; the work is cmd_train's.
 */
#include "cli/cli.h"

#include <string.h>

int cmd_resume(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_run_json(t, positionals[0]); /* "" and unknown ids are named here */
    if (text == NULL)
        return 0;
    Json *run = json_parse((Str){text, strlen(text)}, "run", ERR_INTERNAL_ERROR, NULL);
    const char *status = json_text(json_get(run, "status"));
    if (status != NULL && strcmp(status, "completed") == 0)
        term_phase("This run is complete already; its adapter is written again");
    bp_set(t, "resume", json_text(json_get(run, "run_id")));
    json_free(run);
    return cmd_train(t, NULL, 0);
}
