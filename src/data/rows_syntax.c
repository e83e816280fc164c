/* rows_syntax.c — where rows begin and end, and what they are as JSON, for each syntax.
 *
 * A step sees the buffer from `begin` to `end`; when the source has ended, its end is the row's.
 * JSON inside a row is not checked here but by the parser, so that one bad row costs no other.
 */
#include "data/rows_internal.h"

#include <string.h>

/* Moves `begin` to `to` and counts the lines that are passed. */
static void pass(RowReader *r, size_t to)
{
    assert(to >= r->begin && to <= r->end);
    for (const char *at = r->data + r->begin, *stop = r->data + to;
         (at = memchr(at, '\n', (size_t)(stop - at))) != NULL; at++) {
        if (r->line < INT32_MAX)
            r->line++;
    }
    r->begin = to;
}

/* The line from `at` on without its end; *next is behind it. False: it ends behind the buffer. */
static bool line_at(const RowReader *r, size_t at, Str *line, size_t *next)
{
    assert(at <= r->end);
    const char *newline = at < r->end ? memchr(r->data + at, '\n', r->end - at) : NULL;
    if (newline == NULL && !r->source_ended)
        return false;
    size_t end = newline != NULL ? (size_t)(newline - r->data) : r->end;
    *next = newline != NULL ? end + 1 : end;
    if (end > at && r->data[end - 1] == '\r')
        end--;
    *line = (Str){r->data + at, end - at};
    return true;
}

static RowStep step_line(RowReader *r, RawRow *row)
{
    Str line;
    size_t next;
    while (r->begin < r->end || !r->source_ended) {
        if (!line_at(r, r->begin, &line, &next))
            return STEP_MORE;
        *row = (RawRow){.text = line, .line = r->line};
        pass(r, next);
        if (str_trim(line).len > 0)
            return STEP_ROW;
    }
    return STEP_END;
}

static RowStep step_paragraph(RowReader *r, RawRow *row)
{
    Str line;
    size_t next = r->begin, first = r->begin;
    bool begun = false;
    for (size_t at = r->begin; at < r->end || !r->source_ended; at = next) {
        if (!line_at(r, at, &line, &next))
            return STEP_MORE;
        if (str_trim(line).len == 0) {
            if (begun)
                break;
            pass(r, next);
            continue;
        }
        if (!begun) {
            first = at;
            *row = (RawRow){.line = r->line};
            begun = true;
        }
        row->text = (Str){r->data + first, (size_t)(line.data + line.len - (r->data + first))};
    }
    if (!begun)
        return STEP_END;
    pass(r, next);
    return STEP_ROW;
}

/* ---- .json ---------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool skip_blanks(RowReader *r)
{
    size_t at = r->begin;
    while (at < r->end && is_blank(r->data[at]))
        at++;
    pass(r, at);
    return at < r->end;
}

/* Behind the value that begins at `at`, as far as brackets and quotes tell; 0: it does not end in
 * the buffer. */
static size_t value_end(const RowReader *r, size_t at)
{
    int64_t depth = 0;
    bool quoted = false;
    for (size_t i = at; i < r->end; i++) {
        const char c = r->data[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == ']' || c == '}' || (is_blank(c) && i > at))) {
            return i;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        const bool closed = depth == 0 && !quoted && (c == '}' || c == ']' || c == '"');
        if (closed && i < r->end)
            return i + 1;
    }
    const bool ends_with_file = r->source_ended && depth == 0 && !quoted;
    return ends_with_file ? r->end : 0;
}

static RowStep json_error(const RowReader *r, const char *what, int32_t line, Err *err)
{
    err_set(err, ERR_INPUT_DATASET_PARSE_FAILED, "'%s' is not valid JSON: %s (line %d)", r->name,
            what, line);
    return STEP_ERROR;
}

static RowStep take_value(RowReader *r, RawRow *row, Err *err)
{
    size_t end = value_end(r, r->begin);
    if (end == 0 && !r->source_ended && r->end - r->begin <= ROW_MAX_BYTES)
        return STEP_MORE;
    if (end == 0)
        return json_error(r, "a value is not closed", r->line, err);
    if (end == r->begin)
        return json_error(r, "a value is missing", r->line, err);
    *row = (RawRow){.text = {r->data + r->begin, end - r->begin}, .line = r->line};
    pass(r, end);
    r->place = r->place == JSON_LIST ? JSON_BEHIND_VALUE : JSON_TOP;
    return STEP_ROW;
}

static RowStep step_json(RowReader *r, RawRow *row, Err *err)
{
    while (skip_blanks(r)) {
        const char c = r->data[r->begin];
        const bool closes = c == ']' && (r->place == JSON_LIST || r->place == JSON_BEHIND_VALUE);
        if (r->place == JSON_TOP && c == '[') {
            r->place = JSON_LIST;
            r->list_line = r->line;
        } else if (closes) {
            r->place = JSON_BEHIND_LIST;
        } else if (r->place == JSON_BEHIND_VALUE && c == ',') {
            r->place = JSON_LIST;
        } else if (r->place == JSON_BEHIND_VALUE) {
            return json_error(r, "a comma is missing between values", r->line, err);
        } else if (r->place == JSON_BEHIND_LIST) {
            return json_error(r, "text behind the list", r->line, err);
        } else {
            return take_value(r, row, err);
        }
        pass(r, r->begin + 1);
    }
    if (!r->source_ended)
        return STEP_MORE;
    if (r->place == JSON_LIST || r->place == JSON_BEHIND_VALUE)
        return json_error(r, "the list is not closed", r->list_line, err);
    return STEP_END;
}

/* ---- .csv ---------------------------------------------------- */

static bool is_delimiter(const RowReader *r, char c)
{
    return r->header != NULL ? c == r->delimiter : c == ',' || c == ';' || c == '\t';
}

/* A record ends at a line end outside of quotes; a quote opens only at the start of a cell. */
static size_t record_end(const RowReader *r, size_t at)
{
    bool quoted = false, cell_starts = true;
    assert(at <= r->end);
    for (size_t i = at; i < r->end; i++) {
        const char c = r->data[i];
        if (quoted && c == '"' && i + 1 < r->end && r->data[i + 1] == '"')
            i++;
        else if (c == '"' && (quoted || cell_starts))
            quoted = !quoted;
        else if (c == '\n' && !quoted)
            return i + 1;
        cell_starts = !quoted && is_delimiter(r, c);
    }
    return r->source_ended ? r->end : 0;
}

static Str without_line_end(Str text)
{
    if (text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--;
    if (text.len > 0 && text.data[text.len - 1] == '\r')
        text.len--;
    return text;
}

static char delimiter_of(Str header)
{
    static const char known[] = {',', ';', '\t'};
    char best = ',';
    size_t most = 0;
    for (size_t k = 0; k < COUNT_OF(known); k++) {
        size_t n = 0;
        bool quoted = false;
        for (size_t i = 0; i < header.len; i++) {
            quoted ^= header.data[i] == '"';
            n += !quoted && header.data[i] == known[k];
        }
        if (n > most) {
            most = n;
            best = known[k];
        }
    }
    return best;
}

Json *csv_cells(Str record, char delimiter, RowFault *fault)
{
    Json *cells = json_new_array();
    Buf cell = {0};
    bool quoted = false, was_quoted = false, ok = true;
    for (size_t i = 0; i <= record.len && ok; i++) {
        const char c = i < record.len ? record.data[i] : delimiter;
        if (quoted && i < record.len) {
            const bool twice = c == '"' && i + 1 < record.len && record.data[i + 1] == '"';
            quoted = c != '"' || twice;
            if (quoted)
                buf_char(&cell, c);
            i += twice;
        } else if (quoted) {
            ok = row_fault(fault, FAULT_NOT_JSON, "a quote is not closed");
        } else if (c == delimiter) {
            json_add(cells, json_new_str(buf_view(&cell)));
            buf_clear(&cell);
            was_quoted = false;
            ok = json_len(cells) <= CSV_MAX_COLUMNS ||
                 row_fault(fault, FAULT_NOT_JSON, "more than %d cells", CSV_MAX_COLUMNS);
        } else if (was_quoted) {
            ok = row_fault(fault, FAULT_NOT_JSON, "there is text behind a closing quote");
        } else if (c == '"' && cell.len == 0) {
            quoted = was_quoted = true;
        } else {
            buf_char(&cell, c);
        }
    }
    buf_free(&cell);
    if (ok)
        return cells;
    json_free(cells);
    return NULL;
}

static bool take_header(RowReader *r, Str record, Err *err)
{
    RowFault fault = {0};
    if (!utf8_valid(record))
        return err_set(err, ERR_INPUT_DATASET_PARSE_FAILED, "the header of '%s' is not UTF-8",
                       r->name);
    r->delimiter = delimiter_of(record);
    r->header = csv_cells(record, r->delimiter, &fault);
    if (r->header == NULL)
        return err_set(err, ERR_INPUT_DATASET_PARSE_FAILED,
                       "the header of '%s' is bad: %s (line %d)", r->name, fault.text, r->line);
    return true;
}

static RowStep step_record(RowReader *r, RawRow *row, Err *err)
{
    while (r->begin < r->end || !r->source_ended) {
        size_t end = record_end(r, r->begin);
        if (end == 0 && r->end - r->begin <= ROW_MAX_BYTES)
            return STEP_MORE;
        if (end == 0) {
            err_set(err, ERR_INPUT_DATASET_PARSE_FAILED, "a quote in '%s' is not closed (line %d)",
                    r->name, r->line);
            return STEP_ERROR;
        }
        Str record = without_line_end((Str){r->data + r->begin, end - r->begin});
        *row = (RawRow){.text = record, .line = r->line};
        const bool blank = str_trim(record).len == 0, is_header = !blank && r->header == NULL;
        if (is_header && !take_header(r, record, err))
            return STEP_ERROR;
        pass(r, end);
        if (!blank && !is_header)
            return STEP_ROW;
    }
    return STEP_END;
}

RowStep rows_step(RowReader *reader, RawRow *row, Err *err)
{
    switch (reader->syntax) {
    case SYNTAX_JSONL:
        return step_line(reader, row);
    case SYNTAX_TEXT:
        return step_paragraph(reader, row);
    case SYNTAX_JSON:
        return step_json(reader, row, err);
    case SYNTAX_CSV:
        return step_record(reader, row, err);
    }
    return STEP_END;
}

/* ---- rows to JSON ---------------------------------------------------- */

/* Columns that hold lists, as pandas and datasets write them into a cell. */
static bool holds_json(const char *column, Str cell)
{
    static const char *const lists[] = {"conversations", "messages", "tools",   "prompt",
                                        "completion",    "chosen",   "rejected"};
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        if (strcmp(column, lists[i]) == 0)
            return str_starts(str_trim(cell), "[");
    }
    return false;
}

static Json *cell_value(const char *column, Str cell, RowFault *fault)
{
    if (!holds_json(column, cell))
        return json_new_str(cell);
    Err err = {0};
    Json *value = json_parse(cell, column, ERR_INPUT_DATASET_PARSE_FAILED, &err);
    if (value == NULL)
        row_fault(fault, FAULT_NOT_JSON, "%.150s", err.message);
    return value;
}

static Json *parse_record(const RowReader *r, Str record, RowFault *fault)
{
    assert(r->header != NULL);
    Json *cells = csv_cells(record, r->delimiter, fault);
    if (cells == NULL)
        return NULL;
    Json *row = json_new_object();
    bool ok = json_len(cells) == json_len(r->header) ||
              row_fault(fault, FAULT_NOT_JSON, "the row has %zu cells, the header %zu",
                        json_len(cells), json_len(r->header));
    for (size_t i = 0; ok && i < json_len(cells); i++) {
        const char *column = json_text(json_at(r->header, i));
        Json *value = cell_value(column, json_str(json_at(cells, i)), fault);
        ok = value != NULL;
        if (ok)
            json_put(row, column, value);
    }
    json_free(cells);
    if (ok)
        return row;
    json_free(row);
    return NULL;
}

Json *row_parse(const RowReader *reader, const RawRow *row, RowFault *fault)
{
    if (row->flaw != NULL) {
        row_fault(fault, FAULT_NOT_JSON, "%s", row->flaw);
        return NULL;
    }
    if (!utf8_valid(row->text)) {
        row_fault(fault, FAULT_NOT_UTF8, "not UTF-8");
        return NULL;
    }
    if (reader->syntax == SYNTAX_TEXT)
        return json_new_str(row->text);
    if (reader->syntax == SYNTAX_CSV)
        return parse_record(reader, row->text, fault);
    Err err = {0};
    Json *value = json_parse(row->text, "row", ERR_INPUT_DATASET_PARSE_FAILED, &err);
    if (value == NULL)
        row_fault(fault, FAULT_NOT_JSON, "not JSON: %.140s", err.message);
    return value;
}
