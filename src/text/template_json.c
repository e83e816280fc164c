/* template_json.c — JSON in and out of templates: the messages as values, and the filter tojson.
 *
 * tojson writes as Python's json.dumps does (transformers replaces Jinja's own filter by it):
 * separators ", " and ": ", with indent "," and a newline; non-ASCII characters stay.
 */
#include "text/template_internal.h"

#include <math.h>
#include <stdlib.h>

static Value from_array(Render *r, const Json *json)
{
    List *list = list_make(r, (int64_t)json_len(json));
    for (int64_t i = 0; list != NULL && i < list->len; i++)
        list->items[i] = value_from_json(r, json_at(json, (size_t)i));
    return list == NULL ? value_of(V_NONE) : value_list(V_LIST, list);
}

static Value from_object(Render *r, const Json *json)
{
    Dict *dict = dict_make(r, (int64_t)json_len(json));
    const char *key;
    Json *value;
    for (void *it = NULL; dict != NULL && (it = json_next(json, it, &key, &value)) != NULL;) {
        assert(dict->len < dict->capacity); /* keys of a JSON object are unique */
        dict->entries[dict->len++] = (DictEntry){value_str(str_of(key)), value_from_json(r, value)};
    }
    return dict == NULL ? value_of(V_NONE) : (Value){.kind = V_DICT, .as.dict = dict};
}

/* Strings stay in the JSON tree, which outlives the rendering. The parser bounds its depth. */
Value value_from_json(Render *r, const Json *json)
{
    if (json_is_string(json))
        return value_str(json_str(json));
    if (json_is_object(json))
        return from_object(r, json);
    if (json_is_array(json))
        return from_array(r, json);
    if (json_is_bool(json))
        return value_bool(json_bool(json, false));
    if (json_is_int(json))
        return value_int(json_int(json, 0));
    if (json_is_number(json))
        return value_float(json_double(json, 0));
    return value_of(V_NONE);
}

static void write_unit(uint32_t unit, Buf *out)
{
    buf_printf(out, "\\u%04x", (unsigned)unit);
}

static void write_string(Str s, bool ascii, Buf *out)
{
    uint32_t c;
    buf_char(out, '"');
    for (size_t pos = 0; utf8_next(s, &pos, &c);) {
        switch (c) {
        case '"':
            buf_text(out, "\\\"");
            break;
        case '\\':
            buf_text(out, "\\\\");
            break;
        case '\n':
            buf_text(out, "\\n");
            break;
        case '\r':
            buf_text(out, "\\r");
            break;
        case '\t':
            buf_text(out, "\\t");
            break;
        case '\b':
            buf_text(out, "\\b");
            break;
        case '\f':
            buf_text(out, "\\f");
            break;
        default:
            if (c < 0x20 || (ascii && c >= 0x7F && c < 0x10000)) {
                write_unit(c, out);
            } else if (ascii && c >= 0x10000) {
                write_unit(0xD800 + ((c - 0x10000) >> 10), out);
                write_unit(0xDC00 + ((c - 0x10000) & 0x3FF), out);
            } else {
                buf_codepoint(out, c);
            }
        }
    }
    buf_char(out, '"');
}

static void new_line(const JsonFormat *format, int level, Buf *out)
{
    if (!format->indented)
        return;
    buf_char(out, '\n');
    for (int i = 0; i < level; i++)
        buf_str(out, format->indent);
}

static void write_list(Render *r, const List *list, const JsonFormat *format, int level, Buf *out,
                       int line)
{
    buf_char(out, '[');
    for (int64_t i = 0; i < list->len && !r->failed; i++) {
        if (i > 0)
            buf_str(out, format->item_separator);
        new_line(format, level + 1, out);
        value_write_json(r, list->items[i], format, level + 1, out, line);
    }
    if (list->len > 0)
        new_line(format, level, out);
    buf_char(out, ']');
}

static void write_key(Render *r, Value key, const JsonFormat *format, Buf *out, int line)
{
    if (key.kind == V_STRING) {
        write_string(key.as.str, format->ascii, out);
    } else if (value_is_number(key) || key.kind == V_NONE) {
        buf_char(out, '"');
        value_write_json(r, key, format, 0, out, line);
        buf_char(out, '"');
    } else {
        render_fail(r, line, "keys of a JSON object must be text, not %s", value_type_name(key));
    }
}

static int by_text_key(const void *a, const void *b)
{
    Value x = ((const DictEntry *)a)->key, y = ((const DictEntry *)b)->key;
    assert(x.kind == V_STRING && y.kind == V_STRING);
    return value_compare(&(Render){0}, x, y, 0);
}

/* A copy of the dict in the order of its keys; all of them must be text. */
static const Dict *sorted(Render *r, const Dict *dict, int line)
{
    Dict *copy = dict_make(r, dict->len);
    if (copy == NULL)
        return NULL;
    for (int64_t i = 0; i < dict->len; i++) {
        if (dict->entries[i].key.kind != V_STRING) {
            render_unsupported(r, line, "tojson with sort_keys over keys that are not text");
            return NULL;
        }
        copy->entries[copy->len++] = dict->entries[i];
    }
    qsort(copy->entries, (size_t)copy->len, sizeof(DictEntry), by_text_key);
    return copy;
}

static void write_dict(Render *r, const Dict *dict, const JsonFormat *format, int level, Buf *out,
                       int line)
{
    if (format->sorted)
        dict = sorted(r, dict, line);
    if (dict == NULL)
        return;
    buf_char(out, '{');
    for (int64_t i = 0; i < dict->len && !r->failed; i++) {
        if (i > 0)
            buf_str(out, format->item_separator);
        new_line(format, level + 1, out);
        write_key(r, dict->entries[i].key, format, out, line);
        buf_str(out, format->key_separator);
        value_write_json(r, dict->entries[i].value, format, level + 1, out, line);
    }
    if (dict->len > 0)
        new_line(format, level, out);
    buf_char(out, '}');
}

void value_write_json(Render *r, Value v, const JsonFormat *format, int level, Buf *out, int line)
{
    if (!render_step(r, v.kind == V_STRING ? v.as.str.len : (size_t)level * format->indent.len))
        return;
    if (out->len > TEMPLATE_MAX_OUTPUT || r->depth > TEMPLATE_MAX_DEPTH) {
        render_fail(r, line, "value is too large to be written as JSON");
        return;
    }
    r->depth++;
    switch (v.kind) {
    case V_NONE:
        buf_text(out, "null");
        break;
    case V_BOOL:
        buf_text(out, v.as.b ? "true" : "false");
        break;
    case V_INT:
        buf_printf(out, "%lld", (long long)v.as.i);
        break;
    case V_FLOAT:
        if (isfinite(v.as.f))
            value_write_float(v.as.f, out);
        else
            buf_text(out, isnan(v.as.f) ? "NaN" : v.as.f > 0 ? "Infinity" : "-Infinity");
        break;
    case V_STRING:
        write_string(v.as.str, format->ascii, out);
        break;
    case V_LIST:
    case V_TUPLE:
        write_list(r, v.as.list, format, level, out, line);
        break;
    case V_DICT:
        write_dict(r, v.as.dict, format, level, out, line);
        break;
    default:
        render_fail(r, line, "a %s cannot be written as JSON", value_type_name(v));
    }
    r->depth--;
}
