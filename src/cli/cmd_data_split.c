/* cmd_data_split.c — `backprop data split`: two files from one.
 * Owns nothing; the work is bp_data_split_json.
 */
#include "cli/cli.h"

#include <string.h>

int cmd_data_split(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_data_split_json(t, positionals[0]);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *r = json_parse((Str){text, strlen(text)}, "split", ERR_INTERNAL_ERROR, NULL);
    const char *train = json_text(json_get(r, "train")), *held = json_text(json_get(r, "heldout"));
    printf("%s: %lld rows\n%s: %lld rows\n", train,
           (long long)json_int(json_get(r, "train_rows"), 0), held,
           (long long)json_int(json_get(r, "heldout_rows"), 0));
    fflush(stdout);
    term_hint("backprop data report %s --against %s", train, held);
    json_free(r);
    return 0;
}
