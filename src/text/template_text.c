/* template_text.c — text as Python sees it: code points, Python's white space and case mappings.
 *
 * Strings are UTF-8; indices that templates use count code points. Case mapping is Unicode's simple
 * mapping plus the two full mappings that matter (sharp s, dotted capital I); a
 * character with another full mapping is refused instead of mapped wrongly.
 */
#include "text/template_internal.h"
#include "text/unicode.h"

#include <string.h>

bool text_is_space(uint32_t c)
{
    if (c < 0x80)
        return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t text_char_len(Str s, size_t pos)
{
    assert(pos < s.len);
    size_t end = pos;
    uint32_t c;
    utf8_next(s, &end, &c);
    return end - pos;
}

int64_t text_length(Str s)
{
    int64_t n = 0;
    for (size_t pos = 0; pos < s.len; pos += text_char_len(s, pos))
        n++;
    return n;
}

size_t text_offset(Str s, int64_t index)
{
    size_t pos = 0;
    for (; index > 0 && pos < s.len; index--)
        pos += text_char_len(s, pos);
    return pos;
}

/* Start of the code point that ends at `end`. */
static size_t char_before(Str s, size_t end)
{
    assert(end > 0 && end <= s.len);
    size_t pos = end - 1;
    while (pos > 0 && end - pos < 4 && ((unsigned char)s.data[pos] & 0xC0) == 0x80)
        pos--;
    return pos;
}

static bool strips(Str s, size_t pos, const Str *chars)
{
    uint32_t c, other;
    size_t next = pos;
    utf8_next(s, &next, &c);
    if (chars == NULL)
        return text_is_space(c);
    for (size_t at = 0; utf8_next(*chars, &at, &other);) {
        if (other == c)
            return true;
    }
    return false;
}

Str text_strip(Str s, const Str *chars, int sides)
{
    size_t from = 0, to = s.len;
    if (sides & 1) {
        while (from < to && strips(s, from, chars))
            from += text_char_len(s, from);
    }
    if (sides & 2) {
        while (to > from && strips(s, char_before(s, to), chars))
            to = char_before(s, to);
    }
    return str_sub(s, from, to);
}

int64_t text_find(Str s, Str needle, size_t from)
{
    if (from > s.len || needle.len > s.len - from)
        return -1;
    if (needle.len == 0)
        return (int64_t)from;
    const char *at = memmem(s.data + from, s.len - from, needle.data, needle.len);
    return at == NULL ? -1 : (int64_t)(at - s.data);
}

int64_t text_find_last(Str s, Str needle)
{
    if (needle.len > s.len)
        return -1;
    for (size_t at = s.len - needle.len + 1; at-- > 0;) {
        if (needle.len == 0 || memcmp(s.data + at, needle.data, needle.len) == 0)
            return (int64_t)at;
    }
    return -1;
}

/* Characters whose full upper or title mapping is longer than one character (SpecialCasing.txt). */
static bool has_full_mapping(uint32_t c)
{
    return c == 0x149 || c == 0x1F0 || c == 0x390 || c == 0x3B0 || c == 0x587 ||
           (c >= 0x1E96 && c <= 0x1E9A) || (c >= 0x1F50 && c <= 0x1F56) ||
           (c >= 0x1F80 && c <= 0x1FFC) || (c >= 0xFB00 && c <= 0xFB17);
}

static bool is_cased(uint32_t c)
{
    return unicode_lower(c) != c || unicode_upper(c) != c;
}

static bool upper_one(uint32_t c, bool title, Buf *out)
{
    if (c == 0xDF) {
        buf_text(out, title ? "Ss" : "SS");
        return true;
    }
    if (has_full_mapping(c))
        return false;
    buf_codepoint(out, title ? unicode_title(c) : unicode_upper(c));
    return true;
}

static bool lower_one(uint32_t c, Buf *out)
{
    if (c == 0x3A3) /* capital sigma: final form depends on its neighbours */
        return false;
    if (c == 0x130)
        buf_text(out, "i\xCC\x87");
    else
        buf_codepoint(out, unicode_lower(c));
    return true;
}

bool text_case(Str s, int mode, Buf *out)
{
    bool in_word = false, ok = true, first = true;
    uint32_t c;
    for (size_t pos = 0; ok && utf8_next(s, &pos, &c);) {
        bool upper = mode == TEXT_UPPER || (mode == TEXT_TITLE && !in_word) ||
                     (mode == TEXT_CAPITALIZE && first) ||
                     (mode == TEXT_SWAP && unicode_upper(c) != c);
        ok = upper ? upper_one(c, mode == TEXT_TITLE || mode == TEXT_CAPITALIZE, out)
                   : lower_one(c, out);
        in_word = is_cased(c);
        first = false;
    }
    return ok;
}

Str text_escape_html(Render *r, Str s)
{
    Buf buf = {0};
    for (size_t i = 0; i < s.len; i++) {
        switch (s.data[i]) {
        case '&':
            buf_text(&buf, "&amp;");
            break;
        case '<':
            buf_text(&buf, "&lt;");
            break;
        case '>':
            buf_text(&buf, "&gt;");
            break;
        case '\'':
            buf_text(&buf, "&#39;");
            break;
        case '"':
            buf_text(&buf, "&#34;");
            break;
        default:
            buf_char(&buf, s.data[i]);
        }
    }
    return render_take(r, &buf);
}
