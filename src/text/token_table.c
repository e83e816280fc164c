/* token_table.c — see token_table.h. Owns the scanner over the bytes of tokenizer.json.
 *
 * Outside the two lists the scanner only counts brackets and steps over strings: the parser that
 * reads the rest finds what is wrong there. Inside them it is as strict as that parser: well-formed
 * UTF-8, known escapes, paired surrogates, no NUL, whole numbers. A repeated key: the last counts.
 */
#include "text/token_table.h"

#include <string.h>

enum { TABLE_MAX_ROWS = 1 << 23, TABLE_ID_DIGITS = 10 };

typedef struct Scan {
    Str text;
    size_t pos;
    Arena *out;
    Err *err;
} Scan;

void token_table_free(TokenTable *table)
{
    heap_free(table->tokens);
    heap_free(table->merges);
    *table = (TokenTable){0};
}

static bool push_token(TokenTable *table, Str text, int64_t id)
{
    if (table->n_tokens == table->tokens_capacity) {
        table->tokens_capacity = table->tokens_capacity * 2 + 1024;
        table->tokens =
            heap_resize(table->tokens, table->tokens_capacity * sizeof(*table->tokens));
    }
    table->tokens[table->n_tokens++] = (TableToken){text, id};
    return table->n_tokens < TABLE_MAX_ROWS;
}

static bool push_merge(TokenTable *table, Str left, Str right)
{
    if (table->n_merges == table->merges_capacity) {
        table->merges_capacity = table->merges_capacity * 2 + 1024;
        table->merges =
            heap_resize(table->merges, table->merges_capacity * sizeof(*table->merges));
    }
    table->merges[table->n_merges++] = (TableMerge){left, right};
    return table->n_merges < TABLE_MAX_ROWS;
}

/* "left right": the first space that is not the first byte parts them. */
static bool push_merge_line(TokenTable *table, Str line)
{
    const char *space = line.len > 1 ? memchr(line.data + 1, ' ', line.len - 1) : NULL;
    if (space == NULL)
        return false;
    size_t at = (size_t)(space - line.data);
    return push_merge(table, str_sub(line, 0, at), str_sub(line, at + 1, line.len));
}

/* ---- scanning --------------------------------------------------------------------------- */

static bool bad(Scan *s, const char *what)
{
    return err_set(s->err, ERR_DEP_MODEL_LOAD_FAILED,
                   "tokenizer.json has no usable '%s' (at byte %zu)", what, s->pos);
}

static char peek(Scan *s)
{
    while (s->pos < s->text.len) {
        char c = s->text.data[s->pos];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return c;
        s->pos++;
    }
    return 0;
}

static bool take(Scan *s, char c)
{
    if (peek(s) != c)
        return false;
    s->pos++;
    return true;
}

/* Four hexadecimal digits at `at`, -1 when there are none. */
static int32_t hex4(Str text, size_t at)
{
    int32_t value = 0;
    if (at + 4 > text.len)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = text.data[i], lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9', letter = lower >= 'a' && lower <= 'f';
        if (!digit && !letter)
            return -1;
        value = value * 16 + (digit ? c - '0' : lower - 'a' + 10);
    }
    return value;
}

/* The escape whose letter stands at *at; moves *at behind it. */
static bool unescape(Str raw, size_t *at, Buf *out)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char letter = raw.data[(*at)++];
    const char *known = letter == 0 ? NULL : strchr(letters, letter);
    if (known != NULL) {
        buf_char(out, meant[known - letters]);
        return true;
    }
    int32_t unit = letter == 'u' ? hex4(raw, *at) : -1;
    *at += 4;
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        bool pair = *at + 6 <= raw.len && raw.data[*at] == '\\' && raw.data[*at + 1] == 'u';
        int32_t low = pair ? hex4(raw, *at + 2) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return false;
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        *at += 6;
    } else if (unit >= 0xDC00 && unit <= 0xDFFF) {
        return false;
    }
    if (unit <= 0)
        return false;
    buf_codepoint(out, (uint32_t)unit);
    return true;
}

/* A string with escapes, spelled out in the arena. */
static bool decode_string(Scan *s, Str raw, Str *text)
{
    Buf out = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < raw.len;) {
        const char *slash = memchr(raw.data + i, '\\', raw.len - i);
        size_t end = slash == NULL ? raw.len : (size_t)(slash - raw.data);
        buf_str(&out, str_sub(raw, i, end));
        i = end + 1;
        if (slash != NULL)
            ok = i < raw.len && unescape(raw, &i, &out);
    }
    ok = ok && !out.failed;
    if (ok)
        *text = (Str){arena_strndup(s->out, out.len == 0 ? "" : out.data, out.len), out.len};
    buf_free(&out);
    return ok;
}

/* A string, its quotes taken off. False: none, or a malformed one. */
static bool scan_string(Scan *s, Str *text)
{
    if (!take(s, '"'))
        return false;
    const char *data = s->text.data;
    size_t start = s->pos, i = start;
    bool escaped = false, ascii = true;
    for (; i < s->text.len && data[i] != '"'; i++) {
        uint8_t c = (uint8_t)data[i];
        if (c < 0x20)
            return false;
        ascii = ascii && c < 0x80;
        if (c == '\\') {
            escaped = true;
            i++;
        }
    }
    if (i >= s->text.len)
        return false;
    s->pos = i + 1;
    *text = str_sub(s->text, start, i);
    if (!ascii && !utf8_valid(*text))
        return false;
    return !escaped || decode_string(s, *text, text);
}

static bool scan_id(Scan *s, int64_t *id)
{
    char c = peek(s);
    int digits = 0;
    size_t start = s->pos;
    for (*id = 0; c >= '0' && c <= '9' && digits < TABLE_ID_DIGITS; digits++) {
        *id = *id * 10 + (c - '0');
        s->pos++;
        c = s->pos < s->text.len ? s->text.data[s->pos] : 0;
    }
    bool leading_zero = digits > 1 && s->text.data[start] == '0';
    return digits > 0 && !leading_zero && (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E';
}

static bool scan_vocab(Scan *s, TokenTable *table)
{
    table->n_tokens = 0;
    table->has_vocab = true;
    if (!take(s, '{'))
        return bad(s, "model.vocab");
    if (take(s, '}'))
        return true;
    do {
        Str text = {0};
        int64_t id = 0;
        if (!scan_string(s, &text) || !take(s, ':') || !scan_id(s, &id) ||
            !push_token(table, text, id))
            return bad(s, "model.vocab");
    } while (take(s, ','));
    return take(s, '}') || bad(s, "model.vocab");
}

static bool scan_merge(Scan *s, TokenTable *table)
{
    Str left = {0}, right = {0};
    if (peek(s) == '"')
        return scan_string(s, &left) && push_merge_line(table, left);
    return take(s, '[') && scan_string(s, &left) && take(s, ',') && scan_string(s, &right) &&
           take(s, ']') && push_merge(table, left, right);
}

static bool scan_merges(Scan *s, TokenTable *table)
{
    table->n_merges = 0;
    table->has_merges = true;
    if (!take(s, '['))
        return bad(s, "model.merges");
    if (take(s, ']'))
        return true;
    do {
        if (!scan_merge(s, table))
            return bad(s, "model.merges");
    } while (take(s, ','));
    return take(s, ']') || bad(s, "model.merges");
}

/* Steps over a string whose opening quote is at pos. */
static void skip_string(Scan *s)
{
    assert(s->text.data[s->pos] == '"');
    for (s->pos++; s->pos < s->text.len && s->text.data[s->pos] != '"'; s->pos++)
        if (s->text.data[s->pos] == '\\')
            s->pos++;
    s->pos = s->pos < s->text.len ? s->pos + 1 : s->text.len;
}

/* Steps over a value: to the comma or bracket that ends it. */
static void skip_value(Scan *s)
{
    int64_t depth = 0;
    while (s->pos < s->text.len) {
        char c = s->text.data[s->pos];
        if (c == '"') {
            skip_string(s);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            return;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        s->pos++;
    }
}

typedef bool ScanMember(Scan *s, Str key, TokenTable *table, Buf *rest, size_t *copied);

/* Calls `member` at each value of the object at pos; what that does not step over is skipped. An
 * object that is malformed ends early: the parser of the rest will say why. */
static bool scan_members(Scan *s, ScanMember *member, TokenTable *table, Buf *rest, size_t *copied)
{
    if (!take(s, '{'))
        return true;
    while (peek(s) == '"') {
        size_t start = s->pos;
        skip_string(s);
        Str key = str_sub(s->text, start + 1, s->pos - 1);
        if (!take(s, ':'))
            return true;
        (void)peek(s);
        if (!member(s, key, table, rest, copied))
            return false;
        skip_value(s);
        if (!take(s, ','))
            break;
    }
    (void)take(s, '}');
    return true;
}

/* Copies up to `start`, and `empty` in the place of the value that stands from there to pos. */
static void leave_out(Scan *s, size_t start, const char *empty, Buf *rest, size_t *copied)
{
    assert(*copied <= start && start <= s->pos);
    buf_str(rest, str_sub(s->text, *copied, start));
    buf_text(rest, empty);
    *copied = s->pos;
}

static bool model_member(Scan *s, Str key, TokenTable *table, Buf *rest, size_t *copied)
{
    size_t start = s->pos;
    if (str_eq_text(key, "vocab"))
        table->has_vocab = false;
    if (str_eq_text(key, "merges"))
        table->has_merges = false;
    if (str_eq_text(key, "vocab") && peek(s) == '{') {
        if (!scan_vocab(s, table))
            return false;
        leave_out(s, start, "{}", rest, copied);
    } else if (str_eq_text(key, "merges") && peek(s) == '[') {
        if (!scan_merges(s, table))
            return false;
        leave_out(s, start, "[]", rest, copied);
    }
    return true;
}

static bool root_member(Scan *s, Str key, TokenTable *table, Buf *rest, size_t *copied)
{
    if (!str_eq_text(key, "model"))
        return true;
    table->has_vocab = table->has_merges = false;
    table->n_tokens = table->n_merges = 0;
    return peek(s) != '{' || scan_members(s, model_member, table, rest, copied);
}

bool token_table_scan(TokenTable *table, Str text, Arena *out, Buf *rest, Err *err)
{
    Scan s = {.text = text, .out = out, .err = err};
    size_t copied = 0;
    *table = (TokenTable){0};
    if (!scan_members(&s, root_member, table, rest, &copied))
        return false;
    buf_str(rest, str_sub(text, copied, text.len));
    return true;
}

/* ---- from a tree ------------------------------------------------------------------------ */

bool token_table_from_json(TokenTable *table, const Json *model, Err *err)
{
    const Json *vocab = json_get(model, "vocab"), *merges = json_get(model, "merges");
    const char *key = NULL;
    Json *value = NULL;
    *table = (TokenTable){.has_vocab = json_is_object(vocab), .has_merges = json_is_array(merges)};
    for (void *it = NULL; (it = json_next(vocab, it, &key, &value)) != NULL;)
        (void)push_token(table, str_of(key), json_int(value, -1));
    for (size_t i = 0; i < json_len(merges); i++) {
        const Json *merge = json_at(merges, i);
        bool pair = json_is_array(merge) && json_len(merge) == 2;
        Str left = json_str(json_at(merge, 0)), right = json_str(json_at(merge, 1));
        if (pair ? !push_merge(table, left, right) : !push_merge_line(table, json_str(merge)))
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "merge %zu of tokenizer.json is no pair", i);
    }
    return true;
}
