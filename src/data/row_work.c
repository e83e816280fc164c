/* row_work.c — rows to tokens in parallel; see row_work.h.
 *
 * A thread appends what it made to its own lists, so nothing is shared and nothing is locked; which
 * thread took which row shows nowhere in the result.
 */
#include "data/row_work.h"

#include <omp.h>
#include <string.h>

#include "core/thread.h"

enum { ROWS_FOR_THREADS = 32 }; /* fewer are done before threads have woken up */

bool row_workers_open(RowWorkers *workers, const DataTexts *texts, const DatasetOptions *options,
                      Err *err)
{
    const int n = threads_count();
    *workers = (RowWorkers){.options = options, .n = n};
    workers->workers = heap_resize(NULL, (size_t)n * sizeof *workers->workers);
    for (int i = 0; i < n; i++)
        workers->workers[i] = (Worker){0};
    for (int i = 0; i < n; i++) {
        Renderer *r = &workers->workers[i].renderer;
        if (!renderer_open(r, texts->tokenizer, texts->chat_template, options->train_on_prompts,
                           err))
            return false;
        if (options->truncation == TRUNCATE_END)
            r->max_tokens = options->max_seq_length;
    }
    return true;
}

void row_workers_close(RowWorkers *workers)
{
    for (int i = 0; i < workers->n; i++) {
        Worker *w = &workers->workers[i];
        renderer_close(&w->renderer);
        token_list_free(&w->ids);
        buf_free(&w->loss);
        buf_free(&w->words);
    }
    heap_free(workers->workers);
    *workers = (RowWorkers){0};
}

/* ---- difficulty ---------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* True when the word was not in the table of `slots` (a power of two) yet. */
static bool is_new_word(Str *table, size_t slots, Str word)
{
    uint64_t hash = 14695981039346656037ULL;
    for (size_t i = 0; i < word.len; i++)
        hash = (hash ^ (uint8_t)word.data[i]) * 1099511628211ULL;
    for (hash ^= hash >> 29;; hash++) {
        Str *slot = &table[hash & (slots - 1)];
        if (slot->data == NULL) {
            *slot = word;
            return true;
        }
        if (str_eq(*slot, word))
            return false;
    }
}

double words_difficulty(Str words, Arena *scratch)
{
    size_t n = 0, unique = 0, letters = 0, slots = 16;
    const size_t mark = arena_mark(scratch);
    while (slots < words.len + 2) /* a word and its space are two bytes at least */
        slots *= 2;
    Str *table = arena_array(scratch, Str, slots);
    for (size_t at = 0; at < words.len;) {
        size_t end = at;
        while (end < words.len && !is_space(words.data[end]))
            end++;
        if (end > at) {
            n++;
            letters += end - at;
            unique += is_new_word(table, slots, str_sub(words, at, end));
        }
        at = end + 1;
    }
    arena_rewind(scratch, mark);
    if (n == 0)
        return 0;
    const double length = (double)words.len / 5000, word = (double)letters / (double)n / 10;
    const double score = 0.5 * (length < 1 ? length : 1) + 0.25 * (double)unique / (double)n +
                         0.25 * (word < 1 ? word : 1);
    assert(score >= 0 && score <= 1);
    return score;
}

/* ---- one row ---------------------------------------------------- */

static bool passes_turns(const RowFilter *f, const Row *row, RowFault *fault)
{
    const int64_t turns = row_turns(row);
    if (f->min_turns > 0 && turns < f->min_turns)
        return row_fault(fault, FAULT_TURNS, "%lld turns, at least %lld are asked for",
                         (long long)turns, (long long)f->min_turns);
    if (f->max_turns > 0 && turns > f->max_turns)
        return row_fault(fault, FAULT_TURNS, "%lld turns, at most %lld are asked for",
                         (long long)turns, (long long)f->max_turns);
    for (const char *at = f->roles; at != NULL && *at != '\0';) {
        char role[32] = "";
        const size_t len = strcspn(at, ",");
        if (len < sizeof role)
            memcpy(role, at, len);
        if (len > 0 && !row_has_role(row, role))
            return row_fault(fault, FAULT_ROLES, "no turn of role '%s'", role);
        at += len + (at[len] == ',');
    }
    return true;
}

static bool passes_tokens(const RowFilter *f, int64_t n, RowFault *fault)
{
    if (f->min_tokens > 0 && n < f->min_tokens)
        return row_fault(fault, FAULT_TOKENS, "%lld tokens, at least %lld are asked for",
                         (long long)n, (long long)f->min_tokens);
    if (f->max_tokens > 0 && n > f->max_tokens)
        return row_fault(fault, FAULT_TOKENS, "%lld tokens, at most %lld are asked for",
                         (long long)n, (long long)f->max_tokens);
    return true;
}

/* What the row says, for duplicates and the curriculum. */
static void look_at_words(const DatasetOptions *o, Worker *w, const Row *row, RowWork *work)
{
    if (o->dedup == DEDUP_NONE && !o->difficulty)
        return;
    buf_clear(&w->words);
    row_words(row, &w->words);
    buf_text(&w->words, "");
    if (o->dedup != DEDUP_NONE)
        fingerprint_make(buf_view(&w->words), o->dedup, &work->print);
    if (o->difficulty)
        work->difficulty = (float)words_difficulty(buf_view(&w->words), &w->renderer.scratch);
}

static bool make_tokens(const DatasetOptions *o, Worker *w, const Row *row, RowWork *work)
{
    Renderer *r = &w->renderer;
    if (!passes_turns(&o->filter, row, &work->fault) || !render_row(r, row, &work->fault))
        return false;
    const int64_t n = (int64_t)r->ids.len;
    if (!passes_tokens(&o->filter, n, &work->fault))
        return false;
    look_at_words(o, w, row, work);
    work->start = w->ids.len;
    work->len = n;
    for (int64_t i = 0; i < n; i++)
        token_list_push(&w->ids, r->ids.ids[i]);
    buf_append(&w->loss, r->loss.data, (size_t)n);
    must(w->loss.len == w->ids.len);
    return true;
}

static bool work_on(const RowWorkers *all, Worker *w, const RowReader *reader, const RawRow *raw,
                    RowWork *work)
{
    Row row = {0};
    Json *value = row_parse(reader, raw, &work->fault);
    if (value == NULL)
        return false;
    bool ok = schema_read(value, &row, &work->fault) && make_tokens(all->options, w, &row, work);
    row_free(&row);
    json_free(value);
    return ok;
}

void row_workers_run(RowWorkers *workers, const RowReader *reader, const RawRow *rows, int32_t n,
                     RowWork *work)
{
    for (int i = 0; i < workers->n; i++) {
        workers->workers[i].ids.len = 0;
        buf_clear(&workers->workers[i].loss);
        workers->workers[i].loss.max = INT32_MAX;
    }
    const int threads = n < ROWS_FOR_THREADS ? 1 : workers->n;
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int32_t i = 0; i < n; i++) {
        const int own = omp_get_thread_num();
        assert(own < workers->n);
        work[i].worker = own;
        work[i].ok =
            work[i].wanted && work_on(workers, &workers->workers[own], reader, &rows[i], &work[i]);
    }
}
