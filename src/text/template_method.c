/* template_method.c — methods of strings, dicts, lists and loops that templates may call.
 *
 * Only methods that cannot change a value exist (the immutable sandbox of transformers refuses the
 * others); Python's remaining methods are known by name, so that calling one says "not supported"
 * instead of "undefined".
 */
#include "text/template_internal.h"

#include <string.h>

typedef Value MethodFunction(Render *r, Value self, const CallArgs *args);

/* A string argument that must be a string. */
static bool text_arg(Render *r, Value v, int line, Str *out)
{
    *out = v.kind == V_STRING ? v.as.str : STR("");
    if (v.kind != V_STRING)
        render_fail(r, line, "a text is needed, not %s", value_type_name(v));
    return v.kind == V_STRING;
}

static Value keep_safe(Value self, Str text)
{
    Value v = value_str(text);
    v.safe = self.safe;
    return v;
}

/* ---- strings --------------------------------------------------------------------------------- */

static Value strip_sides(Render *r, Value self, const CallArgs *args, int sides)
{
    static const char *const names[] = {"chars", NULL};
    Value v[1];
    Str chars;
    if (args->n_kw > 0)
        return render_fail(r, args->line, "strip takes no keyword arguments");
    if (!args_bind(r, "strip", args, names, 0, v) || !render_step(r, self.as.str.len))
        return value_of(V_NONE);
    if (v[0].kind == V_ABSENT || v[0].kind == V_NONE)
        return keep_safe(self, text_strip(self.as.str, NULL, sides));
    if (!text_arg(r, v[0], args->line, &chars))
        return value_of(V_NONE);
    return keep_safe(self, text_strip(self.as.str, &chars, sides));
}

static Value str_strip(Render *r, Value self, const CallArgs *args)
{
    return strip_sides(r, self, args, 3);
}

static Value str_lstrip(Render *r, Value self, const CallArgs *args)
{
    return strip_sides(r, self, args, 1);
}

static Value str_rstrip(Render *r, Value self, const CallArgs *args)
{
    return strip_sides(r, self, args, 2);
}

/* Adds a piece to a growing list whose room was made by the caller. */
static void add_piece(List *list, Value self, Str piece)
{
    list->items[list->len++] = keep_safe(self, piece);
}

/* A list with room for every piece that splitting can give. */
static List *pieces_for(Render *r, int64_t count)
{
    List *list = list_make(r, count);
    if (list != NULL)
        list->len = 0;
    return list;
}

static Value split_spaces(Render *r, Value self, int64_t limit)
{
    Str rest = text_strip(self.as.str, NULL, 1);
    int64_t words = 1;
    uint32_t c;
    for (size_t pos = 0; utf8_next(rest, &pos, &c);)
        words += text_is_space(c);
    List *list = pieces_for(r, words);
    while (list != NULL && rest.len > 0) {
        size_t end = 0, next = 0;
        while (utf8_next(rest, &next, &c) && !text_is_space(c))
            end = next;
        if (limit >= 0 && list->len >= limit) {
            add_piece(list, self, rest);
            break;
        }
        add_piece(list, self, str_sub(rest, 0, end));
        rest = text_strip(str_sub(rest, end, rest.len), NULL, 1);
    }
    return list == NULL ? value_of(V_NONE) : value_list(V_LIST, list);
}

static Value split_by(Render *r, Value self, Str separator, int64_t limit)
{
    Str s = self.as.str;
    int64_t count = 1;
    for (int64_t at = 0; (at = text_find(s, separator, (size_t)at)) >= 0;
         at += (int64_t)separator.len)
        count++;
    List *list = pieces_for(r, count);
    size_t from = 0;
    while (list != NULL && (limit < 0 || list->len < limit)) {
        int64_t at = text_find(s, separator, from);
        if (at < 0)
            break;
        add_piece(list, self, str_sub(s, from, (size_t)at));
        from = (size_t)at + separator.len;
    }
    if (list != NULL)
        add_piece(list, self, str_sub(s, from, s.len));
    return list == NULL ? value_of(V_NONE) : value_list(V_LIST, list);
}

/* From the right: where separators overlap, the last one counts. */
static Value rsplit_by(Render *r, Value self, Str separator, int64_t limit)
{
    List *list = pieces_for(r, (int64_t)(self.as.str.len / separator.len) + 1);
    Str rest = self.as.str;
    while (list != NULL && (limit < 0 || list->len < limit)) {
        int64_t at = text_find_last(rest, separator);
        if (at < 0)
            break;
        add_piece(list, self, str_sub(rest, (size_t)at + separator.len, rest.len));
        rest = str_sub(rest, 0, (size_t)at);
    }
    if (list == NULL)
        return value_of(V_NONE);
    add_piece(list, self, rest);
    for (int64_t i = 0, j = list->len - 1; i < j; i++, j--) {
        Value swap = list->items[i];
        list->items[i] = list->items[j];
        list->items[j] = swap;
    }
    return value_list(V_LIST, list);
}

static Value split_any(Render *r, Value self, const CallArgs *args, bool from_right)
{
    static const char *const names[] = {"sep", "maxsplit", NULL};
    Value v[2];
    int64_t limit;
    Str separator;
    if (!args_bind(r, "split", args, names, 0, v) || !render_step(r, self.as.str.len) ||
        !arg_int(r, v[1], -1, &limit, args->line))
        return value_of(V_NONE);
    if (v[0].kind == V_ABSENT || v[0].kind == V_NONE) {
        if (from_right && limit >= 0)
            return render_unsupported(r, args->line, "rsplit at white space with a limit");
        return split_spaces(r, self, limit);
    }
    if (!text_arg(r, v[0], args->line, &separator))
        return value_of(V_NONE);
    if (separator.len == 0)
        return render_fail(r, args->line, "empty separator");
    if (self.safe)
        return render_unsupported(r, args->line, "splitting safe text");
    return from_right ? rsplit_by(r, self, separator, limit) : split_by(r, self, separator, limit);
}

static Value str_split(Render *r, Value self, const CallArgs *args)
{
    return split_any(r, self, args, false);
}

static Value str_rsplit(Render *r, Value self, const CallArgs *args)
{
    return split_any(r, self, args, true);
}

static Value str_splitlines(Render *r, Value self, const CallArgs *args)
{
    static const char *const names[] = {"keepends", NULL};
    Value v[1];
    Str s = self.as.str;
    if (!args_bind(r, "splitlines", args, names, 0, v) || !render_step(r, s.len))
        return value_of(V_NONE);
    bool keep = arg_bool(v[0], false);
    List *list = pieces_for(r, text_length(s));
    size_t from = 0;
    uint32_t c;
    for (size_t pos = 0, at = 0; list != NULL && utf8_next(s, &pos, &c); at = pos) {
        bool ends =
            (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
        if (!ends)
            continue;
        if (c == '\r' && pos < s.len && s.data[pos] == '\n')
            pos++;
        add_piece(list, self, str_sub(s, from, keep ? pos : at));
        from = pos;
    }
    if (list != NULL && from < s.len)
        add_piece(list, self, str_sub(s, from, s.len));
    return list == NULL ? value_of(V_NONE) : value_list(V_LIST, list);
}

static bool matches_side(Str s, Str affix, bool at_end)
{
    if (affix.len > s.len)
        return false;
    return str_eq(at_end ? str_sub(s, s.len - affix.len, s.len) : str_sub(s, 0, affix.len), affix);
}

static Value affix_test(Render *r, Value self, const CallArgs *args, bool at_end)
{
    static const char *const names[] = {"prefix", NULL};
    Value v[1];
    Str affix;
    if (args->n_pos > 1)
        return render_unsupported(r, args->line, "startswith or endswith with a range");
    if (args->n_kw > 0 || !args_bind(r, "startswith", args, names, 1, v))
        return render_fail(r, args->line, "startswith and endswith take one text");
    if (v[0].kind != V_TUPLE) {
        bool ok = text_arg(r, v[0], args->line, &affix);
        return value_bool(ok && matches_side(self.as.str, affix, at_end));
    }
    for (int64_t i = 0; i < v[0].as.list->len; i++) {
        if (!text_arg(r, v[0].as.list->items[i], args->line, &affix))
            return value_of(V_NONE);
        if (matches_side(self.as.str, affix, at_end))
            return value_bool(true);
    }
    return value_bool(false);
}

static Value str_startswith(Render *r, Value self, const CallArgs *args)
{
    return affix_test(r, self, args, false);
}

static Value str_endswith(Render *r, Value self, const CallArgs *args)
{
    return affix_test(r, self, args, true);
}

static Value remove_affix(Render *r, Value self, const CallArgs *args, bool at_end)
{
    static const char *const names[] = {"prefix", NULL};
    Value v[1];
    Str affix, s = self.as.str;
    if (!args_bind(r, "removeprefix", args, names, 1, v) || !text_arg(r, v[0], args->line, &affix))
        return value_of(V_NONE);
    if (!matches_side(s, affix, at_end))
        return self;
    return keep_safe(self,
                     at_end ? str_sub(s, 0, s.len - affix.len) : str_sub(s, affix.len, s.len));
}

static Value str_removeprefix(Render *r, Value self, const CallArgs *args)
{
    return remove_affix(r, self, args, false);
}

static Value str_removesuffix(Render *r, Value self, const CallArgs *args)
{
    return remove_affix(r, self, args, true);
}

static Value change_case(Render *r, Value self, const CallArgs *args, int mode)
{
    if (args->n_pos + args->n_kw > 0)
        return render_fail(r, args->line, "upper, lower and the like take no arguments");
    Buf buf = {0};
    render_step(r, self.as.str.len);
    if (!text_case(self.as.str, mode, &buf)) {
        buf_free(&buf);
        return render_unsupported(r, args->line, "the case of a character in this text");
    }
    return keep_safe(self, render_take(r, &buf));
}

static Value str_upper(Render *r, Value s, const CallArgs *a)
{
    return change_case(r, s, a, TEXT_UPPER);
}
static Value str_lower(Render *r, Value s, const CallArgs *a)
{
    return change_case(r, s, a, TEXT_LOWER);
}
static Value str_title(Render *r, Value s, const CallArgs *a)
{
    return change_case(r, s, a, TEXT_TITLE);
}
static Value str_swapcase(Render *r, Value s, const CallArgs *a)
{
    return change_case(r, s, a, TEXT_SWAP);
}
static Value str_capitalize(Render *r, Value s, const CallArgs *a)
{
    return change_case(r, s, a, TEXT_CAPITALIZE);
}

static Value str_replace(Render *r, Value self, const CallArgs *args)
{
    static const char *const names[] = {"old", "new", "count", NULL};
    Value v[3];
    Str old, replacement, s = self.as.str;
    int64_t limit;
    if (!args_bind(r, "replace", args, names, 2, v) || !text_arg(r, v[0], args->line, &old) ||
        !text_arg(r, v[1], args->line, &replacement) || !arg_int(r, v[2], -1, &limit, args->line))
        return value_of(V_NONE);
    if (self.safe || v[1].safe)
        return render_unsupported(r, args->line, "replace on safe text");
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    size_t from = 0;
    for (int64_t n = 0; (limit < 0 || n < limit) && render_step(r, s.len / 64); n++) {
        int64_t at = text_find(s, old, from);
        if (at < 0)
            break;
        /* An empty text is found before every character and at the end. */
        size_t char_len = old.len > 0 || (size_t)at >= s.len ? 0 : text_char_len(s, (size_t)at);
        buf_str(&buf, str_sub(s, from, (size_t)at));
        buf_str(&buf, replacement);
        buf_str(&buf, str_sub(s, (size_t)at, (size_t)at + char_len));
        from = (size_t)at + old.len + char_len;
        if (old.len == 0 && char_len == 0)
            break;
    }
    buf_str(&buf, str_sub(s, from, s.len));
    return value_str(render_take(r, &buf));
}

static Value find_any(Render *r, Value self, const CallArgs *args, bool last, bool must_exist)
{
    static const char *const names[] = {"sub", NULL};
    Value v[1];
    Str needle;
    if (args->n_pos > 1)
        return render_unsupported(r, args->line, "find with a range");
    if (!args_bind(r, "find", args, names, 1, v) || !text_arg(r, v[0], args->line, &needle) ||
        !render_step(r, self.as.str.len))
        return value_of(V_NONE);
    int64_t at = last ? text_find_last(self.as.str, needle) : text_find(self.as.str, needle, 0);
    if (at < 0 && must_exist)
        return render_fail(r, args->line, "substring not found");
    return value_int(at < 0 ? -1 : text_length(str_sub(self.as.str, 0, (size_t)at)));
}

static Value str_find(Render *r, Value s, const CallArgs *a)
{
    return find_any(r, s, a, false, false);
}
static Value str_rfind(Render *r, Value s, const CallArgs *a)
{
    return find_any(r, s, a, true, false);
}
static Value str_index(Render *r, Value s, const CallArgs *a)
{
    return find_any(r, s, a, false, true);
}
static Value str_rindex(Render *r, Value s, const CallArgs *a)
{
    return find_any(r, s, a, true, true);
}

static Value str_count(Render *r, Value self, const CallArgs *args)
{
    static const char *const names[] = {"sub", NULL};
    Value v[1];
    Str needle;
    int64_t count = 0;
    if (!args_bind(r, "count", args, names, 1, v) || !text_arg(r, v[0], args->line, &needle) ||
        !render_step(r, self.as.str.len))
        return value_of(V_NONE);
    if (needle.len == 0)
        return value_int(text_length(self.as.str) + 1);
    for (int64_t at = 0; (at = text_find(self.as.str, needle, (size_t)at)) >= 0; count++)
        at += (int64_t)needle.len;
    return value_int(count);
}

static Value str_join(Render *r, Value self, const CallArgs *args)
{
    static const char *const names[] = {"iterable", NULL};
    Value v[1];
    if (!args_bind(r, "join", args, names, 1, v))
        return value_of(V_NONE);
    if (self.safe)
        return render_unsupported(r, args->line, "join on safe text");
    const List *list = value_iterate(r, v[0], args->line);
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    for (int64_t i = 0; list != NULL && i < list->len && !r->failed; i++) {
        Str piece;
        if (!text_arg(r, list->items[i], args->line, &piece))
            break;
        buf_str(&buf, i > 0 ? self.as.str : STR(""));
        buf_str(&buf, piece);
        render_step(r, piece.len);
    }
    return value_str(render_take(r, &buf));
}

static Value str_format(Render *r, Value self, const CallArgs *args)
{
    if (self.safe)
        return render_unsupported(r, args->line, "format on safe text");
    return format_braces(r, self.as.str, args);
}

/* Every character is ASCII and of the class; other characters need tables that are not here. */
static Value all_ascii(Render *r, Value self, const CallArgs *args, const char *ranges)
{
    Str s = self.as.str;
    if (args->n_pos + args->n_kw > 0)
        return render_fail(r, args->line, "this test of a text takes no arguments");
    bool all = s.len > 0;
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.data[i] >= 0x80)
            return render_unsupported(r, args->line, "testing characters outside ASCII");
        bool in = false;
        for (const char *p = ranges; *p != '\0'; p += 2)
            in = in || (s.data[i] >= p[0] && s.data[i] <= p[1]);
        all = all && in;
    }
    return value_bool(all);
}

static Value str_isdigit(Render *r, Value s, const CallArgs *a)
{
    return all_ascii(r, s, a, "09");
}
static Value str_isalpha(Render *r, Value s, const CallArgs *a)
{
    return all_ascii(r, s, a, "azAZ");
}
static Value str_isalnum(Render *r, Value s, const CallArgs *a)
{
    return all_ascii(r, s, a, "09azAZ");
}

static Value str_isspace(Render *r, Value self, const CallArgs *args)
{
    if (args->n_pos + args->n_kw > 0)
        return render_fail(r, args->line, "isspace takes no arguments");
    return value_bool(self.as.str.len > 0 && text_strip(self.as.str, NULL, 3).len == 0);
}

/* No cased character of the other case, and at least one of this. */
static Value one_case(Render *r, Value self, const CallArgs *args, char from, char to)
{
    all_ascii(r, self, args, "");
    bool any = false, other = false;
    for (size_t i = 0; i < self.as.str.len; i++) {
        char c = self.as.str.data[i];
        any = any || (c >= from && c <= to);
        other = other || ((char)(c ^ 0x20) >= from && (char)(c ^ 0x20) <= to);
    }
    return value_bool(any && !other);
}

static Value str_isupper(Render *r, Value s, const CallArgs *a)
{
    return one_case(r, s, a, 'A', 'Z');
}
static Value str_islower(Render *r, Value s, const CallArgs *a)
{
    return one_case(r, s, a, 'a', 'z');
}

static Value partition(Render *r, Value self, const CallArgs *args, bool last)
{
    static const char *const names[] = {"sep", NULL};
    Value v[1];
    Str separator, s = self.as.str;
    if (!args_bind(r, "partition", args, names, 1, v) || !text_arg(r, v[0], args->line, &separator))
        return value_of(V_NONE);
    List *list = list_make(r, 3);
    if (list == NULL || separator.len == 0 || self.safe)
        return render_fail(r, args->line, "partition needs plain text and a separator");
    int64_t at = last ? text_find_last(s, separator) : text_find(s, separator, 0);
    list->items[0] = list->items[1] = list->items[2] = value_str(STR(""));
    if (at < 0) {
        list->items[last ? 2 : 0] = self;
    } else {
        list->items[0] = value_str(str_sub(s, 0, (size_t)at));
        list->items[1] = value_str(separator);
        list->items[2] = value_str(str_sub(s, (size_t)at + separator.len, s.len));
    }
    return value_list(V_TUPLE, list);
}

static Value str_partition(Render *r, Value s, const CallArgs *a)
{
    return partition(r, s, a, false);
}
static Value str_rpartition(Render *r, Value s, const CallArgs *a)
{
    return partition(r, s, a, true);
}

/* ---- dicts, lists, loops --------------------------------------------------------------------- */

static bool no_args(Render *r, const CallArgs *args)
{
    if (args->n_pos + args->n_kw > 0)
        render_fail(r, args->line, "this method takes no arguments");
    return !r->failed;
}

static Value dict_view(Render *r, Value self, const CallArgs *args, ValueKind kind)
{
    const Dict *dict = self.as.dict;
    List *list = no_args(r, args) ? list_make(r, dict->len) : NULL;
    for (int64_t i = 0; list != NULL && i < dict->len; i++) {
        const DictEntry *entry = &dict->entries[i];
        if (kind != V_ITEMS) {
            list->items[i] = kind == V_KEYS ? entry->key : entry->value;
            continue;
        }
        List *pair = list_make(r, 2);
        if (pair == NULL)
            return value_of(V_NONE);
        pair->items[0] = entry->key;
        pair->items[1] = entry->value;
        list->items[i] = value_list(V_TUPLE, pair);
    }
    return list == NULL ? value_of(V_NONE) : value_list(kind, list);
}

static Value dict_items(Render *r, Value s, const CallArgs *a)
{
    return dict_view(r, s, a, V_ITEMS);
}
static Value dict_keys(Render *r, Value s, const CallArgs *a)
{
    return dict_view(r, s, a, V_KEYS);
}
static Value dict_values(Render *r, Value s, const CallArgs *a)
{
    return dict_view(r, s, a, V_VALUES);
}

static Value dict_get(Render *r, Value self, const CallArgs *args)
{
    static const char *const names[] = {"key", "default", NULL};
    Value v[2];
    if (args->n_kw > 0)
        return render_fail(r, args->line, "get takes no keyword arguments");
    if (!args_bind(r, "get", args, names, 1, v))
        return value_of(V_NONE);
    if (v[0].kind == V_LIST || v[0].kind == V_DICT)
        return render_fail(r, args->line, "a %s cannot be a key", value_type_name(v[0]));
    Value *found = dict_find(r, self.as.dict, v[0]);
    return found != NULL ? *found : v[1].kind == V_ABSENT ? value_of(V_NONE) : v[1];
}

static Value any_copy(Render *r, Value self, const CallArgs *args)
{
    return no_args(r, args) ? self
                            : value_of(V_NONE); /* values never change, so the same will do */
}

static Value list_index(Render *r, Value self, const CallArgs *args)
{
    if (args->n_pos != 1 || args->n_kw > 0)
        return render_unsupported(r, args->line, "index with a range");
    for (int64_t i = 0; i < self.as.list->len; i++) {
        if (value_equal(r, self.as.list->items[i], args->pos[0]))
            return value_int(i);
    }
    return render_fail(r, args->line, "the value is not in the list");
}

static Value list_count(Render *r, Value self, const CallArgs *args)
{
    static const char *const names[] = {"value", NULL};
    Value v[1];
    int64_t count = 0;
    if (!args_bind(r, "count", args, names, 1, v))
        return value_of(V_NONE);
    for (int64_t i = 0; i < self.as.list->len; i++)
        count += value_equal(r, self.as.list->items[i], v[0]);
    return value_int(count);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    ValueKind kind;
    const char *name;
    MethodFunction *call; /* NULL: Python has it, we do not */
} methods[] = {
    {V_STRING, "strip", str_strip},
    {V_STRING, "lstrip", str_lstrip},
    {V_STRING, "rstrip", str_rstrip},
    {V_STRING, "split", str_split},
    {V_STRING, "rsplit", str_rsplit},
    {V_STRING, "splitlines", str_splitlines},
    {V_STRING, "startswith", str_startswith},
    {V_STRING, "endswith", str_endswith},
    {V_STRING, "removeprefix", str_removeprefix},
    {V_STRING, "removesuffix", str_removesuffix},
    {V_STRING, "upper", str_upper},
    {V_STRING, "lower", str_lower},
    {V_STRING, "title", str_title},
    {V_STRING, "capitalize", str_capitalize},
    {V_STRING, "swapcase", str_swapcase},
    {V_STRING, "replace", str_replace},
    {V_STRING, "find", str_find},
    {V_STRING, "rfind", str_rfind},
    {V_STRING, "index", str_index},
    {V_STRING, "rindex", str_rindex},
    {V_STRING, "count", str_count},
    {V_STRING, "join", str_join},
    {V_STRING, "format", str_format},
    {V_STRING, "isdigit", str_isdigit},
    {V_STRING, "isalpha", str_isalpha},
    {V_STRING, "isalnum", str_isalnum},
    {V_STRING, "isspace", str_isspace},
    {V_STRING, "isupper", str_isupper},
    {V_STRING, "islower", str_islower},
    {V_STRING, "partition", str_partition},
    {V_STRING, "rpartition", str_rpartition},
    {V_STRING, "casefold", NULL},
    {V_STRING, "center", NULL},
    {V_STRING, "encode", NULL},
    {V_STRING, "expandtabs", NULL},
    {V_STRING, "format_map", NULL},
    {V_STRING, "isascii", NULL},
    {V_STRING, "isdecimal", NULL},
    {V_STRING, "isidentifier", NULL},
    {V_STRING, "isnumeric", NULL},
    {V_STRING, "isprintable", NULL},
    {V_STRING, "istitle", NULL},
    {V_STRING, "ljust", NULL},
    {V_STRING, "maketrans", NULL},
    {V_STRING, "rjust", NULL},
    {V_STRING, "translate", NULL},
    {V_STRING, "zfill", NULL},
    {V_DICT, "items", dict_items},
    {V_DICT, "keys", dict_keys},
    {V_DICT, "values", dict_values},
    {V_DICT, "get", dict_get},
    {V_DICT, "copy", any_copy},
    {V_DICT, "clear", NULL},
    {V_DICT, "fromkeys", NULL},
    {V_DICT, "pop", NULL},
    {V_DICT, "popitem", NULL},
    {V_DICT, "setdefault", NULL},
    {V_DICT, "update", NULL},
    {V_LIST, "index", list_index},
    {V_LIST, "count", list_count},
    {V_LIST, "copy", any_copy},
    {V_LIST, "append", NULL},
    {V_LIST, "clear", NULL},
    {V_LIST, "extend", NULL},
    {V_LIST, "insert", NULL},
    {V_LIST, "pop", NULL},
    {V_LIST, "remove", NULL},
    {V_LIST, "reverse", NULL},
    {V_LIST, "sort", NULL},
    {V_TUPLE, "index", list_index},
    {V_TUPLE, "count", list_count},
    {V_KEYS, "isdisjoint", NULL},
    {V_ITEMS, "isdisjoint", NULL},
    {V_KEYS, "mapping", NULL},
    {V_VALUES, "mapping", NULL},
    {V_ITEMS, "mapping", NULL},
    {V_INT, "bit_length", NULL},
    {V_INT, "bit_count", NULL},
    {V_INT, "conjugate", NULL},
    {V_INT, "denominator", NULL},
    {V_INT, "from_bytes", NULL},
    {V_INT, "imag", NULL},
    {V_INT, "numerator", NULL},
    {V_INT, "real", NULL},
    {V_INT, "to_bytes", NULL},
    {V_INT, "as_integer_ratio", NULL},
    {V_INT, "is_integer", NULL},
    {V_FLOAT, "conjugate", NULL},
    {V_FLOAT, "imag", NULL},
    {V_FLOAT, "real", NULL},
    {V_FLOAT, "hex", NULL},
    {V_FLOAT, "fromhex", NULL},
    {V_FLOAT, "is_integer", NULL},
    {V_FLOAT, "as_integer_ratio", NULL},
};

static int find_row(ValueKind kind, Str name)
{
    if (kind == V_BOOL)
        kind = V_INT;
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        if (methods[i].kind == kind && str_eq_text(name, methods[i].name))
            return (int)i;
    }
    return -1;
}

int method_find(ValueKind kind, Str name)
{
    int row = find_row(kind, name);
    return row >= 0 && methods[row].call != NULL ? row : -1;
}

bool method_is_blocked(ValueKind kind, Str name)
{
    int row = find_row(kind, name);
    return row >= 0 && methods[row].call == NULL;
}

Value method_call(Render *r, const Method *method, const CallArgs *args)
{
    assert(method->id >= 0 && (size_t)method->id < COUNT_OF(methods));
    must(methods[method->id].call != NULL);
    return methods[method->id].call(r, method->self, args);
}
