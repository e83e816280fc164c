/* bpe.h — byte-pair encoding of one word: merges by rank, the leftmost pair first among equals.
 *
 * Sennrich et al. 2016 (arXiv:1508.07909) over bytes as in GPT-2 (Radford et al. 2019), or over
 * characters with bytes as a last resort as in SentencePiece (Kudo and Richardson 2018), whose
 * scores are ranks by another name. A Bpe is immutable but for a memo of facts that do not depend
 * on the order of calls.
 */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stdatomic.h>

#include "text/vocab.h"

enum { BPE_MAX_MERGES = 1 << 22, BPE_MAX_JOINED = 16384 /* bytes of what a merge makes */ };

typedef struct Merge {
    int32_t left, right, result, rank;
} Merge;

typedef struct MergeSlot {
    int32_t left, right; /* left == TOKEN_NONE: free */
    int32_t rank, result;
} MergeSlot;

typedef struct Bpe {
    const Vocab *vocab;
    Merge *merges; /* ranks ascend */
    int32_t n_merges;
    MergeSlot *slots;
    uint32_t mask;
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
    bool byte_fallback; /* pieces: an unknown character becomes its bytes' tokens */
    bool fuse_unknown;  /* a run of unknown characters is one unknown token */
    int32_t unknown;    /* TOKEN_NONE: unknown characters give nothing */
    _Atomic uint8_t *whole; /* per row: WholeWord */
    /* A set of neighbours (two characters that stand side by side in some token), hashed to bits:
     * no merge can cross two characters that are no neighbours. NULL: not known. */
    uint64_t *neighbours;
} Bpe;

/* Either room for n merges; bpe_add_merges until all are there; bpe_finish. Or bpe_from_scores,
 * bpe_finish. */
void bpe_init(Bpe *bpe, const Vocab *vocab, int32_t n_merges, Arena *out);
/* Adds the next merges from pairs of texts of the vocabulary, left and right in turn. Returns how
 * many: less than n_pairs where one of the three texts of a merge is no row. */
enum { BPE_BLOCK = 32 };
int32_t bpe_add_merges(Bpe *bpe, int32_t rank, const Str *texts, int32_t n_pairs);
/* SentencePiece's order: of two neighbours, those first whose joined text has the highest score. */
void bpe_from_scores(Bpe *bpe, const Vocab *vocab, const float *scores, Arena *out);
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
/* Bytes of the first part of a word that can be encoded without looking at the rest. */
size_t bpe_stretch(const Bpe *bpe, Str word);

#endif
