/* validate.c — every row against its format; see validate.h.
 *
 * Errors are what makes a row unusable. Roles that nobody knows, blank texts and rows without an
 * assistant are warnings, as the original has them: they cost a row its training, not the file.
 */
#include "data/validate.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "data/rows.h"

typedef struct Validation {
    const ValidateOptions *options;
    Json *parse_errors, *errors, *warnings, *formats;
    int64_t n_parse_errors, n_errors, n_warnings, n_rows, n_valid;
    int64_t counts[FORMAT_COUNT];
    int32_t not_utf8_line; /* 0 = none */
    Err unreadable;
} Validation;

static void add(Validation *v, Json *list, int64_t *count, Json *item)
{
    assert(json_is_array(list));
    if ((*count)++ < v->options->max_errors)
        json_add(list, item);
    else
        json_free(item);
}

static void add_parse_error(Validation *v, int32_t line, const char *message)
{
    Json *item = json_new_object();
    json_put(item, "line", json_new_int(line));
    json_put(item, "message", json_new_text(message));
    add(v, v->parse_errors, &v->n_parse_errors, item);
}

static void add_finding(Validation *v, int32_t line, const char *type, const char *message,
                        bool is_warning)
{
    Json *item = json_new_object();
    json_put(item, "row_index", json_new_int(v->n_rows));
    json_put(item, "line", json_new_int(line));
    json_put(item, "error_type", json_new_text(type));
    json_put(item, "message", json_new_text(message));
    if (is_warning)
        add(v, v->warnings, &v->n_warnings, item);
    else
        add(v, v->errors, &v->n_errors, item);
}

static void check_row(Validation *v, const Json *value, int32_t line)
{
    Row row;
    RowFault fault = {0};
    const RowFormat hint = v->options->format;
    const RowFormat format = hint != FORMAT_UNKNOWN ? hint : schema_detect(value);
    const int64_t before = v->n_errors + v->n_warnings;
    v->counts[format]++;
    if (!schema_read_as(format, value, &row, &fault)) {
        const bool mild = fault.kind == FAULT_INVALID_ROLE || fault.kind == FAULT_EMPTY_CONTENT;
        add_finding(v, line, fault_name(fault.kind), fault.text, mild);
    } else if (row.messages != NULL) {
        const size_t blank = row_blank_turn(&row);
        char text[64];
        snprintf(text, sizeof text, "message %zu is blank", blank);
        if (blank > 0)
            add_finding(v, line, fault_name(FAULT_EMPTY_CONTENT), text, true);
        if (!row_has_role(&row, "assistant"))
            add_finding(v, line, "no_assistant", "no assistant turn: nothing would be learnt",
                        true);
    }
    row_free(&row);
    v->n_valid += v->n_errors + v->n_warnings == before;
    v->n_rows++;
}

/* False: the file is not UTF-8. */
static bool check_raw(Validation *v, const RowReader *reader, const RawRow *raw)
{
    RowFault fault = {0};
    Json *value = row_parse(reader, raw, &fault);
    if (value != NULL)
        check_row(v, value, raw->line);
    else if (fault.kind == FAULT_NOT_UTF8)
        v->not_utf8_line = raw->line;
    else
        add_parse_error(v, raw->line, fault.text);
    json_free(value);
    return v->not_utf8_line == 0;
}

static bool is_enough(const Validation *v)
{
    const ValidateOptions *o = v->options;
    return v->n_errors >= o->max_errors || (o->max_samples > 0 && v->n_rows >= o->max_samples);
}

static void check_file(Validation *v, RowReader *reader)
{
    const RawRow *rows;
    int32_t n = 1;
    while (n > 0 && !is_enough(v)) {
        Err err = {0};
        if (!row_reader_batch(reader, &rows, &n, &err)) {
            if (err.code == ERR_INPUT_DATASET_PARSE_FAILED)
                add_parse_error(v, (int32_t)row_reader_lines(reader) + 1, err.message);
            else
                v->unreadable = err;
            return;
        }
        for (int32_t i = 0; i < n && !is_enough(v); i++) {
            if (!check_raw(v, reader, &rows[i]))
                return;
        }
    }
}

static const char *detected(const Validation *v)
{
    const char *name = "unknown";
    int kinds = 0;
    for (int i = 0; i < FORMAT_COUNT; i++) {
        if (v->counts[i] > 0) {
            kinds++;
            name = format_name((RowFormat)i);
        }
    }
    return kinds > 1 ? "mixed" : name;
}

static Json *failure(const char *path, const char *what, const Err *err)
{
    Json *json = json_new_object();
    assert(err_is_set(err));
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "dataset", json_new_text(path));
    json_put(json, "is_valid", json_new_bool(false));
    json_put(json, "error", json_new_text(what));
    json_put(json, "code", json_new_text(err_info(err->code)->name));
    json_put(json, "message", json_new_text(err->message));
    json_put(json, "hint", json_new_text(err_hint_text(err)));
    return json;
}

static Json *findings(Validation *v, const char *path, int64_t lines)
{
    Json *json = json_new_object();
    for (int i = 0; i < FORMAT_COUNT; i++) {
        if (v->counts[i] > 0)
            json_put(v->formats, format_name((RowFormat)i), json_new_int(v->counts[i]));
    }
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "dataset", json_new_text(path));
    json_put(json, "lines_scanned", json_new_int(lines));
    json_put(json, "samples_parsed", json_new_int(v->n_rows));
    json_put(json, "format_hint", json_new_text(v->options->hint));
    json_put(json, "format_detected", json_new_text(detected(v)));
    json_put(json, "formats", json_clone(v->formats));
    json_put(json, "total_rows", json_new_int(v->n_rows));
    json_put(json, "valid_rows", json_new_int(v->n_valid));
    json_put(json, "is_valid", json_new_bool(v->n_parse_errors + v->n_errors == 0));
    json_put(json, "parse_errors", json_clone(v->parse_errors));
    json_put(json, "errors", json_clone(v->errors));
    json_put(json, "warnings", json_clone(v->warnings));
    json_put(json, "n_parse_errors", json_new_int(v->n_parse_errors));
    json_put(json, "n_errors", json_new_int(v->n_errors));
    json_put(json, "n_warnings", json_new_int(v->n_warnings));
    return json;
}

static Json *judge(Validation *v, const char *path, int64_t lines)
{
    Err err = {0};
    if (v->not_utf8_line > 0) {
        err_set(&err, ERR_INPUT_DATASET_PARSE_FAILED, "'%s' is not UTF-8 (line %d)", path,
                v->not_utf8_line);
        Json *json = failure(path, "not_utf8", &err);
        json_put(json, "line", json_new_int(v->not_utf8_line));
        return json;
    }
    if (err_is_set(&v->unreadable))
        return failure(path, "read_failed", &v->unreadable);
    if (v->n_rows > 0)
        return findings(v, path, lines);
    if (v->n_parse_errors == 0) {
        err_set(&err, ERR_INPUT_DATASET_INVALID, "'%s' has no rows", path);
    } else {
        const Json *first = json_at(v->parse_errors, 0);
        err_set(&err, ERR_INPUT_DATASET_PARSE_FAILED, "no row of '%s' can be read: line %lld: %s",
                path, (long long)json_int(json_get(first, "line"), 0),
                json_text(json_get(first, "message")));
    }
    Json *json = failure(path, "no_parseable_rows", &err);
    json_put(json, "parse_errors", json_clone(v->parse_errors));
    return json;
}

Json *data_validate(const char *path, const ValidateOptions *options)
{
    Err err = {0};
    must(options->max_errors > 0 && options->hint != NULL);
    RowReader *reader = row_reader_open(path, &err);
    if (reader == NULL)
        return failure(path,
                       err.code == ERR_INPUT_DATASET_NOT_FOUND ? "dataset_not_found"
                       : path_is_folder(path)                  ? "dataset_path_is_directory"
                       : strstr(err.message, "UTF-16") != NULL ? "not_utf8"
                                                               : "read_failed",
                       &err);
    Validation v = {.options = options,
                    .parse_errors = json_new_array(),
                    .errors = json_new_array(),
                    .warnings = json_new_array(),
                    .formats = json_new_object()};
    check_file(&v, reader);
    Json *json = judge(&v, path, row_reader_lines(reader));
    json_free(v.parse_errors);
    json_free(v.errors);
    json_free(v.warnings);
    json_free(v.formats);
    row_reader_close(reader);
    return json;
}
