/* normalize.h — what a tokenizer does to a text before it is split: a list of steps that are data.
 *
 * The steps are those of Hugging Face's tokenizers (tokenizer.json, "normalizer"). Every result
 * knows its way back to the source, so that tokens keep their place in it.
 */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H

#include "core/arena.h"
#include "core/json.h"
#include "text/regex.h"
#include "text/unicode.h"

enum { NORMALIZE_MAX_STEPS = 16 };

typedef enum NormKind {
    NORM_FORM, NORM_REPLACE, NORM_PREPEND, NORM_LOWERCASE, NORM_STRIP
} NormKind;

typedef struct NormStep {
    NormKind kind;
    NormalForm form;   /* NORM_FORM */
    Str pattern;       /* NORM_REPLACE: literal, or the source of regex */
    Regex *regex;      /* NORM_REPLACE: NULL = literal */
    Str content;       /* NORM_REPLACE, NORM_PREPEND */
    bool left, right;  /* NORM_STRIP */
} NormStep;

typedef struct Normalizer {
    NormStep steps[NORMALIZE_MAX_STEPS];
    int n_steps;
} Normalizer;

/* False (DEP_MODEL_LOAD_FAILED): too many steps. `step.regex` is then freed. */
bool normalizer_add(Normalizer *normalizer, NormStep step, Err *err);
/* `json` is tokenizer.json's normalizer, or NULL. */
bool normalizer_from_json(Normalizer *normalizer, const Json *json, Arena *out, Err *err);
/* The normalizer of tokenizer.json that does the same; the caller owns it. */
Json *normalizer_to_json(const Normalizer *normalizer);
void normalizer_close(Normalizer *normalizer);

/* Memory of one thread, zero-initialised; what normalize returned lives there until the next
 * call. */
typedef struct NormScratch {
    MappedText texts[2];
} NormScratch;
void norm_scratch_free(NormScratch *scratch);

/* Runs all steps over valid UTF-8. NULL: the text stays as it is. */
const MappedText *normalize(const Normalizer *normalizer, RegexScratch *regex, Str text,
                            NormScratch *scratch);

#endif
