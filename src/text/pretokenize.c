/* pretokenize.c — pre-tokenizers from tokenizer.json and the splitting itself.
 *
 * A match and the gaps between matches form one sequence of ranges; a SplitBehavior says which
 * neighbours grow together and which are dropped (Hugging Face tokenizers, SplitDelimiterBehavior).
 * Ranges are handed to the next step as soon as they are complete, so nothing is collected.
 */
#include "text/pretokenize.h"

#include <string.h>

/* \w of Rust's regex crate, which "Whitespace" runs; Oniguruma's is narrower. */
#define RUST_WORD_RANGES "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"
#define RUST_WORD "[" RUST_WORD_RANGES "]"
#define PUNCTUATION "[!-/:-@\\[-`{-~\\p{P}]"

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

static bool read_behavior(const Json *json, SplitBehavior *behavior, Err *err)
{
    Str name = json_str(json_get(json, "behavior"));
    for (size_t kind = 0; kind < COUNT_OF(behavior_names); kind++) {
        if (str_eq_text(name, behavior_names[kind])) {
            *behavior = (SplitBehavior)kind;
            return true;
        }
    }
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                   "split behavior '%.*s' of the tokenizer is not known",
                   (int)min_i64((int64_t)name.len, 100), name.data);
}

static bool add_literal_inverted(PreTokenizer *pre, Str literal, SplitBehavior behavior,
                                 bool invert, Arena *out, Err *err)
{
    Buf quoted = {0};
    regex_quote(literal, &quoted);
    Str text = copy_str(out, (Str){quoted.len == 0 ? "" : quoted.data, quoted.len});
    buf_free(&quoted);
    return add_step(pre, text, behavior, invert, err);
}

static bool add_literal(PreTokenizer *pre, Str literal, SplitBehavior behavior, Arena *out,
                        Err *err)
{
    return add_literal_inverted(pre, literal, behavior, false, out, err);
}

static bool add_split(PreTokenizer *pre, const Json *json, Arena *out, Err *err)
{
    const Json *pattern = json_get(json, "pattern");
    const Json *regex = json_get(pattern, "Regex"), *literal = json_get(pattern, "String");
    SplitBehavior behavior;
    if (!read_behavior(json, &behavior, err))
        return false;
    bool invert = json_bool(json_get(json, "invert"), false);
    if (json_is_string(regex))
        return add_step(pre, copy_str(out, json_str(regex)), behavior, invert, err);
    if (!json_is_string(literal))
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "pre-tokenizer 'Split' of the tokenizer has no pattern");
    return add_literal_inverted(pre, json_str(literal), behavior, invert, out, err);
}

static bool refuse(Err *err, Str type, const char *why)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "pre-tokenizer '%.*s' of the tokenizer %s",
                   (int)min_i64((int64_t)type.len, 100), type.data, why);
}

static bool add_byte_level(PreTokenizer *pre, const Json *json, Err *err)
{
    if (json_bool(json_get(json, "add_prefix_space"), true)) {
        if (pre->n_steps > 0 || pre->mark.len > 0)
            return refuse(err, STR("ByteLevel"),
                          "with 'add_prefix_space' after another is not supported");
        pre->prefix = STR(" ");
        pre->prefix_rule = PREFIX_ALWAYS;
    }
    if (!json_bool(json_get(json, "use_regex"), true))
        return true;
    return add_step(pre, STR(PRETOKENIZE_GPT2), SPLIT_ISOLATED, false, err);
}

/* Older files say add_prefix_space instead of prepend_scheme. */
static bool add_metaspace(PreTokenizer *pre, const Json *json, Arena *out, Err *err)
{
    static const char *const rules[] = {"never", "always", "first"};
    Str scheme = json_str(json_get(json, "prepend_scheme"));
    if (scheme.len == 0)
        scheme = json_bool(json_get(json, "add_prefix_space"), true) ? STR("always") : STR("never");
    size_t rule = 0;
    while (rule < COUNT_OF(rules) && !str_eq_text(scheme, rules[rule]))
        rule++;
    if (rule == COUNT_OF(rules))
        return refuse(err, STR("Metaspace"), "has a prepend_scheme that is not known");
    if (pre->n_steps > 0 || pre->mark.len > 0)
        return refuse(err, STR("Metaspace"), "after another is not supported");
    Str mark = json_str(json_get(json, "replacement"));
    pre->mark = copy_str(out, mark.len == 0 ? STR(PRETOKENIZE_MARK) : mark);
    pre->prefix = pre->mark;
    pre->prefix_rule = (PrefixRule)rule;
    if (!json_bool(json_get(json, "split"), true))
        return true;
    return add_literal(pre, pre->mark, SPLIT_MERGED_WITH_NEXT, out, err);
}

/* Pre-tokenizers that are one pattern each. */
static const struct PatternRow {
    const char *type, *pattern;
    SplitBehavior behavior;
    bool invert;
} pattern_rows[] = {
    {"Whitespace", RUST_WORD "+|[^" RUST_WORD_RANGES "\\s]+", SPLIT_REMOVED, true},
    {"WhitespaceSplit", "\\s", SPLIT_REMOVED, false},
    {"BertPreTokenizer", "\\s", SPLIT_REMOVED, false},
    {"BertPreTokenizer", PUNCTUATION, SPLIT_ISOLATED, false},
};

static bool add_patterns(PreTokenizer *pre, Str type, bool *known, Err *err)
{
    for (size_t i = 0; i < COUNT_OF(pattern_rows); i++) {
        const struct PatternRow *row = &pattern_rows[i];
        if (!str_eq_text(type, row->type))
            continue;
        *known = true;
        if (!add_step(pre, str_of(row->pattern), row->behavior, row->invert, err))
            return false;
    }
    return true;
}

static bool add_one(PreTokenizer *pre, Str type, const Json *json, Arena *out, Err *err)
{
    if (str_eq_text(type, "Split"))
        return add_split(pre, json, out, err);
    if (str_eq_text(type, "Metaspace"))
        return add_metaspace(pre, json, out, err);
    if (str_eq_text(type, "Digits")) {
        bool individual = json_bool(json_get(json, "individual_digits"), false);
        return add_step(pre, STR("\\p{N}"), individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false,
                        err);
    }
    if (str_eq_text(type, "CharDelimiterSplit"))
        return add_literal(pre, json_str(json_get(json, "delimiter")), SPLIT_REMOVED, out, err);
    if (str_eq_text(type, "Punctuation")) {
        SplitBehavior behavior = SPLIT_ISOLATED;
        if (json_get(json, "behavior") != NULL && !read_behavior(json, &behavior, err))
            return false;
        return add_step(pre, STR(PUNCTUATION), behavior, false, err);
    }
    bool known = false;
    if (!add_patterns(pre, type, &known, err))
        return false;
    return known || refuse(err, type, "is not supported");
}

static bool add_json(PreTokenizer *pre, const Json *json, int depth, bool *byte_level, Arena *out,
                     Err *err)
{
    Str type = json_str(json_get(json, "type"));
    if (*byte_level)
        return refuse(err, type, "after 'ByteLevel' is not supported");
    if (str_eq_text(type, "Sequence") && depth < 4) {
        const Json *list = json_get(json, "pretokenizers");
        for (size_t i = 0; i < json_len(list); i++)
            if (!add_json(pre, json_at(list, i), depth + 1, byte_level, out, err))
                return false;
        return true;
    }
    if (!str_eq_text(type, "ByteLevel"))
        return add_one(pre, type, json, out, err);
    *byte_level = true;
    return add_byte_level(pre, json, err);
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
    json_put(json, "add_prefix_space", json_new_bool(pre->prefix_rule == PREFIX_ALWAYS));
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

Json *pretokenizer_to_json(const PreTokenizer *pre, bool byte_level)
{
    if (!byte_level && pre->n_steps == 0)
        return json_new_null();
    Json *list = json_new_array(), *json = json_new_object();
    for (int i = 0; i < pre->n_steps; i++)
        json_add(list, step_json(&pre->steps[i]));
    if (byte_level)
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
    Str subject; /* what the patterns see of it: the same bytes but for characters too new */
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
    Str piece = str_sub(splitter->subject, start, end);
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
    Buf older = {0};
    Str subject = pre->n_steps > 0 && regex_is_behind() ? unicode_older(text, &older) : text;
    Splitter splitter = {pre, scratch, text, subject, word, context};
    split_range(&splitter, 0, 0, text.len);
    buf_free(&older);
}
