/* cmd_data_report.c — `backprop data report`: the quality of a data file in numbers.
 * Owns nothing; the numbers come from bp_data_report_json. Exit code 65 when a limit is passed.
 */
#include "cli/cli.h"

#include <string.h>

static void print_count(const char *title, const Json *r, const char *key)
{
    printf("%-20s %lld\n", title, (long long)json_int(json_get(r, key), 0));
}

static void print_histogram(const char *title, const Json *histogram)
{
    const char *bin = NULL;
    Json *count = NULL;
    int64_t most = 0;
    for (void *it = NULL; (it = json_next(histogram, it, &bin, &count)) != NULL;)
        most = max_i64(most, json_int(count, 0));
    if (most == 0)
        return;
    printf("\n%s\n", title);
    for (void *it = NULL; (it = json_next(histogram, it, &bin, &count)) != NULL;) {
        const int64_t n = json_int(count, 0);
        printf("  %12s %8lld ", bin, (long long)n);
        for (int64_t i = 0; i < 40 * n / most; i++)
            putchar('#');
        putchar('\n');
    }
}

static void print_duplicates(const Json *list)
{
    for (size_t i = 0; i < json_len(list); i++) {
        const Json *item = json_at(list, i);
        const bool exact = strcmp(json_text(json_get(item, "kind")), "exact") == 0;
        printf("  line %lld is %s line %lld\n", (long long)json_int(json_get(item, "line"), 0),
               exact ? "the same as" : "nearly the same as",
               (long long)json_int(json_get(item, "like_line"), 0));
    }
}

static void print_human(const Json *r)
{
    const Json *formats = json_get(r, "format_distribution"),
               *shared = json_get(r, "contamination");
    const char *name = NULL;
    Json *value = NULL;
    printf("%-20s %s\n", "Path", json_text(json_get(r, "dataset")));
    print_count("Rows", r, "total_rows");
    print_count("Not readable", r, "parse_errors");
    print_count("Invalid", r, "invalid_rows");
    for (void *it = NULL; (it = json_next(formats, it, &name, &value)) != NULL;)
        printf("  %-18s %lld\n", name, (long long)json_int(value, 0));
    print_count("Exact duplicates", r, "exact_duplicates");
    print_count("Near duplicates", r, "near_duplicates");
    print_duplicates(json_get(r, "duplicates"));
    print_count("Empty turns", r, "empty_turn_rows");
    print_count("Without assistant", r, "no_assistant_rows");
    print_count("Length outliers", r, "outlier_rows");
    printf("%-20s %.1f mean, %lld longest (%s)\n", "Tokens",
           json_double(json_get(r, "mean_tokens"), 0),
           (long long)json_int(json_get(r, "longest_tokens"), 0), json_text(json_get(r, "tokens")));
    print_count("With reasoning", r, "think_rows");
    if (json_is_object(shared))
        printf("%-20s %lld exact, %lld near in %s\n", "Contamination",
               (long long)json_int(json_get(shared, "exact"), 0),
               (long long)json_int(json_get(shared, "near"), 0),
               json_text(json_get(shared, "against")));
    print_histogram("Tokens a row", json_get(r, "token_histogram"));
    print_histogram("Tokens of reasoning a row", json_get(r, "trace_histogram"));
    const char *verdict = json_text(json_get(r, "verdict"));
    const Colour colour = strcmp(verdict, "PASS") == 0   ? COLOUR_GREEN
                          : strcmp(verdict, "WARN") == 0 ? COLOUR_YELLOW
                                                         : COLOUR_RED;
    printf("\n");
    term_paint(stdout, colour, verdict);
    printf("\n");
}

static void print_failed(const Json *failed)
{
    Buf text = {0};
    for (size_t i = 0; i < json_len(failed); i++) {
        const Json *item = json_at(failed, i);
        buf_printf(&text, "%s%s %.4f (limit %.4f)", i > 0 ? ", " : "",
                   json_text(json_get(item, "threshold")), json_double(json_get(item, "value"), 0),
                   json_double(json_get(item, "limit"), 0));
    }
    term_error(&(bp_error){.code = "INPUT_DATASET_REPORT_THRESHOLD",
                           .message = text.data,
                           .hint = "Clean the rows that the report names, or raise the limit",
                           .exit_code = EXIT_BAD_DATA});
    buf_free(&text);
}

int cmd_data_report(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_data_report_json(t, positionals[0]);
    if (text == NULL)
        return 0;
    Json *r = json_parse((Str){text, strlen(text)}, "report", ERR_INTERNAL_ERROR, NULL);
    if (flag_is_set(t, "json"))
        puts(text);
    else
        print_human(r);
    fflush(stdout);
    const Json *failed = json_get(r, "failed_thresholds");
    const int code = json_len(failed) > 0 ? EXIT_BAD_DATA : 0;
    if (code != 0)
        print_failed(failed);
    json_free(r);
    return code;
}
