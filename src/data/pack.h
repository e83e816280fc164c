/* pack.h — examples to microbatches: flat token streams of constant length T with the spans of
 * their sequences, in an order that depends only on (seed, epoch).
 *
 * T is constant in a run: the smallest multiple of 128 that holds the largest microbatch. Unused
 * positions at the end are padding: sequences of one token that carry no loss.
 */
#ifndef DATA_PACK_H
#define DATA_PACK_H

#include "data/dataset.h"

typedef struct PackOptions {
    int32_t rows;           /* sequences (packs) a microbatch = batch size */
    int32_t max_seq_length; /* tokens a pack */
    bool packing;           /* false: one example a row */
    uint64_t seed;
    bool curriculum; /* an epoch goes through CURRICULUM_PARTS parts of rising difficulty */
} PackOptions;

enum { CURRICULUM_PARTS = 5 }; /* of equal numbers of examples; the last takes the rest */

typedef struct Packer Packer;

/* The plan of one epoch is best-fit-decreasing within a shuffled window, so it is the same for the
 * same (dataset, options, epoch). `out` lives as long as the packer. */
Packer *packer_make(const Dataset *dataset, const PackOptions *options, Arena *out);
int32_t packer_tokens(const Packer *packer);   /* T, the same for every microbatch */
int32_t packer_max_loss(const Packer *packer); /* upper bound of loss rows a microbatch (<= T) */
int64_t packer_microbatches(Packer *packer);   /* in the epoch asked for last, at first epoch 0 */

/* Host arrays of one microbatch, each [T]. All are written in full. */
typedef struct Microbatch {
    int32_t *tokens;
    int32_t *positions; /* 0.. inside each sequence */
    int32_t *kv_begin;  /* first token that this one may see */
    int32_t *kv_end;    /* one past the last = own index + 1 */
    int32_t *q_end;     /* one past the last token that sees this one */
    int32_t *loss_rows; /* [n_loss] indices whose next token carries loss, ascending */
    int32_t *targets;   /* [n_loss] that next token */
    int32_t n_loss;
    int32_t n_used; /* tokens that are not padding */
    int32_t n_examples;
} Microbatch;
void microbatch_make(Microbatch *mb, int32_t tokens, Arena *out);

/* Where the stream stands; saved in checkpoints. */
typedef struct DataCursor {
    int64_t epoch;      /* from 0 */
    int64_t microbatch; /* next one inside the epoch */
} DataCursor;
/* Microbatches from the cursor to the end of its epoch, at least 1: an optimiser step never crosses
 * an epoch, so it takes the lesser of this and the accumulation. */
int64_t packer_left(Packer *packer, const DataCursor *cursor);
/* Fills mb with the microbatch at the cursor and advances it (into the next epoch at the end). */
void packer_next(Packer *packer, DataCursor *cursor, Microbatch *mb);
/* Names the rows of the microbatch at the cursor, whose epoch was filled from last: "lines 3, 17"
 * and their files when there are several. */
void packer_name_rows(const Packer *packer, const DataCursor *cursor, Buf *text);

#endif
