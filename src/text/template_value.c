/* template_value.c — what values are: truth, equality, order, iteration, str() and repr().
 *
 * Every function here answers as CPython 3 does for the same value, because templates print the
 * answers. Where Python raises, the rendering fails.
 */
#include "text/template_internal.h"
#include "text/unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *value_type_name(Value v)
{
    static const char *const names[] = {
        [V_UNDEFINED] = "Undefined", [V_NONE] = "NoneType",
        [V_BOOL] = "bool",           [V_INT] = "int",
        [V_FLOAT] = "float",         [V_STRING] = "str",
        [V_LIST] = "list",           [V_TUPLE] = "tuple",
        [V_RANGE] = "range",         [V_ITERATOR] = "generator",
        [V_KEYS] = "dict_keys",      [V_VALUES] = "dict_values",
        [V_ITEMS] = "dict_items",    [V_DICT] = "dict",
        [V_NAMESPACE] = "Namespace", [V_LOOP] = "LoopContext",
        [V_MACRO] = "Macro",         [V_METHOD] = "method",
        [V_FUNCTION] = "function",   [V_ABSENT] = "absent",
    };
    assert(v.kind < COUNT_OF(names));
    return names[v.kind];
}

List *list_make(Render *r, int64_t len)
{
    assert(len >= 0);
    List *list = render_alloc(r, sizeof(List));
    Value *items = render_alloc(r, (size_t)len * sizeof(Value) + 1);
    if (list == NULL || items == NULL)
        return NULL;
    list->items = items;
    list->len = len;
    return list;
}

Dict *dict_make(Render *r, int64_t capacity)
{
    Dict *dict = render_alloc(r, sizeof(Dict));
    DictEntry *entries = render_alloc(r, (size_t)max_i64(capacity, 4) * sizeof(DictEntry));
    if (dict == NULL || entries == NULL)
        return NULL;
    dict->entries = entries;
    dict->capacity = max_i64(capacity, 4);
    return dict;
}

Value *dict_find(Render *r, const Dict *dict, Value key)
{
    render_step(r, (size_t)dict->len);
    for (int64_t i = 0; i < dict->len; i++) {
        if (value_equal(r, dict->entries[i].key, key))
            return &dict->entries[i].value;
    }
    return NULL;
}

void dict_put(Render *r, Dict *dict, Value key, Value value)
{
    Value *slot = dict_find(r, dict, key);
    if (slot != NULL) {
        *slot = value;
        return;
    }
    if (dict->len == dict->capacity) {
        DictEntry *grown = render_alloc(r, (size_t)dict->capacity * 2 * sizeof(DictEntry));
        if (grown == NULL)
            return;
        memcpy(grown, dict->entries, (size_t)dict->len * sizeof(DictEntry));
        dict->entries = grown;
        dict->capacity *= 2;
    }
    assert(dict->len < dict->capacity);
    dict->entries[dict->len++] = (DictEntry){key, value};
}

bool value_length(Value v, int64_t *len)
{
    switch (v.kind) {
    case V_UNDEFINED:
        *len = 0;
        return true;
    case V_STRING:
        *len = text_length(v.as.str);
        return true;
    case V_DICT:
        *len = v.as.dict->len;
        return true;
    case V_LOOP:
        *len = v.as.loop->items->len;
        return true;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_KEYS:
    case V_VALUES:
    case V_ITEMS:
        *len = v.as.list->len;
        return true;
    default:
        return false;
    }
}

bool value_truth(Value v)
{
    int64_t len;
    switch (v.kind) {
    case V_UNDEFINED:
    case V_NONE:
    case V_ABSENT:
        return false;
    case V_BOOL:
        return v.as.b;
    case V_INT:
        return v.as.i != 0;
    case V_FLOAT:
        return v.as.f != 0;
    case V_STRING:
        return v.as.str.len > 0;
    default:
        return !value_length(v, &len) || len > 0;
    }
}

static double as_double(Value v)
{
    return v.kind == V_FLOAT ? v.as.f : v.kind == V_BOOL ? (double)v.as.b : (double)v.as.i;
}

static int64_t as_int(Value v)
{
    return v.kind == V_BOOL ? v.as.b : v.as.i;
}

static int compare_numbers(Value a, Value b)
{
    if (a.kind != V_FLOAT && b.kind != V_FLOAT)
        return (as_int(a) > as_int(b)) - (as_int(a) < as_int(b));
    double x = as_double(a), y = as_double(b);
    return (x > y) - (x < y);
}

static bool equal_lists(Render *r, const List *a, const List *b)
{
    if (a->len != b->len)
        return false;
    for (int64_t i = 0; i < a->len; i++) {
        if (!value_equal(r, a->items[i], b->items[i]))
            return false;
    }
    return true;
}

static bool equal_dicts(Render *r, const Dict *a, const Dict *b)
{
    if (a->len != b->len)
        return false;
    for (int64_t i = 0; i < a->len; i++) {
        Value *other = dict_find(r, b, a->entries[i].key);
        if (other == NULL || !value_equal(r, a->entries[i].value, *other))
            return false;
    }
    return true;
}

bool value_equal(Render *r, Value a, Value b)
{
    if (!render_step(r, a.kind == V_STRING ? a.as.str.len / 64 : 0) ||
        r->depth > TEMPLATE_MAX_DEPTH)
        return false;
    if (value_is_number(a) && value_is_number(b)) {
        bool nan = (a.kind == V_FLOAT && isnan(a.as.f)) || (b.kind == V_FLOAT && isnan(b.as.f));
        return !nan && compare_numbers(a, b) == 0;
    }
    if (a.kind != b.kind)
        return false;
    r->depth++;
    bool equal = false;
    switch (a.kind) {
    case V_UNDEFINED:
    case V_NONE:
        equal = true;
        break;
    case V_STRING:
        equal = str_eq(a.as.str, b.as.str);
        break;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
        equal = equal_lists(r, a.as.list, b.as.list);
        break;
    case V_DICT:
        equal = equal_dicts(r, a.as.dict, b.as.dict);
        break;
    case V_MACRO:
        equal = a.as.macro->node == b.as.macro->node;
        break;
    case V_FUNCTION:
        equal = a.as.function == b.as.function;
        break;
    default:
        equal = a.as.list == b.as.list;
        break; /* identity */
    }
    r->depth--;
    return equal;
}

static int compare_lists(Render *r, const List *a, const List *b, int line)
{
    for (int64_t i = 0; i < a->len && i < b->len && !r->failed; i++) {
        if (!value_equal(r, a->items[i], b->items[i]))
            return value_compare(r, a->items[i], b->items[i], line);
    }
    return (a->len > b->len) - (a->len < b->len);
}

int value_compare(Render *r, Value a, Value b, int line)
{
    if (value_is_number(a) && value_is_number(b))
        return compare_numbers(a, b);
    if (a.kind == V_STRING && b.kind == V_STRING) { /* UTF-8 sorts as its code points do */
        size_t n = a.as.str.len < b.as.str.len ? a.as.str.len : b.as.str.len;
        int c = n == 0 ? 0 : memcmp(a.as.str.data, b.as.str.data, n);
        render_step(r, n);
        return c != 0 ? (c > 0) - (c < 0)
                      : (a.as.str.len > b.as.str.len) - (a.as.str.len < b.as.str.len);
    }
    if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        if (r->depth > TEMPLATE_MAX_DEPTH)
            return 0;
        r->depth++;
        int c = compare_lists(r, a.as.list, b.as.list, line);
        r->depth--;
        return c;
    }
    render_fail(r, line, "'%s' and '%s' have no order", value_type_name(a), value_type_name(b));
    return 0;
}

bool value_contains(Render *r, Value container, Value item, int line)
{
    if (container.kind == V_STRING) {
        if (item.kind != V_STRING) {
            render_fail(r, line, "'in <string>' needs a string, not %s", value_type_name(item));
            return false;
        }
        render_step(r, container.as.str.len);
        return text_find(container.as.str, item.as.str, 0) >= 0;
    }
    if (container.kind == V_DICT) {
        if (item.kind == V_LIST || item.kind == V_DICT) {
            render_fail(r, line, "a %s cannot be a key", value_type_name(item));
            return false;
        }
        return dict_find(r, container.as.dict, item) != NULL;
    }
    const List *list = value_iterate(r, container, line);
    for (int64_t i = 0; list != NULL && i < list->len; i++) {
        if (value_equal(r, list->items[i], item))
            return true;
    }
    return false;
}

static List *iterate_string(Render *r, Str s)
{
    List *list = list_make(r, text_length(s));
    size_t pos = 0;
    for (int64_t i = 0; list != NULL && i < list->len; i++) {
        size_t len = text_char_len(s, pos);
        list->items[i] = value_str(str_sub(s, pos, pos + len));
        pos += len;
    }
    return list;
}

List *value_iterate(Render *r, Value v, int line)
{
    switch (v.kind) {
    case V_UNDEFINED:
        return list_make(r, 0);
    case V_STRING:
        return iterate_string(r, v.as.str);
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_KEYS:
    case V_VALUES:
    case V_ITEMS:
        return v.as.list;
    case V_ITERATOR: { /* what has not been consumed yet; then nothing is left */
        List *rest = render_alloc(r, sizeof(List));
        if (rest == NULL)
            return NULL;
        rest->items = v.as.list->items + v.as.list->taken;
        rest->len = v.as.list->len - v.as.list->taken;
        v.as.list->taken = v.as.list->len;
        return rest;
    }
    case V_DICT: {
        List *keys = list_make(r, v.as.dict->len);
        for (int64_t i = 0; keys != NULL && i < keys->len; i++)
            keys->items[i] = v.as.dict->entries[i].key;
        return keys;
    }
    case V_LOOP:
        render_unsupported(r, line, "iterating over 'loop'");
        return NULL;
    default:
        render_fail(r, line, "'%s' object is not iterable", value_type_name(v));
        return NULL;
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

/* repr(float): the shortest digits that read back the same, exponent form outside 1e-4…1e16. */
void value_write_float(double f, Buf *out)
{
    if (isnan(f) || isinf(f)) {
        buf_text(out, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char text[40];
    Buf digits = {0};
    for (int precision = 0; precision <= 16; precision++) {
        buf_clear(&digits);
        buf_printf(&digits, "%.*e", precision, f);
        if (strtod(digits.data, NULL) == f)
            break;
    }
    must(digits.len < sizeof(text));
    memcpy(text, digits.data, digits.len + 1);
    buf_free(&digits);
    char *e = strchr(text, 'e');
    must(e != NULL);
    int exponent = (int)strtol(e + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        buf_append(out, text, (size_t)(e - text));
        buf_printf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    int significant = (int)(e - text) - (text[0] == '-') - (strchr(text, '.') != NULL);
    int decimals = significant - 1 - exponent;
    buf_printf(out, "%.*f", decimals > 1 ? decimals : 1, f);
}

static void repr_string(Str s, Buf *out)
{
    bool has_single = s.len > 0 && memchr(s.data, '\'', s.len) != NULL;
    bool has_double = s.len > 0 && memchr(s.data, '"', s.len) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    uint32_t c;
    buf_char(out, quote);
    for (size_t pos = 0; utf8_next(s, &pos, &c);) {
        if (c == (uint32_t)quote || c == '\\') {
            buf_char(out, '\\');
            buf_char(out, (char)c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            buf_text(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else if (unicode_is_printable(c)) {
            buf_codepoint(out, c);
        } else if (c <= 0xFF) {
            buf_printf(out, "\\x%02x", (unsigned)c);
        } else if (c <= 0xFFFF) {
            buf_printf(out, "\\u%04x", (unsigned)c);
        } else {
            buf_printf(out, "\\U%08x", (unsigned)c);
        }
    }
    buf_char(out, quote);
}

static void repr_list(Render *r, const List *list, char open, char close, Buf *out, int line)
{
    buf_char(out, open);
    for (int64_t i = 0; i < list->len && !r->failed; i++) {
        if (i > 0)
            buf_text(out, ", ");
        value_repr(r, list->items[i], out, line);
    }
    if (open == '(' && list->len == 1)
        buf_char(out, ',');
    buf_char(out, close);
}

static void repr_dict(Render *r, const Dict *dict, Buf *out, int line)
{
    buf_char(out, '{');
    for (int64_t i = 0; i < dict->len && !r->failed; i++) {
        if (i > 0)
            buf_text(out, ", ");
        value_repr(r, dict->entries[i].key, out, line);
        buf_text(out, ": ");
        value_repr(r, dict->entries[i].value, out, line);
    }
    buf_char(out, '}');
}

static void repr_view(Render *r, Value v, Buf *out, int line)
{
    buf_text(out, value_type_name(v));
    buf_char(out, '(');
    repr_list(r, v.as.list, '[', ']', out, line);
    buf_char(out, ')');
}

void value_repr(Render *r, Value v, Buf *out, int line)
{
    if (!render_step(r, v.kind == V_STRING ? v.as.str.len : 0))
        return;
    if (out->len > TEMPLATE_MAX_OUTPUT || r->depth > TEMPLATE_MAX_DEPTH) {
        render_fail(r, line, "value is too large to be printed");
        return;
    }
    r->depth++;
    switch (v.kind) {
    case V_UNDEFINED:
        buf_text(out, "Undefined");
        break;
    case V_NONE:
        buf_text(out, "None");
        break;
    case V_BOOL:
        buf_text(out, v.as.b ? "True" : "False");
        break;
    case V_INT:
        buf_printf(out, "%lld", (long long)v.as.i);
        break;
    case V_FLOAT:
        value_write_float(v.as.f, out);
        break;
    case V_STRING:
        if (v.safe)
            render_unsupported(r, line, "repr() of safe text");
        repr_string(v.as.str, out);
        break;
    case V_LIST:
        repr_list(r, v.as.list, '[', ']', out, line);
        break;
    case V_TUPLE:
        repr_list(r, v.as.list, '(', ')', out, line);
        break;
    case V_KEYS:
    case V_VALUES:
    case V_ITEMS:
        repr_view(r, v, out, line);
        break;
    case V_DICT:
        repr_dict(r, v.as.dict, out, line);
        break;
    default:
        render_unsupported(r, line, "printing a %s", value_type_name(v));
    }
    r->depth--;
}

void value_write(Render *r, Value v, Buf *out, int line)
{
    if (v.kind == V_STRING) {
        if (render_step(r, v.as.str.len))
            buf_str(out, v.as.str);
    } else if (v.kind != V_UNDEFINED) {
        value_repr(r, v, out, line);
    }
}

Str value_to_str(Render *r, Value v, int line)
{
    if (v.kind == V_STRING)
        return v.as.str;
    if (v.kind == V_UNDEFINED)
        return STR("");
    Buf buf = {0};
    value_repr(r, v, &buf, line);
    return render_take(r, &buf);
}
