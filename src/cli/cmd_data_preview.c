/* cmd_data_preview.c — `backprop data preview`: rows as the model will see them.
 * Owns nothing; the rows come from bp_data_preview_json. Trained text is green; without colours it
 * stands between ⟦ and ⟧.
 */
#include "cli/cli.h"

#include <string.h>

static void print_row(const Json *row)
{
    const Json *segments = json_get(row, "segments");
    assert(json_is_array(segments));
    printf("line %lld: %lld tokens, %lld carry loss\n",
           (long long)json_int(json_get(row, "line"), 0),
           (long long)json_int(json_get(row, "n_tokens"), 0),
           (long long)json_int(json_get(row, "n_loss"), 0));
    for (size_t i = 0; i < json_len(segments); i++) {
        const Json *segment = json_at(segments, i);
        const char *text = json_text(json_get(segment, "text"));
        if (json_bool(json_get(segment, "loss"), false))
            term_paint_or_mark(stdout, COLOUR_GREEN, text, "\u27e6", "\u27e7");
        else
            term_paint(stdout, COLOUR_DIM, text);
    }
    printf("\n");
}

static void print_notes(const Json *notes)
{
    for (size_t i = 0; i < json_len(notes); i++) {
        const Json *note = json_at(notes, i);
        fprintf(stderr, "line %lld %s: %s\n", (long long)json_int(json_get(note, "line"), 0),
                strcmp(json_text(json_get(note, "kind")), "cut") == 0 ? "is cut" : "is dropped",
                json_text(json_get(note, "message")));
    }
}

int cmd_data_preview(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    const char *text = bp_data_preview_json(t, positionals[0]);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *json = json_parse((Str){text, strlen(text)}, "preview", ERR_INTERNAL_ERROR, NULL);
    const Json *rows = json_get(json, "rows");
    for (size_t i = 0; i < json_len(rows); i++)
        print_row(json_at(rows, i));
    print_notes(json_get(json, "notes"));
    json_free(json);
    return 0;
}
