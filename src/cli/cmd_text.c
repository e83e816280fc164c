/* cmd_text.c — `backprop data render` and `backprop tokenize`: the exact text of rows, the ids of
 * lines. Owns nothing; the lines come from bp_data_render and bp_tokenize. Text goes out byte for
 * byte with a line end behind each row; --json is one object a line.
 */
#include "cli/cli.h"

typedef struct Printed {
    bool json;
    int64_t n_bad;
    Buf out;
} Printed;

static void put_line(Printed *printed)
{
    buf_char(&printed->out, '\n');
    fwrite(printed->out.data, 1, printed->out.len, stdout);
    buf_clear(&printed->out);
}

static void put_json(Printed *printed, Json *row)
{
    json_put(row, "schema_version", json_new_text("1"));
    json_write(row, (JsonStyle){0}, &printed->out);
    json_free(row);
    put_line(printed);
}

static void print_text(void *context, const bp_text_line *line)
{
    Printed *printed = context;
    assert(line->error != NULL || line->text != NULL);
    printed->n_bad += line->error != NULL;
    if (printed->json) {
        Json *row = json_new_object();
        json_put(row, "line", json_new_int(line->line));
        if (line->error != NULL)
            json_put(row, "error", json_new_text(line->error));
        else
            json_put(row, "text", json_new_str((Str){line->text, line->bytes}));
        put_json(printed, row);
    } else if (line->error != NULL) {
        fprintf(stderr, "line %lld: %s\n", (long long)line->line, line->error);
    } else {
        buf_append(&printed->out, line->text, line->bytes);
        put_line(printed);
    }
}

static void print_ids(void *context, const bp_text_line *line)
{
    Printed *printed = context;
    assert(line->ids != NULL || line->n_ids == 0);
    if (!printed->json) {
        for (size_t i = 0; i < line->n_ids; i++)
            buf_printf(&printed->out, "%s%d", i > 0 ? " " : "", (int)line->ids[i]);
        put_line(printed);
        return;
    }
    Json *ids = json_new_array(), *row = json_new_object();
    for (size_t i = 0; i < line->n_ids; i++)
        json_add(ids, json_new_int(line->ids[i]));
    json_put(row, "line", json_new_int(line->line));
    json_put(row, "n_ids", json_new_int((int64_t)line->n_ids));
    json_put(row, "ids", ids);
    put_json(printed, row);
}

int cmd_data_render(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    Printed printed = {.json = flag_is_set(t, "json")};
    const bool ok = bp_data_render(t, positionals[0], print_text, &printed);
    buf_free(&printed.out);
    return ok && printed.n_bad > 0 ? EXIT_BAD_DATA : 0;
}

int cmd_tokenize(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1 || n == 2);
    Printed printed = {.json = flag_is_set(t, "json")};
    bp_tokenize(t, positionals[0], n == 2 ? positionals[1] : "/dev/stdin", print_ids, &printed);
    buf_free(&printed.out);
    return 0;
}
