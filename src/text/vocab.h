/* vocab.h — the rows of a vocabulary: text, kind, what a token matches, and the ways back.
 *
 * Vocabularies of pieces hold text as it is (with U+2581 for a space) and a token "<0xHH>" for each
 * byte. Byte-level vocabularies write every byte as one printable character (GPT-2's "byte
 * alphabet", Radford et al. 2019): 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for themselves, the
 * other 68 bytes are U+0100, U+0101, … in increasing order.
 */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include "core/arena.h"
#include "core/str.h"
#include "text/tokenizer.h"

enum { VOCAB_MAX_SIZE = 1 << 22 };

typedef struct StrSlot {
    int32_t row; /* TOKEN_NONE = free */
    uint32_t hash;
} StrSlot;

/* Text to row number, over an array of texts that outlives it. */
typedef struct StrMap {
    const Str *keys;
    StrSlot *slots;
    uint32_t mask;
} StrMap;
void str_map_init(StrMap *map, const Str *keys, int32_t capacity, Arena *out);
/* False: an equal text is there already, and stays. */
bool str_map_add(StrMap *map, int32_t row);
int32_t str_map_find(const StrMap *map, Str text);
/* The same for many texts, which does not wait for memory text by text. */
void str_map_find_all(const StrMap *map, const Str *texts, size_t n, int32_t *rows);

typedef enum VocabScheme { VOCAB_BYTES, VOCAB_PIECES } VocabScheme;

enum { VOCAB_CHARS = 0x10000 }; /* code points with a table of their own */

typedef struct Vocab {
    int32_t size;
    VocabScheme scheme;
    Str *texts;     /* as in the file */
    Str *bytes;     /* what the token matches in a normalised text */
    uint8_t *kinds; /* TokenKind */
    bool *in_model; /* may come out of merging; the others are only cut out of the text */
    StrMap by_text; /* every row */
    StrMap by_bytes; /* rows of the model */
    int32_t byte_ids[256]; /* the token of one byte, TOKEN_NONE where the vocabulary lacks it */
    int32_t *char_ids;     /* pieces: the token of a code point below VOCAB_CHARS, or TOKEN_NONE */
    size_t longest;        /* bytes of the longest token of the model */
    int32_t n_repeated;    /* rows of the model whose text an earlier row has */
} Vocab;

/* Makes arrays for `size` rows, all UNUSED with empty texts. */
void vocab_init(Vocab *vocab, int32_t size, Arena *out);
/* Fills bytes, the maps, byte_ids and char_ids from scheme, texts, kinds and in_model. */
void vocab_finish(Vocab *vocab, Arena *out);

/* The byte that "<0xHH>" spells, -1 when the text is no such token. */
int byte_piece(Str text);
uint32_t byte_alphabet_char(uint8_t byte);
int byte_alphabet_byte(uint32_t codepoint); /* -1: not in the alphabet */

#endif
