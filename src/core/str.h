/* str.h — text without surprises: slices, a growing buffer with a maximum, UTF-8 checks.
 *
 * Str is a view, not NUL-terminated. Buf owns heap memory, is always NUL-terminated, and refuses to
 * grow past its maximum (it then turns sticky-failed, so callers may append and check once).
 */
#ifndef CORE_STR_H
#define CORE_STR_H

#include "core/base.h"

typedef struct Str {
    const char *data;
    size_t len;
} Str;

#define STR(literal) ((Str){(literal), sizeof(literal) - 1})
Str str_of(const char *text); /* NULL gives the empty slice */
bool str_eq(Str a, Str b);
bool str_eq_text(Str a, const char *text);
bool str_starts(Str s, const char *prefix);
bool str_ends(Str s, const char *suffix);
Str str_sub(Str s, size_t from, size_t to); /* clamped to the slice */
Str str_trim(Str s);                        /* ASCII white space at both ends */

typedef struct Buf {
    char *data; /* NUL-terminated; NULL only before the first append */
    size_t len;
    size_t capacity;
    size_t max; /* 0 = 1 GiB */
    bool failed;
} Buf;

void buf_append(Buf *buf, const void *data, size_t len);
void buf_str(Buf *buf, Str s);
void buf_text(Buf *buf, const char *text);
void buf_char(Buf *buf, char c);
void buf_printf(Buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_codepoint(Buf *buf, uint32_t codepoint); /* UTF-8 */
void buf_clear(Buf *buf);                         /* keeps the memory */
void buf_free(Buf *buf);
static inline Str buf_view(const Buf *buf) { return (Str){buf->data, buf->len}; }

/* Decodes one code point at s[*pos], advances *pos. Malformed bytes give U+FFFD and advance one
 * byte. Returns false at the end. */
bool utf8_next(Str s, size_t *pos, uint32_t *codepoint);
bool utf8_valid(Str s);
/* Levenshtein distance, capped at 64-character inputs; for "did you mean". */
int str_distance(const char *a, const char *b);

#endif
