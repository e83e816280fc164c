/* tokenizer_internal.h — what a Tokenizer consists of; seen by tokenizer*.c alone.
 *
 * A reader (tokenizer_gguf.c, tokenizer_json.c) fills vocab, bpe, pre, norm, added, special and the
 * texts, then calls tokenizer_finish. After that nothing changes.
 */
#ifndef TEXT_TOKENIZER_INTERNAL_H
#define TEXT_TOKENIZER_INTERNAL_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

/* Tokens with a role, in the order in which GGUF files list them. */
typedef enum SpecialRole {
    ROLE_BOS, ROLE_EOS, ROLE_UNKNOWN, ROLE_SEP, ROLE_PAD, ROLE_CLS, ROLE_MASK, ROLE_COUNT
} SpecialRole;

typedef struct RoleInfo {
    const char *json; /* <json>_token in tokenizer_config.json, <json>_token_id in config.json */
    const char *gguf; /* tokenizer.ggml.<gguf>_token_id */
} RoleInfo;
extern const RoleInfo role_infos[ROLE_COUNT];

/* What tokenizer.json's decoder does to the tokens' texts, in this order. */
typedef struct Decoder {
    bool bytes;        /* ByteLevel: the byte alphabet is spelled back */
    Str mark;          /* Replace, Metaspace: becomes … */
    Str mark_content;  /* … this */
    bool drops_first;  /* Metaspace: marks of the first token become nothing */
    bool byte_pieces;  /* ByteFallback: runs of "<0xHH>" become bytes */
    bool parts;        /* no decoder at all: a space between two tokens */
    int strip_left;    /* Strip: at most so many of `strip` at the start of the text */
    Str strip;
} Decoder;

typedef enum Choice { CHOICE_NOT_SAID = -1, CHOICE_NO, CHOICE_YES } Choice;

struct Tokenizer {
    Vocab vocab;
    Bpe bpe;
    PreTokenizer pre;
    Normalizer norm;
    Decoder decoder;
    float *scores; /* GGUF "llama" models, else NULL */
    AddedToken *added;
    int32_t n_added;
    AddedMatcher raw;        /* over the text as given */
    AddedMatcher normalized; /* over the normalised text */
    int32_t special[ROLE_COUNT];
    Choice adds_bos, adds_eos, adds_sep;
    bool *is_end;
    Str chat_template;
    const PreRow *row;  /* its name in GGUF files; NULL = has none */
    const Gguf *gguf;   /* the source, or NULL */
    const char *folder; /* the source, or NULL */
    int32_t *prefix, *suffix; /* TemplateProcessing: tokens around a text */
    int32_t n_prefix, n_suffix;
};

/* `json` is tokenizer.json's decoder, or NULL. */
bool decoder_from_json(Decoder *decoder, const Json *json, Arena *out, Err *err);
/* The decoder of tokenizer.json that does the same; the caller owns it. */
Json *decoder_to_json(const Decoder *decoder);
/* Builds what follows from the filled fields. */
void tokenizer_finish(Tokenizer *tokenizer, Arena *out);
/* Whether a text is a control token to the ecosystem although no flag says so. */
bool token_looks_special(Str text);
#endif
