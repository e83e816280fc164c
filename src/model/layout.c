/* layout.c — the order of q and k rows, which differs between file formats.
 *
 * Rope turns pairs of elements of a head. Hugging Face checkpoints pair element i with i + rot/2
 * (ROPE_HALVES); GGUF files of some families pair 2i with 2i + 1 (ROPE_INTERLEAVED), so their
 * converter writes row i of a head to 2i and row i + rot/2 to 2i + 1. Whatever belongs to an output
 * row of q or k (weights, biases, B rows of adapters) follows the same order.
 */
#include "model/model.h"

#include <string.h>

/* Where row `j` of a head in ROPE_HALVES order stands in `pairing` order. */
static int64_t row_place(int64_t j, int64_t rot, RopePairing pairing)
{
    if (pairing == ROPE_HALVES || j >= rot)
        return j;
    int64_t half = rot / 2;
    return j < half ? 2 * j : 2 * (j - half) + 1;
}

void rope_rows_convert(const void *src, void *dst, int64_t heads, int64_t head_dim,
                       int64_t rope_dim, size_t row_bytes, RopePairing from, RopePairing to)
{
    must(src != dst && rope_dim % 2 == 0 && rope_dim <= head_dim);
    const uint8_t *in = src;
    uint8_t *out = dst;
    for (int64_t head = 0; head < heads; head++) {
        for (int64_t j = 0; j < head_dim; j++) {
            size_t i = (size_t)(head * head_dim + row_place(j, rope_dim, from));
            size_t o = (size_t)(head * head_dim + row_place(j, rope_dim, to));
            memcpy(out + o * row_bytes, in + i * row_bytes, row_bytes);
        }
    }
}
