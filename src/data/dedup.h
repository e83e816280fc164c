/* dedup.h — rows that say the same as an earlier one, exactly or nearly.
 *
 * Two rows are exact duplicates when their words are equal (row_words: whatever their format).
 * They are near duplicates when the Jaccard similarity of their sets of 3 characters, lower-cased
 * in ASCII, is at least the threshold as MinHash estimates it (Broder 1997: 128 permutations, 8
 * bits kept of each, Li & König 2010); candidates come from bands (LSH). The first row stays.
 * Memory: 32 bytes a row, and about 220 more for near duplicates.
 */
#ifndef DATA_DEDUP_H
#define DATA_DEDUP_H

#include "core/str.h"

typedef enum DedupMode { DEDUP_NONE, DEDUP_EXACT, DEDUP_MINHASH } DedupMode;

enum { MINHASH_PERMUTATIONS = 128 };

typedef struct Fingerprint {
    uint64_t digest[2]; /* of the words */
    uint8_t signature[MINHASH_PERMUTATIONS];
} Fingerprint;

/* The signature is filled for DEDUP_MINHASH only. */
void fingerprint_make(Str words, DedupMode mode, Fingerprint *out);
/* Estimated Jaccard similarity of two signatures. */
double fingerprint_similarity(const Fingerprint *a, const Fingerprint *b);

typedef struct Dedup Dedup;

Dedup *dedup_open(DedupMode mode, double threshold); /* threshold in (0, 1] */
void dedup_close(Dedup *dedup);                      /* safe on NULL */

typedef enum Seen { SEEN_NOT, SEEN_EXACT, SEEN_NEAR } Seen;
/* Looks the row up; *id becomes the one it resembles. */
Seen dedup_find(const Dedup *dedup, const Fingerprint *row, int64_t *id);
/* The same, and a row that is new is kept under `id`. */
Seen dedup_add(Dedup *dedup, const Fingerprint *row, int64_t *id);

#endif
