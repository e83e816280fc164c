/* cmd_replay.c — `backprop replay`: an earlier run once more; shown as cmd_train shows a run.
 * Owns nothing; the work is bp_replay.
 */
#include "cli/cli.h"

static bool replay(bp_trainer *t, const void *run_id)
{
    return bp_replay(t, run_id);
}

int cmd_replay(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    return show_training(t, replay, positionals[0]);
}
