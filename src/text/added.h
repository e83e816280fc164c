/* added.h — added tokens: pieces of text that are cut out before anything else sees them.
 *
 * Leftmost match first, the longest among those that start together. The flags mean what they mean
 * in Hugging Face's tokenizers (AddedToken).
 */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include "core/arena.h"
#include "core/str.h"
#include "text/tokenizer.h"

enum { ADDED_MAX_BYTES = 4096 }; /* of one added token's text */

typedef struct AddedToken {
    Str content;
    int32_t id;
    bool control;     /* plain text under SPECIAL_AS_TEXT */
    bool normalized;  /* looked for after normalisation, in its normal form */
    bool lstrip;      /* swallows the white space before it */
    bool rstrip;      /* … after it */
    bool single_word; /* only where no word character touches it */
    bool special;     /* the flag as read; `control` also holds what merely looks special */
} AddedToken;

/* A trie over the texts: children of a node are a list, those of the root a table. */
typedef struct TrieNode {
    int32_t sibling, child; /* 0 = none */
    int32_t token;          /* index into tokens, -1 = none */
    uint8_t byte;
} TrieNode;

typedef struct AddedMatcher {
    const AddedToken *tokens;
    TrieNode *nodes; /* 0 is the root */
    int32_t n_nodes;
    int32_t first[256]; /* node of a token's first byte, 0 = none */
} AddedMatcher;

/* keys[i] is the text to look for, tokens[use[i]] the token. */
void added_build(AddedMatcher *matcher, const AddedToken *tokens, const Str *keys,
                 const int32_t *use, int32_t count, Arena *out);

typedef struct AddedMatch {
    size_t start, end;
    const AddedToken *token;
} AddedMatch;

/* The next match in valid UTF-8 at or after `from`; stripping never reaches before `from`. */
bool added_find(const AddedMatcher *matcher, Str text, size_t from, SpecialParsing special,
                AddedMatch *match);

#endif
