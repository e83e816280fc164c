/* unicode.h — what the tokenizer asks of Unicode: valid stretches, normal forms with a map back to
 * the source, and two character classes. The one wrapper over utf8proc is unicode.c.
 *
 * Normal forms: Unicode Standard Annex #15. Classes: White_Space (PropList.txt) and the "word"
 * class of Unicode Technical Standard #18, Annex C.
 */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include "core/str.h"

typedef enum NormalForm { NORMAL_NFC, NORMAL_NFD, NORMAL_NFKC, NORMAL_NFKD } NormalForm;
const char *normal_form_name(NormalForm form); /* "NFC" */
bool normal_form_from_name(Str name, NormalForm *form);

/* Text that was rewritten, with its way back: `ends[i]` is the source offset that is fully consumed
 * once byte i of the text is (ascending). Heap memory, reused between calls. */
typedef struct MappedText {
    char *data;
    uint32_t *ends;
    size_t len, capacity;
} MappedText;
void mapped_text_append(MappedText *mapped, const char *data, size_t len, size_t source_end);
/* Appends len bytes that stand at `source` there, each mapped to itself. */
void mapped_text_copy(MappedText *mapped, const char *data, size_t len, size_t source);
void mapped_text_free(MappedText *mapped);

/* Length of the longest prefix that is valid UTF-8. */
size_t unicode_valid_prefix(Str text);
/* Bytes of the broken sequence at the start of `text`: as much of it as could have become a
 * character (Unicode Standard, 3.9, "maximal subpart"), at least one. */
size_t unicode_broken_bytes(Str text);
/* Brings valid UTF-8 into the form. False, `out` untouched, when the text already is in it. */
bool unicode_normalize(NormalForm form, Str text, MappedText *out);
/* `text` (valid UTF-8) with every character of Unicode 15 and 16 replaced by one of Unicode 14 of
 * the same general category and length; `text` itself where it has none, else a view of `copy`. */
Str unicode_older(Str text, Buf *copy);
bool unicode_is_space(uint32_t codepoint);
bool unicode_is_word(uint32_t codepoint);

/* What chat templates ask: simple case mappings, and whether Python's repr() prints it as it is. */
uint32_t unicode_upper(uint32_t codepoint);
uint32_t unicode_lower(uint32_t codepoint);
uint32_t unicode_title(uint32_t codepoint);
bool unicode_is_printable(uint32_t codepoint);

#endif
