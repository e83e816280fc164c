/* token_table.h — the two long lists of tokenizer.json, the vocabulary and the merges, as arrays.
 *
 * They are nearly the whole file (33 MB for 262,144 tokens); a tree of JSON values for them takes
 * longer than everything else about loading a tokenizer. So they are read by a scanner of their own
 * and taken out; what remains is small and goes through core/json.h.
 */
#ifndef TEXT_TOKEN_TABLE_H
#define TEXT_TOKEN_TABLE_H

#include "core/arena.h"
#include "core/json.h"

typedef struct TableToken {
    Str text;
    int64_t id;
} TableToken;

typedef struct TableMerge {
    Str left, right;
} TableMerge;

/* Heap memory; the texts lie in the source or in the arena that the table was made with. */
typedef struct TokenTable {
    TableToken *tokens;
    TableMerge *merges;
    size_t n_tokens, n_merges, tokens_capacity, merges_capacity;
    bool has_vocab, has_merges; /* an object and a list, not something else */
} TokenTable;
void token_table_free(TokenTable *table);

/* Reads model.vocab and model.merges of the text of a tokenizer.json and appends the text without
 * their contents to `rest`, which is then to be parsed: only the lists are checked here. */
bool token_table_scan(TokenTable *table, Str text, Arena *out, Buf *rest, Err *err);
/* The same from a tree. */
bool token_table_from_json(TokenTable *table, const Json *model, Err *err);

#endif
