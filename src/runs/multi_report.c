/* multi_report.c — the matrix of runs and tasks. See multi_report.h.
 *
 * The picture has a row for the base model and one for each run, a column for each task, and in
 * every cell the loss, on white to red by its place between the least and the largest of its
 * column. The cell of the task that a run learnt has a frame: what grows below a frame is being
 * forgotten.
 */
#include "runs/multi_report.h"

#include "core/file.h"
#include "runs/multi_state.h"

#include <math.h>
#include <string.h>

enum { CELL_WIDTH = 120, CELL_HEIGHT = 28, LABEL_WIDTH = 150, HEAD = 56, SHORT_ID = 12,
       NAME_MAX_CHARS = 15 };

/* Row 0: the base model. */
static double loss_at(const MultiResult *r, int64_t row, int64_t task)
{
    return row == 0 ? r->before[task] : r->runs[row - 1].losses[task];
}

/* The row of the last run of the task that was measured, and the one before its first. */
static void task_rows(const MultiResult *r, int64_t task, int64_t *before, int64_t *after)
{
    *before = *after = -1;
    for (int64_t row = 1; row <= r->n_runs; row++) {
        if (r->runs[row - 1].task != task)
            continue;
        *before = *before < 0 ? row - 1 : *before;
        *after = row;
    }
}

static Json *task_json(const MultiOptions *o, const MultiResult *r, int64_t task)
{
    int64_t before, after;
    task_rows(r, task, &before, &after);
    Json *json = json_new_object();
    json_put(json, "name", json_new_text(o->plan.tasks[task].name));
    const bool seen = after > 0;
    const double then = seen ? loss_at(r, after, task) : NAN;
    json_put(json, "learnt", json_new_double(seen ? loss_at(r, before, task) - then : NAN));
    json_put(json, "forgotten",
             json_new_double(seen ? loss_at(r, r->n_runs, task) - then : NAN));
    return json;
}

Json *multi_report_json(const MultiOptions *options, const MultiResult *result)
{
    Json *json = json_new_object(), *tasks = json_new_array(), *rows = json_new_array();
    must(result->n_tasks == 0 || result->before != NULL);
    for (int64_t task = 0; task < result->n_tasks; task++)
        json_add(tasks, task_json(options, result, task));
    for (int64_t row = 0; row <= result->n_runs; row++) {
        Json *one = json_new_object(), *losses = json_new_array();
        for (int64_t task = 0; task < result->n_tasks; task++)
            json_add(losses, json_new_double(loss_at(result, row, task)));
        json_put(one, "run", json_new_int(row));
        json_put(one, "task",
                 row > 0 ? json_new_int(result->runs[row - 1].task) : json_new_null());
        json_put(one, "losses", losses);
        json_add(rows, one);
    }
    json_put(json, "tasks", tasks);
    json_put(json, "rows", rows);
    return json;
}

Json *multi_history_json(const MultiResult *result)
{
    Json *list = json_new_array();
    for (int64_t i = 0; i < result->n_runs; i++)
        json_add(list, multi_run_json(&result->runs[i], result->n_tasks));
    return list;
}

/* ---- the picture ------------------------------------------------------------------------ */

static void put_escaped(Buf *svg, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c == '<')
            buf_text(svg, "&lt;");
        else if (c == '&')
            buf_text(svg, "&amp;");
        else
            buf_char(svg, c);
    }
}

/* The end of a file's name, which tells files apart, in whole characters. */
static void put_name(Buf *svg, const char *path)
{
    const char *name = path_base(path);
    const size_t len = strlen(name);
    size_t from = len > NAME_MAX_CHARS ? len - NAME_MAX_CHARS : 0;
    while (from < len && ((unsigned char)name[from] & 0xC0) == 0x80)
        from++;
    put_escaped(svg, name + from, len - from);
}

/* 0 at the column's least loss, 1 at its largest. */
static double share_of(const MultiResult *r, int64_t row, int64_t task)
{
    double least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; i <= r->n_runs; i++) {
        least = fmin(least, loss_at(r, i, task));
        most = fmax(most, loss_at(r, i, task));
    }
    return most > least ? (loss_at(r, row, task) - least) / (most - least) : 0;
}

static void put_cell(Buf *svg, const MultiResult *r, int64_t row, int64_t task)
{
    const double loss = loss_at(r, row, task);
    if (!isfinite(loss))
        return;
    const int light = 255 - (int)(150 * share_of(r, row, task));
    const long long x = LABEL_WIDTH + task * CELL_WIDTH, y = HEAD + row * CELL_HEIGHT;
    const bool own = row > 0 && r->runs[row - 1].task == task;
    buf_printf(svg, "<rect x=\"%lld\" y=\"%lld\" width=\"%d\" height=\"%d\" "
               "fill=\"rgb(255,%d,%d)\" stroke=\"%s\"/>\n", x + 2, y + 2, CELL_WIDTH - 4,
               CELL_HEIGHT - 4, light, light, own ? "black" : "none");
    buf_printf(svg, "<text x=\"%lld\" y=\"%lld\" text-anchor=\"middle\">%.4f</text>\n",
               x + CELL_WIDTH / 2, y + CELL_HEIGHT / 2 + 5, loss);
}

static void put_picture(Buf *svg, const MultiOptions *o, const MultiResult *r)
{
    const long long width = LABEL_WIDTH + r->n_tasks * CELL_WIDTH + 10;
    const long long height = HEAD + (r->n_runs + 1) * CELL_HEIGHT + 10;
    buf_printf(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%lld\" height=\"%lld\" "
               "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" "
               "height=\"100%%\" fill=\"white\"/>\n<text x=\"10\" y=\"20\">held-out loss after "
               "each run, merge %s</text>\n", width, height, merge_mode_name(o->merge.mode));
    for (int64_t task = 0; task < r->n_tasks; task++) {
        buf_printf(svg, "<text x=\"%lld\" y=\"%d\" text-anchor=\"middle\">",
                   (long long)(LABEL_WIDTH + task * CELL_WIDTH + CELL_WIDTH / 2), HEAD - 8);
        put_name(svg, o->plan.tasks[task].name);
        buf_text(svg, "</text>\n");
    }
    for (int64_t row = 0; row <= r->n_runs; row++) {
        const long long y = HEAD + row * CELL_HEIGHT + CELL_HEIGHT / 2 + 5;
        if (row == 0)
            buf_printf(svg, "<text x=\"10\" y=\"%lld\">base model</text>\n", y);
        else
            buf_printf(svg, "<text x=\"10\" y=\"%lld\">run %lld</text>\n", y, (long long)row);
        for (int64_t task = 0; task < r->n_tasks; task++)
            put_cell(svg, r, row, task);
    }
    buf_text(svg, "</svg>\n");
}

bool multi_report_svg(const MultiOptions *options, const MultiResult *result, Arena *scratch,
                      Err *err)
{
    const TrainOptions *o = &options->train;
    if (options->validation_samples == 0)
        return true;
    Buf svg = {0};
    put_picture(&svg, options, result);
    must(!svg.failed);
    const char *name = arena_printf(scratch, "losses-%.*s.svg", SHORT_ID, o->run_id);
    const bool ok = file_write_atomic(path_join(scratch, o->output, name), buf_view(&svg),
                                      ERR_RUNTIME_IO_FAILED, err);
    buf_free(&svg);
    return ok;
}
