/* cmd_train.c — `backprop train`: progress on stderr, the result on stdout.
 * Owns nothing; the work is bp_train.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static void on_event(void *context, const bp_event *event)
{
    const int64_t *every = context;
    if (strcmp(event->name, "step") == 0)
        term_progress(event, *every);
    else if (strcmp(event->name, "run_started") == 0 || strcmp(event->name, "run_resumed") == 0)
        finish_step_on_interrupt();
    else if (strcmp(event->name, "phase") == 0)
        term_phase(event->text);
    else if (strcmp(event->name, "stopping") == 0)
        term_phase("Stopping after this step");
}

static void print_profile(const Json *rows)
{
    double total = 0;
    for (size_t i = 0; i < json_len(rows); i++)
        total += json_double(json_get(json_at(rows, i), "seconds"), 0);
    printf("\n%-16s %-9s %10s %10s %7s\n", "op", "pass", "calls", "seconds", "share");
    for (size_t i = 0; i < json_len(rows); i++) {
        const Json *row = json_at(rows, i);
        double seconds = json_double(json_get(row, "seconds"), 0);
        printf("%-16s %-9s %10lld %10.3f %6.1f%%\n", json_text(json_get(row, "op")),
               json_text(json_get(row, "pass")), (long long)json_int(json_get(row, "calls"), 0),
               seconds, total > 0 ? 100 * seconds / total : 0);
    }
}

static void print_result(const Json *r)
{
    char seconds[32], planned[32], used[32];
    const Json *memory = json_get(r, "memory_bytes");
    assert(json_is_object(memory));
    const char *run_id = json_text(json_get(r, "run_id"));
    double plan = 0, real = 0;
    static const char *const slabs[] = {"weights", "run", "step"};
    for (int i = 0; i < 3; i++) {
        char key[32];
        snprintf(key, sizeof key, "planned_%s", slabs[i]);
        plan += json_double(json_get(memory, key), 0);
        snprintf(key, sizeof key, "used_%s", slabs[i]);
        real += json_double(json_get(memory, key), 0);
    }
    term_paint(stdout, COLOUR_GREEN, "[OK]");
    printf(" Training complete\n");
    printf("  Final loss:  %.4f (mean), %.4f (last step)\n",
           json_double(json_get(r, "final_loss"), 0), json_double(json_get(r, "last_loss"), 0));
    if (json_get(r, "eval_loss") != NULL)
        printf("  Held out:    %.4f over %lld rows\n", json_double(json_get(r, "eval_loss"), 0),
               (long long)json_int(json_get(json_get(r, "dataset"), "held_out"), 0));
    printf("  Duration:    %s, %lld tokens\n",
           term_seconds(json_double(json_get(r, "seconds"), 0), seconds),
           (long long)json_int(json_get(r, "tokens"), 0));
    printf("  Memory:      %s planned, %s used\n", term_bytes(plan, planned),
           term_bytes(real, used));
    printf("  Saved to:    %s\n", json_text(json_get(r, "adapter")));
    printf("  Run:         %s\n", run_id != NULL ? run_id : "");
    if (json_get(r, "profile") != NULL)
        print_profile(json_get(r, "profile"));
    fflush(stdout);
    term_hint("backprop generate %s \"your question\"", json_text(json_get(r, "output")));
    term_hint("backprop export %s --format gguf -q q8_0", json_text(json_get(r, "output")));
}

int show_training(bp_trainer *t, bool (*work)(bp_trainer *t, const void *what), const void *what)
{
    int64_t every = strtoll(bp_get(t, "logging-steps"), NULL, 10);
    bp_on_event(t, on_event, &every);
    bool ok = work(t, what);
    term_progress_end();
    const char *text = bp_result_json(t);
    const bp_error *error = bp_last_error(t);
    if (!ok && (error == NULL || strcmp(error->code, "PARTIAL_SUCCESS") != 0))
        return 0;
    if (flag_is_set(t, "json")) {
        if (ok) /* the caller prints what a failed verb has done */
            puts(text);
        return 0;
    }
    Json *result = json_parse((Str){text, strlen(text)}, "result", ERR_INTERNAL_ERROR, NULL);
    if (json_get(result, "matrix") != NULL)
        print_session(result);
    else
        print_result(result);
    json_free(result);
    return 0;
}

static bool train(bp_trainer *t, const void *what)
{
    (void)what;
    return bp_train(t, NULL, NULL);
}

int cmd_train(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    return show_training(t, train, NULL);
}
