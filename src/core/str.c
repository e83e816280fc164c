/* str.c — slices, the growing buffer, strict UTF-8.
 *
 * Owns the growth policy (doubling, bounded by Buf.max) and the one UTF-8 decoder of the tree.
 * UTF-8 is RFC 3629's: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#include "core/str.h"

#include "core/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const size_t DEFAULT_MAX = (size_t)1 << 30;
enum { SMALLEST_CAPACITY = 64, REPLACEMENT = 0xFFFD, DISTANCE_MAX = 64 };

Str str_of(const char *text)
{
    if (text == NULL)
        return STR("");
    return (Str){text, strlen(text)};
}

bool str_eq(Str a, Str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool str_eq_text(Str a, const char *text) { return str_eq(a, str_of(text)); }

bool str_starts(Str s, const char *prefix)
{
    Str p = str_of(prefix);
    return p.len == 0 || (s.len >= p.len && memcmp(s.data, p.data, p.len) == 0);
}

bool str_ends(Str s, const char *suffix)
{
    Str p = str_of(suffix);
    return p.len == 0 || (s.len >= p.len && memcmp(s.data + s.len - p.len, p.data, p.len) == 0);
}

Str str_sub(Str s, size_t from, size_t to)
{
    if (to > s.len)
        to = s.len;
    if (from >= to)
        return STR("");
    return (Str){s.data + from, to - from};
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

Str str_trim(Str s)
{
    size_t from = 0, to = s.len;
    while (from < to && is_space(s.data[from]))
        from++;
    while (to > from && is_space(s.data[to - 1]))
        to--;
    return str_sub(s, from, to);
}

/* Makes room for `more` bytes and the NUL. False, and sticky-failed, beyond the maximum. */
static bool buf_reserve(Buf *buf, size_t more)
{
    assert(buf->len == 0 || buf->len < buf->capacity);
    size_t max = buf->max != 0 ? buf->max : DEFAULT_MAX;
    if (buf->failed || more > max || buf->len > max - more) {
        buf->failed = true;
        return false;
    }
    size_t needed = buf->len + more + 1;
    if (needed <= buf->capacity)
        return true;
    size_t capacity = buf->capacity < SMALLEST_CAPACITY ? SMALLEST_CAPACITY : buf->capacity;
    while (capacity < needed)
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    buf->data = heap_resize(buf->data, capacity);
    buf->capacity = capacity;
    return true;
}

void buf_append(Buf *buf, const void *data, size_t len)
{
    assert(buf != NULL && (data != NULL || len == 0));
    if (!buf_reserve(buf, len))
        return;
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buf_str(Buf *buf, Str s) { buf_append(buf, s.data, s.len); }

void buf_text(Buf *buf, const char *text) { buf_str(buf, str_of(text)); }

void buf_char(Buf *buf, char c) { buf_append(buf, &c, 1); }

void buf_printf(Buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    must(len >= 0);
    if (buf_reserve(buf, (size_t)len)) {
        int written = vsnprintf(buf->data + buf->len, (size_t)len + 1, format, again);
        must(written == len);
        buf->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

void buf_codepoint(Buf *buf, uint32_t codepoint)
{
    if (codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint <= 0xDFFF))
        codepoint = REPLACEMENT;
    unsigned char bytes[4];
    size_t len;
    if (codepoint < 0x80) {
        bytes[0] = (unsigned char)codepoint;
        len = 1;
    } else if (codepoint < 0x800) {
        bytes[0] = (unsigned char)(0xC0 | codepoint >> 6);
        bytes[1] = (unsigned char)(0x80 | (codepoint & 0x3F));
        len = 2;
    } else if (codepoint < 0x10000) {
        bytes[0] = (unsigned char)(0xE0 | codepoint >> 12);
        bytes[1] = (unsigned char)(0x80 | (codepoint >> 6 & 0x3F));
        bytes[2] = (unsigned char)(0x80 | (codepoint & 0x3F));
        len = 3;
    } else {
        bytes[0] = (unsigned char)(0xF0 | codepoint >> 18);
        bytes[1] = (unsigned char)(0x80 | (codepoint >> 12 & 0x3F));
        bytes[2] = (unsigned char)(0x80 | (codepoint >> 6 & 0x3F));
        bytes[3] = (unsigned char)(0x80 | (codepoint & 0x3F));
        len = 4;
    }
    buf_append(buf, bytes, len);
}

void buf_clear(Buf *buf)
{
    buf->len = 0;
    buf->failed = false;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

void buf_free(Buf *buf)
{
    size_t max = buf->max;
    heap_free(buf->data);
    *buf = (Buf){.max = max};
}

/* Length of the well-formed sequence at s[0..left), 0 when malformed; the code point in *out. */
static size_t utf8_decode(const unsigned char *s, size_t left, uint32_t *out)
{
    assert(left > 0);
    unsigned char first = s[0];
    if (first < 0x80) {
        *out = first;
        return 1;
    }
    size_t len = first >= 0xC2 && first <= 0xDF   ? 2
                 : first >= 0xE0 && first <= 0xEF ? 3
                 : first >= 0xF0 && first <= 0xF4 ? 4
                                                  : 0;
    if (len == 0 || len > left)
        return 0;
    uint32_t value = first & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (s[i] & 0x3Fu);
    }
    static const uint32_t SMALLEST[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < SMALLEST[len] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *out = value;
    return len;
}

bool utf8_next(Str s, size_t *pos, uint32_t *codepoint)
{
    assert(pos != NULL && codepoint != NULL);
    if (*pos >= s.len)
        return false;
    size_t len = utf8_decode((const unsigned char *)s.data + *pos, s.len - *pos, codepoint);
    if (len == 0) {
        *codepoint = REPLACEMENT;
        len = 1;
    }
    *pos += len;
    assert(*pos <= s.len);
    return true;
}

bool utf8_valid(Str s)
{
    for (size_t pos = 0; pos < s.len;) {
        uint32_t codepoint;
        size_t len = utf8_decode((const unsigned char *)s.data + pos, s.len - pos, &codepoint);
        if (len == 0)
            return false;
        pos += len;
    }
    return true;
}

int str_distance(const char *a, const char *b)
{
    size_t a_len = str_of(a).len, b_len = str_of(b).len;
    a_len = a_len < DISTANCE_MAX ? a_len : DISTANCE_MAX;
    b_len = b_len < DISTANCE_MAX ? b_len : DISTANCE_MAX;
    int row[DISTANCE_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= a_len; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_len; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]);
            int shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = replace < shorter + 1 ? replace : shorter + 1;
        }
    }
    assert(row[b_len] >= 0 && row[b_len] <= DISTANCE_MAX);
    return row[b_len];
}
