/* tokenizer.h — text to token ids and back, exactly as the model's own tokenizer does.
 *
 * A Tokenizer is immutable after it is made and may be used from several threads. It comes from
 * GGUF metadata or from a Hugging Face tokenizer.json; both give the same ids.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "core/arena.h"
#include "core/str.h"
#include "format/gguf.h"

typedef struct Tokenizer Tokenizer;

enum { TOKEN_NONE = -1 };

typedef enum TokenKind { /* as in GGUF's token_type */
    TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE
} TokenKind;

/* Errors: DEP_MODEL_LOAD_FAILED naming the construct that is not supported. Everything lives in
 * `out` (and a few compiled patterns until tokenizer_close). The Gguf must stay open. */
Tokenizer *tokenizer_from_gguf(const Gguf *gguf, Arena *out, Err *err);
/* folder holds tokenizer.json and (optional) tokenizer_config.json, config.json. */
Tokenizer *tokenizer_from_folder(const char *folder, Arena *out, Err *err);
/* One tokenizer.json, with what lies beside it. It cannot be written back (no folder is known). */
Tokenizer *tokenizer_from_file(const char *path, Arena *out, Err *err);
void tokenizer_close(Tokenizer *tokenizer); /* safe on NULL */

typedef struct TokenList {
    int32_t *ids;
    size_t len, capacity;
} TokenList; /* heap memory; free with token_list_free */
void token_list_push(TokenList *list, int32_t id);
void token_list_free(TokenList *list);

typedef enum SpecialParsing {
    SPECIAL_AS_TEXT, /* control tokens written in the text are plain text */
    SPECIAL_PARSED,  /* they become their token (rendered chat templates) */
} SpecialParsing;

/* Appends the ids of `text`; adds no BOS or EOS. Invalid UTF-8 is tokenized byte by byte. When
 * `ends` is not NULL it receives, per appended id, the byte offset in `text` where that token's
 * text ends (ascending; used for loss spans), as one TokenList entry each. */
void tokenizer_encode(const Tokenizer *tokenizer, Str text, SpecialParsing special, TokenList *ids,
                      TokenList *ends);
/* Appends the text of one token. Control tokens give nothing unless with_special. */
typedef enum SpecialOutput { SPECIAL_HIDDEN, SPECIAL_SHOWN } SpecialOutput;
void tokenizer_decode(const Tokenizer *tokenizer, int32_t id, SpecialOutput special, Buf *out);

/* Appends the text of a list, exactly as Hugging Face's decode() gives it: always valid UTF-8. */
void tokenizer_decode_all(const Tokenizer *tokenizer, const int32_t *ids, size_t n,
                          SpecialOutput special, Buf *out);

int32_t tokenizer_size(const Tokenizer *tokenizer);
int32_t tokenizer_find(const Tokenizer *tokenizer, Str text); /* TOKEN_NONE when absent */
TokenKind tokenizer_kind(const Tokenizer *tokenizer, int32_t id);
/* As in the vocabulary (byte alphabet). */
Str tokenizer_text(const Tokenizer *tokenizer, int32_t id);
int32_t tokenizer_bos(const Tokenizer *tokenizer);          /* TOKEN_NONE when there is none */
int32_t tokenizer_eos(const Tokenizer *tokenizer);
int32_t tokenizer_pad(const Tokenizer *tokenizer);
bool tokenizer_adds_bos(const Tokenizer *tokenizer);
/* The tokens that the tokenizer itself puts in front of and behind a text; returns their number. */
typedef enum TextSide { TEXT_FRONT, TEXT_BACK } TextSide;
int32_t tokenizer_around(const Tokenizer *tokenizer, TextSide side, const int32_t **ids);
/* Ends generation: eos and the end-of-turn tokens that the ecosystem knows by text. */
bool tokenizer_is_end(const Tokenizer *tokenizer, int32_t id);
/* The model's own chat template (Jinja), empty when it has none. */
Str tokenizer_chat_template(const Tokenizer *tokenizer);

/* False (RUNTIME_GGUF_EXPORT_FAILED) when GGUF cannot say this tokenizer; ask before writing.
 * `n_rows` is the number of the model's embeddings: a GGUF file has as many tokens, so added tokens
 * beyond them are left out, as the converter does. */
bool tokenizer_can_write_gguf(const Tokenizer *tokenizer, int64_t n_rows, Err *err);
/* Writes the tokenizer.* keys as llama.cpp's converter does (a GGUF source: its own, copied). */
void tokenizer_write_gguf(const Tokenizer *tokenizer, int64_t n_rows, GgufWriter *writer);
/* Writes tokenizer.json and tokenizer_config.json (a folder source: its files copied) so that
 * transformers loads them. */
bool tokenizer_write_folder(const Tokenizer *tokenizer, const char *folder, Err *err);

#endif
