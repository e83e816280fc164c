/* template_sequence.c — filters on sequences: picking, mapping, sorting, joining.
 *
 * What is a generator in Jinja is a V_ITERATOR here: computed at once, but consumed once.
 */
#include "text/template_internal.h"

#include <string.h>

/* ---- attributes by path ("a.b.0") ------------------------------------------------------------ */

static Value attribute_path(Render *r, Value item, Value path, int line)
{
    if (path.kind != V_STRING)
        return value_item(r, item, path, line);
    Str rest = path.as.str;
    while (!r->failed) {
        int64_t dot = text_find(rest, STR("."), 0);
        Str part = dot < 0 ? rest : str_sub(rest, 0, (size_t)dot);
        bool number = part.len > 0 && part.len < 10;
        int64_t index = 0;
        for (size_t i = 0; i < part.len; i++) {
            number = number && part.data[i] >= '0' && part.data[i] <= '9';
            index = number ? index * 10 + (part.data[i] - '0') : 0;
        }
        item = value_item(r, item, number ? value_int(index) : value_str(part), line);
        if (dot < 0)
            break;
        rest = str_sub(rest, (size_t)dot + 1, rest.len);
    }
    return item;
}

static Value attribute_or_self(Render *r, Value item, Value path, int line)
{
    bool none = path.kind == V_ABSENT || path.kind == V_NONE;
    return none ? item : attribute_path(r, item, path, line);
}

/* ---- first, last, list, reverse, join, items ------------------------------------------------- */

static bool only(Render *r, const CallArgs *args, const char *what)
{
    if (args->n_pos + args->n_kw > 0)
        render_fail(r, args->line, "filter %s takes no arguments", what);
    return !r->failed;
}

static Value filter_first(Render *r, Value s, const CallArgs *args)
{
    if (!only(r, args, "first"))
        return s;
    if (s.kind == V_ITERATOR) {
        List *list = s.as.list;
        return list->taken < list->len ? list->items[list->taken++] : value_undefined(STR("first"));
    }
    List *list = value_iterate(r, s, args->line);
    return list != NULL && list->len > 0 ? list->items[0] : value_undefined(STR("first"));
}

static Value filter_last(Render *r, Value s, const CallArgs *args)
{
    if (!only(r, args, "last"))
        return s;
    if (s.kind == V_ITERATOR)
        return render_fail(r, args->line, "a generator has no last element");
    List *list = value_iterate(r, s, args->line);
    return list != NULL && list->len > 0 ? list->items[list->len - 1]
                                         : value_undefined(STR("last"));
}

static Value filter_list(Render *r, Value s, const CallArgs *args)
{
    List *list = only(r, args, "list") ? value_iterate(r, s, args->line) : NULL;
    return list == NULL ? value_of(V_NONE) : value_list(V_LIST, list);
}

static Value filter_reverse(Render *r, Value s, const CallArgs *args)
{
    static const Value all[3] = {
        {.kind = V_ABSENT}, {.kind = V_ABSENT}, {.kind = V_INT, .as.i = -1}};
    if (!only(r, args, "reverse"))
        return s;
    if (s.kind == V_STRING)
        return value_slice(r, s, all, args->line);
    List *list = value_iterate(r, s, args->line);
    List *back = list == NULL ? NULL : list_make(r, list->len);
    for (int64_t i = 0; back != NULL && i < list->len; i++)
        back->items[i] = list->items[list->len - 1 - i];
    if (back == NULL)
        return value_of(V_NONE);
    return value_list(s.kind == V_ITERATOR ? V_LIST : V_ITERATOR, back);
}

static Value filter_join(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"d", "attribute", NULL};
    Value v[2];
    if (!args_bind(r, "join", args, names, 0, v))
        return s;
    Str separator = arg_str(r, v[0], "", args->line);
    List *list = value_iterate(r, s, args->line);
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    for (int64_t i = 0; list != NULL && i < list->len && !r->failed; i++) {
        Value item = attribute_or_self(r, list->items[i], v[1], args->line);
        if (i > 0)
            buf_str(&buf, separator);
        if (!r->failed)
            value_write(r, item, &buf, args->line);
        render_step(r, separator.len);
    }
    return value_str(render_take(r, &buf));
}

static Value filter_items(Render *r, Value s, const CallArgs *args)
{
    if (!only(r, args, "items"))
        return s;
    if (s.kind == V_UNDEFINED) {
        List *none = list_make(r, 0);
        return none == NULL ? value_of(V_NONE) : value_list(V_ITERATOR, none);
    }
    if (s.kind != V_DICT)
        return render_fail(r, args->line, "items needs a mapping, not %s", value_type_name(s));
    Method items = {.self = s, .id = method_find(V_DICT, STR("items"))};
    Value view = method_call(r, &items, args);
    view.kind = view.kind == V_ITEMS ? V_ITERATOR : view.kind;
    return view;
}

/* ---- map, select, reject --------------------------------------------------------------------- */

/* What a generator expression leaves out of args: the first `skip` positional ones. */
static CallArgs rest_of(const CallArgs *args, int skip)
{
    CallArgs rest = *args;
    rest.pos += skip;
    rest.n_pos -= skip;
    return rest;
}

static bool named(Render *r, const CallArgs *args, int index, Str *name)
{
    if (args->pos[index].kind != V_STRING) {
        render_fail(r, args->line, "a filter or test is named by a text");
        return false;
    }
    *name = args->pos[index].as.str;
    return true;
}

static Value map_one(Render *r, Value item, const CallArgs *args)
{
    static const char *const names[] = {"attribute", "default", NULL};
    Value v[2];
    Str name;
    if (args->n_pos > 0) {
        CallArgs rest = rest_of(args, 1);
        return named(r, args, 0, &name) ? filter_apply(r, name, item, &rest) : item;
    }
    if (!args_bind(r, "map", args, names, 1, v))
        return item;
    if (v[1].kind != V_ABSENT && v[0].kind == V_STRING && text_find(v[0].as.str, STR("."), 0) >= 0)
        return render_unsupported(r, args->line, "map over a path with a default");
    Value found = attribute_path(r, item, v[0], args->line);
    bool missing = found.kind == V_UNDEFINED && v[1].kind != V_ABSENT && v[1].kind != V_NONE;
    return missing ? v[1] : found;
}

/* The elements of a subject that may be falsy (then there are none). */
static List *elements(Render *r, Value s, int line)
{
    return value_truth(s) ? value_iterate(r, s, line) : list_make(r, 0);
}

static Value filter_map(Render *r, Value s, const CallArgs *args)
{
    List *list = elements(r, s, args->line);
    List *out = list == NULL ? NULL : list_make(r, list->len);
    for (int64_t i = 0; out != NULL && i < list->len && !r->failed; i++)
        out->items[i] = map_one(r, list->items[i], args);
    return out == NULL ? value_of(V_NONE) : value_list(V_ITERATOR, out);
}

typedef enum Pick { PICK_SELECT, PICK_REJECT } Pick;

/* n_attribute: 1 when the first argument is the attribute to look at. */
static Value pick(Render *r, Value s, const CallArgs *args, Pick mode, int n_attribute)
{
    List *list = elements(r, s, args->line);
    List *out = list == NULL ? NULL : list_make(r, list->len);
    if (out == NULL)
        return value_of(V_NONE);
    if (args->n_pos < n_attribute)
        return render_fail(r, args->line, "the name of an attribute is missing");
    out->len = 0;
    for (int64_t i = 0; i < list->len && !r->failed; i++) {
        Value item = list->items[i];
        Value seen = n_attribute ? attribute_path(r, item, args->pos[0], args->line) : item;
        bool holds = value_truth(seen);
        Str name;
        if (!r->failed && args->n_pos > n_attribute && named(r, args, n_attribute, &name)) {
            CallArgs rest = rest_of(args, n_attribute + 1);
            holds = test_apply(r, name, seen, &rest);
        }
        if (holds == (mode == PICK_SELECT))
            out->items[out->len++] = item;
    }
    return value_list(V_ITERATOR, out);
}

static Value filter_select(Render *r, Value s, const CallArgs *a)
{
    return pick(r, s, a, PICK_SELECT, 0);
}
static Value filter_reject(Render *r, Value s, const CallArgs *a)
{
    return pick(r, s, a, PICK_REJECT, 0);
}
static Value filter_selectattr(Render *r, Value s, const CallArgs *a)
{
    return pick(r, s, a, PICK_SELECT, 1);
}
static Value filter_rejectattr(Render *r, Value s, const CallArgs *a)
{
    return pick(r, s, a, PICK_REJECT, 1);
}

/* ---- order ----------------------------------------------------------------------------------- */

typedef struct Keyed {
    Value key, value;
} Keyed;

typedef struct Order {
    bool case_sensitive, reverse;
    Value attribute;
} Order;

static Value sort_key(Render *r, Value item, const Order *order, int line)
{
    Value key = attribute_or_self(r, item, order->attribute, line);
    if (key.kind != V_STRING || order->case_sensitive)
        return key;
    Buf buf = {0};
    if (!text_case(key.as.str, TEXT_LOWER, &buf))
        render_unsupported(r, line, "the case of a character in this text");
    return value_str(render_take(r, &buf));
}

static void merge(Render *r, const Keyed *from, Keyed *to, int64_t a, int64_t middle, int64_t end,
                  const Order *order, int line)
{
    int64_t b = middle;
    for (int64_t at = a, i = a; at < end; at++) {
        bool left = i < middle;
        if (left && b < end && !r->failed) {
            int c = value_compare(r, from[b].key, from[i].key, line);
            left = order->reverse ? c <= 0 : c >= 0;
        }
        to[at] = left ? from[i++] : from[b++];
        render_step(r, 0);
    }
}

/* Stable merge sort; `reverse` keeps equal elements in their order, as Python does. */
static List *sorted(Render *r, const List *list, const Order *order, int line)
{
    Keyed *a = render_alloc(r, (size_t)list->len * sizeof(Keyed) + 1);
    Keyed *b = render_alloc(r, (size_t)list->len * sizeof(Keyed) + 1);
    List *out = list_make(r, list->len);
    if (a == NULL || b == NULL || out == NULL)
        return NULL;
    for (int64_t i = 0; i < list->len && !r->failed; i++)
        a[i] = (Keyed){sort_key(r, list->items[i], order, line), list->items[i]};
    for (int64_t width = 1; width < list->len && !r->failed; width *= 2) {
        for (int64_t i = 0; i < list->len; i += 2 * width)
            merge(r, a, b, i, min_i64(i + width, list->len), min_i64(i + 2 * width, list->len),
                  order, line);
        Keyed *swap = a;
        a = b;
        b = swap;
    }
    for (int64_t i = 0; i < list->len; i++)
        out->items[i] = a[i].value;
    return out;
}

static Value filter_sort(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"reverse", "case_sensitive", "attribute", NULL};
    Value v[3];
    if (!args_bind(r, "sort", args, names, 0, v))
        return s;
    if (v[2].kind == V_STRING && text_find(v[2].as.str, STR(","), 0) >= 0)
        return render_unsupported(r, args->line, "sort by several attributes");
    Order order = {arg_bool(v[1], false), arg_bool(v[0], false), v[2]};
    List *list = value_iterate(r, s, args->line);
    List *out = list == NULL ? NULL : sorted(r, list, &order, args->line);
    return out == NULL ? value_of(V_NONE) : value_list(V_LIST, out);
}

static Value filter_dictsort(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"case_sensitive", "by", "reverse", NULL};
    Value v[3];
    if (!args_bind(r, "dictsort", args, names, 0, v))
        return s;
    Str by = arg_str(r, v[1], "key", args->line);
    if (s.kind != V_DICT || (!str_eq_text(by, "key") && !str_eq_text(by, "value")))
        return render_fail(r, args->line, "dictsort needs a mapping and 'key' or 'value'");
    CallArgs none = {.line = args->line};
    Method items = {.self = s, .id = method_find(V_DICT, STR("items"))};
    Value pairs = method_call(r, &items, &none);
    if (r->failed)
        return s;
    Order order = {arg_bool(v[0], false), arg_bool(v[2], false),
                   value_int(str_eq_text(by, "value") ? 1 : 0)};
    List *out = sorted(r, pairs.as.list, &order, args->line);
    return out == NULL ? value_of(V_NONE) : value_list(V_LIST, out);
}

/* The first of the smallest (sign < 0) or largest elements. */
static Value extreme(Render *r, Value s, const CallArgs *args, int sign)
{
    static const char *const names[] = {"case_sensitive", "attribute", NULL};
    Value v[2];
    if (!args_bind(r, "min and max", args, names, 0, v))
        return s;
    Order order = {arg_bool(v[0], false), false, v[1]};
    List *list = value_iterate(r, s, args->line);
    if (list == NULL || list->len == 0)
        return value_undefined(STR("min or max"));
    Value best = list->items[0], best_key = sort_key(r, best, &order, args->line);
    for (int64_t i = 1; i < list->len && !r->failed; i++) {
        Value key = sort_key(r, list->items[i], &order, args->line);
        if (!r->failed && value_compare(r, key, best_key, args->line) == sign) {
            best = list->items[i];
            best_key = key;
        }
    }
    return best;
}

static Value filter_min(Render *r, Value s, const CallArgs *args)
{
    return extreme(r, s, args, -1);
}
static Value filter_max(Render *r, Value s, const CallArgs *args)
{
    return extreme(r, s, args, 1);
}

static Value filter_sum(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"attribute", "start", NULL};
    Value v[2];
    if (!args_bind(r, "sum", args, names, 0, v))
        return s;
    Value total = v[1].kind == V_ABSENT ? value_int(0) : v[1];
    List *list = value_iterate(r, s, args->line);
    for (int64_t i = 0; list != NULL && i < list->len && !r->failed; i++) {
        Value item = attribute_or_self(r, list->items[i], v[0], args->line);
        if (total.kind == V_STRING)
            return render_fail(r, args->line, "sum of texts");
        if (!r->failed)
            total = value_binary(r, OP_ADD, total, item, args->line);
    }
    return total;
}

static Value filter_unique(Render *r, Value s, const CallArgs *args)
{
    static const char *const names[] = {"case_sensitive", "attribute", NULL};
    Value v[2];
    if (!args_bind(r, "unique", args, names, 0, v))
        return s;
    Order order = {arg_bool(v[0], false), false, v[1]};
    List *list = value_iterate(r, s, args->line);
    List *out = list == NULL ? NULL : list_make(r, list->len);
    List *keys = list == NULL ? NULL : list_make(r, list->len);
    if (out == NULL || keys == NULL)
        return value_of(V_NONE);
    out->len = 0;
    for (int64_t i = 0; i < list->len && !r->failed; i++) {
        Value key = sort_key(r, list->items[i], &order, args->line);
        bool seen = false;
        for (int64_t k = 0; k < out->len && !seen; k++)
            seen = value_equal(r, keys->items[k], key);
        if (seen)
            continue;
        keys->items[out->len] = key;
        out->items[out->len++] = list->items[i];
    }
    return value_list(V_ITERATOR, out);
}

const FilterRow filter_sequence_rows[] = {
    {"first", filter_first},
    {"last", filter_last},
    {"list", filter_list},
    {"reverse", filter_reverse},
    {"join", filter_join},
    {"items", filter_items},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"unique", filter_unique},
    {NULL, NULL},
};
