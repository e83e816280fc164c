/* bench_case.h — a model of real shape with random weights and random data of one length, made in
 * memory, so that a benchmark needs no download. What comes out is what opening files gives.
 */
#ifndef BENCH_GPU_BENCH_CASE_H
#define BENCH_GPU_BENCH_CASE_H

#include "data/dataset.h"
#include "model/adapter.h"

typedef struct BenchCase {
    char model[32];
    int32_t batch, seq;
    int64_t rank;
    Dtype dtype;
    char memory[16]; /* "keep", "remake", "recompute", "offload" */
} BenchCase;

/* "llama3.1-8b,2,2048,16", "llama3.1-8b,2,2048,16,recompute" or, with all matrices in Q4_K, kept
 * packed, "llama3.1-8b:q4_k,2,2048,16" */
bool bench_case_parse(const char *text, BenchCase *out);
/* The names of all models, for a usage line. */
const char *bench_case_models(void);

/* Fills model; weights are bf16, uniform with a deviation of 0.02, and share one random buffer.
 * False: no such model. */
bool bench_model(const BenchCase *bench, Model *model, Arena *out);
/* `steps` microbatches of `batch` examples that fill `seq` tokens each; every token but the first
 * is a target. */
void bench_dataset(const BenchCase *bench, int64_t vocab, int64_t steps, Dataset *dataset,
                   Arena *out);

#endif
