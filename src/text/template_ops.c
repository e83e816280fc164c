/* template_ops.c — operators, attributes, subscripts and slices on values.
 *
 * Numbers are Python's with 64-bit integers: a result that does not fit fails the rendering instead
 * of wrapping. `a.b` tries Python's attribute (a method) before the key, `a['b']` the key first, as
 * Jinja does; what is missing is undefined.
 */
#include "text/template_internal.h"

#include <math.h>
#include <string.h>

static int64_t whole(Value v)
{
    return v.kind == V_BOOL ? v.as.b : v.as.i;
}

static double real(Value v)
{
    return v.kind == V_FLOAT ? v.as.f : (double)whole(v);
}

static const char *operator_text(Operator op)
{
    static const char *const texts[] = {"+", "-", "*", "/", "//", "%", "**"};
    assert(op <= OP_POW);
    return texts[op];
}

static Value no_operator(Render *r, Operator op, Value a, Value b, int line)
{
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED) {
        Str name = a.kind == V_UNDEFINED ? a.as.str : b.as.str;
        return render_fail(r, line, "'%.*s' is undefined", (int)min_i64((int64_t)name.len, 80),
                           name.len == 0 ? "" : name.data);
    }
    return render_fail(r, line, "unsupported operand types for %s: '%s' and '%s'",
                       operator_text(op), value_type_name(a), value_type_name(b));
}

/* base ** exponent, exponent >= 0; false on overflow. */
static bool power(int64_t base, int64_t exponent, int64_t *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return false;
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return false;
    }
    *out = result;
    return true;
}

static Value whole_numbers(Render *r, Operator op, int64_t a, int64_t b, int line)
{
    int64_t result = 0;
    bool overflow = false;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return render_fail(r, line, "division by zero");
    switch (op) {
    case OP_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case OP_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case OP_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case OP_DIV:
        return value_float((double)a / (double)b);
    case OP_FLOORDIV:
    case OP_MOD:
        if (a == INT64_MIN && b == -1)
            overflow = op == OP_FLOORDIV;
        else if (op == OP_FLOORDIV)
            result = a / b - (a % b != 0 && (a < 0) != (b < 0));
        else
            result = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
        break;
    default:
        if (b < 0)
            return a == 0 ? render_fail(r, line, "division by zero")
                          : value_float(pow((double)a, (double)b));
        overflow = !power(a, b, &result);
    }
    if (overflow)
        return render_unsupported(r, line, "a whole number beyond 64 bits");
    return value_int(result);
}

static Value real_numbers(Render *r, Operator op, double a, double b, int line)
{
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return render_fail(r, line, "division by zero");
    double mod;
    switch (op) {
    case OP_ADD:
        return value_float(a + b);
    case OP_SUB:
        return value_float(a - b);
    case OP_MUL:
        return value_float(a * b);
    case OP_DIV:
        return value_float(a / b);
    case OP_FLOORDIV:
    case OP_MOD:
        mod = fmod(a, b);
        if (mod != 0 && (b < 0) != (mod < 0))
            mod += b;
        return value_float(op == OP_MOD ? mod : floor((a - mod) / b + 0.5));
    default:
        if (a < 0 && b != floor(b))
            return render_unsupported(r, line, "a complex number");
        return value_float(pow(a, b));
    }
}

static Value add_strings(Render *r, Value a, Value b)
{
    bool safe = a.safe || b.safe;
    Str x = a.as.str, y = b.as.str;
    if (safe && !a.safe)
        x = text_escape_html(r, x);
    if (safe && !b.safe)
        y = text_escape_html(r, y);
    char *text = render_chars(r, x.len + y.len);
    if (text == NULL)
        return value_of(V_NONE);
    if (x.len > 0)
        memcpy(text, x.data, x.len);
    if (y.len > 0)
        memcpy(text + x.len, y.data, y.len);
    Value sum = value_str((Str){text, x.len + y.len});
    sum.safe = safe;
    return sum;
}

static Value add_lists(Render *r, Value a, Value b)
{
    List *sum = list_make(r, a.as.list->len + b.as.list->len);
    if (sum == NULL)
        return value_of(V_NONE);
    size_t n = (size_t)a.as.list->len, m = (size_t)b.as.list->len;
    render_step(r, n + m);
    memcpy(sum->items, a.as.list->items, n * sizeof(Value));
    memcpy(sum->items + n, b.as.list->items, m * sizeof(Value));
    return value_list(a.kind, sum);
}

/* text or list, `count` times */
static Value repeat(Render *r, Value v, int64_t count, int line)
{
    count = max_i64(count, 0);
    int64_t len = v.kind == V_STRING ? (int64_t)v.as.str.len : v.as.list->len;
    if (len > 0 && count > TEMPLATE_MAX_MEMORY / len)
        return render_fail(r, line, "a repeated value is too large");
    if (v.kind == V_STRING) {
        char *text = render_chars(r, (size_t)(len * count));
        for (int64_t i = 0; text != NULL && len > 0 && i < count; i++)
            memcpy(text + i * len, v.as.str.data, (size_t)len);
        Value result = value_str((Str){text, text == NULL ? 0 : (size_t)(len * count)});
        result.safe = v.safe;
        return result;
    }
    List *list = list_make(r, len * count);
    for (int64_t i = 0; list != NULL && i < list->len; i++)
        list->items[i] = v.as.list->items[i % len];
    return list == NULL ? value_of(V_NONE) : value_list(v.kind, list);
}

static bool repeats(Value v)
{
    return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE;
}

Value value_binary(Render *r, Operator op, Value a, Value b, int line)
{
    if (value_is_whole(a) && value_is_whole(b))
        return whole_numbers(r, op, whole(a), whole(b), line);
    if (value_is_number(a) && value_is_number(b))
        return real_numbers(r, op, real(a), real(b), line);
    if (op == OP_ADD && a.kind == b.kind) {
        if (a.kind == V_STRING)
            return add_strings(r, a, b);
        if (a.kind == V_LIST || a.kind == V_TUPLE)
            return add_lists(r, a, b);
    }
    if (op == OP_MUL && repeats(a) && value_is_whole(b))
        return repeat(r, a, whole(b), line);
    if (op == OP_MUL && repeats(b) && value_is_whole(a))
        return repeat(r, b, whole(a), line);
    if (op == OP_MOD && a.kind == V_STRING) {
        if (a.safe)
            return render_unsupported(r, line, "'%%' on safe text");
        return format_percent(r, a.as.str, b, line);
    }
    return no_operator(r, op, a, b, line);
}

/* ---- attributes and subscripts --------------------------------------------------------------- */

static Value loop_attribute(Render *r, const Loop *loop, Str name, int line)
{
    const List *items = loop->items;
    int64_t i = loop->index;
    if (str_eq_text(name, "index"))
        return value_int(i + 1);
    if (str_eq_text(name, "index0"))
        return value_int(i);
    if (str_eq_text(name, "first"))
        return value_bool(i == 0);
    if (str_eq_text(name, "last"))
        return value_bool(i + 1 == items->len);
    if (str_eq_text(name, "length"))
        return value_int(items->len);
    if (str_eq_text(name, "revindex"))
        return value_int(items->len - i);
    if (str_eq_text(name, "revindex0"))
        return value_int(items->len - i - 1);
    if (str_eq_text(name, "depth"))
        return value_int(1); /* only recursive loops are deeper */
    if (str_eq_text(name, "depth0"))
        return value_int(0);
    if (str_eq_text(name, "previtem"))
        return i > 0 ? items->items[i - 1] : value_undefined(name);
    if (str_eq_text(name, "nextitem"))
        return i + 1 < items->len ? items->items[i + 1] : value_undefined(name);
    return render_unsupported(r, line, "loop.%.*s", (int)min_i64((int64_t)name.len, 40), name.data);
}

static Value dict_get(Render *r, const Dict *dict, Value key)
{
    Value *found = dict_find(r, dict, key);
    return found != NULL ? *found : value_undefined(key.kind == V_STRING ? key.as.str : STR("key"));
}

static Value method_value(Render *r, Value self, int id)
{
    Method *method = render_alloc(r, sizeof(Method));
    if (method == NULL)
        return value_of(V_NONE);
    *method = (Method){.self = self, .id = id};
    return (Value){.kind = V_METHOD, .as.method = method};
}

static Value undefined_use(Render *r, Value v, int line)
{
    return render_fail(r, line, "'%.*s' is undefined", (int)min_i64((int64_t)v.as.str.len, 80),
                       v.as.str.len == 0 ? "" : v.as.str.data);
}

/* A method of the value, or an error for one that the sandbox forbids; false: no such method. */
static bool find_method(Render *r, Value v, Str name, int line, Value *out)
{
    int id = method_find((ValueKind)v.kind, name);
    if (id >= 0) {
        *out = method_value(r, v, id);
        return true;
    }
    if (method_is_blocked((ValueKind)v.kind, name) || str_starts(name, "__")) {
        *out = render_unsupported(r, line, "'%.*s' of a %s", (int)min_i64((int64_t)name.len, 40),
                                  name.data, value_type_name(v));
        return true;
    }
    return false;
}

Value value_attribute(Render *r, Value v, Str name, int line)
{
    Value found;
    if (v.kind == V_UNDEFINED)
        return undefined_use(r, v, line);
    if (v.kind == V_LOOP)
        return loop_attribute(r, v.as.loop, name, line);
    if (v.kind == V_NAMESPACE)
        return dict_get(r, v.as.dict, value_str(name));
    if (v.kind == V_MACRO || v.kind == V_FUNCTION || v.kind == V_METHOD || v.kind == V_RANGE ||
        v.kind == V_ITERATOR)
        return render_unsupported(r, line, "'%.*s' of a %s", (int)min_i64((int64_t)name.len, 40),
                                  name.data, value_type_name(v));
    if (find_method(r, v, name, line, &found))
        return found;
    if (v.kind == V_DICT)
        return dict_get(r, v.as.dict, value_str(name));
    return value_undefined(name);
}

static Value sequence_item(Render *r, Value v, int64_t index)
{
    int64_t len;
    must(value_length(v, &len));
    if (index < 0)
        index += len;
    if (index < 0 || index >= len)
        return value_undefined(STR("item"));
    if (v.kind != V_STRING)
        return v.as.list->items[index];
    render_step(r, (size_t)index);
    size_t at = text_offset(v.as.str, index);
    Value c = value_str(str_sub(v.as.str, at, at + text_char_len(v.as.str, at)));
    c.safe = v.safe;
    return c;
}

static bool is_sequence(Value v)
{
    return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_RANGE;
}

Value value_item(Render *r, Value v, Value key, int line)
{
    if (v.kind == V_UNDEFINED)
        return undefined_use(r, v, line);
    if (v.kind == V_DICT) {
        Value *found = dict_find(r, v.as.dict, key);
        if (found != NULL)
            return *found;
    } else if (is_sequence(v) && value_is_whole(key)) {
        return sequence_item(r, v, whole(key));
    }
    if (key.kind == V_STRING) /* Jinja falls back to the attribute */
        return value_attribute(r, v, key.as.str, line);
    return value_undefined(STR("item"));
}

/* One bound of a slice, clamped as Python does. */
static bool slice_bound(Render *r, Value bound, int64_t len, int64_t step, int64_t fallback,
                        int64_t *out, int line)
{
    *out = fallback;
    if (bound.kind == V_ABSENT || bound.kind == V_NONE)
        return true;
    if (!value_is_whole(bound)) {
        render_fail(r, line, "slice indices must be whole numbers");
        return false;
    }
    int64_t i = whole(bound);
    if (i < 0)
        i = i < -len ? -1 : i + len;
    else if (i > len)
        i = len;
    if (i < 0)
        i = step < 0 ? -1 : 0;
    *out = step < 0 && i >= len ? len - 1 : i;
    return true;
}

Value value_slice(Render *r, Value v, const Value bounds[3], int line)
{
    int64_t len, step, from, to;
    if (v.kind == V_UNDEFINED)
        return undefined_use(r, v, line);
    if (!is_sequence(v))
        return value_undefined(STR("slice"));
    must(value_length(v, &len));
    if (!arg_int(r, bounds[2].kind == V_NONE ? value_of(V_ABSENT) : bounds[2], 1, &step, line))
        return value_of(V_NONE);
    if (step == 0)
        return render_fail(r, line, "slice step cannot be zero");
    if (!slice_bound(r, bounds[0], len, step, step < 0 ? len - 1 : 0, &from, line) ||
        !slice_bound(r, bounds[1], len, step, step < 0 ? -1 : len, &to, line))
        return value_of(V_NONE);
    if (v.kind == V_STRING && step == 1) {
        render_step(r, v.as.str.len);
        Value part =
            value_str(str_sub(v.as.str, text_offset(v.as.str, from), text_offset(v.as.str, to)));
        part.safe = v.safe;
        return part;
    }
    int64_t span = step > 0 ? to - from : from - to;
    int64_t stride = step == INT64_MIN ? INT64_MAX : step < 0 ? -step : step;
    List *source = value_iterate(r, v, line);
    List *list = list_make(r, span > 0 ? (span - 1) / stride + 1 : 0);
    if (source == NULL || list == NULL || !render_step(r, (size_t)list->len * 8))
        return value_of(V_NONE);
    for (int64_t i = 0; i < list->len; i++)
        list->items[i] = source->items[from + i * step];
    if (v.kind != V_STRING)
        return value_list(v.kind, list);
    Buf buf = {0};
    for (int64_t i = 0; i < list->len; i++)
        buf_str(&buf, list->items[i].as.str);
    return value_str(render_take(r, &buf));
}
