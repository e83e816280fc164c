/* split.c — two passes over the rows: how many there are, then which goes where; see split.h.
 *
 * The choice is Knuth's algorithm S, so it needs no memory of the rows.
 */
#include "data/split.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/rows.h"

enum { SPLIT_STREAM = INT32_MAX }; /* no file of a training run */

typedef struct Splitter {
    const char *path;
    const SplitOptions *options;
    FileWriter *train, *held_out;
    int64_t rows, row, wanted; /* wanted: rows still to be held out */
    SplitResult result;
} Splitter;

static bool each_batch(Splitter *s,
                       bool (*take)(Splitter *, const RowReader *, const RawRow *, int32_t, Err *),
                       Err *err)
{
    RowReader *reader = row_reader_open(s->path, err);
    const RawRow *rows;
    int32_t n = 1;
    bool ok = reader != NULL;
    while (ok && n > 0) {
        ok = row_reader_batch(reader, &rows, &n, err) && take(s, reader, rows, n, err);
    }
    row_reader_close(reader);
    return ok;
}

static bool count(Splitter *s, const RowReader *reader, const RawRow *rows, int32_t n, Err *err)
{
    for (int32_t i = 0; i < n; i++) {
        RowFault fault = {0};
        Json *value = row_parse(reader, &rows[i], &fault);
        json_free(value);
        if (value == NULL) {
            err_set(err, ERR_INPUT_DATASET_PARSE_FAILED, "'%s' line %d: %s", s->path, rows[i].line,
                    fault.text);
            return err_hint(err, "Find every such row with: backprop validate FILE");
        }
    }
    s->rows += n;
    return true;
}

static void write_row(FileWriter *to, const RowReader *reader, const RawRow *row)
{
    if (row_reader_is_jsonl(reader)) {
        file_writer_write(to, row->text.data, row->text.len);
    } else {
        RowFault fault = {0};
        Buf line = {0};
        Json *value = row_parse(reader, row, &fault);
        must(value != NULL); /* it was one in the first pass */
        json_write(value, (JsonStyle){0}, &line);
        file_writer_write(to, line.data, line.len);
        json_free(value);
        buf_free(&line);
    }
    file_writer_write(to, "\n", 1);
}

static bool deal(Splitter *s, const RowReader *reader, const RawRow *rows, int32_t n, Err *err)
{
    for (int32_t i = 0; i < n; i++, s->row++) {
        if (s->row >= s->rows)
            return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' grew while it was read", s->path);
        const uint64_t left = (uint64_t)(s->rows - s->row);
        const bool held = (int64_t)rng_below(s->options->seed, RNG_DATA_SPLIT, SPLIT_STREAM,
                                             (uint64_t)s->row, left) < s->wanted;
        s->wanted -= held;
        s->result.held_out += held;
        s->result.train += !held;
        write_row(held ? s->held_out : s->train, reader, &rows[i]);
    }
    return true;
}

static bool is_source(const char *path, const char *target)
{
    return strcmp(path, target) == 0;
}

static bool prepare(Splitter *s, Err *err)
{
    const SplitOptions *o = s->options;
    assert(o->ratio > 0 && o->ratio < 1);
    if (is_source(s->path, o->train) || is_source(s->path, o->held_out) ||
        strcmp(o->train, o->held_out) == 0)
        return err_set(err, ERR_INPUT_VALIDATION_FAILED,
                       "'%s', '%s' and '%s' are not three different files", s->path, o->train,
                       o->held_out);
    if (!each_batch(s, count, err))
        return false;
    if (s->rows < 2)
        return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' has %lld rows: too few to split",
                       s->path, (long long)s->rows);
    s->result.rows = s->rows;
    s->wanted = max_i64(1, min_i64(s->rows - 1, llround(o->ratio * (double)s->rows)));
    return true;
}

bool data_split(const char *path, const SplitOptions *options, SplitResult *result, Err *err)
{
    Splitter s = {.path = path, .options = options};
    if (!prepare(&s, err))
        return false;
    s.train = file_writer_open(options->train, ERR_RUNTIME_IO_FAILED, err);
    s.held_out =
        s.train == NULL ? NULL : file_writer_open(options->held_out, ERR_RUNTIME_IO_FAILED, err);
    if (s.held_out == NULL || !each_batch(&s, deal, err)) {
        file_writer_abandon(s.train);
        file_writer_abandon(s.held_out);
        return false;
    }
    if (!file_writer_commit(s.held_out, err)) {
        file_writer_abandon(s.train);
        return false;
    }
    *result = s.result;
    return file_writer_commit(s.train, err);
}
