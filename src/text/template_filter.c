/* template_filter.c — filters on single values: text, numbers, defaults, JSON.
 *
 * Filters on sequences are in template_sequence.c. A filter that is not in the
 * tables is refused by name: when the template is parsed, or inside an `if` when it is reached.
 */
#include "text/template_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool bind(Render *r, const CallArgs *args, const char *what, const char *const *names,
                 Value *v)
{
    return args_bind(r, what, args, names, 0, v);
}

static bool bind_none(Render *r, const CallArgs *args, const char *what)
{
    static const char *const names[] = {NULL};
    Value none[1];
    return args_bind(r, what, args, names, 0, none);
}

/* str(v), keeping the mark of safe text (markupsafe's soft_str). */
static Value soft_text(Render *r, Value v, int line)
{
    return v.kind == V_STRING ? v : value_str(value_to_str(r, v, line));
}

/* Calls a method of str on str(subject): many filters are no more than that. */
static Value as_method(Render *r, Value subject, const char *method, const CallArgs *args)
{
    Value self = soft_text(r, subject, args->line);
    if (r->failed)
        return self;
    Method m = {.self = self, .id = method_find(V_STRING, str_of(method))};
    must(m.id >= 0);
    return method_call(r, &m, args);
}

static Value filter_trim(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"chars", NULL};
    Value v[1];
    if (!bind(r, args, "trim", names, v))
        return s;
    CallArgs positional = {.pos = v, .n_pos = v[0].kind != V_ABSENT, .line = args->line};
    return as_method(r, s, "strip", &positional);
}

static Value filter_upper(Render *r, Value s, const CallArgs *a)
{
    return as_method(r, s, "upper", a);
}
static Value filter_lower(Render *r, Value s, const CallArgs *a)
{
    return as_method(r, s, "lower", a);
}
static Value filter_capitalize(Render *r, Value s, const CallArgs *a)
{
    return as_method(r, s, "capitalize", a);
}

static bool splits_words(uint32_t c)
{
    return text_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* Jinja's own title(): a word starts after white space, a dash or an opening bracket. */
static Value filter_title(Render *r, Value s, const CallArgs *args)
{
    Value text = soft_text(r, s, args->line);
    if (!bind_none(r, args, "title"))
        return s;
    Buf buf = {0};
    bool start = true, ok = true;
    uint32_t c;
    for (size_t pos = 0, at = 0; ok && utf8_next(text.as.str, &pos, &c); at = pos) {
        ok = text_case(str_sub(text.as.str, at, pos), start ? TEXT_UPPER : TEXT_LOWER, &buf);
        start = splits_words(c);
    }
    if (!ok) {
        buf_free(&buf);
        return render_unsupported(r, args->line, "the case of a character in this text");
    }
    return value_str(render_take(r, &buf));
}

static Value filter_string(Render *r, Value s, const CallArgs *args)
{
    return bind_none(r, args, "string") ? soft_text(r, s, args->line) : s;
}

static Value filter_safe(Render *r, Value s, const CallArgs *args)
{
    Value text = bind_none(r, args, "safe") ? soft_text(r, s, args->line) : s;
    text.safe = text.kind == V_STRING;
    return text;
}

static Value filter_escape(Render *r, Value s, const CallArgs *args)
{
    Value text = bind_none(r, args, "escape") ? soft_text(r, s, args->line) : s;
    if (r->failed || text.safe)
        return text;
    text.as.str = text_escape_html(r, text.as.str);
    text.safe = true;
    return text;
}

static Value filter_replace(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"old", "new", "count", NULL};
    Value v[3];
    if (!args_bind(r, "replace", args, names, 2, v))
        return s;
    Value pos[3] = {value_str(value_to_str(r, v[0], args->line)),
                    value_str(value_to_str(r, v[1], args->line)), v[2]};
    CallArgs plain = {.pos = pos, .n_pos = 2 + (value_is_whole(v[2]) ? 1 : 0), .line = args->line};
    return as_method(r, value_str(value_to_str(r, s, args->line)), "replace", &plain);
}

static Value filter_format(Render *r, Value s, const CallArgs *args)
{
    if (args->n_kw > 0)
        return render_unsupported(r, args->line, "format with named values");
    List values = {.items = args->pos, .len = args->n_pos};
    return format_percent(r, value_to_str(r, s, args->line), value_list(V_TUPLE, &values),
                          args->line);
}

static Value filter_default(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"default_value", "boolean", NULL};
    Value v[2];
    if (!bind(r, args, "default", names, v))
        return s;
    if (s.kind == V_UNDEFINED || (arg_bool(v[1], false) && !value_truth(s)))
        return v[0].kind == V_ABSENT ? value_str(STR("")) : v[0];
    return s;
}

static Value filter_length(Render *r, Value s, const CallArgs *args)
{
    int64_t len = 0;
    if (!bind_none(r, args, "length"))
        return s;
    render_step(r, s.kind == V_STRING ? s.as.str.len : 0);
    if (!value_length(s, &len))
        return render_fail(r, args->line, "object of type '%s' has no len()", value_type_name(s));
    return value_int(len);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Copies a numeral without white space around it and underscores between digits; false when it is
 * no plain decimal numeral. */
static bool numeral(Str s, char out[64])
{
    size_t n = 0;
    s = text_strip(s, NULL, 3);
    for (size_t i = 0; i < s.len; i++) {
        bool between = i > 0 && i + 1 < s.len && s.data[i - 1] >= '0' && s.data[i - 1] <= '9' &&
                       s.data[i + 1] >= '0' && s.data[i + 1] <= '9';
        if (s.data[i] == '_' && between)
            continue;
        if (n == 63 || strchr("0123456789+-.eE", s.data[i]) == NULL || s.data[i] == '\0')
            return false;
        out[n++] = s.data[i];
    }
    out[n] = '\0';
    return n > 0;
}

static bool parse_float(Str s, double *out)
{
    char text[64];
    char *end;
    if (!numeral(s, text))
        return false;
    *out = strtod(text, &end);
    return *end == '\0' && end != text;
}

static Value filter_float(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"default", NULL};
    Value v[1];
    double f;
    if (!bind(r, args, "float", names, v))
        return s;
    if (s.kind == V_UNDEFINED)
        return render_fail(r, args->line, "an undefined value is no number");
    if (value_is_number(s))
        return value_float(s.kind == V_FLOAT ? s.as.f : s.kind == V_BOOL ? s.as.b : (double)s.as.i);
    if (s.kind == V_STRING && parse_float(s.as.str, &f))
        return value_float(f);
    if (s.kind == V_STRING && text_strip(s.as.str, NULL, 3).len >= 3)
        return render_unsupported(r, args->line, "this text as a number");
    return v[0].kind == V_ABSENT ? value_float(0) : v[0];
}

static Value whole_from_float(Render *r, double f, Value fallback, int line)
{
    if (isnan(f))
        return fallback;
    if (fabs(f) >= 9.2e18)
        return render_unsupported(r, line, "a whole number beyond 64 bits");
    return value_int((int64_t)f);
}

static Value filter_int(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"default", "base", NULL};
    Value v[2];
    if (!bind(r, args, "int", names, v))
        return s;
    Value fallback = v[0].kind == V_ABSENT ? value_int(0) : v[0];
    if (s.kind == V_UNDEFINED)
        return render_fail(r, args->line, "an undefined value is no number");
    if (v[1].kind != V_ABSENT)
        return render_unsupported(r, args->line, "int with a base");
    if (value_is_whole(s))
        return value_int(s.kind == V_BOOL ? s.as.b : s.as.i);
    if (s.kind == V_FLOAT)
        return whole_from_float(r, s.as.f, fallback, args->line);
    if (s.kind != V_STRING)
        return fallback;
    char text[64];
    char *end;
    double f;
    for (size_t i = 0; i < s.as.str.len; i++) {
        if ((unsigned char)s.as.str.data[i] >= 0x80) /* Python reads every script's digits */
            return render_unsupported(r, args->line, "int of text outside ASCII");
    }
    if (!numeral(s.as.str, text))
        return fallback;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    if (*end == '\0' && end != text && errno == 0)
        return value_int(whole);
    return parse_float(s.as.str, &f) ? whole_from_float(r, f, fallback, args->line) : fallback;
}

static Value filter_abs(Render *r, Value s, const CallArgs *args)
{
    if (!bind_none(r, args, "abs") || !value_is_number(s))
        return render_fail(r, args->line, "bad operand type for abs(): '%s'", value_type_name(s));
    if (s.kind == V_FLOAT)
        return value_float(fabs(s.as.f));
    int64_t i = s.kind == V_BOOL ? s.as.b : s.as.i;
    return i < 0 ? value_binary(r, OP_SUB, value_int(0), value_int(i), args->line) : value_int(i);
}

static Value filter_round(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"precision", "method", NULL};
    Value v[2];
    int64_t digits;
    if (!bind(r, args, "round", names, v) || !arg_int(r, v[0], 0, &digits, args->line))
        return s;
    Str method = arg_str(r, v[1], "common", args->line);
    if (!value_is_number(s) || digits < 0 || digits > 15)
        return render_unsupported(r, args->line, "this use of round");
    double x = s.kind == V_FLOAT ? s.as.f : s.kind == V_BOOL ? s.as.b : (double)s.as.i;
    double scale = pow(10, (double)digits);
    if (str_eq_text(method, "ceil") || str_eq_text(method, "floor")) {
        double scaled = str_eq_text(method, "ceil") ? ceil(x * scale) : floor(x * scale);
        return value_float(scaled / scale);
    }
    if (!str_eq_text(method, "common"))
        return render_fail(r, args->line, "method must be common, ceil or floor");
    if (s.kind != V_FLOAT)
        return value_is_whole(s) && s.kind == V_BOOL ? value_int(s.as.b) : s;
    Buf buf = {0};
    buf_printf(&buf, "%.*f", (int)digits, x);
    double rounded = strtod(buf.data, NULL);
    buf_free(&buf);
    return value_float(rounded);
}

/* ---- indent and JSON ------------------------------------------------------------------------- */

static Value filter_indent(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"width", "first", "blank", NULL};
    Value v[3];
    Buf indent = {.max = 4096};
    if (!bind(r, args, "indent", names, v))
        return s;
    if (s.kind != V_STRING || s.safe)
        return render_unsupported(r, args->line, "indent of what is no plain text");
    int64_t width = 4;
    if (v[0].kind == V_STRING)
        buf_str(&indent, v[0].as.str);
    else if (!arg_int(r, v[0], 4, &width, args->line) || width > 1000)
        return render_fail(r, args->line, "indent is too wide");
    for (int64_t i = 0; v[0].kind != V_STRING && i < width; i++)
        buf_char(&indent, ' ');
    Str unit = render_take(r, &indent);
    bool blank = arg_bool(v[2], false);
    CallArgs none = {.line = args->line};
    Value lines = as_method(r, s, "splitlines", &none);
    if (r->failed)
        return s;
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    if (arg_bool(v[1], false))
        buf_str(&buf, unit);
    for (int64_t i = 0; i < lines.as.list->len; i++) {
        Str line = lines.as.list->items[i].as.str;
        if (i > 0)
            buf_char(&buf, '\n');
        if (i > 0 && (blank || line.len > 0))
            buf_str(&buf, unit);
        buf_str(&buf, line);
    }
    /* Jinja adds a newline before it splits: a text that ends in one has one more, empty line. */
    bool ends_line = s.as.str.len > 0 && s.as.str.data[s.as.str.len - 1] == '\n';
    if (ends_line)
        buf_char(&buf, '\n');
    if (ends_line && blank)
        buf_str(&buf, unit);
    return value_str(render_take(r, &buf));
}

static bool json_indent(Render *r, Value v, JsonFormat *format, int line)
{
    if (v.kind == V_ABSENT || v.kind == V_NONE)
        return true;
    format->indented = true;
    format->item_separator = STR(",");
    if (v.kind == V_STRING) {
        format->indent = v.as.str;
        return true;
    }
    int64_t width;
    if (!arg_int(r, v, 0, &width, line) || width > 64)
        return render_fail(r, line, "tojson: indent is too wide"), false;
    char *spaces = render_chars(r, 64);
    if (spaces == NULL)
        return false;
    memset(spaces, ' ', 64);
    format->indent = (Str){spaces, (size_t)max_i64(width, 0)};
    return true;
}

static Value filter_tojson(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"ensure_ascii", "indent", "separators", "sort_keys", NULL};
    Value v[4];
    JsonFormat format = {.item_separator = STR(", "), .key_separator = STR(": ")};
    if (!bind(r, args, "tojson", names, v) || !json_indent(r, v[1], &format, args->line))
        return s;
    format.ascii = arg_bool(v[0], false);
    format.sorted = arg_bool(v[3], false);
    if (v[2].kind != V_ABSENT && v[2].kind != V_NONE) {
        bool pair = (v[2].kind == V_TUPLE || v[2].kind == V_LIST) && v[2].as.list->len == 2 &&
                    v[2].as.list->items[0].kind == V_STRING &&
                    v[2].as.list->items[1].kind == V_STRING;
        if (!pair)
            return render_fail(r, args->line, "tojson: separators must be two texts");
        format.item_separator = v[2].as.list->items[0].as.str;
        format.key_separator = v[2].as.list->items[1].as.str;
    }
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    value_write_json(r, s, &format, 0, &buf, args->line);
    return value_str(render_take(r, &buf));
}

/* ---- the tables ------------------------------------------------------------------------------ */

static const FilterRow rows[] = {
    {"trim", filter_trim},     {"upper", filter_upper},
    {"lower", filter_lower},   {"capitalize", filter_capitalize},
    {"title", filter_title},   {"string", filter_string},
    {"safe", filter_safe},     {"escape", filter_escape},
    {"e", filter_escape},      {"replace", filter_replace},
    {"format", filter_format}, {"default", filter_default},
    {"d", filter_default},     {"length", filter_length},
    {"count", filter_length},  {"float", filter_float},
    {"int", filter_int},       {"abs", filter_abs},
    {"round", filter_round},   {"indent", filter_indent},
    {"tojson", filter_tojson}, {NULL, NULL},
};

static FilterFunction *find(Str name)
{
    const FilterRow *const tables[] = {rows, filter_sequence_rows};
    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        for (const FilterRow *row = tables[t]; row->name != NULL; row++) {
            if (str_eq_text(name, row->name))
                return row->apply;
        }
    }
    return NULL;
}

bool filter_exists(Str name)
{
    return find(name) != NULL;
}

Value filter_apply(Render *r, Str name, Value subject, const CallArgs *args)
{
    FilterFunction *apply = find(name);
    if (apply == NULL)
        return render_unsupported(r, args->line, "filter '%.*s'",
                                  (int)min_i64((int64_t)name.len, 40),
                                  name.len == 0 ? "" : name.data);
    if (!render_step(r, 0) || r->depth >= TEMPLATE_MAX_DEPTH)
        return subject;
    return apply(r, subject, args);
}
