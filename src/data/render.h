/* render.h — a row as tokens with loss marks, exactly as the model's own template writes it.
 *
 * How the marks are placed: head of render.c.
 */
#ifndef DATA_RENDER_H
#define DATA_RENDER_H

#include "core/arena.h"
#include "data/schema.h"
#include "text/template.h"
#include "text/tokenizer.h"

typedef struct Renderer {
    const Tokenizer *tokenizer;
    const Template *chat_template; /* NULL: rows with messages are faults, but for text pairs */
    const char *bos, *eos;         /* texts for the template; NULL: it sees none */
    Json *extra;                   /* its other variables: pad_token, the row's tools */
    bool has_prompt;               /* the template has a generation prompt */
    bool train_on_prompts;
    int32_t max_tokens; /* marks behind so many tokens are not looked for; 0 = all are */
    /* Reused from row to row. */
    Buf text, prefix;
    TokenList ids, ends;
    Buf loss; /* one byte a token */
    Arena scratch;
} Renderer;

bool renderer_open(Renderer *renderer, const Tokenizer *tokenizer, const Template *chat_template,
                   bool train_on_prompts, Err *err);
void renderer_close(Renderer *renderer);
/* Fills ids and loss. False: *fault says why. */
bool render_row(Renderer *renderer, const Row *row, RowFault *fault);

#endif
