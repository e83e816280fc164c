/* cmd_runs.c — `backprop runs`: the runs of an output folder in short: how each ended, how long it
 * took, its losses. Owns nothing; the rows come from bp_runs_report_json.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static const char *text_or_dash(const Json *row, const char *key)
{
    const char *text = json_text(json_get(row, key));
    return text != NULL ? text : "-";
}

static const char *number_or_dash(const Json *value, char out[32])
{
    if (json_is_number(value))
        snprintf(out, 32, "%.4f", json_double(value, 0));
    else
        snprintf(out, 32, "-");
    return out;
}

static void print_row(const Json *row)
{
    char seconds[32] = "-", last[32], least[32];
    const Json *loss = json_get(row, "loss"), *duration = json_get(row, "duration_seconds");
    if (json_is_number(duration))
        term_seconds(json_double(duration, 0), seconds);
    const char *model = text_or_dash(row, "model");
    const size_t len = strlen(model);
    printf("%-12.12s  %-16.16s  %-9s  %10s  %8s  %8s  %-24s  %s\n", text_or_dash(row, "run_id"),
           text_or_dash(row, "started_at"), text_or_dash(row, "status"), seconds,
           number_or_dash(json_get(loss, "final"), last),
           number_or_dash(json_get(loss, "min"), least), len > 24 ? model + len - 24 : model,
           text_or_dash(row, "dataset"));
}

int cmd_runs(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    const int64_t limit = strtoll(bp_get(t, "runs-limit"), NULL, 10);
    const char *text = bp_runs_report_json(t, bp_get(t, "status"), limit);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *report = json_parse((Str){text, strlen(text)}, "runs", ERR_INTERNAL_ERROR, NULL);
    const Json *rows = json_get(report, "runs");
    if (json_len(rows) == 0)
        fprintf(stderr, "no runs in '%s'\n", bp_get(t, "output"));
    else
        printf("%-12s  %-16s  %-9s  %10s  %8s  %8s  %-24s  %s\n", "RUN_ID", "STARTED", "STATUS",
               "TIME", "LOSS", "LEAST", "MODEL", "DATASET");
    for (size_t i = 0; i < json_len(rows); i++)
        print_row(json_at(rows, i));
    json_free(report);
    return 0;
}
