/* bpe.h — byte-pair encoding of one word: merges by rank, the leftmost pair first among equals.
 *
 * Sennrich et al. 2016 (arXiv:1508.07909) over bytes as in GPT-2 (Radford et al. 2019). A Bpe is
 * immutable but for a memo of facts that do not depend on the order of calls.
 */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stdatomic.h>

#include "text/vocab.h"

enum { BPE_MAX_MERGES = 1 << 22 };

typedef struct Merge {
    int32_t left, right, result;
} Merge;

typedef struct MergeSlot {
    int32_t left, right; /* left == TOKEN_NONE: free */
    int32_t rank, result;
} MergeSlot;

typedef struct Bpe {
    const Vocab *vocab;
    Merge *merges; /* by rank */
    int32_t n_merges;
    MergeSlot *slots;
    uint32_t mask;
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
    bool fuse_unknown;  /* a run of unknown bytes is one unknown token */
    int32_t unknown;    /* TOKEN_NONE: unknown bytes give nothing */
    _Atomic uint8_t *whole; /* per row: WholeWord */
} Bpe;

/* Room for n merges; fill merges[], then bpe_finish. */
void bpe_init(Bpe *bpe, const Vocab *vocab, int32_t n_merges, Arena *out);
/* Sets merge `rank` from two texts of the vocabulary. False: one of the three texts is no row. */
bool bpe_set_merge(Bpe *bpe, int32_t rank, Str left, Str right);
void bpe_finish(Bpe *bpe, Arena *out);

/* A token of a word and the byte of the word at which it ends. */
typedef struct BpeToken {
    int32_t id;
    uint32_t end;
} BpeToken;

/* Working memory of one thread; zero-initialised. `tokens[0..n)` is the latest result. */
typedef struct BpeScratch {
    BpeToken *tokens;
    size_t n, capacity;
    struct BpeNode *nodes;
    struct BpeCandidate *heap;
    size_t nodes_capacity, heap_len, heap_capacity;
} BpeScratch;
void bpe_scratch_free(BpeScratch *scratch);

void bpe_encode(const Bpe *bpe, Str word, BpeScratch *scratch);

#endif
