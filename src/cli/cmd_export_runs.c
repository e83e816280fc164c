/* cmd_export_runs.c — `backprop export-runs`: the history as one JSON object a line, for other
 * programs. Owns nothing; the entries come from bp_runs_json.
 */
#include "cli/cli.h"

#include <string.h>

#include "core/file.h"

static int fail(const Err *err)
{
    const ErrInfo *info = err_info(err->code);
    term_error(&(bp_error){info->name, err->message, err_hint_text(err), info->exit_code});
    return info->exit_code;
}

static int write_lines(const char *path, const Buf *lines)
{
    if (*path == '\0') {
        fwrite(lines->data != NULL ? lines->data : "", 1, lines->len, stdout);
        return 0;
    }
    Err err = {0};
    Arena arena;
    bool ok = arena_open(&arena, (size_t)1 << 20, &err);
    if (ok) {
        const char *parent = path_parent(&arena, path);
        ok = folder_make(parent, ERR_RUNTIME_IO_FAILED, &err) &&
             file_write_atomic(path, buf_view(lines), ERR_RUNTIME_IO_FAILED, &err);
        arena_close(&arena);
    }
    return ok ? 0 : fail(&err);
}

int cmd_export_runs(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    if (!path_exists(bp_get(t, "output"))) {
        Err err = {0};
        err_set(&err, ERR_INPUT_VALIDATION_FAILED, "'%s' does not exist", bp_get(t, "output"));
        err_hint(&err, "Pass the folder of the runs with --output");
        return fail(&err);
    }
    must(strcmp(bp_get(t, "runs-format"), "jsonl") == 0); /* the only one */
    const char *text = bp_runs_json(t, bp_get(t, "status"), 0);
    if (text == NULL)
        return 0;
    Json *all = json_parse((Str){text, strlen(text)}, "runs", ERR_INTERNAL_ERROR, NULL);
    const Json *runs = json_get(all, "runs");
    Buf lines = {0};
    for (size_t i = 0; i < json_len(runs); i++) {
        Json *run = json_at(runs, i);
        json_put(run, "schema_version", json_new_text("1"));
        json_write(run, (JsonStyle){0}, &lines);
        buf_char(&lines, '\n');
    }
    const char *to = bp_get(t, "to");
    const int code = lines.failed ? 2 : write_lines(to, &lines);
    if (code == 0)
        fprintf(stderr, "%zu runs of '%s'%s%s\n", json_len(runs), bp_get(t, "output"),
                *to != '\0' ? " written to " : "", to);
    buf_free(&lines);
    json_free(all);
    return code;
}
