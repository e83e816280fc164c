/* pretokenize.c — the table of pre-tokenizer names and the splitting itself.
 *
 * A match and the gaps between matches form one sequence of ranges; a SplitBehavior says which
 * neighbours grow together and which are dropped (Hugging Face tokenizers, SplitDelimiterBehavior).
 * Ranges are handed to the next step as soon as they are complete, so nothing is collected.
 */
#include "text/pretokenize.h"

#include <string.h>

#define SUFFIX "'s|'t|'re|'ve|'m|'ll|'d"
#define GPT2 SUFFIX "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3(digits) \
    "(?i:" SUFFIX ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES
#define QWEN35 \
    "(?i:" SUFFIX ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|" \
    " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_WORD(upper, lower) "[^\\r\\n\\p{L}\\p{N}]?" UPPER upper LOWER lower "(?i:" SUFFIX ")?"
#define O200K \
    O200K_WORD("*", "+") "|" O200K_WORD("+", "*") \
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES
#define PUNCTUATION "[\\p{P}\\$\\+<=>\\^~\\|]+"

static const PreRow rows[] = {
    {"llama-bpe", {LLAMA3("\\p{N}{1,3}")}, true, true, false, true},
    {"llama3", {LLAMA3("\\p{N}{1,3}")}, true, true, false, false},
    {"llama-v3", {LLAMA3("\\p{N}{1,3}")}, true, true, false, false},
    {"smaug-bpe", {LLAMA3("\\p{N}{1,3}")}, false, false, false, true},
    {"qwen2", {LLAMA3("\\p{N}")}, false, false, true, true},
    {"qwen35", {QWEN35}, false, false, true, true},
    {"gpt-4o", {O200K}, false, false, false, true},
    {"smollm", {"\\p{N}", GPT2}, false, false, false, true},
    {"starcoder", {"\\p{N}", GPT2}, false, false, false, false},
    {"command-r", {"\\p{N}", GPT2}, false, false, false, false},
    {"refact", {"\\p{N}", GPT2}, false, false, false, false},
    {"gpt-2", {GPT2}, false, false, false, true},
    {"mpt", {GPT2}, false, false, false, false},
    {"default", {PUNCTUATION, GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false, false, false},
};

const PreRow *pre_row_find(Str name)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (str_eq_text(name, rows[i].name))
            return &rows[i];
    return NULL;
}

const PreRow *pre_row_recognise(const PreTokenizer *pre, bool ignore_merges)
{
    assert(pre->n_steps >= 0 && pre->n_steps <= PRETOKENIZE_MAX_STEPS);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        bool same = rows[r].listed && rows[r].ignore_merges == ignore_merges;
        int n = 0;
        for (; same && n < pre->n_steps; n++) {
            const SplitStep *step = &pre->steps[n];
            same = n < (int)COUNT_OF(rows[r].patterns) && rows[r].patterns[n] != NULL &&
                   str_eq_text(step->pattern, rows[r].patterns[n]) &&
                   step->behavior == SPLIT_ISOLATED && !step->invert;
        }
        same = same && (n == (int)COUNT_OF(rows[r].patterns) || rows[r].patterns[n] == NULL);
        if (same && !pre->adds_prefix_space)
            return &rows[r];
    }
    return NULL;
}

static bool add_step(PreTokenizer *pre, Str pattern, SplitBehavior behavior, bool invert, Err *err)
{
    if (pre->n_steps == PRETOKENIZE_MAX_STEPS)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "the tokenizer has more than %d pre-tokenizers", PRETOKENIZE_MAX_STEPS);
    Regex *regex = regex_compile(pattern, err);
    if (regex == NULL)
        return false;
    pre->steps[pre->n_steps++] = (SplitStep){pattern, behavior, invert, regex};
    return true;
}

bool pretokenizer_from_row(PreTokenizer *pre, const PreRow *row, Err *err)
{
    assert(row != NULL && row->patterns[0] != NULL);
    *pre = (PreTokenizer){0};
    for (size_t i = 0; i < COUNT_OF(row->patterns) && row->patterns[i] != NULL; i++)
        if (!add_step(pre, str_of(row->patterns[i]), SPLIT_ISOLATED, false, err))
            return false;
    return true;
}

void pretokenizer_close(PreTokenizer *pre)
{
    for (int i = 0; i < pre->n_steps; i++)
        regex_free(pre->steps[i].regex);
    pre->n_steps = 0;
}

/* ---- tokenizer.json --------------------------------------------------------------------- */

static const char *const behavior_names[] = {
    [SPLIT_ISOLATED] = "Isolated",
    [SPLIT_REMOVED] = "Removed",
    [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
    [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
    [SPLIT_CONTIGUOUS] = "Contiguous",
};

static Str copy_str(Arena *out, Str text)
{
    return (Str){arena_strndup(out, text.data, text.len), text.len};
}

static bool add_split(PreTokenizer *pre, const Json *json, Arena *out, Err *err)
{
    const Json *pattern = json_get(json, "pattern");
    const Json *regex = json_get(pattern, "Regex"), *literal = json_get(pattern, "String");
    Str behavior = json_str(json_get(json, "behavior"));
    size_t kind = 0;
    while (kind < COUNT_OF(behavior_names) && !str_eq_text(behavior, behavior_names[kind]))
        kind++;
    if (kind == COUNT_OF(behavior_names))
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "split behavior '%.*s' of the tokenizer is not known", (int)behavior.len,
                       behavior.data);
    bool invert = json_bool(json_get(json, "invert"), false);
    if (json_is_string(regex))
        return add_step(pre, copy_str(out, json_str(regex)), (SplitBehavior)kind, invert, err);
    if (!json_is_string(literal))
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "pre-tokenizer 'Split' of the tokenizer has no pattern");
    Buf quoted = {0};
    regex_quote(json_str(literal), &quoted);
    Str text = copy_str(out, (Str){quoted.len == 0 ? "" : quoted.data, quoted.len});
    buf_free(&quoted);
    return add_step(pre, text, (SplitBehavior)kind, invert, err);
}

static bool add_byte_level(PreTokenizer *pre, const Json *json, Err *err)
{
    if (json_bool(json_get(json, "add_prefix_space"), true)) {
        if (pre->n_steps > 0)
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "'ByteLevel' with 'add_prefix_space' after another pre-tokenizer is not "
                           "supported");
        pre->adds_prefix_space = true;
    }
    if (!json_bool(json_get(json, "use_regex"), true))
        return true;
    return add_step(pre, STR(GPT2), SPLIT_ISOLATED, false, err);
}

static bool add_json(PreTokenizer *pre, const Json *json, int depth, bool *byte_level, Arena *out,
                     Err *err)
{
    Str type = json_str(json_get(json, "type"));
    if (*byte_level)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "pre-tokenizer '%.*s' after 'ByteLevel' is not supported", (int)type.len,
                       type.data);
    if (str_eq_text(type, "Sequence") && depth < 4) {
        const Json *list = json_get(json, "pretokenizers");
        for (size_t i = 0; i < json_len(list); i++)
            if (!add_json(pre, json_at(list, i), depth + 1, byte_level, out, err))
                return false;
        return true;
    }
    if (str_eq_text(type, "Split"))
        return add_split(pre, json, out, err);
    if (str_eq_text(type, "Digits")) {
        bool individual = json_bool(json_get(json, "individual_digits"), false);
        return add_step(pre, STR("\\p{N}"), individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false,
                        err);
    }
    if (str_eq_text(type, "ByteLevel")) {
        *byte_level = true;
        return add_byte_level(pre, json, err);
    }
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                   "pre-tokenizer '%.*s' of the tokenizer is not supported", (int)type.len,
                   type.data);
}

bool pretokenizer_from_json(PreTokenizer *pre, const Json *json, bool *byte_level, Arena *out,
                            Err *err)
{
    *pre = (PreTokenizer){0};
    *byte_level = false;
    if (json_is_null(json))
        return true;
    return add_json(pre, json, 0, byte_level, out, err);
}

static Json *byte_level_json(const PreTokenizer *pre, bool use_regex)
{
    Json *json = json_new_object();
    json_put(json, "type", json_new_text("ByteLevel"));
    json_put(json, "add_prefix_space", json_new_bool(pre->adds_prefix_space));
    json_put(json, "trim_offsets", json_new_bool(true));
    json_put(json, "use_regex", json_new_bool(use_regex));
    return json;
}

static Json *step_json(const SplitStep *step)
{
    Json *json = json_new_object(), *pattern = json_new_object();
    json_put(pattern, "Regex", json_new_str(step->pattern));
    json_put(json, "type", json_new_text("Split"));
    json_put(json, "pattern", pattern);
    json_put(json, "behavior", json_new_text(behavior_names[step->behavior]));
    json_put(json, "invert", json_new_bool(step->invert));
    return json;
}

Json *pretokenizer_to_json(const PreTokenizer *pre)
{
    Json *list = json_new_array(), *json = json_new_object();
    for (int i = 0; i < pre->n_steps; i++)
        json_add(list, step_json(&pre->steps[i]));
    json_add(list, byte_level_json(pre, false));
    json_put(json, "type", json_new_text("Sequence"));
    json_put(json, "pretokenizers", list);
    return json;
}

/* ---- splitting -------------------------------------------------------------------------- */

typedef struct Splitter {
    const PreTokenizer *pre;
    RegexScratch *scratch;
    Str text;
    WordSink *word;
    void *context;
} Splitter;

typedef struct Range {
    size_t start, end;
    bool match;
} Range;

/* The range that may still grow, of one step over one piece. */
typedef struct Pending {
    Range range;
    bool any;
    bool previous_match;
} Pending;

static void split_range(const Splitter *splitter, int step, size_t start, size_t end);

static void flush(const Splitter *splitter, int step, const Pending *pending)
{
    const SplitStep *split = &splitter->pre->steps[step];
    bool dropped = split->behavior == SPLIT_REMOVED && pending->range.match;
    if (pending->any && !dropped && pending->range.start < pending->range.end)
        split_range(splitter, step + 1, pending->range.start, pending->range.end);
}

/* Takes the next range in order. */
static void push_range(const Splitter *splitter, int step, Pending *pending, Range range)
{
    const SplitStep *split = &splitter->pre->steps[step];
    assert(range.start <= range.end && range.end <= splitter->text.len);
    assert(!pending->any || pending->range.end == range.start);
    range.match ^= split->invert;
    bool joins = false;
    switch (split->behavior) {
    case SPLIT_ISOLATED:
    case SPLIT_REMOVED:
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        joins = range.match && !pending->previous_match;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        joins = !range.match && pending->range.match;
        break;
    case SPLIT_CONTIGUOUS:
        joins = range.match == pending->previous_match;
        break;
    }
    if (joins && pending->any) {
        pending->range.end = range.end;
        pending->range.match = range.match;
    } else {
        flush(splitter, step, pending);
        pending->range = range;
    }
    pending->any = true;
    pending->previous_match = range.match;
}

/* Bytes of the character at `pos`, for stepping over an empty match. */
static size_t character_bytes(Str text, size_t pos)
{
    assert(pos < text.len);
    size_t next = pos + 1;
    while (next < text.len && ((uint8_t)text.data[next] & 0xC0) == 0x80)
        next++;
    return next - pos;
}

/* Splits text[start, end) by this step and all later ones. Recursion depth = number of steps. */
static void split_range(const Splitter *splitter, int step, size_t start, size_t end)
{
    assert(start < end && step <= splitter->pre->n_steps);
    if (step == splitter->pre->n_steps) {
        splitter->word(splitter->context, str_sub(splitter->text, start, end), start);
        return;
    }
    const SplitStep *split = &splitter->pre->steps[step];
    Str piece = str_sub(splitter->text, start, end);
    Pending pending = {0};
    size_t from = 0, done = 0, match_start = 0, match_end = 0;
    bool any = false;
    while (from <= piece.len &&
           regex_find(split->regex, splitter->scratch, piece, from, &match_start, &match_end)) {
        bool empty = match_start == match_end;
        if (!empty || !any || match_start != done) {
            if (match_start > done)
                push_range(splitter, step, &pending,
                           (Range){start + done, start + match_start, false});
            push_range(splitter, step, &pending,
                       (Range){start + match_start, start + match_end, true});
            done = match_end;
            any = true;
        }
        if (empty && match_end == piece.len)
            break;
        from = empty ? match_end + character_bytes(piece, match_end) : match_end;
    }
    if (done < piece.len)
        push_range(splitter, step, &pending, (Range){start + done, end, false});
    flush(splitter, step, &pending);
}

void pretokenize(const PreTokenizer *pre, RegexScratch *scratch, Str text, WordSink *word,
                 void *context)
{
    assert(pre != NULL && scratch != NULL && word != NULL);
    if (text.len == 0)
        return;
    Splitter splitter = {pre, scratch, text, word, context};
    split_range(&splitter, 0, 0, text.len);
}
