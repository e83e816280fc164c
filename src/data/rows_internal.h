/* rows_internal.h — the buffer of a RowReader, and what its two source files share.
 *
 * rows.c owns reading and the batch; rows_syntax.c finds where rows begin and end in the buffer and
 * turns them into JSON.
 */
#ifndef DATA_ROWS_INTERNAL_H
#define DATA_ROWS_INTERNAL_H

#include "data/rows.h"

#include "core/file.h"
#include "format/gzip.h"

typedef enum RowSyntax { SYNTAX_JSONL, SYNTAX_JSON, SYNTAX_CSV, SYNTAX_TEXT } RowSyntax;

/* Where a .json file stands. */
typedef enum JsonPlace { JSON_TOP, JSON_LIST, JSON_BEHIND_VALUE, JSON_BEHIND_LIST } JsonPlace;

typedef enum RowStep {
    STEP_ROW,   /* *row is filled */
    STEP_MORE,  /* the buffer ends before the row does */
    STEP_END,   /* no more rows */
    STEP_ERROR, /* err is set */
} RowStep;

enum { CSV_MAX_COLUMNS = 1024 };

struct RowReader {
    const char *name; /* for errors and the syntax */
    RowSyntax syntax;
    /* source */
    Str memory; /* when there is no file */
    size_t memory_at;
    FileReader *file;
    GzipReader *gzip;
    /* buffer */
    char *data;
    size_t begin, end, capacity;
    bool source_ended;
    bool skipping; /* inside a row that is too long, up to its line end */
    int32_t line;  /* of data[begin], from 1 */
    /* syntax */
    JsonPlace place;
    int32_t list_line;
    char delimiter;
    Json *header; /* array of column names */
    RawRow *rows;
    int32_t n_rows, rows_capacity;
};

/* Finds the next row in the buffer and moves `begin` and `line` behind it. */
RowStep rows_step(RowReader *reader, RawRow *row, Err *err);
/* Splits a CSV record into cells (texts). NULL: *fault says why. */
Json *csv_cells(Str record, char delimiter, RowFault *fault);

#endif
