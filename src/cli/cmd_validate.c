/* cmd_validate.c — `backprop validate`: every row of a data file, without a model.
 * Owns nothing; what it shows comes from bp_validate_json. Exit codes: 0 clean, 1 cannot be read,
 * 65 has errors.
 */
#include "cli/cli.h"

#include <string.h>

enum { SHOWN = 10 };

static void print_list(const Json *list, int64_t total, Colour colour, const char *title)
{
    if (total == 0)
        return;
    printf("\n");
    term_paint(stdout, colour, title);
    printf(" (%lld)\n", (long long)total);
    for (size_t i = 0; i < json_len(list) && i < SHOWN; i++) {
        const Json *item = json_at(list, i);
        const char *type = json_text(json_get(item, "error_type"));
        printf("  line %lld: %s%s%s\n", (long long)json_int(json_get(item, "line"), 0),
               type != NULL ? type : "", type != NULL ? ": " : "",
               json_text(json_get(item, "message")));
    }
    if (total > SHOWN)
        printf("  and %lld more: --json lists them\n", (long long)total - SHOWN);
}

static void print_human(const Json *r)
{
    static const struct {
        const char *title, *key;
    } lines[] = {
        {"Path", "dataset"},
        {"Lines scanned", "lines_scanned"},
        {"Samples parsed", "samples_parsed"},
        {"Format hint", "format_hint"},
        {"Format detected", "format_detected"},
        {"Total rows", "total_rows"},
        {"Valid rows", "valid_rows"},
        {"Errors", "n_errors"},
        {"Warnings", "n_warnings"},
    };
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        const Json *value = json_get(r, lines[i].key);
        if (json_is_string(value))
            printf("%-16s %s\n", lines[i].title, json_text(value));
        else
            printf("%-16s %lld\n", lines[i].title, (long long)json_int(value, 0));
    }
    print_list(json_get(r, "parse_errors"), json_int(json_get(r, "n_parse_errors"), 0), COLOUR_RED,
               "Not readable");
    print_list(json_get(r, "errors"), json_int(json_get(r, "n_errors"), 0), COLOUR_RED, "Errors");
    print_list(json_get(r, "warnings"), json_int(json_get(r, "n_warnings"), 0), COLOUR_YELLOW,
               "Warnings");
    const bool valid = json_bool(json_get(r, "is_valid"), false);
    printf("\n");
    term_paint(stdout, valid ? COLOUR_GREEN : COLOUR_RED, valid ? "[OK]" : "[ERROR]");
    printf(" %s\n", valid ? "every row can be read" : "rows have errors");
}

static int exit_code(const Json *r)
{
    const char *error = json_text(json_get(r, "error"));
    if (json_bool(json_get(r, "is_valid"), false))
        return 0;
    return error == NULL || strcmp(error, "no_parseable_rows") == 0 ? EXIT_BAD_DATA : 1;
}

int cmd_validate(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_validate_json(t, positionals[0]);
    if (text == NULL)
        return 0;
    Json *r = json_parse((Str){text, strlen(text)}, "result", ERR_INTERNAL_ERROR, NULL);
    const int code = exit_code(r);
    if (flag_is_set(t, "json"))
        puts(text);
    else if (json_get(r, "error") == NULL)
        print_human(r);
    else
        term_error(&(bp_error){.code = json_text(json_get(r, "code")),
                               .message = json_text(json_get(r, "message")),
                               .hint = json_text(json_get(r, "hint")),
                               .exit_code = code});
    json_free(r);
    return code;
}
