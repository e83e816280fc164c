/* report.c — views of history entries. See report.h.
 * Entries come from a file that other programs write too: every member may be absent or odd.
 */
#include "runs/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/str.h"

/* Seconds since some epoch of a local ISO time without zone; false when it is none. */
static bool parse_time(const char *text, double *seconds)
{
    struct tm tm = {.tm_isdst = -1};
    int n = 0;
    if (text == NULL || sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
                               &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &n) != 6)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    const time_t whole = mktime(&tm);
    *seconds = (double)whole + (text[n] == '.' ? strtod(text + n, NULL) : 0);
    return whole != (time_t)-1;
}

static Json *copy_or_null(const Json *object, const char *key)
{
    const Json *value = json_get(object, key);
    return value != NULL ? json_clone(value) : json_new_null();
}

static Json *duration_of(const Json *run)
{
    double start = 0, end = 0;
    if (json_is_number(json_get(run, "duration_seconds")))
        return json_clone(json_get(run, "duration_seconds"));
    if (parse_time(json_text(json_get(run, "started_at")), &start) &&
        parse_time(json_text(json_get(run, "completed_at")), &end) && end >= start)
        return json_new_double(end - start);
    return json_new_null();
}

static Json *losses_of(const Json *run)
{
    Json *loss = json_new_object();
    const Json *history = json_get(run, "loss_history");
    const Json *least = NULL;
    for (size_t i = 0; json_is_array(history) && i < json_len(history); i++) {
        const Json *point = json_at(history, i);
        if (json_is_number(point) &&
            (least == NULL || json_double(point, 0) < json_double(least, 0)))
            least = point;
    }
    json_put(loss, "final", copy_or_null(run, "final_loss"));
    json_put(loss, "min", least != NULL ? json_clone(least) : json_new_null());
    return loss;
}

Json *report_runs(const Json *runs)
{
    static const struct {
        const char *name, *member;
    } copied[] = {
        {"run_id", "run_id"},         {"status", "status"},
        {"session_kind", "session_kind"}, {"model", "model_name"},
        {"dataset", "dataset_info"},  {"started_at", "started_at"},
        {"completed_at", "completed_at"}, {"checkpoint_path", "checkpoint_path"},
    };
    Json *rows = json_new_array();
    for (size_t i = 0; i < json_len(runs); i++) {
        const Json *run = json_at(runs, i);
        Json *row = json_new_object();
        for (size_t k = 0; k < COUNT_OF(copied); k++)
            json_put(row, copied[k].name, copy_or_null(run, copied[k].member));
        json_put(row, "duration_seconds", duration_of(run));
        json_put(row, "loss", losses_of(run));
        json_add(rows, row);
    }
    must(json_len(rows) == json_len(runs));
    return rows;
}

/* ---- difference ------------------------------------------------------------------------- */

/* One name of either run; value pointers are borrowed, NULL where a run has none. */
typedef struct Field {
    Buf name;
    const Json *value[2];
} Field;

typedef struct Fields {
    Field *items;
    size_t n;
} Fields;

static void add_field(Fields *fields, const char *prefix, const char *name, const Json *value,
                      int side)
{
    assert(side == 0 || side == 1);
    Buf full = {0};
    buf_printf(&full, "%s%s", prefix, name);
    must(!full.failed);
    for (size_t i = 0; i < fields->n; i++) {
        if (strcmp(fields->items[i].name.data, full.data) == 0) {
            fields->items[i].value[side] = value;
            buf_free(&full);
            return;
        }
    }
    fields->items = heap_resize(fields->items, (fields->n + 1) * sizeof *fields->items);
    fields->items[fields->n] = (Field){.name = full};
    fields->items[fields->n++].value[side] = value;
}

static void add_run(Fields *fields, const Json *run, int side)
{
    static const char *const compared[] = {
        "model_name",       "dataset_info", "session_kind", "status",          "steps",
        "duration_seconds", "final_loss",   "gpu_max_temp", "checkpoint_path", "dataset_hash"};
    for (size_t i = 0; i < COUNT_OF(compared); i++)
        add_field(fields, "", compared[i], json_get(run, compared[i]), side);
    const char *key = NULL;
    Json *value = NULL;
    const Json *parameters = json_get(run, "hyperparameters");
    for (void *it = NULL; (it = json_next(parameters, it, &key, &value)) != NULL;)
        add_field(fields, "hp.", key, value, side);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Field *)a)->name.data, ((const Field *)b)->name.data);
}

/* Numbers by value (1 and 1.0 are one), everything else by its text. */
static bool same_value(const Json *a, const Json *b)
{
    if (json_is_null(a) || json_is_null(b))
        return json_is_null(a) && json_is_null(b);
    if (json_is_number(a) && json_is_number(b))
        return json_double(a, 0) == json_double(b, 0);
    Buf texts[2] = {{0}, {0}};
    json_write(a, (JsonStyle){0}, &texts[0]);
    json_write(b, (JsonStyle){0}, &texts[1]);
    must(!texts[0].failed && !texts[1].failed);
    const bool same = strcmp(texts[0].data, texts[1].data) == 0;
    buf_free(&texts[0]);
    buf_free(&texts[1]);
    return same;
}

static Json *identity(const Json *run)
{
    Json *json = json_new_object();
    json_put(json, "run_id", copy_or_null(run, "run_id"));
    json_put(json, "started_at", copy_or_null(run, "started_at"));
    return json;
}

static Json *value_or_null(const Json *value)
{
    return value != NULL ? json_clone(value) : json_new_null();
}

Json *report_difference(const Json *a, const Json *b)
{
    Fields fields = {0};
    add_run(&fields, a, 0);
    add_run(&fields, b, 1);
    assert(fields.n > 0);
    qsort(fields.items, fields.n, sizeof *fields.items, by_name);
    Json *rows = json_new_array();
    int64_t changed = 0;
    for (size_t i = 0; i < fields.n; i++) {
        Field *field = &fields.items[i];
        const bool differs = !same_value(field->value[0], field->value[1]);
        Json *row = json_new_object();
        json_put(row, "field", json_new_text(field->name.data));
        json_put(row, "run_a", value_or_null(field->value[0]));
        json_put(row, "run_b", value_or_null(field->value[1]));
        json_put(row, "changed", json_new_bool(differs));
        json_add(rows, row);
        changed += differs;
        buf_free(&field->name);
    }
    heap_free(fields.items);
    Json *report = json_new_object();
    json_put(report, "run_a", identity(a));
    json_put(report, "run_b", identity(b));
    json_put(report, "rows", rows);
    json_put(report, "changed_count", json_new_int(changed));
    return report;
}
