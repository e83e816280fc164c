/* cmd_list_runs.c — `backprop list-runs`: the runs of an output folder, newest first, as the
 * history has them. Owns nothing; the entries come from bp_runs_json.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static const char *text_or(const Json *entry, const char *key, const char *fallback)
{
    const char *text = json_text(json_get(entry, key));
    return text != NULL ? text : fallback;
}

static void print_row(const Json *entry)
{
    char loss[24] = "-";
    if (json_is_number(json_get(entry, "final_loss")))
        snprintf(loss, sizeof loss, "%.4f", json_double(json_get(entry, "final_loss"), 0));
    const char *model = text_or(entry, "model_name", "-");
    size_t len = strlen(model);
    printf("%-12.12s  %-16.16s  %-32s  %-24.24s  %-9s  %s\n", text_or(entry, "run_id", "-"),
           text_or(entry, "started_at", "-"), len > 32 ? model + len - 32 : model,
           text_or(entry, "dataset_info", "-"), text_or(entry, "status", "-"), loss);
}

int cmd_list_runs(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    const char *text = bp_runs_json(t, bp_get(t, "status"), strtoll(bp_get(t, "limit"), NULL, 10));
    if (text == NULL)
        return 0;
    Json *all = json_parse((Str){text, strlen(text)}, "runs", ERR_INTERNAL_ERROR, NULL);
    const Json *runs = json_get(all, "runs");
    if (flag_is_set(t, "json")) {
        print_json(runs);
    } else if (json_len(runs) == 0) {
        fprintf(stderr, "no runs in '%s'\n", bp_get(t, "output"));
    } else {
        printf("%-12s  %-16s  %-32s  %-24s  %-9s  %s\n", "RUN_ID", "STARTED", "MODEL", "DATASET",
               "STATUS", "FINAL_LOSS");
        for (size_t i = 0; i < json_len(runs); i++)
            print_row(json_at(runs, i));
    }
    json_free(all);
    return 0;
}
