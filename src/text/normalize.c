/* normalize.c — see normalize.h. Owns the steps; Unicode's tables are behind unicode.h.
 *
 * A step writes its result with the way back to its own input; normalize() joins that way with the
 * one of the step before, so that the last result leads to the source at once.
 */
#include "text/normalize.h"

#include <string.h>

static bool unsupported(Err *err, Str type)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                   "normalizer '%.*s' of the tokenizer is not supported",
                   (int)min_i64((int64_t)type.len, 100), type.data);
}

/* ---- tokenizer.json --------------------------------------------------------------------- */

bool normalizer_add(Normalizer *normalizer, NormStep step, Err *err)
{
    if (normalizer->n_steps == NORMALIZE_MAX_STEPS) {
        regex_free(step.regex);
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "the tokenizer has more than %d normalizers",
                       NORMALIZE_MAX_STEPS);
    }
    normalizer->steps[normalizer->n_steps++] = step;
    return true;
}

static Str copy_member(const Json *json, const char *key, Arena *out)
{
    Str text = json_str(json_get(json, key));
    return (Str){arena_strndup(out, text.data == NULL ? "" : text.data, text.len), text.len};
}

static bool add_replace(Normalizer *normalizer, const Json *json, Arena *out, Err *err)
{
    const Json *pattern = json_get(json, "pattern");
    NormStep step = {.kind = NORM_REPLACE, .content = copy_member(json, "content", out)};
    if (json_is_string(json_get(pattern, "Regex"))) {
        step.pattern = copy_member(pattern, "Regex", out);
        step.regex = regex_compile(step.pattern, err);
        return step.regex != NULL && normalizer_add(normalizer, step, err);
    }
    step.pattern = copy_member(pattern, "String", out);
    if (step.pattern.len == 0)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "normalizer 'Replace' of the tokenizer has no pattern");
    return normalizer_add(normalizer, step, err);
}

static bool add_json(Normalizer *normalizer, const Json *json, int depth, Arena *out, Err *err)
{
    Str type = json_str(json_get(json, "type"));
    if (str_eq_text(type, "Sequence") && depth < 4) {
        const Json *list = json_get(json, "normalizers");
        for (size_t i = 0; i < json_len(list); i++)
            if (!add_json(normalizer, json_at(list, i), depth + 1, out, err))
                return false;
        return true;
    }
    NormStep step = {0};
    if (normal_form_from_name(type, &step.form))
        return normalizer_add(normalizer, step, err);
    if (str_eq_text(type, "Replace"))
        return add_replace(normalizer, json, out, err);
    if (str_eq_text(type, "Prepend")) {
        step.kind = NORM_PREPEND;
        step.content = copy_member(json, "prepend", out);
        return normalizer_add(normalizer, step, err);
    }
    if (str_eq_text(type, "Lowercase")) {
        step.kind = NORM_LOWERCASE;
        return normalizer_add(normalizer, step, err);
    }
    if (str_eq_text(type, "Strip")) {
        step.kind = NORM_STRIP;
        step.left = json_bool(json_get(json, "strip_left"), true);
        step.right = json_bool(json_get(json, "strip_right"), true);
        return normalizer_add(normalizer, step, err);
    }
    return unsupported(err, type);
}

bool normalizer_from_json(Normalizer *normalizer, const Json *json, Arena *out, Err *err)
{
    *normalizer = (Normalizer){0};
    return json_is_null(json) || add_json(normalizer, json, 0, out, err);
}

static Json *step_json(const NormStep *step)
{
    Json *json = json_new_object(), *pattern = NULL;
    switch (step->kind) {
    case NORM_FORM:
        json_put(json, "type", json_new_text(normal_form_name(step->form)));
        break;
    case NORM_REPLACE:
        pattern = json_new_object();
        json_put(pattern, step->regex != NULL ? "Regex" : "String", json_new_str(step->pattern));
        json_put(json, "type", json_new_text("Replace"));
        json_put(json, "pattern", pattern);
        json_put(json, "content", json_new_str(step->content));
        break;
    case NORM_PREPEND:
        json_put(json, "type", json_new_text("Prepend"));
        json_put(json, "prepend", json_new_str(step->content));
        break;
    case NORM_LOWERCASE:
        json_put(json, "type", json_new_text("Lowercase"));
        break;
    case NORM_STRIP:
        json_put(json, "type", json_new_text("Strip"));
        json_put(json, "strip_left", json_new_bool(step->left));
        json_put(json, "strip_right", json_new_bool(step->right));
        break;
    }
    return json;
}

Json *normalizer_to_json(const Normalizer *normalizer)
{
    if (normalizer->n_steps == 0)
        return json_new_null();
    Json *list = json_new_array(), *json = json_new_object();
    for (int i = 0; i < normalizer->n_steps; i++)
        json_add(list, step_json(&normalizer->steps[i]));
    json_put(json, "type", json_new_text("Sequence"));
    json_put(json, "normalizers", list);
    return json;
}

void normalizer_close(Normalizer *normalizer)
{
    for (int i = 0; i < normalizer->n_steps; i++)
        regex_free(normalizer->steps[i].regex);
    normalizer->n_steps = 0;
}

/* ---- the steps: false = the text stays as it is, `out` untouched ------------------------- */

/* The next match of a Replace step at or after `from`. */
static bool find_match(const NormStep *step, RegexScratch *regex, Str text, size_t from,
                       size_t *start, size_t *end)
{
    assert(from <= text.len);
    if (step->regex != NULL)
        return regex_find(step->regex, regex, text, from, start, end);
    const char *hit = from == text.len ? NULL
                                       : memmem(text.data + from, text.len - from,
                                                step->pattern.data, step->pattern.len);
    if (hit == NULL)
        return false;
    *start = (size_t)(hit - text.data);
    *end = *start + step->pattern.len;
    return true;
}

static bool replace(const NormStep *step, RegexScratch *regex, Str text, MappedText *out)
{
    size_t done = 0, from = 0, start = 0, end = 0;
    bool any = false;
    while (from <= text.len && find_match(step, regex, text, from, &start, &end)) {
        assert(start >= done && end >= start && end <= text.len);
        if (!any)
            out->len = 0;
        any = true;
        mapped_text_copy(out, text.data + done, start - done, done);
        mapped_text_append(out, step->content.data, step->content.len, end);
        done = end;
        from = end;
        if (start == end) { /* an empty match: step over one character */
            from++;
            while (from < text.len && ((uint8_t)text.data[from] & 0xC0) == 0x80)
                from++;
        }
    }
    if (any)
        mapped_text_copy(out, text.data + done, text.len - done, done);
    return any;
}

static bool prepend(const NormStep *step, Str text, MappedText *out)
{
    if (text.len == 0 || step->content.len == 0)
        return false;
    out->len = 0;
    mapped_text_append(out, step->content.data, step->content.len, 0);
    mapped_text_copy(out, text.data, text.len, 0);
    return true;
}

/* Character by character, as Rust's char::to_lowercase: no final sigma. */
static bool lowercase(Str text, MappedText *out)
{
    Buf lower = {0};
    out->len = 0;
    for (size_t pos = 0; pos < text.len;) {
        uint32_t codepoint = 0;
        bool found = utf8_next(text, &pos, &codepoint);
        must(found);
        buf_clear(&lower);
        if (codepoint == 0x130) { /* the one character whose lower case is two */
            buf_text(&lower, "i\xCC\x87");
        } else {
            buf_codepoint(&lower, unicode_lower(codepoint));
        }
        mapped_text_append(out, lower.data, lower.len, pos);
    }
    buf_free(&lower);
    return out->len != text.len || memcmp(out->data, text.data, text.len) != 0;
}

static bool strip(const NormStep *step, Str text, MappedText *out)
{
    size_t from = 0, to = text.len;
    uint32_t codepoint = 0;
    for (size_t next = 0; step->left && utf8_next(text, &next, &codepoint); from = next)
        if (!unicode_is_space(codepoint))
            break;
    while (step->right && to > from) {
        size_t before = to - 1;
        while (before > from && ((uint8_t)text.data[before] & 0xC0) == 0x80)
            before--;
        size_t next = before;
        if (!utf8_next(text, &next, &codepoint) || !unicode_is_space(codepoint))
            break;
        to = before;
    }
    assert(from <= to);
    if (from == 0 && to == text.len)
        return false;
    out->len = 0;
    mapped_text_copy(out, text.data + from, to - from, from);
    return true;
}

static bool run_step(const NormStep *step, RegexScratch *regex, Str text, MappedText *out)
{
    switch (step->kind) {
    case NORM_FORM:
        return unicode_normalize(step->form, text, out);
    case NORM_REPLACE:
        return replace(step, regex, text, out);
    case NORM_PREPEND:
        return prepend(step, text, out);
    case NORM_LOWERCASE:
        return lowercase(text, out);
    case NORM_STRIP:
        return strip(step, text, out);
    }
    return false;
}

const MappedText *normalize(const Normalizer *normalizer, RegexScratch *regex, Str text,
                            NormScratch *scratch)
{
    assert(normalizer->n_steps <= NORMALIZE_MAX_STEPS);
    const MappedText *latest = NULL;
    int free_slot = 0;
    for (int i = 0; i < normalizer->n_steps; i++) {
        Str work = latest != NULL ? (Str){latest->data == NULL ? "" : latest->data, latest->len}
                                  : text;
        MappedText *next = &scratch->texts[free_slot];
        if (!run_step(&normalizer->steps[i], regex, work, next))
            continue;
        for (size_t k = 0; latest != NULL && k < next->len; k++)
            next->ends[k] = next->ends[k] == 0 ? 0 : latest->ends[next->ends[k] - 1];
        latest = next;
        free_slot = 1 - free_slot;
    }
    return latest;
}

void norm_scratch_free(NormScratch *scratch)
{
    mapped_text_free(&scratch->texts[0]);
    mapped_text_free(&scratch->texts[1]);
}
