/* template_call.c — calling things: binding of arguments, global functions, format strings.
 *
 * The globals are those of transformers' environment: range, dict, namespace, raise_exception,
 * strftime_now. The clock is the only thing outside of the template that a rendering can see.
 */
#include "text/template_internal.h"

#include <string.h>
#include <time.h>

/* ---- arguments ------------------------------------------------------------------------------- */

bool args_bind(Render *r, const char *what, const CallArgs *args, const char *const *names,
               int n_required, Value *out)
{
    int n = 0;
    for (; names[n] != NULL; n++)
        out[n] = n < args->n_pos ? args->pos[n] : value_of(V_ABSENT);
    if (args->n_pos > n) {
        render_fail(r, args->line, "%s takes at most %d arguments", what, n);
        return false;
    }
    for (int i = 0; i < args->n_kw; i++) {
        int at = 0;
        while (at < n && !str_eq_text(args->kw_names[i], names[at]))
            at++;
        if (at == n || out[at].kind != V_ABSENT) {
            render_fail(r, args->line, "%s has no argument '%.*s', or has it twice", what,
                        (int)min_i64((int64_t)args->kw_names[i].len, 40), args->kw_names[i].data);
            return false;
        }
        out[at] = args->kw[i];
    }
    for (int i = 0; i < n_required; i++) {
        if (out[i].kind == V_ABSENT) {
            render_fail(r, args->line, "%s misses the argument '%s'", what, names[i]);
            return false;
        }
    }
    return true;
}

bool arg_int(Render *r, Value v, int64_t fallback, int64_t *out, int line)
{
    *out = fallback;
    if (v.kind == V_ABSENT)
        return true;
    if (!value_is_whole(v)) {
        render_fail(r, line, "a whole number is needed, not %s", value_type_name(v));
        return false;
    }
    *out = v.kind == V_BOOL ? v.as.b : v.as.i;
    return true;
}

bool arg_bool(Value v, bool fallback)
{
    return v.kind == V_ABSENT ? fallback : value_truth(v);
}

Str arg_str(Render *r, Value v, const char *fallback, int line)
{
    return v.kind == V_ABSENT ? str_of(fallback) : value_to_str(r, v, line);
}

/* ---- global functions ------------------------------------------------------------------------ */

static Value call_range(Render *r, const CallArgs *args)
{
    int64_t bound[3] = {0, 0, 1};
    if (args->n_kw > 0 || args->n_pos < 1 || args->n_pos > 3)
        return render_fail(r, args->line, "range takes one to three arguments");
    for (int i = 0; i < args->n_pos; i++) {
        if (!arg_int(r, args->pos[i], 0, &bound[args->n_pos == 1 ? 1 : i], args->line))
            return value_of(V_NONE);
    }
    int64_t from = bound[0], to = bound[1], step = bound[2];
    if (step == 0)
        return render_fail(r, args->line, "range step must not be zero");
    static const int64_t FAR = INT64_C(1) << 60;
    if (from < -FAR || from > FAR || to < -FAR || to > FAR || step < -FAR || step > FAR)
        return render_fail(r, args->line, "range is too long");
    int64_t n =
        step > 0 ? max_i64(0, ceil_div(to - from, step)) : max_i64(0, ceil_div(from - to, -step));
    if (to == from)
        n = 0;
    if (n > TEMPLATE_MAX_RANGE)
        return render_fail(r, args->line, "range is too long: at most %d", TEMPLATE_MAX_RANGE);
    List *list = list_make(r, n);
    for (int64_t i = 0; list != NULL && i < n; i++)
        list->items[i] = value_int(from + i * step);
    return list == NULL ? value_of(V_NONE) : value_list(V_RANGE, list);
}

/* A dict of what is given: one mapping, then keywords. */
static Value make_dict(Render *r, const CallArgs *args, ValueKind kind)
{
    Dict *dict = dict_make(r, args->n_kw);
    if (dict == NULL)
        return value_of(V_NONE);
    if (args->n_pos > 1)
        return render_fail(r, args->line, "expected at most 1 argument");
    if (args->n_pos == 1 && args->pos[0].kind == V_DICT) {
        const Dict *source = args->pos[0].as.dict;
        for (int64_t i = 0; i < source->len; i++)
            dict_put(r, dict, source->entries[i].key, source->entries[i].value);
    } else if (args->n_pos == 1) {
        const List *pairs = value_iterate(r, args->pos[0], args->line);
        for (int64_t i = 0; pairs != NULL && i < pairs->len && !r->failed; i++) {
            const List *pair = value_iterate(r, pairs->items[i], args->line);
            if (pair == NULL || pair->len != 2)
                return render_fail(r, args->line, "a dict is made of pairs");
            if (pair->items[0].kind != V_STRING && !value_is_number(pair->items[0]))
                return render_unsupported(r, args->line, "a %s as a key",
                                          value_type_name(pair->items[0]));
            dict_put(r, dict, pair->items[0], pair->items[1]);
        }
    }
    for (int i = 0; i < args->n_kw; i++)
        dict_put(r, dict, value_str(args->kw_names[i]), args->kw[i]);
    return (Value){.kind = (uint8_t)kind, .as.dict = dict};
}

static Value call_dict(Render *r, const CallArgs *args)
{
    return make_dict(r, args, V_DICT);
}

static Value call_namespace(Render *r, const CallArgs *args)
{
    Value space = make_dict(r, args, V_NAMESPACE);
    for (int64_t i = 0; !r->failed && i < space.as.dict->len; i++) {
        Value key = space.as.dict->entries[i].key;
        if (key.kind == V_STRING && str_starts(key.as.str, "_"))
            return render_fail(r, args->line,
                               "namespace attributes must not start with an underscore");
    }
    return space;
}

/* The template's own refusal of the conversation: its message is the error. */
static Value call_raise(Render *r, const CallArgs *args)
{
    static const char *const names[] = {"message", NULL};
    Value v[1];
    if (!args_bind(r, "raise_exception", args, names, 1, v))
        return value_of(V_NONE);
    Str message = value_to_str(r, v[0], args->line);
    return render_fail(r, args->line, "the template refuses: %.*s",
                       (int)min_i64((int64_t)message.len, 300),
                       message.len == 0 ? "" : message.data);
}

static Value call_strftime(Render *r, const CallArgs *args)
{
    static const char *const names[] = {"format", NULL};
    Value v[1];
    if (!args_bind(r, "strftime_now", args, names, 1, v))
        return value_of(V_NONE);
    char format[200], text[400];
    if (v[0].kind != V_STRING || v[0].as.str.len >= sizeof(format))
        return render_fail(r, args->line, "strftime_now needs a short text");
    if (v[0].as.str.len == 0)
        return value_str(STR(""));
    memcpy(format, v[0].as.str.data, v[0].as.str.len);
    format[v[0].as.str.len] = '\0';
    for (const char *p = format; *p != '\0'; p++) {
        if (*p != '%')
            continue;
        p++;
        if (*p == '\0' || strchr("aAwdbBmyYHIpMSjUWcxXGuV%", *p) == NULL)
            return render_unsupported(r, args->line, "this directive of strftime_now");
    }
    time_t now = time(NULL);
    struct tm local;
    must(localtime_r(&now, &local) != NULL);
    size_t len = strftime(text, sizeof(text), format, &local);
    char *copy = render_chars(r, len);
    if (copy == NULL)
        return value_of(V_NONE);
    memcpy(copy, text, len);
    return value_str((Str){copy, len});
}

static const struct {
    const char *name;
    Value (*call)(Render *r, const CallArgs *args);
} functions[] = {
    {"range", call_range},
    {"dict", call_dict},
    {"namespace", call_namespace},
    {"raise_exception", call_raise},
    {"strftime_now", call_strftime},
    {"lipsum", NULL}, /* Jinja has them, nobody's chat template does */
    {"cycler", NULL},
    {"joiner", NULL},
    {"self", NULL},
};

int function_find(Str name)
{
    for (size_t i = 0; i < COUNT_OF(functions); i++) {
        if (str_eq_text(name, functions[i].name))
            return (int)i;
    }
    return -1;
}

Value function_call(Render *r, int function, const CallArgs *args)
{
    assert(function >= 0 && (size_t)function < COUNT_OF(functions));
    if (functions[function].call == NULL)
        return render_unsupported(r, args->line, "'%s'", functions[function].name);
    return functions[function].call(r, args);
}

Value value_call(Render *r, Value callee, const CallArgs *args)
{
    switch (callee.kind) {
    case V_MACRO: {
        for (int i = 0; i < args->n_kw; i++) {
            if (str_eq_text(args->kw_names[i], "caller"))
                return render_unsupported(r, args->line, "passing 'caller' by name");
        }
        return macro_call(r, callee.as.macro, args, NULL);
    }
    case V_METHOD:
        return method_call(r, callee.as.method, args);
    case V_FUNCTION:
        return function_call(r, callee.as.function, args);
    case V_LOOP:
        return render_unsupported(r, args->line, "a recursive loop");
    case V_UNDEFINED:
        return render_fail(r, args->line, "'%.*s' is undefined",
                           (int)min_i64((int64_t)callee.as.str.len, 80),
                           callee.as.str.len == 0 ? "" : callee.as.str.data);
    default:
        return render_fail(r, args->line, "'%s' object is not callable", value_type_name(callee));
    }
}

/* ---- format strings -------------------------------------------------------------------------- */

/* One conversion of the % operator: text[*i] is behind the '%'. */
static bool percent_one(Render *r, char conversion, Value v, Buf *out, int line)
{
    switch (conversion) {
    case 's':
        value_write(r, v, out, line);
        return true;
    case 'r':
        value_repr(r, v, out, line);
        return true;
    case 'd':
    case 'i':
        if (!value_is_whole(v))
            return false;
        buf_printf(out, "%lld", (long long)(v.kind == V_BOOL ? v.as.b : v.as.i));
        return true;
    default:
        return false;
    }
}

Value format_percent(Render *r, Str format, Value argument, int line)
{
    List single = {.items = &argument, .len = 1};
    const List *values = argument.kind == V_TUPLE ? argument.as.list : &single;
    int64_t used = 0;
    bool ok = true;
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    for (size_t i = 0; i < format.len && ok && !r->failed; i++) {
        if (format.data[i] != '%') {
            buf_char(&buf, format.data[i]);
        } else if (i + 1 < format.len && format.data[i + 1] == '%') {
            buf_char(&buf, '%');
            i++;
        } else {
            i++;
            ok = i < format.len && used < values->len &&
                 percent_one(r, format.data[i], values->items[used], &buf, line);
            used++;
        }
    }
    if (ok && !r->failed && (used == values->len || (used == 0 && argument.kind == V_DICT)))
        return value_str(render_take(r, &buf));
    buf_free(&buf);
    return render_unsupported(r, line, "this use of the operator %% on text");
}

/* The argument that a field {}, {0} or {name} names; V_ABSENT when there is none. */
static Value format_field(Str field, const CallArgs *args, int64_t *automatic)
{
    if (field.len == 0) {
        int64_t i = (*automatic)++;
        return i < args->n_pos ? args->pos[i] : value_of(V_ABSENT);
    }
    bool number = true;
    int64_t index = 0;
    for (size_t i = 0; i < field.len; i++) {
        number = number && field.data[i] >= '0' && field.data[i] <= '9' && i < 4;
        index = number ? index * 10 + (field.data[i] - '0') : 0;
    }
    if (number)
        return index < args->n_pos ? args->pos[index] : value_of(V_ABSENT);
    for (int i = 0; i < args->n_kw; i++) {
        if (str_eq(args->kw_names[i], field))
            return args->kw[i];
    }
    return value_of(V_ABSENT);
}

Value format_braces(Render *r, Str format, const CallArgs *args)
{
    int64_t automatic = 0;
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    bool ok = true;
    for (size_t i = 0; i < format.len && ok && !r->failed; i++) {
        char c = format.data[i];
        bool doubled = i + 1 < format.len && format.data[i + 1] == c;
        if ((c != '{' && c != '}') || doubled) {
            buf_char(&buf, c);
            i += c == '{' || c == '}';
            continue;
        }
        size_t end = i;
        while (c == '{' && end < format.len && format.data[end] != '}')
            end++;
        Value v = c == '{' && end < format.len
                      ? format_field(str_sub(format, i + 1, end), args, &automatic)
                      : value_of(V_ABSENT);
        ok = v.kind != V_ABSENT && v.kind != V_UNDEFINED;
        if (ok)
            value_write(r, v, &buf, args->line);
        i = end;
    }
    if (ok && !r->failed)
        return value_str(render_take(r, &buf));
    buf_free(&buf);
    return render_unsupported(r, args->line, "this use of format()");
}
