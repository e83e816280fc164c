/* dataset.c — data files to examples: which rows, in which order, and what becomes of each.
 *
 * Rows come in batches (rows.c); a batch is worked on by all threads (row_work.c) and then taken
 * in the order of the file. Everything random is drawn by (seed, file, row), so that it does not
 * depend on the batches.
 */
#include "data/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/row_work.h"

enum {
    SPOOL_BYTES = 32 << 20,
    SAMPLE_STREAM = INT32_MAX, /* not an epoch */
    MAX_COPIES = 1000,
};
static const int64_t DATASET_TOKENS_MAX = (int64_t)1 << 40;

enum { SPOOL_TOKENS, SPOOL_LOSS, SPOOL_EXAMPLES, SPOOL_HELD_OUT };

typedef struct Builder {
    Dataset *dataset;
    const DatasetOptions *options;
    const DataFile *files;
    size_t n_files;
    RowWorkers workers;
    Dedup *dedup;
    RowWork *work;
    int32_t work_capacity;
    int64_t all_rows; /* of all files, when only some are wanted */
    int64_t row;      /* index over all files of the next row */
    int64_t left;     /* samples still to be chosen */
    int64_t file_row; /* index in its file */
    int32_t file;
} Builder;

/* ---- notes ---------------------------------------------------- */

static RowNote *add_note(Builder *b, int32_t line)
{
    Dataset *dataset = b->dataset;
    if (dataset->n_notes == DATASET_MAX_NOTES)
        return NULL;
    RowNote *note = &dataset->notes[dataset->n_notes++];
    *note = (RowNote){.line = line, .file = b->file};
    return note;
}

static void drop(Builder *b, int32_t line, const RowFault *fault)
{
    b->dataset->n_dropped[fault_reason(fault->kind)]++;
    RowNote *note = add_note(b, line);
    if (note == NULL)
        return;
    note->kind = fault->kind;
    memcpy(note->text, fault->text, sizeof note->text);
}

static void note_cut(Builder *b, int32_t line, int64_t from, int64_t to, bool in_turn)
{
    assert(to < from);
    b->dataset->n_truncated++;
    b->dataset->n_cut_turns += in_turn;
    RowNote *note = add_note(b, line);
    if (note == NULL)
        return;
    note->truncated = true;
    snprintf(note->text, sizeof note->text, "cut from %lld to %lld tokens%s", (long long)from,
             (long long)to, in_turn ? ", inside an assistant's turn" : "");
}

/* ---- examples ---------------------------------------------------- */

typedef struct Tokens { /* of one row */
    const int32_t *ids;
    const uint8_t *loss;
    int64_t len;
} Tokens;

static int32_t count_loss(Tokens t)
{
    int32_t n = 0;
    for (int64_t i = 1; i < t.len; i++)
        n += t.loss[i] != 0;
    return n;
}

static Tokens part(Tokens all, int64_t from, int64_t to)
{
    assert(from <= to && to <= all.len);
    return (Tokens){all.ids + from, all.loss + from, to - from};
}

/* How often the row is used: the whole part of its file's weight, and once more by chance. */
static int64_t copies_of(const Builder *b)
{
    const double weight = b->files[b->file].weight, whole = floor(weight);
    assert(weight >= 0 && weight <= MAX_COPIES);
    const double chance =
        rng_uniform53(b->options->seed, RNG_DATA_WEIGHT, (uint32_t)b->file, (uint64_t)b->file_row);
    return (int64_t)whole + (chance < weight - whole);
}

static bool is_held_out(const Builder *b)
{
    const double share = b->options->held_out;
    return share > 0 && rng_uniform53(b->options->seed, RNG_DATA_SPLIT, (uint32_t)b->file,
                                      (uint64_t)b->file_row) < share;
}

static bool write_example(Builder *b, Tokens tokens, int32_t line, const RowWork *work, Err *err)
{
    Dataset *d = b->dataset;
    Example example = {.start = d->n_tokens,
                       .len = (int32_t)tokens.len,
                       .n_loss = count_loss(tokens),
                       .line = line,
                       .file = b->file,
                       .difficulty = work->difficulty};
    assert(example.n_loss > 0);
    const bool held = is_held_out(b);
    const int64_t copies = held ? 1 : copies_of(b);
    Spool *list = &d->spools[held ? SPOOL_HELD_OUT : SPOOL_EXAMPLES];
    for (int64_t i = 0; i < copies; i++) {
        if (!spool_write(list, &example, sizeof example, err))
            return false;
    }
    d->n_held_out += held;
    d->n_examples += held ? 0 : copies;
    d->n_loss += held ? 0 : copies * example.n_loss;
    d->n_tokens += tokens.len;
    if (d->n_tokens > DATASET_TOKENS_MAX)
        return err_set(err, ERR_INPUT_DATASET_INVALID, "the data has more than %lld tokens",
                       (long long)DATASET_TOKENS_MAX);
    return spool_write(&d->spools[SPOOL_TOKENS], tokens.ids,
                       (size_t)tokens.len * sizeof *tokens.ids, err) &&
           spool_write(&d->spools[SPOOL_LOSS], tokens.loss, (size_t)tokens.len, err);
}

/* Every piece that has loss becomes an example. */
static bool add_pieces(Builder *b, Tokens all, int32_t line, const RowWork *work, bool *any,
                       Err *err)
{
    const int64_t limit = b->options->max_seq_length;
    *any = false;
    for (int64_t from = 0; from < all.len; from += limit) {
        Tokens piece = part(all, from, min_i64(all.len, from + limit));
        if (count_loss(piece) == 0)
            continue;
        *any = true;
        if (!write_example(b, piece, line, work, err))
            return false;
    }
    return true;
}

/* The tokens that stay of a row that is too long. A BOS in front stays. */
static Tokens cut(const Builder *b, Tokens all, int32_t *first)
{
    const int64_t limit = b->options->max_seq_length;
    if (b->options->truncation != TRUNCATE_START)
        return part(all, 0, limit);
    *first = all.ids[0];
    return part(all, all.len - limit, all.len);
}

static bool add_cut(Builder *b, Tokens all, int32_t line, const RowWork *work, RowFault *fault,
                    Err *err)
{
    const bool at_start = b->options->truncation == TRUNCATE_START;
    const Tokenizer *tokenizer = b->workers.workers[0].renderer.tokenizer;
    int32_t first = TOKEN_NONE;
    Tokens kept = cut(b, all, &first);
    if (count_loss(kept) == 0)
        return row_fault(fault, FAULT_NO_LOSS, "no token would carry loss after it is cut");
    const int64_t at = at_start ? all.len - kept.len : kept.len; /* first token behind the cut */
    note_cut(b, line, all.len, kept.len, all.loss[at - 1] && all.loss[at]);
    if (!at_start || first == TOKEN_NONE || first != tokenizer_bos(tokenizer))
        return write_example(b, kept, line, work, err);
    int32_t *ids = heap_resize(NULL, (size_t)kept.len * sizeof *ids);
    memcpy(ids, kept.ids, (size_t)kept.len * sizeof *ids);
    ids[0] = first;
    bool ok = write_example(b, (Tokens){ids, kept.loss, kept.len}, line, work, err);
    heap_free(ids);
    return ok;
}

/* Adds the row's example or examples. False: *fault says why not, or err is set. */
static bool add_row(Builder *b, Tokens all, int32_t line, const RowWork *work, RowFault *fault,
                    Err *err)
{
    const DatasetOptions *o = b->options;
    bool any = count_loss(all) > 0;
    if (!any)
        return row_fault(fault, FAULT_NO_LOSS,
                         "no token would carry loss (is there an assistant turn?)");
    if (all.len <= o->max_seq_length)
        return write_example(b, all, line, work, err);
    if (o->truncation == TRUNCATE_DROP)
        return row_fault(fault, FAULT_TOO_LONG, "%lld tokens, the limit is %d", (long long)all.len,
                         o->max_seq_length);
    if (o->truncation != TRUNCATE_SPLIT)
        return add_cut(b, all, line, work, fault, err);
    if (!add_pieces(b, all, line, work, &any, err))
        return false;
    return any || row_fault(fault, FAULT_NO_LOSS, "no piece of it would carry loss");
}

/* ---- rows ---------------------------------------------------- */

static bool is_duplicate(Builder *b, const RowWork *work, int32_t line, RowFault *fault)
{
    if (b->dedup == NULL)
        return false;
    const int64_t own = (int64_t)b->file << 32 | line;
    int64_t id = own;
    const Seen seen = dedup_add(b->dedup, &work->print, &id);
    if (seen == SEEN_NOT)
        return false;
    const char *what = seen == SEEN_EXACT ? "the same as" : "nearly the same as";
    if (id >> 32 == b->file)
        row_fault(fault, seen == SEEN_EXACT ? FAULT_DUPLICATE : FAULT_NEAR_DUPLICATE,
                  "%s line %lld", what, (long long)(id & INT32_MAX));
    else
        row_fault(fault, seen == SEEN_EXACT ? FAULT_DUPLICATE : FAULT_NEAR_DUPLICATE,
                  "%s line %lld of '%.80s'", what, (long long)(id & INT32_MAX),
                  path_base(b->files[id >> 32].path));
    return true;
}

static bool take_row(Builder *b, const RawRow *raw, RowWork *work, Err *err)
{
    RowFault fault = work->fault;
    bool ok = work->ok && !is_duplicate(b, work, raw->line, &fault);
    if (ok && copies_of(b) == 0 && !is_held_out(b)) {
        b->dataset->n_left_out++;
        return true;
    }
    if (ok) {
        const Worker *w = &b->workers.workers[work->worker];
        Tokens tokens = {w->ids.ids + work->start, (const uint8_t *)w->loss.data + work->start,
                         work->len};
        ok = add_row(b, tokens, raw->line, work, &fault, err);
        if (err_is_set(err))
            return false;
    }
    if (ok)
        b->dataset->n_used++;
    else
        drop(b, raw->line, &fault);
    return true;
}

/* Knuth's algorithm S: each row is taken with the chance that makes every choice equally likely. */
static bool choose(Builder *b)
{
    const DatasetOptions *o = b->options;
    if (o->max_samples <= 0)
        return true;
    const int64_t behind = b->all_rows - b->row;
    assert(behind > 0 && b->left <= behind);
    const bool taken = (int64_t)rng_below(o->seed, RNG_SHUFFLE, SAMPLE_STREAM, (uint64_t)b->row,
                                          (uint64_t)behind) < b->left;
    b->row++;
    b->left -= taken;
    return taken;
}

static bool take_batch(Builder *b, const RowReader *reader, const RawRow *rows, int32_t n, Err *err)
{
    if (n > b->work_capacity) {
        b->work_capacity = 2 * n;
        b->work = heap_resize(b->work, (size_t)b->work_capacity * sizeof *b->work);
    }
    for (int32_t i = 0; i < n; i++) {
        b->work[i].wanted = choose(b);
        b->work[i].difficulty = 0;
    }
    row_workers_run(&b->workers, reader, rows, n, b->work);
    for (int32_t i = 0; i < n; i++, b->file_row++) {
        if (!b->work[i].wanted)
            continue;
        b->dataset->n_rows++;
        if (!take_row(b, &rows[i], &b->work[i], err))
            return false;
    }
    return true;
}

static bool read_rows(Builder *b, RowReader *reader, Err *err)
{
    const RawRow *rows;
    int32_t n = 0;
    b->file_row = 0;
    do {
        if (!row_reader_batch(reader, &rows, &n, err) || !take_batch(b, reader, rows, n, err))
            return false;
    } while (n > 0);
    return true;
}

static bool count_rows(RowReader *reader, int64_t *total, Err *err)
{
    const RawRow *rows;
    int32_t n = 0;
    do {
        if (!row_reader_batch(reader, &rows, &n, err))
            return false;
        *total += n;
    } while (n > 0);
    return true;
}

/* ---- the whole ---------------------------------------------------- */

/* Nothing is left to train on: one error that says why, with the first rows. */
static bool nothing_left(const Builder *b, Err *err)
{
    const Dataset *d = b->dataset;
    const char *name = b->files[0].path;
    if (d->n_rows == 0)
        return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' has no rows", name);
    if (d->n_used > 0 && d->n_held_out > 0) {
        err_set(err, ERR_INPUT_DATASET_INVALID, "all rows of '%s' are held out", name);
        return err_hint(err, "Lower --eval-split, or add rows");
    }
    if (d->n_left_out > 0 && d->n_used == 0 && d->n_notes == 0)
        return err_set(err, ERR_INPUT_DATASET_INVALID, "the weight of '%s' leaves no row", name);
    const int64_t *dropped = d->n_dropped, n = d->n_rows;
    ErrCode code = dropped[DROP_PARSE] == n         ? ERR_INPUT_DATASET_PARSE_FAILED
                   : dropped[DROP_FORMAT] == n      ? ERR_INPUT_DATASET_FORMAT_UNSUPPORTED
                   : dropped[DROP_UNSUPPORTED] == n ? ERR_DEP_CHAT_TEMPLATE_INVALID
                                                    : ERR_INPUT_DATASET_VALIDATION_FAILED;
    Buf text = {0};
    for (int64_t i = 0; i < min_i64(d->n_notes, 3); i++) {
        const RowNote *note = &d->notes[i];
        buf_printf(&text, "%s line %d", i > 0 ? ";" : "", note->line);
        if (b->n_files > 1)
            buf_printf(&text, " of '%s'", path_base(b->files[note->file].path));
        buf_printf(&text, ": %s", note->text);
    }
    err_set(err, code, "no row of '%s'%s can be trained on:%s", name,
            b->n_files > 1 ? " and the other files" : "", text.data != NULL ? text.data : "");
    buf_free(&text);
    return false;
}

static bool finish(Builder *b, Err *err)
{
    Dataset *d = b->dataset;
    if (d->n_examples == 0)
        return nothing_left(b, err);
    if (b->options->held_out > 0 && d->n_held_out == 0) {
        err_set(err, ERR_INPUT_DATASET_INVALID, "no row is held out of %lld", (long long)d->n_used);
        return err_hint(err, "Raise --eval-split, or add rows");
    }
    d->tokens = spool_finish(&d->spools[SPOOL_TOKENS], err);
    d->loss = spool_finish(&d->spools[SPOOL_LOSS], err);
    d->examples = spool_finish(&d->spools[SPOOL_EXAMPLES], err);
    d->held_out = spool_finish(&d->spools[SPOOL_HELD_OUT], err);
    return !err_is_set(err);
}

static bool open_builder(Builder *b, const DataTexts *texts, Arena *out, Err *err)
{
    Dataset *d = b->dataset;
    const DatasetOptions *o = b->options;
    must(o->max_seq_length > 1 && b->n_files > 0);
    *d = (Dataset){0};
    d->notes = arena_array(out, RowNote, DATASET_MAX_NOTES);
    for (size_t i = 0; i < COUNT_OF(d->spools); i++)
        spool_open(&d->spools[i], o->memory_bytes > 0 ? o->memory_bytes : SPOOL_BYTES,
                   ERR_RUNTIME_IO_FAILED);
    if (o->dedup != DEDUP_NONE)
        b->dedup = dedup_open(o->dedup, o->dedup == DEDUP_MINHASH ? o->dup_threshold : 1);
    return row_workers_open(&b->workers, texts, o, err);
}

static void close_builder(Builder *b)
{
    row_workers_close(&b->workers);
    dedup_close(b->dedup);
    heap_free(b->work);
}

/* A seeded choice needs the number of rows first. */
static bool count_all(Builder *b, Err *err)
{
    for (size_t i = 0; i < b->n_files && b->options->max_samples > 0; i++) {
        RowReader *reader = row_reader_open(b->files[i].path, err);
        bool ok = reader != NULL && count_rows(reader, &b->all_rows, err);
        row_reader_close(reader);
        if (!ok)
            return false;
    }
    b->left = min_i64(b->options->max_samples, b->all_rows);
    return true;
}

static bool read_files(Builder *b, Err *err)
{
    for (size_t i = 0; i < b->n_files; i++) {
        b->file = (int32_t)i;
        RowReader *reader = row_reader_open(b->files[i].path, err);
        bool ok = reader != NULL && read_rows(b, reader, err);
        row_reader_close(reader);
        if (!ok)
            return false;
    }
    return true;
}

/* One file: its hash. Several: the hash of their hashes and weights. */
static bool hash_files(const DataFile *files, size_t n, char hex[65], Err *err)
{
    Buf all = {0};
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ok = file_sha256(files[i].path, hex, ERR_INPUT_DATASET_INVALID, err);
        buf_printf(&all, "%s %.17g\n", hex, files[i].weight);
    }
    if (ok && (n > 1 || files[0].weight != 1)) {
        uint8_t digest[SHA256_BYTES];
        bytes_sha256(buf_view(&all), digest);
        sha256_hex(digest, hex);
    }
    buf_free(&all);
    return ok;
}

bool dataset_load(Dataset *dataset, const DataFile *files, size_t n_files, const DataTexts *texts,
                  const DatasetOptions *options, Arena *out, Err *err)
{
    Builder b = {.dataset = dataset, .options = options, .files = files, .n_files = n_files};
    bool ok = open_builder(&b, texts, out, err) && count_all(&b, err) && read_files(&b, err) &&
              finish(&b, err) && hash_files(files, n_files, dataset->sha256, err);
    close_builder(&b);
    return ok;
}

bool dataset_parse(Dataset *dataset, Str bytes, const char *name, const DataTexts *texts,
                   const DatasetOptions *options, Arena *out, Err *err)
{
    const DataFile file = {name, 1};
    Builder b = {.dataset = dataset, .options = options, .files = &file, .n_files = 1};
    bool ok = open_builder(&b, texts, out, err);
    for (int pass = options->max_samples > 0 ? 0 : 1; pass < 2 && ok; pass++) {
        RowReader *reader = row_reader_over(bytes, name, err);
        ok = reader != NULL &&
             (pass == 0 ? count_rows(reader, &b.all_rows, err) : read_rows(&b, reader, err));
        b.left = pass == 0 ? min_i64(options->max_samples, b.all_rows) : b.left;
        row_reader_close(reader);
    }
    ok = ok && finish(&b, err);
    close_builder(&b);
    return ok;
}

void dataset_read(const Dataset *dataset, const Example *example, int32_t *tokens, uint8_t *loss)
{
    const size_t n = (size_t)example->len;
    const Spool *spools = dataset->spools;
    assert(example->start >= 0 && example->start + example->len <= dataset->n_tokens);
    if (spools[SPOOL_TOKENS].map == NULL || spools[SPOOL_LOSS].map == NULL) {
        memcpy(tokens, dataset->tokens + example->start, n * sizeof *tokens);
        memcpy(loss, dataset->loss + example->start, n);
        return;
    }
    spool_read(&spools[SPOOL_TOKENS], (uint64_t)example->start * sizeof *tokens, tokens,
               n * sizeof *tokens);
    spool_read(&spools[SPOOL_LOSS], (uint64_t)example->start, loss, n);
}

Dataset dataset_subset(const Dataset *whole, const Example *examples, int64_t n)
{
    assert(examples != NULL || n == 0);
    Dataset subset = *whole;
    subset.examples = examples;
    subset.n_examples = n;
    subset.held_out = NULL;
    subset.n_held_out = subset.n_loss = 0;
    for (int64_t i = 0; i < n; i++)
        subset.n_loss += examples[i].n_loss;
    return subset;
}

void dataset_close(Dataset *dataset)
{
    for (size_t i = 0; i < COUNT_OF(dataset->spools); i++)
        spool_close(&dataset->spools[i]);
    *dataset = (Dataset){0};
}

/* ---- names and numbers ---------------------------------------------------- */

static bool parse_file(Str line, DataFile *file, Arena *out, Err *err)
{
    char *path = arena_strndup(out, line.data, line.len);
    *file = (DataFile){path, 1};
    char *colon = strrchr(path, ':'), *end = NULL;
    if (colon == NULL || colon[1] == '\0' || path_exists(path))
        return true;
    const double weight = strtod(colon + 1, &end);
    if (end == colon + 1 || *end != '\0')
        return true; /* part of the name */
    if (!(weight > 0 && weight <= MAX_COPIES))
        return err_set(err, ERR_INPUT_VALIDATION_FAILED,
                       "'%s' is not a weight above 0 and up to %d for '%.*s'", colon + 1,
                       MAX_COPIES, (int)(colon - path), path);
    *colon = '\0';
    file->weight = weight;
    return true;
}

bool data_files_parse(const char *list, DataFile *files, size_t *n_files, Arena *out, Err *err)
{
    *n_files = 0;
    assert(list != NULL);
    for (const char *at = list; *at != '\0';) {
        const size_t len = strcspn(at, "\n");
        Str line = str_trim((Str){at, len});
        at += len + (at[len] == '\n');
        if (line.len == 0)
            continue;
        if (*n_files == DATASET_MAX_FILES)
            return err_set(err, ERR_INPUT_VALIDATION_FAILED, "more than %d data files",
                           DATASET_MAX_FILES);
        if (!parse_file(line, &files[(*n_files)++], out, err))
            return false;
    }
    return true;
}

void dataset_summary(const Dataset *dataset, Buf *out)
{
    const Dataset *d = dataset;
    const int64_t dropped = d->n_rows - d->n_used - d->n_left_out;
    const char *between = " (";
    buf_printf(out, "%lld rows, %lld used", (long long)d->n_rows, (long long)d->n_used);
    if (dropped > 0)
        buf_printf(out, ", %lld dropped", (long long)dropped);
    for (int i = 0; i < DROP_REASONS; i++) {
        if (d->n_dropped[i] == 0)
            continue;
        buf_printf(out, "%s%lld %s", between, (long long)d->n_dropped[i], drop_text((DropReason)i));
        between = ", ";
    }
    if (dropped > 0)
        buf_char(out, ')');
    if (d->n_left_out > 0)
        buf_printf(out, ", %lld left out by weight", (long long)d->n_left_out);
    if (d->n_held_out > 0)
        buf_printf(out, ", %lld held out", (long long)d->n_held_out);
    if (d->n_truncated > 0)
        buf_printf(out, ", %lld cut", (long long)d->n_truncated);
    if (d->n_cut_turns > 0)
        buf_printf(out, " (%lld inside an assistant's turn)", (long long)d->n_cut_turns);
    buf_printf(out, ", %lld tokens, %lld with loss", (long long)d->n_tokens, (long long)d->n_loss);
}

Json *dataset_json(const Dataset *dataset)
{
    const Dataset *d = dataset;
    Json *json = json_new_object(), *dropped = json_new_object();
    for (int i = 0; i < DROP_REASONS; i++) {
        if (d->n_dropped[i] > 0)
            json_put(dropped, drop_text((DropReason)i), json_new_int(d->n_dropped[i]));
    }
    json_put(json, "rows", json_new_int(d->n_rows));
    json_put(json, "used", json_new_int(d->n_used));
    json_put(json, "dropped", dropped);
    json_put(json, "left_out", json_new_int(d->n_left_out));
    json_put(json, "held_out", json_new_int(d->n_held_out));
    json_put(json, "cut", json_new_int(d->n_truncated));
    json_put(json, "cut_turns", json_new_int(d->n_cut_turns));
    json_put(json, "examples", json_new_int(d->n_examples));
    json_put(json, "tokens", json_new_int(d->n_tokens));
    json_put(json, "loss_tokens", json_new_int(d->n_loss));
    return json;
}
