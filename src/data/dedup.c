/* dedup.c — fingerprints and the two tables that find them again; see dedup.h.
 *
 * Owns the hash functions, which are part of the result: a change of them changes which near
 * duplicates are found. Both tables are open-addressed and grow by doubling.
 */
#include "data/dedup.h"

#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"

enum { LEAST_SLOTS = 1024, MAX_BANDS = MINHASH_PERMUTATIONS };

static uint64_t mix64(uint64_t x) /* the finaliser of MurmurHash3 */
{
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

/* ---- fingerprints ---------------------------------------------------- */

/* h_i(x) = a_i x + b_i mod 2^32, a_i odd: a permutation of 32-bit numbers. */
static void permutations(uint32_t a[MINHASH_PERMUTATIONS], uint32_t b[MINHASH_PERMUTATIONS])
{
    for (uint32_t i = 0; i < MINHASH_PERMUTATIONS; i++) {
        const uint64_t seed = mix64(0x9e3779b97f4a7c15ULL * (i + 1));
        a[i] = (uint32_t)seed | 1u;
        b[i] = (uint32_t)(seed >> 32);
    }
}

static void take_shingle(uint32_t x, const uint32_t *a, const uint32_t *b, uint32_t *least)
{
    for (int i = 0; i < MINHASH_PERMUTATIONS; i++) {
        const uint32_t h = a[i] * x + b[i];
        least[i] = h < least[i] ? h : least[i];
    }
}

static void sign(Str words, uint8_t signature[MINHASH_PERMUTATIONS])
{
    uint32_t a[MINHASH_PERMUTATIONS], b[MINHASH_PERMUTATIONS], least[MINHASH_PERMUTATIONS];
    uint32_t codepoint = 0, before[2] = {0, 0};
    permutations(a, b);
    memset(least, 0xff, sizeof least);
    int64_t n = 0;
    for (size_t at = 0; utf8_next(words, &at, &codepoint); n++) {
        if (codepoint >= 'A' && codepoint <= 'Z')
            codepoint += 'a' - 'A';
        const uint64_t key = (uint64_t)before[0] << 42 | (uint64_t)before[1] << 21 | codepoint;
        if (n >= 2)
            take_shingle((uint32_t)mix64(key), a, b, least);
        before[0] = before[1];
        before[1] = codepoint;
    }
    if (n < 3) /* the whole text is its one shingle */
        take_shingle((uint32_t)mix64((uint64_t)before[0] << 21 | before[1]), a, b, least);
    for (int i = 0; i < MINHASH_PERMUTATIONS; i++)
        signature[i] = (uint8_t)least[i];
}

void fingerprint_make(Str words, DedupMode mode, Fingerprint *out)
{
    uint8_t digest[SHA256_BYTES];
    assert(mode != DEDUP_NONE && out != NULL);
    bytes_sha256(words, digest);
    memcpy(out->digest, digest, sizeof out->digest);
    if (mode == DEDUP_MINHASH)
        sign(words, out->signature);
}

double fingerprint_similarity(const Fingerprint *a, const Fingerprint *b)
{
    int equal = 0;
    for (int i = 0; i < MINHASH_PERMUTATIONS; i++)
        equal += a->signature[i] == b->signature[i];
    /* Two values of 8 bits are equal by chance once in 256. */
    const double share = (double)equal / MINHASH_PERMUTATIONS;
    const double similarity = (share - 1.0 / 256) / (1 - 1.0 / 256);
    return similarity > 0 ? similarity : 0;
}

/* ---- tables ---------------------------------------------------- */

typedef struct Slot { /* of the exact table: digest of kept row, id */
    uint64_t digest[2];
    int64_t id; /* -1: empty */
} Slot;

typedef struct BandSlot { /* newest kept row of one band's value; the older ones hang behind it */
    uint64_t key;
    int32_t row; /* -1: empty */
} BandSlot;

struct Dedup {
    DedupMode mode;
    double threshold;
    int32_t bands, rows; /* bands of so many values */
    Slot *exact;
    int64_t n_exact, exact_slots;
    BandSlot *band;
    int64_t n_band, band_slots;
    uint8_t (*signatures)[MINHASH_PERMUTATIONS];
    int64_t *ids;
    int32_t *next; /* [kept][bands] */
    int64_t n_kept, kept_capacity;
};

/* Chance that rows of similarity s share a band. */
static double found_chance(double s, int bands, int rows)
{
    return 1 - pow(1 - pow(s, rows), bands);
}

/* The bands whose wrong candidates and missed pairs are fewest, over all similarities alike. */
static void choose_bands(Dedup *d)
{
    enum { STEPS = 200 };
    double best = INFINITY;
    for (int bands = 1; bands <= MAX_BANDS; bands++) {
        for (int rows = 1; rows * bands <= MINHASH_PERMUTATIONS; rows++) {
            double wrong = 0, missed = 0;
            for (int k = 0; k < STEPS; k++) {
                const double s = (k + 0.5) / STEPS, chance = found_chance(s, bands, rows);
                wrong += s < d->threshold ? chance : 0;
                missed += s >= d->threshold ? 1 - chance : 0;
            }
            /* A wrong candidate costs a comparison, a missed pair is a wrong result. */
            if (wrong + 8 * missed < best) {
                best = wrong + 8 * missed;
                d->bands = bands;
                d->rows = rows;
            }
        }
    }
}

static void clear_exact(Slot *slots, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        slots[i].id = -1;
}

static void clear_bands(BandSlot *slots, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        slots[i].row = -1;
}

Dedup *dedup_open(DedupMode mode, double threshold)
{
    must(mode != DEDUP_NONE && threshold > 0 && threshold <= 1);
    Dedup *d = heap_resize(NULL, sizeof *d);
    *d = (Dedup){.mode = mode, .threshold = threshold, .exact_slots = LEAST_SLOTS};
    d->exact = heap_resize(NULL, (size_t)d->exact_slots * sizeof *d->exact);
    clear_exact(d->exact, d->exact_slots);
    if (mode == DEDUP_MINHASH) {
        choose_bands(d);
        d->band_slots = LEAST_SLOTS;
        d->band = heap_resize(NULL, (size_t)d->band_slots * sizeof *d->band);
        clear_bands(d->band, d->band_slots);
    }
    return d;
}

void dedup_close(Dedup *dedup)
{
    if (dedup == NULL)
        return;
    heap_free(dedup->exact);
    heap_free(dedup->band);
    heap_free(dedup->signatures);
    heap_free(dedup->ids);
    heap_free(dedup->next);
    heap_free(dedup);
}

static Slot *exact_slot(Slot *slots, int64_t n, const uint64_t digest[2])
{
    assert((n & (n - 1)) == 0);
    for (uint64_t i = digest[0];; i++) {
        Slot *slot = &slots[i & (uint64_t)(n - 1)];
        if (slot->id < 0 || (slot->digest[0] == digest[0] && slot->digest[1] == digest[1]))
            return slot;
    }
}

static BandSlot *band_slot(BandSlot *slots, int64_t n, uint64_t key)
{
    assert((n & (n - 1)) == 0);
    for (uint64_t i = key;; i++) {
        BandSlot *slot = &slots[i & (uint64_t)(n - 1)];
        if (slot->row < 0 || slot->key == key)
            return slot;
    }
}

static uint64_t band_key(const Dedup *d, const uint8_t *signature, int band)
{
    uint64_t key = mix64((uint64_t)band + 1);
    for (int i = 0; i < d->rows; i++)
        key = (key ^ signature[band * d->rows + i]) * 0x100000001b3ULL;
    return mix64(key);
}

static void grow_exact(Dedup *d)
{
    if (2 * d->n_exact < d->exact_slots)
        return;
    const int64_t n = 2 * d->exact_slots;
    Slot *slots = heap_resize(NULL, (size_t)n * sizeof *slots);
    clear_exact(slots, n);
    for (int64_t i = 0; i < d->exact_slots; i++) {
        if (d->exact[i].id >= 0)
            *exact_slot(slots, n, d->exact[i].digest) = d->exact[i];
    }
    heap_free(d->exact);
    d->exact = slots;
    d->exact_slots = n;
}

static void grow_bands(Dedup *d)
{
    if (2 * (d->n_band + d->bands) < d->band_slots)
        return;
    const int64_t n = 2 * d->band_slots;
    BandSlot *slots = heap_resize(NULL, (size_t)n * sizeof *slots);
    clear_bands(slots, n);
    for (int64_t i = 0; i < d->band_slots; i++) {
        if (d->band[i].row >= 0)
            *band_slot(slots, n, d->band[i].key) = d->band[i];
    }
    heap_free(d->band);
    d->band = slots;
    d->band_slots = n;
}

static Seen find_near(const Dedup *d, const Fingerprint *row, int64_t *id)
{
    Fingerprint other;
    assert(d->mode == DEDUP_MINHASH);
    for (int band = 0; band < d->bands; band++) {
        const uint64_t key = band_key(d, row->signature, band);
        int32_t at = band_slot(d->band, d->band_slots, key)->row;
        for (; at >= 0; at = d->next[(int64_t)at * d->bands + band]) {
            memcpy(other.signature, d->signatures[at], sizeof other.signature);
            if (fingerprint_similarity(row, &other) < d->threshold)
                continue;
            *id = d->ids[at];
            return SEEN_NEAR;
        }
    }
    return SEEN_NOT;
}

Seen dedup_find(const Dedup *dedup, const Fingerprint *row, int64_t *id)
{
    const Slot *slot = exact_slot(dedup->exact, dedup->exact_slots, row->digest);
    if (slot->id >= 0) {
        *id = slot->id;
        return SEEN_EXACT;
    }
    return dedup->mode == DEDUP_MINHASH ? find_near(dedup, row, id) : SEEN_NOT;
}

static void keep_signature(Dedup *d, const Fingerprint *row, int64_t id)
{
    must(d->n_kept < INT32_MAX);
    if (d->n_kept == d->kept_capacity) {
        d->kept_capacity = d->kept_capacity == 0 ? LEAST_SLOTS : 2 * d->kept_capacity;
        const size_t n = (size_t)d->kept_capacity;
        d->signatures = heap_resize(d->signatures, n * sizeof *d->signatures);
        d->ids = heap_resize(d->ids, n * sizeof *d->ids);
        d->next = heap_resize(d->next, n * (size_t)d->bands * sizeof *d->next);
    }
    grow_bands(d);
    const int64_t at = d->n_kept++;
    memcpy(d->signatures[at], row->signature, sizeof row->signature);
    d->ids[at] = id;
    for (int band = 0; band < d->bands; band++) {
        const uint64_t key = band_key(d, row->signature, band);
        BandSlot *slot = band_slot(d->band, d->band_slots, key);
        d->n_band += slot->row < 0;
        d->next[at * d->bands + band] = slot->row;
        *slot = (BandSlot){.key = key, .row = (int32_t)at};
    }
}

Seen dedup_add(Dedup *dedup, const Fingerprint *row, int64_t *id)
{
    int64_t other = 0;
    assert(*id >= 0);
    const Seen seen = dedup_find(dedup, row, &other);
    const int64_t own = *id;
    if (seen != SEEN_NOT)
        *id = other;
    if (seen == SEEN_EXACT)
        return seen;
    /* The digest of a near duplicate is kept, too: its own copies are exact ones. */
    grow_exact(dedup);
    Slot *slot = exact_slot(dedup->exact, dedup->exact_slots, row->digest);
    *slot = (Slot){.digest = {row->digest[0], row->digest[1]}, .id = own};
    dedup->n_exact++;
    if (seen == SEEN_NOT && dedup->mode == DEDUP_MINHASH)
        keep_signature(dedup, row, own);
    return seen;
}
