/* regex.c — pre-tokenizer patterns on PCRE2 (JIT, UTF, UCP); the one file that sees pcre2.h.
 *
 * What is rewritten, because Oniguruma and PCRE2 differ:
 *   \s \S    White_Space; PCRE2's own \s also holds U+180E
 *   \d \D    decimal digits (Nd)
 *   \w \W    letters, marks, decimal digits, connector punctuation
 *   \uHHHH   \x{HHHH}
 *   ^ $      match at every line (PCRE2_MULTILINE)
 * What is refused, since it would silently mean something else: \h \H (hexadecimal digits there,
 * horizontal space here), class intersection &&, nested classes, \S and \W inside a class, and
 * leading (*VERBS).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <string.h>

enum { REGEX_MAX_PATTERN = 16384 };

#define SPACE_RANGES \
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
#define WORD_RANGES "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

typedef struct Escape {
    char letter;
    const char *outside; /* a class */
    const char *inside;  /* NULL = cannot be said */
} Escape;

static const Escape escapes[] = {
    {'s', "[" SPACE_RANGES "]", SPACE_RANGES},
    {'S', "[^" SPACE_RANGES "]", NULL},
    {'d', "\\p{Nd}", "\\p{Nd}"},
    {'D', "\\P{Nd}", "\\P{Nd}"},
    {'w', "[" WORD_RANGES "]", WORD_RANGES},
    {'W', "[^" WORD_RANGES "]", NULL},
    {'h', NULL, NULL},
    {'H', NULL, NULL},
};

static bool unsupported(Err *err, Str construct, Str pattern)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                   "regex construct '%.*s' of the tokenizer is not supported in pattern '%.*s'",
                   (int)construct.len, construct.data, (int)min_i64((int64_t)pattern.len, 300),
                   pattern.data);
}

/* Translates the escape at p[i] ('\\'); *next is where to go on. */
static bool translate_escape(Str p, size_t i, size_t *next, bool in_class, Buf *out, Err *err)
{
    assert(p.data[i] == '\\');
    if (i + 1 >= p.len)
        return unsupported(err, STR("\\"), p);
    char letter = p.data[i + 1];
    *next = i + 2;
    for (size_t k = 0; k < COUNT_OF(escapes); k++) {
        if (escapes[k].letter != letter)
            continue;
        const char *text = in_class ? escapes[k].inside : escapes[k].outside;
        if (text == NULL)
            return unsupported(err, str_sub(p, i, i + 2), p);
        buf_text(out, text);
        return true;
    }
    if (letter == 'u') {
        if (i + 6 > p.len)
            return unsupported(err, STR("\\u"), p);
        buf_text(out, "\\x{");
        buf_append(out, p.data + i + 2, 4);
        buf_char(out, '}');
        *next = i + 6;
        return true;
    }
    buf_append(out, p.data + i, 2);
    return true;
}

static bool translate(Str p, Buf *out, Err *err)
{
    assert(p.len <= REGEX_MAX_PATTERN);
    bool in_class = false;
    size_t class_start = 0;
    for (size_t i = 0; i < p.len;) {
        char c = p.data[i];
        if (c == '\\') {
            if (!translate_escape(p, i, &i, in_class, out, err))
                return false;
            continue;
        }
        if (in_class && c == '&' && i + 1 < p.len && p.data[i + 1] == '&')
            return unsupported(err, STR("&&"), p);
        if (in_class && c == '[')
            return unsupported(err, STR("[[...]]"), p);
        if (!in_class && c == '[') {
            in_class = true;
            class_start = i + 1;
            if (class_start < p.len && p.data[class_start] == '^')
                class_start++;
        } else if (in_class && c == ']' && i > class_start) {
            in_class = false;
        }
        buf_char(out, c);
        i++;
    }
    return true;
}

Regex *regex_compile(Str pattern, Err *err)
{
    if (pattern.len > REGEX_MAX_PATTERN || str_starts(pattern, "(*") ||
        memchr(pattern.data, 0, pattern.len) != NULL) {
        unsupported(err, STR("(*VERB), NUL or excessive length"), pattern);
        return NULL;
    }
    Buf translated = {0};
    buf_text(&translated, ""); /* never NULL */
    int code = 0;
    PCRE2_SIZE offset = 0;
    Regex *regex = NULL;
    if (translate(pattern, &translated, err)) {
        regex = pcre2_compile((PCRE2_SPTR)translated.data, translated.len,
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                              &code, &offset, NULL);
        if (regex == NULL) {
            PCRE2_UCHAR reason[128];
            pcre2_get_error_message(code, reason, sizeof(reason));
            err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                    "pattern '%.*s' of the tokenizer does not compile: %s",
                    (int)min_i64((int64_t)pattern.len, 300), pattern.data, (const char *)reason);
        } else {
            pcre2_jit_compile(regex, PCRE2_JIT_COMPLETE); /* without JIT it runs interpreted */
        }
    }
    buf_free(&translated);
    return regex;
}

void regex_free(Regex *regex)
{
    pcre2_code_free(regex);
}

RegexScratch *regex_scratch_new(void)
{
    RegexScratch *scratch = pcre2_match_data_create(1, NULL);
    must(scratch != NULL);
    return scratch;
}

void regex_scratch_free(RegexScratch *scratch)
{
    pcre2_match_data_free(scratch);
}

bool regex_find(const Regex *regex, RegexScratch *scratch, Str text, size_t from, size_t *start,
                size_t *end)
{
    assert(regex != NULL && scratch != NULL && from <= text.len);
    PCRE2_SPTR subject = (PCRE2_SPTR)text.data;
    int rc = pcre2_match(regex, subject, text.len, from, PCRE2_NO_UTF_CHECK, scratch, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is the heap */
        rc = pcre2_match(regex, subject, text.len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch,
                         NULL);
    if (rc < 0) /* no match; or a pattern that exceeded PCRE2's match limit: no more pieces */
        return false;
    assert(rc <= 1); /* one pair was asked for */
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(scratch);
    *start = ovector[0];
    *end = ovector[1];
    /* \K inside a look-around can put the start outside; such a match counts as none */
    return *start >= from && *start <= *end && *end <= text.len;
}

bool regex_is_behind(void)
{
    char version[32] = "";
    int size = pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL);
    if (size > 0 && (size_t)size <= sizeof(version))
        pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    return version[0] == '1' && version[1] < '6';
}

void regex_quote(Str literal, Buf *pattern)
{
    for (size_t i = 0; i < literal.len; i++) {
        char c = literal.data[i];
        if (c != 0 && strchr("\\^$.|?*+()[]{}#-", c) != NULL)
            buf_char(pattern, '\\');
        buf_char(pattern, c);
    }
}
