/* cmd_resume.c — `backprop resume`: goes on with a stopped run, shown as cmd_train shows a run.
 * Owns nothing; the work is bp_resume.
 */
#include "cli/cli.h"

static bool resume(bp_trainer *t, const void *run_id)
{
    return bp_resume(t, run_id);
}

int cmd_resume(bp_trainer *t, const char *const *positionals, int n)
{
    return show_training(t, resume, n > 0 ? positionals[0] : NULL);
}
