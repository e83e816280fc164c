/* pretokenize.h — text to words, as a list of regular-expression steps that are data.
 *
 * Each step splits the pieces that the one before left. The steps come from a name (GGUF's
 * tokenizer.ggml.pre) or from tokenizer.json; equal steps are how one is recognised in the other.
 */
#ifndef TEXT_PRETOKENIZE_H
#define TEXT_PRETOKENIZE_H

#include "core/arena.h"
#include "core/json.h"
#include "text/regex.h"
#include "text/unicode.h"

enum { PRETOKENIZE_MAX_STEPS = 16 };

typedef enum SplitBehavior { /* what becomes of a match */
    SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_MERGED_WITH_PREVIOUS, SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS
} SplitBehavior;

/* Values of tokenizer.ggml.model: byte-level BPE, SentencePiece by scores, by merges. */
#define GGUF_MODEL_BYTES "gpt2"
#define GGUF_MODEL_SCORES "llama"
#define GGUF_MODEL_PIECES "gemma4"

typedef enum PrefixRule { /* PREFIX_FIRST: only the piece at the start of the text */
    PREFIX_NEVER, PREFIX_ALWAYS, PREFIX_FIRST
} PrefixRule;

/* U+2581, which stands for a space in SentencePiece's vocabularies. */
#define PRETOKENIZE_MARK "\xE2\x96\x81"
#define PRETOKENIZE_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef struct SplitStep {
    Str pattern; /* Oniguruma syntax, as in tokenizer.json */
    SplitBehavior behavior;
    bool invert; /* the gaps count as matches and the matches as gaps */
    Regex *regex;
} SplitStep;

typedef struct PreTokenizer {
    SplitStep steps[PRETOKENIZE_MAX_STEPS];
    int n_steps;
    /* Before the steps, where `mark` is not empty: every space becomes the mark (Metaspace). */
    Str mark;
    /* Then the piece gets `prefix` in front, unless it starts with it. */
    Str prefix;
    PrefixRule prefix_rule;
} PreTokenizer;

/* A name of tokenizer.ggml.pre and what llama.cpp means by it. */
typedef struct PreRow {
    const char *name;
    const char *patterns[6]; /* each isolated, in order; NULL ends the list */
    bool ignore_merges;
    bool adds_bos; /* when the file does not say */
    bool nfc;      /* the models of that name normalise; llama.cpp does not */
    bool listed;   /* stands for its steps when a name is looked for */
} PreRow;
const PreRow *pre_row_find(Str name, Arena *out); /* NULL when not known */
/* The name for these steps, NULL when no row has them. */
const PreRow *pre_row_recognise(const PreTokenizer *pre, bool ignore_merges);

/* Whether a token that is cut out takes the white space behind it along. GGUF files do not say, so
 * it follows from the model's name as in llama.cpp; `kind` is a TokenKind. */
bool pre_strips_right(Str model_name, Str token, uint8_t kind);

bool pretokenizer_from_row(PreTokenizer *pre, const PreRow *row, Err *err);
/* `json` is tokenizer.json's pre_tokenizer (or NULL). *byte_level says whether ByteLevel occurs. */
bool pretokenizer_from_json(PreTokenizer *pre, const Json *json, bool *byte_level, Arena *out,
                            Err *err);
/* The pre_tokenizer of tokenizer.json that does the same; the caller owns it. */
Json *pretokenizer_to_json(const PreTokenizer *pre, bool byte_level);
void pretokenizer_close(PreTokenizer *pre);

/* Calls `word` for every non-empty word of valid UTF-8 in order; `offset` is its place in text. */
typedef void WordSink(void *context, Str word, size_t offset);
void pretokenize(const PreTokenizer *pre, RegexScratch *scratch, Str text, WordSink *word,
                 void *context);

#endif
