/* unicode.c — normal forms and character classes; the one file that sees utf8proc.
 *
 * Normalisation works chunk by chunk: a chunk starts at a character that can neither move (its
 * combining class is 0) nor compose with what stands before it. Chunks are independent of each
 * other, so each is normalised alone and every byte of its result maps to the chunk's end. Most
 * chunks are one character that is its own normal form and is copied without a second look.
 *
 * Hugging Face's tokenizers normalise by Unicode 9.0 and match patterns by Unicode 16.0, whatever
 * is installed beside them; utf8proc and PCRE2 are older or newer: unicode_ages.def has the rest.
 */
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "core/arena.h"

enum {
    HANGUL_VOWEL_FIRST = 0x1160, /* conjoining vowels and trailing consonants compose backwards */
    HANGUL_TRAILING_LAST = 0x11FF,
    CHUNK_STACK = 64, /* code points of a chunk that need no heap */
};

static const char *const form_names[] = {"NFC", "NFD", "NFKC", "NFKD"};

static const utf8proc_option_t form_options[] = {
    [NORMAL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
    [NORMAL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
    [NORMAL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
    [NORMAL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
};

const char *normal_form_name(NormalForm form)
{
    assert((size_t)form < COUNT_OF(form_names));
    return form_names[form];
}

bool normal_form_from_name(Str name, NormalForm *form)
{
    for (size_t i = 0; i < COUNT_OF(form_names); i++) {
        if (str_eq_text(name, form_names[i])) {
            *form = (NormalForm)i;
            return true;
        }
    }
    return false;
}

/* Room for len more bytes. */
static void reserve(MappedText *mapped, size_t len)
{
    if (mapped->capacity - mapped->len >= len)
        return;
    size_t capacity = mapped->capacity * 2 + len + 64;
    mapped->data = heap_resize(mapped->data, capacity);
    mapped->ends = heap_resize(mapped->ends, capacity * sizeof(*mapped->ends));
    mapped->capacity = capacity;
}

void mapped_text_append(MappedText *mapped, const char *data, size_t len, size_t source_end)
{
    assert(source_end <= UINT32_MAX);
    assert(mapped->len == 0 || mapped->ends[mapped->len - 1] <= source_end);
    if (len == 0)
        return;
    reserve(mapped, len);
    memcpy(mapped->data + mapped->len, data, len);
    for (size_t i = 0; i < len; i++)
        mapped->ends[mapped->len + i] = (uint32_t)source_end;
    mapped->len += len;
}

void mapped_text_copy(MappedText *mapped, const char *data, size_t len, size_t source)
{
    assert(source + len <= UINT32_MAX);
    assert(mapped->len == 0 || mapped->ends[mapped->len - 1] <= source + 1);
    if (len == 0)
        return;
    reserve(mapped, len);
    memcpy(mapped->data + mapped->len, data, len);
    uint32_t *ends = mapped->ends + mapped->len;
    for (size_t i = 0; i < len; i++)
        ends[i] = (uint32_t)(source + i + 1);
    mapped->len += len;
}

void mapped_text_free(MappedText *mapped)
{
    heap_free(mapped->data);
    heap_free(mapped->ends);
    *mapped = (MappedText){0};
}

/* Bytes of the well-formed sequence at s (Unicode Standard, table 3-7), 0 = malformed. */
static size_t sequence_bytes(const uint8_t *s, size_t left)
{
    assert(left > 0);
    uint8_t lead = s[0];
    if (lead < 0x80)
        return 1;
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || left < need)
        return 0;
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return need;
}

size_t unicode_broken_bytes(Str text)
{
    assert(text.len > 0);
    const uint8_t *s = (const uint8_t *)text.data;
    uint8_t lead = s[0];
    if (lead < 0xC2 || lead > 0xF4 || text.len == 1)
        return 1;
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high)
        return 1;
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2, n = 2;
    while (n < need && n < text.len && (s[n] & 0xC0) == 0x80)
        n++;
    return n;
}

size_t unicode_valid_prefix(Str text)
{
    const uint8_t *s = (const uint8_t *)text.data;
    size_t pos = 0;
    while (pos < text.len) {
        uint64_t word;
        if (text.len - pos >= sizeof(word)) {
            memcpy(&word, s + pos, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                pos += sizeof(word);
                continue;
            }
        }
        size_t bytes = sequence_bytes(s + pos, text.len - pos);
        if (bytes == 0)
            break;
        pos += bytes;
    }
    assert(pos <= text.len);
    return pos;
}

/* ---- characters by age ------------------------------------------------------------------ */

typedef struct AgeRange {
    uint32_t first, last, stand_in;
} AgeRange;

#define NEWER(first, last, stand_in) {first, last, stand_in},
#define NOT_NORMALIZED(first, last)
static const AgeRange newer[] = {
#include "text/unicode_ages.def"
};
#undef NEWER
#undef NOT_NORMALIZED
#define NEWER(first, last, stand_in)
#define NOT_NORMALIZED(first, last) {first, last, 0},
static const AgeRange not_normalized[] = {
#include "text/unicode_ages.def"
};
#undef NEWER
#undef NOT_NORMALIZED

static const AgeRange *find_age(const AgeRange *ranges, size_t n, uint32_t codepoint)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        assert(ranges[middle].first <= ranges[middle].last);
        if (codepoint > ranges[middle].last)
            low = middle + 1;
        else if (codepoint < ranges[middle].first)
            high = middle;
        else
            return &ranges[middle];
    }
    return NULL;
}

static uint32_t older_character(uint32_t codepoint)
{
    if (codepoint < 0x800 || (codepoint >= 0x3200 && codepoint < 0xA7C0))
        return codepoint;
    const AgeRange *range = find_age(newer, COUNT_OF(newer), codepoint);
    return range == NULL ? codepoint : range->stand_in;
}

static bool is_not_normalized(uint32_t codepoint)
{
    return codepoint >= 0x7FD &&
           find_age(not_normalized, COUNT_OF(not_normalized), codepoint) != NULL;
}

/* The code point at `pos` of valid text; *bytes its length. */
static uint32_t codepoint_at(Str text, size_t pos, size_t *bytes)
{
    assert(pos < text.len);
    size_t next = pos;
    uint32_t codepoint = 0;
    bool found = utf8_next(text, &next, &codepoint);
    must(found && next > pos);
    *bytes = next - pos;
    return codepoint;
}

Str unicode_older(Str text, Buf *copy)
{
    size_t pos = 0, bytes = 0;
    bool any = false;
    while (pos < text.len) {
        uint64_t word;
        if (text.len - pos >= sizeof(word)) {
            memcpy(&word, text.data + pos, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                pos += sizeof(word);
                continue;
            }
        }
        uint32_t codepoint = codepoint_at(text, pos, &bytes);
        uint32_t older = older_character(codepoint);
        if (older != codepoint) {
            if (!any) {
                buf_clear(copy);
                buf_str(copy, text);
            }
            any = true;
            utf8proc_uint8_t encoded[4];
            utf8proc_ssize_t len = utf8proc_encode_char((utf8proc_int32_t)older, encoded);
            assert((size_t)len == bytes);
            memcpy(copy->data + pos, encoded, (size_t)len);
        }
        pos += bytes;
    }
    assert(!any || copy->len == text.len);
    return any ? buf_view(copy) : text;
}

/* ---- normal forms ----------------------------------------------------------------------- */

/* True when nothing before the character can reach it: neither reordering nor composition. */
static bool starts_chunk(uint32_t codepoint, utf8proc_option_t options)
{
    if (codepoint < 0x300 || is_not_normalized(codepoint))
        return true;
    utf8proc_int32_t first[32];
    int boundclass = 0;
    utf8proc_option_t decompose = (options & UTF8PROC_COMPAT) | UTF8PROC_DECOMPOSE;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)codepoint, first,
                                                 (utf8proc_ssize_t)COUNT_OF(first), decompose,
                                                 &boundclass);
    if (n <= 0)
        return true;
    const utf8proc_property_t *property = utf8proc_get_property(first[0]);
    bool mark = property->category == UTF8PROC_CATEGORY_MN ||
                property->category == UTF8PROC_CATEGORY_MC ||
                property->category == UTF8PROC_CATEGORY_ME;
    bool jamo = first[0] >= HANGUL_VOWEL_FIRST && first[0] <= HANGUL_TRAILING_LAST;
    return property->combining_class == 0 && !mark && !jamo;
}

/* Appends the normal form of one chunk. */
static void normalize_chunk(utf8proc_option_t options, Str chunk, size_t source_end,
                            MappedText *out)
{
    assert(chunk.len > 0);
    utf8proc_int32_t stack[CHUNK_STACK * 4], *points = stack;
    utf8proc_ssize_t room = (utf8proc_ssize_t)COUNT_OF(stack);
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)chunk.data;
    utf8proc_ssize_t n =
        utf8proc_decompose(bytes, (utf8proc_ssize_t)chunk.len, points, room, options);
    if (n > room) {
        points = heap_resize(NULL, (size_t)n * sizeof(*points));
        n = utf8proc_decompose(bytes, (utf8proc_ssize_t)chunk.len, points, n, options);
    }
    must(n >= 0);
    n = utf8proc_normalize_utf32(points, n, options);
    must(n >= 0);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        utf8proc_uint8_t encoded[4];
        utf8proc_ssize_t len = utf8proc_encode_char(points[i], encoded);
        mapped_text_append(out, (const char *)encoded, (size_t)len, source_end);
    }
    if (points != stack)
        heap_free(points);
}

/* True when NFC neither changes the character nor joins it with the one before it. */
static bool is_inert_nfc(uint32_t codepoint)
{
    if (codepoint < 0x300)
        return true;
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)codepoint);
    bool hangul = codepoint >= 0xAC00 && codepoint <= 0xD7A3;
    bool whole = hangul || is_not_normalized(codepoint) ||
                 property->decomp_seqindex == UINT16_MAX || property->decomp_type != 0;
    return whole && starts_chunk(codepoint, form_options[NORMAL_NFC]);
}

/* Where the first character stands that may change, or the one before it: they may compose. */
static size_t quick_prefix(NormalForm form, Str text)
{
    size_t pos = 0, bytes = 0;
    while (pos < text.len) {
        uint8_t lead = (uint8_t)text.data[pos];
        if (lead < 0x80)
            bytes = 1;
        else if (form != NORMAL_NFC || !is_inert_nfc(codepoint_at(text, pos, &bytes)))
            break;
        pos += bytes;
    }
    if (pos == text.len)
        return pos;
    while (pos > 0 && ((uint8_t)text.data[--pos] & 0xC0) == 0x80) {
    }
    return pos;
}

bool unicode_normalize(NormalForm form, Str text, MappedText *out)
{
    assert((size_t)form < COUNT_OF(form_options) && text.len <= UINT32_MAX);
    size_t pos = quick_prefix(form, text);
    if (pos == text.len)
        return false;
    MappedText result = {0};
    mapped_text_copy(&result, text.data, pos, 0);
    utf8proc_option_t options = form_options[form];
    while (pos < text.len) {
        size_t bytes = 0, end = pos;
        uint32_t first = codepoint_at(text, pos, &bytes);
        end += bytes;
        if (is_not_normalized(first)) { /* nor does it take what follows */
            mapped_text_copy(&result, text.data + pos, bytes, pos);
            pos = end;
            continue;
        }
        while (end < text.len && !starts_chunk(codepoint_at(text, end, &bytes), options))
            end += bytes;
        normalize_chunk(options, str_sub(text, pos, end), end, &result);
        pos = end;
    }
    bool same = result.len == text.len && memcmp(result.data, text.data, text.len) == 0;
    if (same) {
        mapped_text_free(&result);
        return false;
    }
    assert(result.len == 0 || result.ends[result.len - 1] == text.len);
    mapped_text_free(out);
    *out = result;
    return true;
}

bool unicode_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool unicode_is_word(uint32_t c)
{
    if (c == 0x200C || c == 0x200D) /* Join_Control */
        return true;
    if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
        (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) /* Other_Alphabetic */
        return true;
    if (c > 0x10FFFF)
        return false;
    switch (utf8proc_category((utf8proc_int32_t)older_character(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

uint32_t unicode_upper(uint32_t codepoint)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)codepoint);
}

uint32_t unicode_lower(uint32_t codepoint)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)codepoint);
}

uint32_t unicode_title(uint32_t codepoint)
{
    return (uint32_t)utf8proc_totitle((utf8proc_int32_t)codepoint);
}

/* Neither a control, format, private, unassigned nor a separator character but the space. */
bool unicode_is_printable(uint32_t codepoint)
{
    switch (utf8proc_category((utf8proc_int32_t)codepoint)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return codepoint == ' ';
    default:
        return true;
    }
}
