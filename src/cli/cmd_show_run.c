/* cmd_show_run.c — `backprop show-run`: everything the history knows of one run.
 * Owns nothing; the entry comes from bp_run_json.
 */
#include "cli/cli.h"

#include <math.h>
#include <string.h>

static void print_value(const char *key, const Json *value)
{
    Buf text = {0};
    if (json_is_string(value))
        buf_text(&text, json_text(value));
    else
        json_write(value, (JsonStyle){0}, &text);
    printf("%-24s %s\n", key, text.data != NULL ? text.data : "");
    buf_free(&text);
}

/* The losses as a row of bars, the least as the lowest, the largest as the highest. */
static void print_sparkline(const Json *losses)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    enum { WIDTH = 60, LEVELS = COUNT_OF(bars) };
    const size_t count = json_len(losses);
    double least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const double loss = json_double(json_at(losses, i), NAN);
        least = fmin(least, loss);
        most = fmax(most, loss);
    }
    printf("  ");
    for (size_t k = 0; k < WIDTH && k < count; k++) {
        const size_t i = count <= WIDTH ? k : k * (count - 1) / (WIDTH - 1);
        const double loss = json_double(json_at(losses, i), NAN);
        const double share = most > least ? (loss - least) / (most - least) : 0;
        fputs(isfinite(share) ? bars[(int)(share * (LEVELS - 1) + 0.5)] : " ", stdout);
    }
    printf("  %.4f to %.4f\n", most, least);
}

static void print_losses(const Json *losses)
{
    size_t count = json_len(losses);
    printf("\nLoss history (%zu points)\n", count);
    print_sparkline(losses);
    printf(" ");
    for (size_t i = 0; i < count; i++) {
        if (i == 5 && count > 8) {
            printf(" ...");
            i = count - 3;
        }
        printf(" %.4f", json_double(json_at(losses, i), 0));
    }
    printf("\n");
}

static void print_human(const Json *run)
{
    static const char *const shown[] = {
        "run_id",           "status",          "session_kind",   "started_at", "completed_at",
        "model_name",       "dataset_info",    "dataset_hash",   "steps",      "final_loss",
        "duration_seconds", "checkpoint_path", "failure_reason",
    };
    for (size_t i = 0; i < COUNT_OF(shown); i++) {
        const Json *value = json_get(run, shown[i]);
        if (!json_is_null(value))
            print_value(shown[i], value);
    }
    const Json *parameters = json_get(run, "hyperparameters");
    if (json_len(parameters) > 0)
        printf("\nHyperparameters\n");
    const char *key = NULL;
    Json *value = NULL;
    for (void *it = NULL; (it = json_next(parameters, it, &key, &value)) != NULL;)
        print_value(key, value);
    if (json_len(json_get(run, "loss_history")) > 0)
        print_losses(json_get(run, "loss_history"));
}

int cmd_show_run(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_run_json(t, positionals[0]);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *run = json_parse((Str){text, strlen(text)}, "run", ERR_INTERNAL_ERROR, NULL);
    print_human(run);
    json_free(run);
    return 0;
}
