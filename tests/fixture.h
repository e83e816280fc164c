/* fixture.h — a tiny random llama as a GGUF file, data for it, and a training run over both: what
 * tests of train, runs, export and api share.
 *
 * Everything is made by our own writers from fixed seeds, so it is the same on every machine. A
 * failure of a fixture itself ends the test with its message.
 */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include "data/dataset.h"
#include "model/adapter.h"

enum { FIXTURE_VOCAB = 96, FIXTURE_WIDTH = 32, FIXTURE_LAYERS = 2, FIXTURE_FF = 48,
       FIXTURE_HEADS = 4, FIXTURE_KV_HEADS = 2, FIXTURE_HEAD_DIM = 8 };

/* Writes folder/tiny.gguf: llama, f32, grouped queries, tied head, no tokenizer. Its path in
 * out. */
const char *fixture_llama(const char *folder, uint64_t seed, Arena *out);

/* n examples of min_len..max_len random tokens; the second half of each carries loss. */
void fixture_dataset(Dataset *dataset, int64_t n, int32_t min_len, int32_t max_len, uint64_t seed,
                     Arena *out);

/* An opened model with an adapter on all linears, on the CPU. */
typedef struct Fixture {
    Arena arena;
    Model model;
    Adapter *adapter;
    Backend backend;
    Dataset dataset; /* 8 examples of 6..40 tokens */
    const char *folder;
} Fixture;
void fixture_open(Fixture *fixture, const char *folder);
void fixture_close(Fixture *fixture);

#endif
