/* regex.h — the regular expressions of pre-tokenizers; the one wrapper over PCRE2 is regex.c.
 *
 * Patterns are written for Oniguruma (Ruby syntax), which is what Hugging Face's tokenizers run.
 * They are translated where the two engines mean different things; a construct that cannot be
 * translated exactly is an error that names it.
 */
#ifndef TEXT_REGEX_H
#define TEXT_REGEX_H

#include "core/err.h"
#include "core/str.h"

typedef struct pcre2_real_code_8 Regex;               /* immutable, shared between threads */
typedef struct pcre2_real_match_data_8 RegexScratch; /* one per thread at a time */

/* NULL on error (DEP_MODEL_LOAD_FAILED). */
Regex *regex_compile(Str pattern, Err *err);
void regex_free(Regex *regex); /* safe on NULL */
RegexScratch *regex_scratch_new(void);
void regex_scratch_free(RegexScratch *scratch); /* safe on NULL */

/* Leftmost match at or after `from` in valid UTF-8. */
bool regex_find(const Regex *regex, RegexScratch *scratch, Str text, size_t from, size_t *start,
                size_t *end);

/* Whether the library's character properties are older than Unicode 16.0, which tokenizers match
 * by: then a text goes through unicode_older first. */
bool regex_is_behind(void);

/* Appends the pattern that matches the text literally. */
void regex_quote(Str literal, Buf *pattern);

#endif
