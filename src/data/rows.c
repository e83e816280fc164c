/* rows.c — reading a data file a buffer at a time; see rows.h.
 *
 * The buffer holds whole rows; what is left of the last one moves to the front before more is read.
 * It grows for a long row up to ROW_MAX_BYTES; a longer one becomes a row with a flaw, and the
 * rest of its line is skipped.
 */
#include "data/rows.h"

#include <string.h>

#include "data/rows_internal.h"

enum { FIRST_BYTES = 4 };
static const char too_long[] = "the row is longer than 64 MiB";
static_assert(ROW_MAX_BYTES == 64 << 20, "the text above");

static bool read_plain(void *context, void *data, size_t bytes, size_t *got, Err *err)
{
    RowReader *r = context;
    if (r->file != NULL)
        return file_reader_read(r->file, data, bytes, got, err);
    *got = (size_t)min_i64((int64_t)bytes, (int64_t)(r->memory.len - r->memory_at));
    if (*got > 0)
        memcpy(data, r->memory.data + r->memory_at, *got);
    r->memory_at += *got;
    return true;
}

static bool read_source(RowReader *r, void *data, size_t bytes, size_t *got, Err *err)
{
    if (r->gzip != NULL)
        return gzip_read(r->gzip, data, bytes, got, err);
    return read_plain(r, data, bytes, got, err);
}

/* Fills the buffer behind what is left in it. */
static bool refill(RowReader *r, Err *err)
{
    assert(r->begin <= r->end && r->end <= r->capacity);
    if (r->begin > 0)
        memmove(r->data, r->data + r->begin, r->end - r->begin);
    r->end -= r->begin;
    r->begin = 0;
    if (r->end == r->capacity) {
        r->capacity = r->capacity == 0 ? ROW_BATCH_BYTES : 2 * r->capacity;
        r->data = heap_resize(r->data, r->capacity);
    }
    while (r->end < r->capacity && !r->source_ended) {
        size_t got = 0;
        if (!read_source(r, r->data + r->end, r->capacity - r->end, &got, err))
            return false;
        r->end += got;
        r->source_ended = got == 0;
    }
    return true;
}

static RowSyntax syntax_of(const char *name)
{
    Str file = str_of(name);
    if (str_ends(file, ".gz"))
        file.len -= 3;
    if (str_ends(file, ".json"))
        return SYNTAX_JSON;
    if (str_ends(file, ".csv"))
        return SYNTAX_CSV;
    return str_ends(file, ".txt") || str_ends(file, ".md") ? SYNTAX_TEXT : SYNTAX_JSONL;
}

/* Looks at the first bytes: gzip, byte-order marks. */
static bool begin_reading(RowReader *r, Err *err)
{
    char first[FIRST_BYTES];
    size_t n = 0;
    for (size_t got = 1; n < sizeof first && got > 0; n += got) {
        if (!read_plain(r, first + n, sizeof first - n, &got, err))
            return false;
    }
    if (gzip_starts((Str){first, n})) {
        r->gzip = gzip_open((Str){first, n}, read_plain, r, r->name, ERR_INPUT_DATASET_INVALID);
        n = 0;
    } else if (str_ends(str_of(r->name), ".gz") && n > 0) {
        return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' is not gzip data", r->name);
    }
    r->capacity = ROW_BATCH_BYTES;
    r->data = heap_resize(NULL, r->capacity);
    memcpy(r->data, first, n);
    r->end = n;
    if (!refill(r, err))
        return false;
    Str start = {r->data, r->end};
    if (str_starts(start, "\xff\xfe") || str_starts(start, "\xfe\xff")) {
        err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' is UTF-16, not UTF-8", r->name);
        return err_hint(err, "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE");
    }
    if (str_starts(start, "\xef\xbb\xbf"))
        r->begin = 3;
    return true;
}

static RowReader *make_reader(const char *name)
{
    RowReader *r = heap_resize(NULL, sizeof *r);
    *r = (RowReader){.name = name, .syntax = syntax_of(name), .line = 1};
    return r;
}

static RowReader *start(RowReader *r, Err *err)
{
    if (begin_reading(r, err))
        return r;
    row_reader_close(r);
    return NULL;
}

RowReader *row_reader_over(Str bytes, const char *name, Err *err)
{
    assert(name != NULL && (bytes.data != NULL || bytes.len == 0));
    RowReader *r = make_reader(name);
    r->memory = bytes;
    return start(r, err);
}

RowReader *row_reader_open(const char *path, Err *err)
{
    assert(path != NULL);
    if (!path_exists(path)) {
        err_set(err, ERR_INPUT_DATASET_NOT_FOUND, "dataset '%s' does not exist", path);
        return NULL;
    }
    if (path_is_folder(path)) {
        err_set(err, ERR_INPUT_DATASET_INVALID, "dataset '%s' is a folder", path);
        err_hint(err, "Pass a file (.jsonl, .json, .csv, .txt, .md)");
        return NULL;
    }
    FileReader *file = file_reader_open(path, ERR_INPUT_DATASET_INVALID, err);
    if (file == NULL)
        return NULL;
    RowReader *r = make_reader(path);
    r->file = file;
    return start(r, err);
}

void row_reader_close(RowReader *reader)
{
    if (reader == NULL)
        return;
    gzip_close(reader->gzip);
    file_reader_close(reader->file);
    json_free(reader->header);
    heap_free(reader->data);
    heap_free(reader->rows);
    heap_free(reader);
}

int64_t row_reader_lines(const RowReader *reader)
{
    const bool open_line = reader->end > 0 && reader->data[reader->end - 1] != '\n';
    return reader->line - 1 + (reader->begin == reader->end && open_line);
}

bool row_reader_is_jsonl(const RowReader *reader)
{
    return reader->syntax == SYNTAX_JSONL;
}

/* ---- batches ---------------------------------------------------- */

static void add_row(RowReader *r, RawRow row)
{
    assert(r->n_rows <= r->rows_capacity);
    if (r->n_rows == r->rows_capacity) {
        r->rows_capacity = r->rows_capacity == 0 ? 1024 : r->rows_capacity * 2;
        r->rows = heap_resize(r->rows, (size_t)r->rows_capacity * sizeof *r->rows);
    }
    r->rows[r->n_rows++] = row;
}

/* Drops the rest of a row that is too long: up to the next line end. */
static bool skip_row(RowReader *r, Err *err)
{
    assert(r->skipping);
    while (r->skipping) {
        const char *newline = memchr(r->data + r->begin, '\n', r->end - r->begin);
        r->begin = newline != NULL ? (size_t)(newline - r->data) + 1 : r->end;
        r->line += newline != NULL;
        r->skipping = newline == NULL && !(r->source_ended);
        if (r->skipping && !refill(r, err))
            return false;
    }
    return true;
}

bool row_reader_batch(RowReader *reader, const RawRow **rows, int32_t *count, Err *err)
{
    RowReader *r = reader;
    r->n_rows = 0;
    for (bool going = true; going;) {
        RawRow row = {0};
        if (r->skipping && !skip_row(r, err))
            return false;
        switch (rows_step(r, &row, err)) {
        case STEP_ROW:
            if (row.text.len > ROW_MAX_BYTES)
                row.flaw = too_long;
            add_row(r, row);
            break;
        case STEP_ERROR:
            return false;
        case STEP_END:
            going = false;
            break;
        case STEP_MORE:
            if (r->n_rows > 0) { /* its rows lie in the buffer */
                going = false;
            } else if (r->end - r->begin > ROW_MAX_BYTES) {
                add_row(r, (RawRow){.line = r->line, .flaw = too_long});
                r->skipping = true;
                going = false;
            } else if (!refill(r, err)) {
                return false;
            }
            break;
        }
        if (r->line == INT32_MAX)
            return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' has too many lines", r->name);
    }
    *rows = r->rows;
    *count = r->n_rows;
    return true;
}
