/* dataset.c — a data file to examples: finding the rows, counting what is dropped, and why.
 *
 * .jsonl (and unknown extensions): a JSON value a line; .json: an array of rows, or one row; .txt
 * and .md: pieces between blank lines. A byte-order mark is skipped, CRLF is a line end, blank
 * lines are not rows.
 */
#include "data/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/render.h"

enum {
    ROW_MAX_BYTES = 64 << 20,
    DATASET_ROWS_MAX = 100 * 1000 * 1000,
    DATASET_TOKENS_MAX = INT32_MAX,
    SAMPLE_STREAM = INT32_MAX, /* not an epoch */
};

/* A row before it is parsed. */
typedef struct RawRow {
    Str text;
    int32_t line;
    const Json *value; /* of a .json file; then text is empty */
} RawRow;

typedef struct RawRows {
    RawRow *rows;
    int64_t count, capacity;
    bool plain; /* rows are text, not JSON */
    Json *json; /* owns the values */
} RawRows;

typedef struct Builder {
    Dataset *dataset;
    const DatasetOptions *options;
    const char *name;
    Renderer renderer;
    TokenList tokens;
    Buf loss;
} Builder;

/* ---- rows of a file ---------------------------------------------------- */

static void add_row(RawRows *rows, RawRow row)
{
    assert(rows->count <= rows->capacity);
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity == 0 ? 1024 : rows->capacity * 2;
        rows->rows = heap_resize(rows->rows, (size_t)rows->capacity * sizeof *rows->rows);
    }
    rows->rows[rows->count++] = row;
}

static Str next_line(Str bytes, size_t *at)
{
    assert(*at < bytes.len);
    const char *newline = memchr(bytes.data + *at, '\n', bytes.len - *at);
    size_t end = newline != NULL ? (size_t)(newline - bytes.data) : bytes.len;
    Str line = str_sub(bytes, *at, end);
    *at = end + 1;
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

static void split_lines(Str bytes, RawRows *rows)
{
    int32_t number = 0;
    for (size_t at = 0; at < bytes.len && number < INT32_MAX;) {
        Str line = next_line(bytes, &at);
        number++;
        if (str_trim(line).len > 0)
            add_row(rows, (RawRow){.text = line, .line = number});
    }
}

static void split_paragraphs(Str bytes, RawRows *rows)
{
    int32_t number = 0;
    RawRow piece = {0};
    rows->plain = true;
    for (size_t at = 0; at < bytes.len && number < INT32_MAX;) {
        Str line = next_line(bytes, &at);
        number++;
        bool blank = str_trim(line).len == 0;
        if (blank && piece.text.len > 0) {
            add_row(rows, piece);
            piece = (RawRow){0};
        } else if (!blank && piece.text.len == 0) {
            piece = (RawRow){.text = line, .line = number};
        } else if (!blank) {
            piece.text.len = (size_t)(line.data + line.len - piece.text.data);
        }
    }
    if (piece.text.len > 0)
        add_row(rows, piece);
}

static bool split_json(Str bytes, const char *name, RawRows *rows, Err *err)
{
    rows->json = json_parse(bytes, name, ERR_INPUT_DATASET_PARSE_FAILED, err);
    if (rows->json == NULL)
        return false;
    if (!json_is_array(rows->json)) {
        add_row(rows, (RawRow){.line = 1, .value = rows->json});
        return true;
    }
    for (size_t i = 0; i < json_len(rows->json); i++)
        add_row(rows, (RawRow){.line = (int32_t)(i + 1), .value = json_at(rows->json, i)});
    return true;
}

static bool find_rows(Str bytes, const char *name, RawRows *rows, Err *err)
{
    Str file = str_of(name);
    if (bytes.len >= 3 && memcmp(bytes.data, "\xef\xbb\xbf", 3) == 0)
        bytes = str_sub(bytes, 3, bytes.len);
    if (str_ends(file, ".json"))
        return split_json(bytes, name, rows, err);
    if (str_ends(file, ".txt") || str_ends(file, ".md"))
        split_paragraphs(bytes, rows);
    else
        split_lines(bytes, rows);
    if (rows->count > DATASET_ROWS_MAX)
        return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' has more than %d rows", name,
                       DATASET_ROWS_MAX);
    return true;
}

static int compare_rows(const void *a, const void *b)
{
    int32_t x = ((const RawRow *)a)->line, y = ((const RawRow *)b)->line;
    return (x > y) - (x < y);
}

/* Keeps max_samples rows, chosen by a seeded shuffle, in file order. */
static void sample_rows(RawRows *rows, const DatasetOptions *options)
{
    const int64_t n = rows->count, wanted = options->max_samples;
    if (wanted <= 0 || n <= wanted)
        return;
    int64_t *order = heap_resize(NULL, (size_t)n * sizeof *order);
    RawRow *kept = heap_resize(NULL, (size_t)n * sizeof *kept);
    rng_permutation(options->seed, RNG_SHUFFLE, SAMPLE_STREAM, n, order);
    for (int64_t i = 0; i < wanted; i++)
        kept[i] = rows->rows[order[i]];
    qsort(kept, (size_t)wanted, sizeof *kept, compare_rows);
    heap_free(order);
    heap_free(rows->rows);
    rows->rows = kept;
    rows->count = wanted;
}

/* ---- rows to examples ---------------------------------------------------- */

static void note(Dataset *dataset, int32_t line, const RowFault *fault, bool truncated)
{
    assert(fault->reason < DROP_REASONS);
    if (dataset->n_notes == DATASET_MAX_NOTES)
        return;
    RowNote *n = &dataset->notes[dataset->n_notes++];
    *n = (RowNote){.line = line, .reason = fault->reason, .truncated = truncated};
    memcpy(n->text, fault->text, sizeof n->text);
}

static void drop(Dataset *dataset, int32_t line, const RowFault *fault)
{
    dataset->n_dropped[fault->reason]++;
    note(dataset, line, fault, false);
}

/* Appends what the renderer holds as one example. */
static bool add_example(Builder *b, int32_t line, RowFault *fault)
{
    Dataset *dataset = b->dataset;
    const Renderer *r = &b->renderer;
    const int64_t all = (int64_t)r->ids.len;
    const int64_t len = min_i64(all, b->options->max_seq_length);
    int32_t n_loss = 0;
    for (int64_t t = 1; t < len; t++)
        n_loss += r->loss.data[t] != 0;
    if (n_loss == 0)
        return row_fault(fault, DROP_NO_LOSS, "no token would carry loss%s",
                         len < all ? " after it is cut" : " (is there an assistant turn?)");
    if (len < all) {
        dataset->n_truncated++;
        row_fault(fault, DROP_NO_LOSS, "cut from %lld to %lld tokens", (long long)all,
                  (long long)len);
        note(dataset, line, fault, true);
    }
    dataset->examples[dataset->n_examples++] = (Example){
        .start = (int64_t)b->tokens.len, .len = (int32_t)len, .n_loss = n_loss, .line = line};
    dataset->n_loss += n_loss;
    for (int64_t t = 0; t < len; t++)
        token_list_push(&b->tokens, r->ids.ids[t]);
    buf_append(&b->loss, r->loss.data, (size_t)len);
    return true;
}

static bool use_value(Builder *b, const Json *value, int32_t line, RowFault *fault)
{
    Row row;
    bool ok = schema_read(value, &row, fault) && render_row(&b->renderer, &row, fault) &&
              add_example(b, line, fault);
    row_free(&row);
    return ok;
}

static bool use_row(Builder *b, const RawRow *raw, bool plain, RowFault *fault)
{
    if (raw->value != NULL)
        return use_value(b, raw->value, raw->line, fault);
    if (raw->text.len > ROW_MAX_BYTES)
        return row_fault(fault, DROP_PARSE, "the row is longer than %d MiB", ROW_MAX_BYTES >> 20);
    if (!utf8_valid(raw->text))
        return row_fault(fault, DROP_PARSE, "not UTF-8");
    if (plain) {
        Row row = {.text = raw->text};
        return render_row(&b->renderer, &row, fault) && add_example(b, raw->line, fault);
    }
    Err err = {0};
    Json *value = json_parse(raw->text, "row", ERR_INPUT_DATASET_PARSE_FAILED, &err);
    if (value == NULL)
        return row_fault(fault, DROP_PARSE, "not JSON: %.140s", err.message);
    bool ok = use_value(b, value, raw->line, fault);
    json_free(value);
    return ok;
}

static void move_tokens(Builder *b, Arena *out)
{
    Dataset *dataset = b->dataset;
    dataset->n_tokens = (int64_t)b->tokens.len;
    dataset->tokens = arena_array(out, int32_t, b->tokens.len);
    dataset->loss = arena_array(out, uint8_t, b->tokens.len);
    memcpy(dataset->tokens, b->tokens.ids, b->tokens.len * sizeof(int32_t));
    memcpy(dataset->loss, b->loss.data, b->loss.len);
}

/* Nothing is left to train on: one error that says why, with the first rows. */
static bool nothing_left(const Dataset *dataset, const char *name, Err *err)
{
    if (dataset->n_rows == 0)
        return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' has no rows", name);
    ErrCode code =
        dataset->n_dropped[DROP_PARSE] == dataset->n_rows    ? ERR_INPUT_DATASET_PARSE_FAILED
        : dataset->n_dropped[DROP_FORMAT] == dataset->n_rows ? ERR_INPUT_DATASET_FORMAT_UNSUPPORTED
                                                             : ERR_INPUT_DATASET_VALIDATION_FAILED;
    Buf text = {0};
    for (int64_t i = 0; i < min_i64(dataset->n_notes, 3); i++)
        buf_printf(&text, "%s line %d: %s", i > 0 ? ";" : "", dataset->notes[i].line,
                   dataset->notes[i].text);
    err_set(err, code, "no row of '%s' can be trained on:%s", name,
            text.data != NULL ? text.data : "");
    buf_free(&text);
    return false;
}

static bool build(Builder *b, const RawRows *rows, Arena *out, Err *err)
{
    Dataset *dataset = b->dataset;
    dataset->n_rows = rows->count;
    dataset->examples = arena_array(out, Example, rows->count);
    dataset->notes = arena_array(out, RowNote, DATASET_MAX_NOTES);
    b->loss.max = DATASET_TOKENS_MAX;
    for (int64_t i = 0; i < rows->count; i++) {
        RowFault fault = {0};
        if (!use_row(b, &rows->rows[i], rows->plain, &fault))
            drop(dataset, rows->rows[i].line, &fault);
        if (b->tokens.len > DATASET_TOKENS_MAX / 2)
            return err_set(err, ERR_INPUT_DATASET_INVALID, "'%s' has more than %d tokens", b->name,
                           DATASET_TOKENS_MAX / 2);
    }
    if (dataset->n_examples == 0)
        return nothing_left(dataset, b->name, err);
    move_tokens(b, out);
    return true;
}

bool dataset_parse(Dataset *dataset, Str bytes, const char *name, const Tokenizer *tokenizer,
                   const Template *chat_template, const DatasetOptions *options, Arena *out,
                   Err *err)
{
    must(options->max_seq_length > 1);
    char sha256[65];
    memcpy(sha256, dataset->sha256, sizeof sha256);
    *dataset = (Dataset){0};
    memcpy(dataset->sha256, sha256, sizeof sha256);
    Builder b = {.dataset = dataset, .options = options, .name = name};
    RawRows rows = {0};
    bool ok =
        renderer_open(&b.renderer, tokenizer, chat_template, options->train_on_prompts, err) &&
        find_rows(bytes, name, &rows, err);
    b.renderer.max_tokens = options->max_seq_length;
    if (ok) {
        sample_rows(&rows, options);
        ok = build(&b, &rows, out, err);
    }
    renderer_close(&b.renderer);
    token_list_free(&b.tokens);
    buf_free(&b.loss);
    json_free(rows.json);
    heap_free(rows.rows);
    return ok;
}

bool dataset_load(Dataset *dataset, const char *path, const Tokenizer *tokenizer,
                  const Template *chat_template, const DatasetOptions *options, Arena *out,
                  Err *err)
{
    *dataset = (Dataset){0};
    if (!path_exists(path))
        return err_set(err, ERR_INPUT_DATASET_NOT_FOUND, "dataset '%s' does not exist", path);
    if (path_is_folder(path))
        return err_set(err, ERR_INPUT_DATASET_INVALID, "dataset '%s' is a folder", path);
    FileMap map = {0};
    if (!file_sha256(path, dataset->sha256, ERR_INPUT_DATASET_INVALID, err) ||
        !file_map(&map, path, ERR_INPUT_DATASET_INVALID, err))
        return false;
    Str bytes = {(const char *)map.data, map.size};
    bool ok = dataset_parse(dataset, bytes, path, tokenizer, chat_template, options, out, err);
    file_unmap(&map);
    return ok;
}

void dataset_summary(const Dataset *dataset, Buf *out)
{
    static const char *const reasons[DROP_REASONS] = {"not readable", "unknown format", "invalid",
                                                      "refused by the template", "without loss"};
    int64_t dropped = dataset->n_rows - dataset->n_examples;
    buf_printf(out, "%lld rows, %lld used", (long long)dataset->n_rows,
               (long long)dataset->n_examples);
    if (dropped > 0)
        buf_printf(out, ", %lld dropped (", (long long)dropped);
    bool first = true;
    for (int i = 0; i < DROP_REASONS; i++) {
        if (dataset->n_dropped[i] == 0)
            continue;
        buf_printf(out, "%s%lld %s", first ? "" : ", ", (long long)dataset->n_dropped[i],
                   reasons[i]);
        first = false;
    }
    if (dropped > 0)
        buf_char(out, ')');
    if (dataset->n_truncated > 0)
        buf_printf(out, ", %lld cut", (long long)dataset->n_truncated);
    buf_printf(out, ", %lld tokens, %lld with loss", (long long)dataset->n_tokens,
               (long long)dataset->n_loss);
}
