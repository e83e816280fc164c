/* quality.c — one pass over a file, and one over the file it is compared with; see quality.h.
 *
 * Memory: about 260 bytes a row, for its fingerprint and length.
 */
#include "data/quality.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "data/render.h"
#include "data/rows.h"

enum { BYTES_A_TOKEN = 4, FIRST_BIN = 64, BINS = 11, SHOWN_DUPLICATES = 20 };

typedef struct Histogram {
    int64_t counts[BINS]; /* below 64, below 128, …, the rest */
} Histogram;

typedef struct Report {
    const ReportOptions *options;
    Dedup *seen, *against;
    Renderer renderer;
    Buf words;
    int64_t rows, parseable, parse_errors, formats[FORMAT_COUNT];
    int64_t exact, near, clusters, empty, no_assistant, unusable;
    int64_t against_rows, shared_exact, shared_near;
    int64_t think_rows;
    Histogram tokens, traces;
    int64_t *lengths;  /* [parseable] */
    uint8_t *has_twin; /* [parseable] first of a cluster */
    int64_t capacity;
    Json *duplicates, *parse_list;
} Report;

static void histogram_add(Histogram *h, int64_t n)
{
    int bin = 0;
    for (int64_t limit = FIRST_BIN; bin + 1 < BINS && n >= limit; limit *= 2)
        bin++;
    h->counts[bin]++;
}

static Json *histogram_json(const Histogram *h)
{
    Json *json = json_new_object();
    int64_t from = 0, to = FIRST_BIN;
    for (int i = 0; i < BINS; i++, from = to, to *= 2) {
        char name[48];
        if (i + 1 < BINS)
            snprintf(name, sizeof name, "%lld-%lld", (long long)from, (long long)to - 1);
        else
            snprintf(name, sizeof name, "%lld+", (long long)from);
        json_put(json, name, json_new_int(h->counts[i]));
    }
    return json;
}

/* ---- rows ---------------------------------------------------- */

static void grow(Report *r)
{
    if (r->parseable < r->capacity)
        return;
    r->capacity = r->capacity == 0 ? 1024 : 2 * r->capacity;
    r->lengths = heap_resize(r->lengths, (size_t)r->capacity * sizeof *r->lengths);
    r->has_twin = heap_resize(r->has_twin, (size_t)r->capacity);
}

static int64_t length_of(Report *r, const Row *row)
{
    RowFault fault;
    if (r->options->texts != NULL && render_row(&r->renderer, row, &fault))
        return (int64_t)r->renderer.ids.len;
    return ceil_div((int64_t)r->words.len, BYTES_A_TOKEN);
}

/* Bytes between <think> and </think> of all turns. */
static int64_t trace_bytes(Str words)
{
    static const char open[] = "<think>", close[] = "</think>";
    int64_t bytes = 0;
    const char *at = words.data, *stop = words.data + words.len;
    for (; at != NULL && at < stop;) {
        at = memmem(at, (size_t)(stop - at), open, sizeof open - 1);
        const char *end =
            at == NULL ? NULL : memmem(at, (size_t)(stop - at), close, sizeof close - 1);
        if (end != NULL)
            bytes += end - at - (int64_t)sizeof open + 1;
        at = end;
    }
    return bytes;
}

static void note_duplicate(Report *r, Seen seen, int32_t line, int64_t like)
{
    r->exact += seen == SEEN_EXACT;
    r->near += seen == SEEN_NEAR;
    const int64_t first = like & UINT32_MAX, first_line = like >> 32;
    r->clusters += !r->has_twin[first];
    r->has_twin[first] = 1;
    if (json_len(r->duplicates) == SHOWN_DUPLICATES)
        return;
    Json *item = json_new_object();
    json_put(item, "line", json_new_int(line));
    json_put(item, "like_line", json_new_int(first_line));
    json_put(item, "kind", json_new_text(seen == SEEN_EXACT ? "exact" : "near"));
    json_add(r->duplicates, item);
}

static void look_for_twins(Report *r, int32_t line)
{
    Fingerprint print;
    int64_t like = 0, own = (int64_t)line << 32 | r->parseable;
    fingerprint_make(buf_view(&r->words), DEDUP_MINHASH, &print);
    if (r->against != NULL) {
        const Seen shared = dedup_find(r->against, &print, &like);
        r->shared_exact += shared == SEEN_EXACT;
        r->shared_near += shared == SEEN_NEAR;
    }
    r->has_twin[r->parseable] = 0;
    const Seen seen = dedup_add(r->seen, &print, &own);
    if (seen != SEEN_NOT)
        note_duplicate(r, seen, line, own);
}

static void look_at_row(Report *r, const Json *value, int32_t line)
{
    Row row;
    RowFault fault = {0};
    const RowFormat hint = r->options->format;
    const RowFormat format = hint != FORMAT_UNKNOWN ? hint : schema_detect(value);
    grow(r);
    must(r->parseable < UINT32_MAX);
    r->formats[format]++;
    buf_clear(&r->words);
    if (schema_read_as(format, value, &row, &fault)) {
        row_words(&row, &r->words);
        r->empty += row_blank_turn(&row) > 0;
        r->no_assistant += row.messages != NULL && !row_has_role(&row, "assistant");
    } else { /* what it says is its JSON */
        r->unusable++;
        r->empty += fault.kind == FAULT_EMPTY_CONTENT;
        json_write(value, (JsonStyle){.sorted = true}, &r->words);
    }
    buf_text(&r->words, "");
    const int64_t trace = trace_bytes(buf_view(&r->words));
    if (trace > 0) {
        r->think_rows++;
        histogram_add(&r->traces, ceil_div(trace, BYTES_A_TOKEN));
    }
    look_for_twins(r, line);
    const int64_t length = length_of(r, &row);
    histogram_add(&r->tokens, length);
    r->lengths[r->parseable++] = length;
    row_free(&row);
}

static void look_at_raw(Report *r, const RowReader *reader, const RawRow *raw)
{
    RowFault fault = {0};
    Json *value = row_parse(reader, raw, &fault);
    r->rows++;
    if (value != NULL) {
        look_at_row(r, value, raw->line);
    } else {
        r->parse_errors++;
        if (json_len(r->parse_list) < SHOWN_DUPLICATES) {
            Json *item = json_new_object();
            json_put(item, "line", json_new_int(raw->line));
            json_put(item, "message", json_new_text(fault.text));
            json_add(r->parse_list, item);
        }
    }
    json_free(value);
}

/* A row of the other file is only remembered. */
static void remember_raw(Report *r, const RowReader *reader, const RawRow *raw)
{
    Row row;
    RowFault fault = {0};
    Fingerprint print;
    int64_t id = raw->line;
    Json *value = row_parse(reader, raw, &fault);
    if (value != NULL) {
        buf_clear(&r->words);
        if (schema_read(value, &row, &fault))
            row_words(&row, &r->words);
        else
            json_write(value, (JsonStyle){.sorted = true}, &r->words);
        buf_text(&r->words, "");
        fingerprint_make(buf_view(&r->words), DEDUP_MINHASH, &print);
        dedup_add(r->against, &print, &id);
        r->against_rows++;
        row_free(&row);
    }
    json_free(value);
}

static bool each_row(Report *r, const char *path, int64_t limit,
                     void (*look)(Report *, const RowReader *, const RawRow *), Err *err)
{
    RowReader *reader = row_reader_open(path, err);
    const RawRow *rows;
    int32_t n = 1;
    int64_t seen = 0;
    bool ok = reader != NULL;
    while (ok && n > 0 && (limit == 0 || seen < limit)) {
        ok = row_reader_batch(reader, &rows, &n, err);
        for (int32_t i = 0; ok && i < n && (limit == 0 || seen < limit); i++, seen++)
            look(r, reader, &rows[i]);
    }
    row_reader_close(reader);
    return ok;
}

/* ---- verdict ---------------------------------------------------- */

static double share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

/* Rows whose length is more than three standard deviations from the mean. */
static int64_t outliers(const Report *r, double *mean)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < r->parseable; i++)
        sum += (double)r->lengths[i];
    *mean = r->parseable > 0 ? sum / (double)r->parseable : 0;
    for (int64_t i = 0; i < r->parseable; i++)
        squares += ((double)r->lengths[i] - *mean) * ((double)r->lengths[i] - *mean);
    const double sigma = r->parseable > 0 ? sqrt(squares / (double)r->parseable) : 0;
    int64_t n = 0;
    for (int64_t i = 0; i < r->parseable; i++)
        n += fabs((double)r->lengths[i] - *mean) > 3 * sigma && sigma > 0;
    return n;
}

static void gate(Json *failed, const char *name, double value, double limit)
{
    if (limit < 0 || value <= limit)
        return;
    Json *item = json_new_object();
    json_put(item, "threshold", json_new_text(name));
    json_put(item, "limit", json_new_double(limit));
    json_put(item, "value", json_new_double(value));
    json_add(failed, item);
}

static void judge(const Report *r, int64_t n_outliers, Json *json)
{
    const ReportOptions *o = r->options;
    const double dups = share(r->exact + r->near, r->parseable);
    const double shared = share(r->shared_exact + r->shared_near, r->parseable);
    const double empty = share(r->empty, r->parseable);
    const double odd = share(n_outliers, r->parseable);
    Json *failed = json_new_array();
    gate(failed, "duplicates", dups, o->fail_on_dups);
    gate(failed, "contamination", shared, o->fail_on_contamination);
    gate(failed, "outliers", odd, o->max_outlier_rate);
    gate(failed, "empty_turns", empty, o->fail_on_empty);
    if (r->parseable == 0)
        gate(failed, "rows", 1, 0);
    const bool warn = r->parse_errors > 0 || r->unusable > 0 || dups > 0.10 || empty > 0.02 ||
                      share(r->no_assistant, r->parseable) > 0.02 || odd > 0.05 || shared > 0;
    const char *verdict = json_len(failed) > 0 ? "FAIL" : warn ? "WARN" : "PASS";
    json_put(json, "verdict", json_new_text(verdict));
    json_put(json, "failed_thresholds", failed);
}

static Json *contamination(const Report *r)
{
    if (r->against == NULL)
        return json_new_null();
    Json *json = json_new_object();
    const int64_t n = r->shared_exact + r->shared_near;
    json_put(json, "against", json_new_text(r->options->against));
    json_put(json, "against_rows", json_new_int(r->against_rows));
    json_put(json, "exact", json_new_int(r->shared_exact));
    json_put(json, "near", json_new_int(r->shared_near));
    json_put(json, "rate", json_new_double(share(n, r->parseable)));
    return json;
}

static Json *report_json(const Report *r, const char *path)
{
    Json *json = json_new_object(), *formats = json_new_object();
    double mean = 0;
    const int64_t n_outliers = outliers(r, &mean);
    int64_t longest = 0;
    for (int64_t i = 0; i < r->parseable; i++)
        longest = max_i64(longest, r->lengths[i]);
    for (int i = 0; i < FORMAT_COUNT; i++) {
        if (r->formats[i] > 0)
            json_put(formats, format_name((RowFormat)i), json_new_int(r->formats[i]));
    }
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "dataset", json_new_text(path));
    json_put(json, "total_rows", json_new_int(r->rows));
    json_put(json, "parseable_rows", json_new_int(r->parseable));
    json_put(json, "parse_errors", json_new_int(r->parse_errors));
    json_put(json, "parse_error_lines", json_clone(r->parse_list));
    json_put(json, "invalid_rows", json_new_int(r->unusable));
    json_put(json, "format_distribution", formats);
    json_put(json, "exact_duplicates", json_new_int(r->exact));
    json_put(json, "near_duplicates", json_new_int(r->near));
    json_put(json, "duplicate_clusters", json_new_int(r->clusters));
    json_put(json, "near_duplicate_rate", json_new_double(share(r->exact + r->near, r->parseable)));
    json_put(json, "duplicates", json_clone(r->duplicates));
    json_put(json, "empty_turn_rows", json_new_int(r->empty));
    json_put(json, "outlier_rows", json_new_int(n_outliers));
    json_put(json, "no_assistant_rows", json_new_int(r->no_assistant));
    json_put(json, "tokens", json_new_text(r->options->texts != NULL ? "exact" : "estimated"));
    json_put(json, "mean_tokens", json_new_double(mean));
    json_put(json, "longest_tokens", json_new_int(longest));
    json_put(json, "token_histogram", histogram_json(&r->tokens));
    json_put(json, "contamination", contamination(r));
    judge(r, n_outliers, json);
    json_put(json, "think_rows", json_new_int(r->think_rows));
    json_put(json, "think_pct", json_new_double(100 * share(r->think_rows, r->parseable)));
    json_put(json, "trace_histogram", histogram_json(&r->traces));
    return json;
}

Json *data_report(const char *path, const ReportOptions *options, Err *err)
{
    Report r = {.options = options, .duplicates = json_new_array(), .parse_list = json_new_array()};
    const DataTexts *texts = options->texts;
    bool ok = texts == NULL ||
              renderer_open(&r.renderer, texts->tokenizer, texts->chat_template, true, err);
    r.seen = dedup_open(DEDUP_MINHASH, options->dup_threshold);
    if (ok && options->against != NULL) {
        r.against = dedup_open(DEDUP_MINHASH, options->dup_threshold);
        ok = each_row(&r, options->against, 0, remember_raw, err);
    }
    ok = ok && each_row(&r, path, options->max_samples, look_at_raw, err);
    Json *json = ok ? report_json(&r, path) : NULL;
    if (texts != NULL)
        renderer_close(&r.renderer);
    dedup_close(r.seen);
    dedup_close(r.against);
    buf_free(&r.words);
    heap_free(r.lengths);
    heap_free(r.has_twin);
    json_free(r.duplicates);
    json_free(r.parse_list);
    return json;
}
