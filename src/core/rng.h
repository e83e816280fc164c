/* rng.h — counter-based random numbers (Philox 4x32-10; Salmon et al., SC'11): stateless, keyed by
 * (seed, stream, counter), so that any draw can be repeated anywhere without replaying the others.
 *
 * Streams keep uses apart; a new use gets a new stream number here.
 */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include "core/base.h"

typedef enum RngStream {
    RNG_ADAPTER_INIT = 1, /* counter = element index; sub = tensor index */
    RNG_SHUFFLE = 2,      /* sub = epoch */
    RNG_SAMPLE = 3,       /* sub = 0, counter = token index (generate) */
    RNG_DROPOUT = 4,
    RNG_DATA_SPLIT = 5,  /* sub = file, counter = row */
    RNG_DATA_WEIGHT = 6, /* sub = file, counter = row */
    RNG_MERGE_DROP = 7,  /* sub = matrix, counter = element */
    RNG_REPLAY = 8,      /* sub = run */
    RNG_TEST = 99,
} RngStream;

/* Four independent 32-bit words for one key and counter. */
void rng_philox(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter, uint32_t out[4]);
/* Uniform in [0, 1): 24 bits for float, 53 for double. */
float rng_uniform(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter);
double rng_uniform53(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter);
/* Uniform integer in [0, n), n > 0, by multiplication (bias < 2^-32 * n). */
uint64_t rng_below(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter, uint64_t n);
/* Fisher-Yates of 0..n-1 into out. */
void rng_permutation(uint64_t seed, RngStream stream, uint32_t sub, int64_t n, int64_t *out);

#endif
