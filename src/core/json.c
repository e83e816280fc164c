/* json.c — jansson behind json.h; the only file that includes jansson.h.
 *
 * Format: RFC 8259. One scan over the text comes before jansson's parser: it bounds the nesting
 * (jansson's own limit is a build option of the packager) and finds integers of 19 digits and more,
 * which jansson refuses beyond 64 bits; they get a ".0" and so become doubles. Files of the
 * ecosystem hold such numbers (model_max_length = 1000000000000000019884624838656).
 */
#include "core/json.h"

#include "core/arena.h"
#include "core/file.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#undef json_is_object
#undef json_is_array
#undef json_is_string
#undef json_is_number
#undef json_is_null

static const char INT64_MAX_DIGITS[] = "9223372036854775807";
static const size_t JSON_MAX_BYTES = (size_t)1 << 30;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Skips a string from its opening quote; returns the index after the closing one, or the end. */
static size_t skip_string(Str text, size_t i)
{
    assert(i < text.len && text.data[i] == '"');
    for (i++; i < text.len && text.data[i] != '"'; i++)
        if (text.data[i] == '\\')
            i++;
    return i < text.len ? i + 1 : text.len;
}

/* From the first digit of a number to behind it. *whole: no fraction, no exponent. */
static size_t skip_number(Str text, size_t i, bool *whole)
{
    assert(i < text.len && is_digit(text.data[i]));
    *whole = true;
    for (; i < text.len; i++) {
        char c = text.data[i];
        if (c == '.' || c == 'e' || c == 'E')
            *whole = false;
        else if (!is_digit(c) && !(!*whole && (c == '+' || c == '-')))
            break;
    }
    return i;
}

static bool beyond_int64(Str digits)
{
    size_t longest = sizeof INT64_MAX_DIGITS - 1;
    return digits.len > longest ||
           (digits.len == longest && memcmp(digits.data, INT64_MAX_DIGITS, longest) > 0);
}

/* Returns the deepest nesting; copies the text to `fixed`, long integers as doubles, when there
 * are any (fixed stays empty otherwise). */
static int scan(Str text, Buf *fixed)
{
    int depth = 0, deepest = 0;
    size_t copied = 0;
    for (size_t i = 0; i < text.len;) {
        char c = text.data[i];
        if (c == '"') {
            i = skip_string(text, i);
        } else if (is_digit(c)) {
            bool whole;
            size_t end = skip_number(text, i, &whole);
            if (whole && beyond_int64(str_sub(text, i, end))) {
                buf_str(fixed, str_sub(text, copied, end));
                buf_text(fixed, ".0");
                copied = end;
            }
            i = end;
        } else {
            if (c == '{' || c == '[')
                depth++;
            else if (c == '}' || c == ']')
                depth--;
            deepest = depth > deepest ? depth : deepest;
            i++;
        }
    }
    if (copied > 0)
        buf_str(fixed, str_sub(text, copied, text.len));
    return deepest;
}

Json *json_parse(Str text, const char *subject, ErrCode code, Err *err)
{
    assert(subject != NULL && (text.data != NULL || text.len == 0));
    if (text.len > JSON_MAX_BYTES) {
        err_set(err, code, "'%s' is longer than %zu bytes", subject, JSON_MAX_BYTES);
        return NULL;
    }
    const char *nul = text.len > 0 ? memchr(text.data, '\0', text.len) : NULL;
    if (nul != NULL) { /* jansson takes one for the end of the text */
        err_set(err, code, "'%s' is not valid JSON: NUL byte at %zu", subject,
                (size_t)(nul - text.data));
        return NULL;
    }
    Buf fixed = {.max = JSON_MAX_BYTES + JSON_MAX_BYTES / 4};
    int depth = scan(text, &fixed);
    if (depth > JSON_MAX_DEPTH) {
        err_set(err, code, "'%s' is nested deeper than %d levels", subject, JSON_MAX_DEPTH);
        buf_free(&fixed);
        return NULL;
    }
    Str input = fixed.len > 0 ? buf_view(&fixed) : text;
    json_error_t problem;
    json_t *json =
        json_loadb(input.len > 0 ? input.data : "", input.len, JSON_DECODE_ANY, &problem);
    if (json == NULL)
        err_set(err, code, "'%s' is not valid JSON: %s (line %d, column %d)", subject,
                problem.text, problem.line, problem.column);
    buf_free(&fixed);
    return json;
}

Json *json_load(const char *path, ErrCode code, Err *err)
{
    FileMap map = {0};
    if (!file_map(&map, path, code, err))
        return NULL;
    Json *json = json_parse((Str){(const char *)map.data, map.size}, path, code, err);
    file_unmap(&map);
    return json;
}

void json_free(Json *json) { json_decref(json); }

/* jansson's typeof macro dereferences; NULL is "no value" everywhere here. */
static bool has_type(const Json *json, json_type type)
{
    return json != NULL && json_typeof(json) == type;
}

bool json_is_object(const Json *json) { return has_type(json, JSON_OBJECT); }
bool json_is_array(const Json *json) { return has_type(json, JSON_ARRAY); }
bool json_is_string(const Json *json) { return has_type(json, JSON_STRING); }
bool json_is_int(const Json *json) { return has_type(json, JSON_INTEGER); }
bool json_is_number(const Json *json) { return json_is_int(json) || has_type(json, JSON_REAL); }
bool json_is_bool(const Json *json)
{
    return has_type(json, JSON_TRUE) || has_type(json, JSON_FALSE);
}
bool json_is_null(const Json *json) { return json == NULL || has_type(json, JSON_NULL); }

Json *json_get(const Json *object, const char *key)
{
    assert(key != NULL);
    return json_object_get(object, key);
}

Json *json_at(const Json *array, size_t i) { return json_array_get(array, i); }

size_t json_len(const Json *json)
{
    return json_is_array(json) ? json_array_size(json) : json_object_size(json);
}

void *json_next(const Json *object, void *iter, const char **key, Json **value)
{
    assert(key != NULL && value != NULL);
    if (!json_is_object(object))
        return NULL;
    /* jansson's iterator wants a mutable object although it only reads */
    union {
        const Json *in;
        Json *out;
    } same = {object};
    void *next = iter == NULL ? json_object_iter(same.out) : json_object_iter_next(same.out, iter);
    if (next != NULL) {
        *key = json_object_iter_key(next);
        *value = json_object_iter_value(next);
    }
    return next;
}

Str json_str(const Json *json)
{
    if (!json_is_string(json))
        return STR("");
    return (Str){json_string_value(json), json_string_length(json)};
}

const char *json_text(const Json *json) { return json_string_value(json); }

double json_double(const Json *json, double fallback)
{
    return json_is_number(json) ? json_number_value(json) : fallback;
}

int64_t json_int(const Json *json, int64_t fallback)
{
    if (json_is_int(json))
        return (int64_t)json_integer_value(json);
    if (!has_type(json, JSON_REAL))
        return fallback;
    double value = json_real_value(json);
    bool whole = value >= -0x1p62 && value <= 0x1p62 && floor(value) == value;
    return whole ? (int64_t)value : fallback;
}

bool json_bool(const Json *json, bool fallback)
{
    return json_is_bool(json) ? has_type(json, JSON_TRUE) : fallback;
}

static Json *alive(json_t *json)
{
    must(json != NULL); /* jansson returns NULL only when there is no memory */
    return json;
}

Json *json_new_object(void) { return alive(json_object()); }
Json *json_new_array(void) { return alive(json_array()); }
Json *json_new_text(const char *text)
{
    return text != NULL ? json_new_str(str_of(text)) : json_new_null();
}

Json *json_new_str(Str text)
{
    bool has_nul = text.len > 0 && memchr(text.data, '\0', text.len) != NULL;
    if (!has_nul && utf8_valid(text))
        return alive(json_stringn_nocheck(text.len > 0 ? text.data : "", text.len));
    Buf clean = {0};
    uint32_t codepoint;
    for (size_t pos = 0; utf8_next(text, &pos, &codepoint);)
        buf_codepoint(&clean, codepoint != 0 ? codepoint : 0xFFFD);
    Json *json = alive(json_stringn(clean.data, clean.len));
    buf_free(&clean);
    return json;
}

Json *json_new_int(int64_t value) { return alive(json_integer((json_int_t)value)); }
Json *json_new_double(double value)
{
    return isfinite(value) ? alive(json_real(value)) : json_new_null();
}
Json *json_new_bool(bool value) { return value ? json_true() : json_false(); }
Json *json_new_null(void) { return json_null(); }
Json *json_clone(const Json *json) { return json != NULL ? alive(json_deep_copy(json)) : NULL; }

void json_put(Json *object, const char *key, Json *value)
{
    must(json_is_object(object) && key != NULL && value != NULL);
    must(json_object_set_new(object, key, value) == 0);
}

void json_add(Json *array, Json *value)
{
    must(json_is_array(array) && value != NULL);
    must(json_array_append_new(array, value) == 0);
}

void json_del(Json *object, const char *key)
{
    must(json_is_object(object) && key != NULL);
    json_object_del(object, key);
}

static int append(const char *text, size_t len, void *out)
{
    buf_append(out, text, len);
    return 0;
}

void json_write(const Json *json, JsonStyle style, Buf *out)
{
    must(json != NULL && out != NULL);
    assert(style.indent >= 0 && style.indent <= 31);
    size_t flags = JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY | JSON_INDENT((size_t)style.indent);
    if (style.sorted)
        flags |= JSON_SORT_KEYS;
    must(json_dump_callback(json, append, out, flags) == 0);
}
