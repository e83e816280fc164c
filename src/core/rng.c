/* rng.c — Philox 4x32-10 and what is drawn from it. Stateless: every draw is a pure function of
 * (seed, stream, sub, counter).
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11. Ten
 * rounds; each multiplies two of the four counter words by fixed constants and mixes the halves
 * with the key, which is bumped by two Weyl constants between rounds.
 *   key words     : seed low, seed high
 *   counter words : counter low, counter high, sub, stream
 */
#include "core/rng.h"

static const uint32_t MULTIPLIER_0 = 0xD2511F53u;
static const uint32_t MULTIPLIER_1 = 0xCD9E8D57u;
static const uint32_t WEYL_0 = 0x9E3779B9u; /* golden ratio */
static const uint32_t WEYL_1 = 0xBB67AE85u; /* sqrt(3) - 1 */
enum { ROUNDS = 10 };

void rng_philox(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter, uint32_t out[4])
{
    assert(out != NULL);
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = sub, c3 = (uint32_t)stream;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0;
        uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        key0 += WEYL_0;
        key1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

float rng_uniform(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter)
{
    uint32_t words[4];
    rng_philox(seed, stream, sub, counter, words);
    return (float)(words[0] >> 8) * 0x1p-24f;
}

static uint64_t word64(const uint32_t words[4]) { return (uint64_t)words[1] << 32 | words[0]; }

double rng_uniform53(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter)
{
    uint32_t words[4];
    rng_philox(seed, stream, sub, counter, words);
    return (double)(word64(words) >> 11) * 0x1p-53;
}

/* High 64 bits of a * b, from four 32-bit products. */
static uint64_t mul_high(uint64_t a, uint64_t b)
{
    uint64_t a_low = (uint32_t)a, a_high = a >> 32;
    uint64_t b_low = (uint32_t)b, b_high = b >> 32;
    uint64_t low = a_low * b_low;
    uint64_t mid = a_high * b_low + (low >> 32);
    uint64_t mid2 = a_low * b_high + (uint32_t)mid;
    return a_high * b_high + (mid >> 32) + (mid2 >> 32);
}

uint64_t rng_below(uint64_t seed, RngStream stream, uint32_t sub, uint64_t counter, uint64_t n)
{
    must(n > 0);
    uint32_t words[4];
    rng_philox(seed, stream, sub, counter, words);
    uint64_t value = mul_high(word64(words), n);
    assert(value < n);
    return value;
}

void rng_permutation(uint64_t seed, RngStream stream, uint32_t sub, int64_t n, int64_t *out)
{
    must(n >= 0 && (out != NULL || n == 0));
    for (int64_t i = 0; i < n; i++)
        out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)rng_below(seed, stream, sub, (uint64_t)i, (uint64_t)i + 1);
        assert(j >= 0 && j <= i);
        int64_t kept = out[i];
        out[i] = out[j];
        out[j] = kept;
    }
}
