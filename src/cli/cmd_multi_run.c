/* cmd_multi_run.c — `backprop multi-run`: a session of runs; its result, with the matrix of what
 * was learnt and forgotten. Owns nothing; the work is bp_multi_run.
 */
#include "cli/cli.h"

#include <math.h>
#include <string.h>

enum { NAME_WIDTH = 12 };

/* The end of a path, which tells files apart. */
static const char *short_name(const char *name)
{
    const char *slash = name != NULL ? strrchr(name, '/') : NULL;
    const char *base = slash != NULL ? slash + 1 : name != NULL ? name : "?";
    const size_t len = strlen(base);
    return len > NAME_WIDTH ? base + len - NAME_WIDTH : base;
}

static void print_number(const Json *value, char mark)
{
    if (json_is_number(value))
        printf("  %*.4f%c", NAME_WIDTH - 1, json_double(value, 0), mark);
    else
        printf("  %*s%c", NAME_WIDTH - 1, "-", mark);
}

/* A row of the matrix; the loss of the task that the run learnt is marked. */
static void print_row(const Json *row, const Json *runs)
{
    const int64_t run = json_int(json_get(row, "run"), 0);
    const int64_t task = json_int(json_get(row, "task"), -1);
    const Json *losses = json_get(row, "losses");
    char label[32] = "base model";
    if (run > 0)
        snprintf(label, sizeof label, "run %lld", (long long)run);
    printf("  %-12s", label);
    for (size_t i = 0; i < json_len(losses); i++)
        print_number(json_at(losses, i), (int64_t)i == task ? '*' : ' ');
    const char *reason =
        run > 0 ? json_text(json_get(json_at(runs, (size_t)run - 1), "reason")) : NULL;
    printf("%s%s\n", reason != NULL ? "  not merged: " : "", reason != NULL ? reason : "");
}

static void print_summary(const char *label, const Json *tasks, const char *key)
{
    printf("  %-12s", label);
    for (size_t i = 0; i < json_len(tasks); i++)
        print_number(json_get(json_at(tasks, i), key), ' ');
    printf("\n");
}

static void print_matrix(const Json *matrix, const Json *runs)
{
    const Json *tasks = json_get(matrix, "tasks"), *rows = json_get(matrix, "rows");
    printf("\n  held-out loss (* of the file that the run learnt)\n  %-12s", "");
    for (size_t i = 0; i < json_len(tasks); i++)
        printf("  %*s", NAME_WIDTH, short_name(json_text(json_get(json_at(tasks, i), "name"))));
    printf("\n");
    for (size_t i = 0; i < json_len(rows); i++)
        print_row(json_at(rows, i), runs);
    print_summary("learnt", tasks, "learnt");
    print_summary("forgotten", tasks, "forgotten");
    printf("\n");
}

void print_session(const Json *r)
{
    char seconds[32];
    const int64_t runs = json_int(json_get(r, "total_runs"), 0);
    const int64_t failed = json_int(json_get(r, "failed_runs"), 0);
    assert(runs >= failed);
    term_paint(stdout, COLOUR_GREEN, "[OK]");
    printf(" %lld runs complete%s\n", (long long)(runs - failed),
           json_bool(json_get(r, "stopped_early"), false) ? ", stopped early" : "");
    print_matrix(json_get(r, "matrix"), json_get(r, "runs"));
    printf("  Final loss:  %.4f (mean of the last run)\n",
           json_double(json_get(r, "final_loss"), NAN));
    printf("  Duration:    %s, %lld tokens\n",
           term_seconds(json_double(json_get(r, "seconds"), 0), seconds),
           (long long)json_int(json_get(r, "tokens"), 0));
    printf("  Saved to:    %s (merge %s)\n", json_text(json_get(r, "adapter")),
           json_text(json_get(r, "merge_mode")));
    printf("  Run:         %s\n", json_text(json_get(r, "run_id")));
    fflush(stdout);
    term_hint("backprop export %s --format gguf", json_text(json_get(r, "output")));
}

static bool multi_run(bp_trainer *t, const void *what)
{
    (void)what;
    return bp_multi_run(t, NULL);
}

int cmd_multi_run(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    return show_training(t, multi_run, NULL);
}
