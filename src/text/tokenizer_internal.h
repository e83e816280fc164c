/* tokenizer_internal.h — what a Tokenizer consists of; seen by tokenizer*.c alone.
 *
 * A reader (tokenizer_gguf.c, tokenizer_json.c) fills vocab, bpe, pre, norms, added, special and
 * the texts, then calls tokenizer_finish. After that nothing changes.
 */
#ifndef TEXT_TOKENIZER_INTERNAL_H
#define TEXT_TOKENIZER_INTERNAL_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

enum { TOKENIZER_MAX_NORMALIZERS = 8 };

/* Tokens with a role, in the order in which GGUF files list them. */
typedef enum SpecialRole {
    ROLE_BOS, ROLE_EOS, ROLE_UNKNOWN, ROLE_SEP, ROLE_PAD, ROLE_CLS, ROLE_MASK, ROLE_COUNT
} SpecialRole;

typedef struct RoleInfo {
    const char *json; /* <json>_token in tokenizer_config.json, <json>_token_id in config.json */
    const char *gguf; /* tokenizer.ggml.<gguf>_token_id */
} RoleInfo;
extern const RoleInfo role_infos[ROLE_COUNT];

typedef enum Choice { CHOICE_NOT_SAID = -1, CHOICE_NO, CHOICE_YES } Choice;

struct Tokenizer {
    Vocab vocab;
    Bpe bpe;
    PreTokenizer pre;
    NormalForm norms[TOKENIZER_MAX_NORMALIZERS];
    int n_norms;
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
};

/* Builds what follows from the filled fields. */
void tokenizer_finish(Tokenizer *tokenizer, Arena *out);
/* Whether a text is a control token to the ecosystem although no flag says so. */
bool token_looks_special(Str text);
/* Runs the normalizers. False when the text stays as it is, else the result is in *out. */
bool tokenizer_normalize(const Tokenizer *tokenizer, Str text, MappedText *out);

#endif
