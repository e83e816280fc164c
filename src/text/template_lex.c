/* template_lex.c — template source to tokens, with Jinja's white-space rules.
 *
 * Owns: the split of text and tags, trim_blocks (the newline after a block or comment tag goes),
 * lstrip_blocks (blanks before a block or comment tag that starts its line go), the `-` and `+`
 * signs, raw blocks, and the decoding of literals. Newlines are normalised to \n first and one at
 * the end of the source is dropped, as Jinja does. Tags end only where parentheses are balanced.
 */
#include "text/template_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Lexer {
    Str source;
    size_t pos;
    int line;
    const char *subject;
    Arena *out;
    Err *err;
    TokenStream *stream;
    int64_t capacity;
    uint8_t balance[TEMPLATE_MAX_NESTING]; /* the closing characters that are awaited */
    int n_balance;
} Lexer;

static bool fail(const Lexer *lx, const char *what)
{
    return err_set(lx->err, ERR_DEP_CHAT_TEMPLATE_INVALID,
                   "chat template '%s', line %d: %s", lx->subject,
                   lx->line, what);
}

static Token *push(Lexer *lx, TokenType type, Str text)
{
    TokenStream *stream = lx->stream;
    if (stream->len == lx->capacity) {
        int64_t capacity = lx->capacity == 0 ? 256 : lx->capacity * 2;
        Token *grown = arena_array(lx->out, Token, capacity);
        if (stream->len > 0)
            memcpy(grown, stream->tokens, (size_t)stream->len * sizeof(Token));
        stream->tokens = grown;
        lx->capacity = capacity;
    }
    assert(stream->len < lx->capacity);
    Token *token = &stream->tokens[stream->len++];
    *token = (Token){.type = type, .line = lx->line, .text = text};
    return token;
}

static int peek(const Lexer *lx, size_t ahead)
{
    size_t at = lx->pos + ahead;
    return at < lx->source.len ? (unsigned char)lx->source.data[at] : -1;
}

/* Moves to `to`, counting lines. */
static void move(Lexer *lx, size_t to)
{
    assert(to >= lx->pos && to <= lx->source.len);
    for (size_t i = lx->pos; i < to; i++)
        lx->line += lx->source.data[i] == '\n';
    lx->pos = to;
}

/* Bytes of white space (as Python's \s) from `at` on. */
static size_t spaces(const Lexer *lx, size_t at)
{
    size_t end = at;
    for (;;) {
        size_t next = end;
        uint32_t c;
        if (!utf8_next(lx->source, &next, &c) || !text_is_space(c))
            return end - at;
        end = next;
    }
}

/* \r\n and \r become \n; one newline at the end goes. */
static Str normalise(Str source, Arena *out)
{
    char *text = arena_push(out, source.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < source.len; i++) {
        char c = source.data[i];
        if (c == '\r') {
            c = '\n';
            if (i + 1 < source.len && source.data[i + 1] == '\n')
                i++;
        }
        text[len++] = c;
    }
    if (len > 0 && text[len - 1] == '\n')
        len--;
    text[len] = '\0';
    return (Str){text, len};
}

/* Text before a tag, shortened by the tag's sign or by lstrip_blocks. */
static Str strip_before(const Lexer *lx, size_t from, size_t to, int sign, bool variable)
{
    Str text = str_sub(lx->source, from, to);
    if (sign == '-')
        return text_strip(text, NULL, 2);
    if (sign == '+' || variable)
        return text;
    size_t line_start = text.len;
    while (line_start > 0 && text.data[line_start - 1] != '\n')
        line_start--;
    bool starts_line = line_start > 0 || from == 0 || lx->source.data[from - 1] == '\n';
    Str tail = str_sub(text, line_start, text.len);
    if (starts_line && text_strip(tail, NULL, 3).len == 0)
        text.len = line_start;
    return text;
}

/* Length of "-%}  ", "+%}" or "%}\n" (and the like) at pos; 0 when there is none. */
static size_t tag_end(const Lexer *lx, size_t at, char mark, bool trims_newline)
{
    const char *s = lx->source.data + at;
    size_t left = lx->source.len - at;
    if (left >= 3 && s[0] == '-' && s[1] == mark && s[2] == '}')
        return 3 + spaces(lx, at + 3);
    if (trims_newline && left >= 3 && s[0] == '+' && s[1] == mark && s[2] == '}')
        return 3;
    if (left >= 2 && s[0] == mark && s[1] == '}')
        return trims_newline && left >= 3 && s[2] == '\n' ? 3 : 2;
    return 0;
}

/* Is there "name" (with white space around) at `at`? Gives the offset behind the white space. */
static bool keyword_at(const Lexer *lx, size_t at, const char *name, size_t *end)
{
    at += spaces(lx, at);
    size_t len = strlen(name);
    if (at + len > lx->source.len || memcmp(lx->source.data + at, name, len) != 0)
        return false;
    *end = at + len + spaces(lx, at + len);
    return true;
}

static bool sign_at(const Lexer *lx, size_t at)
{
    return at < lx->source.len && (lx->source.data[at] == '-' || lx->source.data[at] == '+');
}

/* pos is behind the opening raw tag: everything up to {% endraw %} is text. */
static bool lex_raw(Lexer *lx)
{
    size_t start = lx->pos;
    for (size_t at = start; at + 2 <= lx->source.len; at++) {
        if (lx->source.data[at] != '{' || lx->source.data[at + 1] != '%')
            continue;
        size_t name = at + 2;
        int sign = sign_at(lx, name) ? lx->source.data[name++] : 0;
        size_t close;
        if (!keyword_at(lx, name, "endraw", &close))
            continue;
        size_t len = tag_end(lx, close, '%', true);
        if (len == 0)
            continue;
        Str text = strip_before(lx, start, at, sign, false);
        if (text.len > 0)
            push(lx, T_DATA, text);
        move(lx, close + len);
        return true;
    }
    return fail(lx, "missing end of raw block");
}

static bool lex_comment(Lexer *lx)
{
    for (size_t at = lx->pos; at < lx->source.len; at++) {
        size_t len = tag_end(lx, at, '#', true);
        if (len > 0) {
            move(lx, at + len);
            return true;
        }
    }
    return fail(lx, "missing end of comment");
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(int c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static size_t digits_at(const Lexer *lx, size_t ahead)
{
    size_t n = 0;
    while (is_digit(peek(lx, ahead + n)) ||
           (n > 0 && peek(lx, ahead + n) == '_' && is_digit(peek(lx, ahead + n + 1))))
        n++;
    return n;
}

/* Copies a literal without its underscores. False when it is too long for a number. */
static bool copy_number(const Lexer *lx, size_t len, char out[64])
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = lx->source.data[lx->pos + i];
        if (c == '_')
            continue;
        if (n == 63)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

static bool lex_number(Lexer *lx)
{
    size_t len = digits_at(lx, 0);
    bool after_dot = lx->pos > 0 && lx->source.data[lx->pos - 1] == '.';
    bool is_float = false;
    size_t fraction = peek(lx, len) == '.' ? digits_at(lx, len + 1) : 0;
    if (!after_dot) {
        size_t whole = len;
        if (fraction > 0) {
            is_float = true;
            len += 1 + fraction;
        }
        size_t at = is_float ? len : whole;
        if (peek(lx, at) == 'e' || peek(lx, at) == 'E') {
            size_t sign = peek(lx, at + 1) == '-' || peek(lx, at + 1) == '+';
            size_t exponent = digits_at(lx, at + 1 + sign);
            if (exponent > 0) {
                is_float = true;
                len = at + 1 + sign + exponent;
            }
        }
    }
    int next = peek(lx, len);
    if (!is_float && peek(lx, 0) == '0' && (len > 1 || next == 'x' || next == 'o' || next == 'b'))
        return fail(lx, "number literal with a leading zero is not supported");
    char text[64];
    if (!copy_number(lx, len, text))
        return fail(lx, "number literal is too long");
    Token *token =
        push(lx, is_float ? T_FLOAT : T_INTEGER, str_sub(lx->source, lx->pos, lx->pos + len));
    if (is_float) {
        token->number = value_float(strtod(text, NULL));
    } else {
        if (strlen(text) > 18)
            return fail(lx, "whole number with more than 18 digits is not supported");
        token->number = value_int(strtoll(text, NULL, 10));
    }
    lx->pos += len;
    return true;
}

static int hex_value(int c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xhh, \uhhhh, \Uhhhhhhhh at text[*i] (the letter); appends the character. */
static bool unescape_hex(const Lexer *lx, Str text, size_t *i, int digits, Buf *out)
{
    uint32_t code = 0;
    for (int d = 1; d <= digits; d++) {
        int h =
            *i + (size_t)d < text.len ? hex_value((unsigned char)text.data[*i + (size_t)d]) : -1;
        if (h < 0)
            return fail(lx, "broken hexadecimal escape in a string");
        code = code * 16 + (uint32_t)h;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return fail(lx, "escape of a surrogate or of no character in a string");
    buf_codepoint(out, code);
    *i += (size_t)digits;
    return true;
}

static bool unescape_octal(const Lexer *lx, Str text, size_t *i, Buf *out)
{
    uint32_t code = 0;
    size_t n = 0;
    while (n < 3 && *i + n < text.len && text.data[*i + n] >= '0' && text.data[*i + n] <= '7')
        code = code * 8 + (uint32_t)(text.data[*i + n++] - '0');
    if (code > 0xFF)
        return fail(lx, "octal escape above \\377 in a string");
    buf_codepoint(out, code);
    *i += n - 1;
    return true;
}

/* One escape; *i is at the character behind the backslash and ends at its last one. */
static bool unescape_one(const Lexer *lx, Str text, size_t *i, Buf *out)
{
    static const char simple[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
    char c = text.data[*i];
    for (size_t k = 0; k + 1 < sizeof(simple); k += 2) {
        if (simple[k] == c) {
            buf_char(out, simple[k + 1]);
            return true;
        }
    }
    if (c == '\n')
        return true;
    if (c == 'x')
        return unescape_hex(lx, text, i, 2, out);
    if (c == 'u')
        return unescape_hex(lx, text, i, 4, out);
    if (c == 'U')
        return unescape_hex(lx, text, i, 8, out);
    if (c >= '0' && c <= '7')
        return unescape_octal(lx, text, i, out);
    if (c == 'N' || (unsigned char)c >= 0x80)
        return fail(lx, "escape in a string is not supported");
    buf_char(out, '\\');
    buf_char(out, c);
    return true;
}

static bool lex_string(Lexer *lx)
{
    char quote = lx->source.data[lx->pos];
    size_t end = lx->pos + 1;
    bool escaped = false;
    while (end < lx->source.len && lx->source.data[end] != quote) {
        bool backslash = lx->source.data[end] == '\\';
        escaped = escaped || backslash;
        end += backslash ? 2 : 1;
    }
    if (end >= lx->source.len)
        return fail(lx, "string has no end");
    Str text = str_sub(lx->source, lx->pos + 1, end);
    if (escaped) {
        Buf buf = {0};
        bool ok = true;
        for (size_t i = 0; i < text.len && ok; i++) {
            if (text.data[i] == '\\') {
                i++;
                ok = unescape_one(lx, text, &i, &buf);
            } else {
                buf_char(&buf, text.data[i]);
            }
        }
        text = buf.len == 0 ? STR("") : (Str){arena_strndup(lx->out, buf.data, buf.len), buf.len};
        buf_free(&buf);
        if (!ok)
            return false;
    }
    push(lx, T_STRING, text);
    move(lx, end + 1);
    return true;
}

static bool lex_name(Lexer *lx)
{
    size_t len = 0;
    int c = peek(lx, 0);
    while (is_name_start(c) || is_digit(c))
        c = peek(lx, ++len);
    if (c >= 0x80)
        return fail(lx, "identifiers outside ASCII are not supported");
    push(lx, T_NAME, str_sub(lx->source, lx->pos, lx->pos + len));
    lx->pos += len;
    return true;
}

/* Keeps account of parentheses: a closing one must match. */
static bool balance(Lexer *lx, TokenType type)
{
    switch (type) {
    case T_LBRACE:
    case T_LPAREN:
    case T_LBRACKET:
        if (lx->n_balance == TEMPLATE_MAX_NESTING)
            return fail(lx, "parentheses are nested too deeply");
        lx->balance[lx->n_balance++] = (uint8_t)(type == T_LBRACE   ? T_RBRACE
                                                 : type == T_LPAREN ? T_RPAREN
                                                                    : T_RBRACKET);
        return true;
    case T_RBRACE:
    case T_RPAREN:
    case T_RBRACKET:
        if (lx->n_balance == 0 || lx->balance[lx->n_balance - 1] != (uint8_t)type)
            return fail(lx, "closing parenthesis without its opening one");
        lx->n_balance--;
        return true;
    default:
        return true;
    }
}

static bool lex_operator(Lexer *lx)
{
    static const struct {
        const char *text;
        TokenType type;
    } operators[] = {
        {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
        {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"*", T_MUL},      {"/", T_DIV},
        {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
        {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
        {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
        {";", T_SEMICOLON},
    };
    Str rest = str_sub(lx->source, lx->pos, lx->source.len);
    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        if (!str_starts(rest, operators[i].text))
            continue;
        if (!balance(lx, operators[i].type))
            return false;
        push(lx, operators[i].type, str_of(operators[i].text));
        lx->pos += strlen(operators[i].text);
        return true;
    }
    return fail(lx, "unexpected character in a tag");
}

/* The inside of {{ … }} (mark '}') or {% … %} (mark '%'), with its end. */
static bool lex_tag(Lexer *lx, char mark)
{
    bool block = mark == '%';
    lx->n_balance = 0;
    while (lx->pos < lx->source.len) {
        size_t len = lx->n_balance == 0 ? tag_end(lx, lx->pos, mark, block) : 0;
        if (len > 0) {
            push(lx, block ? T_BLOCK_END : T_VARIABLE_END, (Str){0});
            move(lx, lx->pos + len);
            return true;
        }
        size_t blank = spaces(lx, lx->pos);
        int c = peek(lx, 0);
        bool ok = true;
        if (blank > 0)
            move(lx, lx->pos + blank);
        else if (is_digit(c))
            ok = lex_number(lx);
        else if (is_name_start(c) || c >= 0x80)
            ok = lex_name(lx);
        else if (c == '\'' || c == '"')
            ok = lex_string(lx);
        else
            ok = lex_operator(lx);
        if (!ok)
            return false;
    }
    push(lx, T_EOF, (Str){0});
    return true;
}

/* The tag whose opening brace is at `at`; the text before it starts at lx->pos. */
static bool lex_tag_from(Lexer *lx, size_t at)
{
    char kind = lx->source.data[at + 1];
    size_t inner = at + 2;
    int sign = sign_at(lx, inner) ? lx->source.data[inner++] : 0;
    Str text = strip_before(lx, lx->pos, at, sign, kind == '{');
    if (text.len > 0)
        push(lx, T_DATA, text);
    move(lx, inner);
    if (kind == '#')
        return lex_comment(lx);
    size_t close;
    if (kind == '%' && keyword_at(lx, inner, "raw", &close)) {
        size_t len = tag_end(lx, close, '%', false);
        if (len > 0) {
            move(lx, close + len);
            return lex_raw(lx);
        }
    }
    push(lx, kind == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN, (Str){0});
    return lex_tag(lx, kind == '{' ? '}' : '%');
}

bool template_lex(Str source, const char *subject, Arena *out, TokenStream *stream, Err *err)
{
    assert(out != NULL && stream != NULL);
    Lexer lx = {.line = 1, .subject = subject, .out = out, .err = err, .stream = stream};
    *stream = (TokenStream){0};
    if (source.len > TEMPLATE_MAX_SOURCE)
        return fail(&lx, "source is longer than 1 MiB");
    if (!utf8_valid(source))
        return fail(&lx, "source is not UTF-8");
    lx.source = normalise(source, out);
    while (lx.pos < lx.source.len) {
        size_t at = lx.pos;
        const char *s = lx.source.data;
        while (at + 1 < lx.source.len &&
               !(s[at] == '{' && (s[at + 1] == '{' || s[at + 1] == '%' || s[at + 1] == '#')))
            at++;
        if (at + 1 >= lx.source.len) {
            push(&lx, T_DATA, str_sub(lx.source, lx.pos, lx.source.len));
            break;
        }
        if (!lex_tag_from(&lx, at))
            return false;
    }
    push(&lx, T_EOF, (Str){0});
    return true;
}
