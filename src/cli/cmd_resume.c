/* cmd_resume.c — `backprop resume`: goes on with a stopped run; `train --resume` by its own name.
 * Owns nothing; the work is cmd_train's.
 */
#include "cli/cli.h"

int cmd_resume(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    bp_set(t, "resume", positionals[0]);
    return cmd_train(t, NULL, 0);
}
