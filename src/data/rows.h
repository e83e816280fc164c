/* rows.h — the rows of a data file, whatever its syntax, a batch at a time.
 *
 * Syntax comes from the name, a .gz at its end left out:
 *   .json        a list of values, or values one after another
 *   .csv         records behind a header line; comma, semicolon or tab, whichever it has most
 *   .txt .md     pieces of text between blank lines
 *   any other    a JSON value a line (.jsonl)
 * gzip is recognised by its first bytes. A byte-order mark is skipped, CRLF is a line end, blank
 * lines are no rows. Memory does not depend on the size of the file: a batch and its longest row.
 */
#ifndef DATA_ROWS_H
#define DATA_ROWS_H

#include "core/json.h"
#include "data/schema.h"

enum { ROW_MAX_BYTES = 64 << 20, ROW_BATCH_BYTES = 4 << 20 };

typedef struct RawRow {
    Str text;         /* as in the file; inside the reader's buffer until the next batch */
    int32_t line;     /* where it begins, from 1 */
    const char *flaw; /* why the text cannot be a row, NULL: nothing is known against it */
} RawRow;

typedef struct RowReader RowReader;

/* Errors: INPUT_DATASET_NOT_FOUND, INPUT_DATASET_INVALID. Close with row_reader_close. */
RowReader *row_reader_open(const char *path, Err *err);
/* The same over bytes in memory; `name` decides the syntax. Both outlive the reader. */
RowReader *row_reader_over(Str bytes, const char *name, Err *err);
void row_reader_close(RowReader *reader); /* safe on NULL */

/* The next rows, at least one; none at the end. False: the file cannot be read any further (broken
 * gzip, a .json whose list is not one). */
bool row_reader_batch(RowReader *reader, const RawRow **rows, int32_t *count, Err *err);
int64_t row_reader_lines(const RowReader *reader); /* read so far */
/* True when the text of a row is already a line of JSON. */
bool row_reader_is_jsonl(const RowReader *reader);

/* The row as a JSON value (texts and CSV records, too), which the caller frees; NULL: *fault says
 * why there is none. May be called from several threads at once. */
Json *row_parse(const RowReader *reader, const RawRow *row, RowFault *fault);

#endif
