/* tokenizer_json.h — a tokenizer from parsed JSON, without files.
 *
 * For the folder reader, tests and the fuzz target; the rest of the product uses tokenizer.h.
 */
#ifndef TEXT_TOKENIZER_JSON_H
#define TEXT_TOKENIZER_JSON_H

#include "core/json.h"
#include "text/tokenizer.h"

/* tokenizer.json; tokenizer_config.json and config.json may be NULL. None is kept. */
Tokenizer *tokenizer_from_json(const Json *tokenizer, const Json *config, const Json *model,
                               Arena *out, Err *err);

/* The same from the text of a tokenizer.json, without a tree for its long lists; `subject` names it
 * in errors. */
Tokenizer *tokenizer_from_text(Str tokenizer, const char *subject, const Json *config,
                               const Json *model, Arena *out, Err *err);

#endif
