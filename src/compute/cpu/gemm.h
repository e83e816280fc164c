/* gemm.h — matrix products of the CPU backend, row-major, one thread a call; factors in f32 or
 * bf16, sums and results in f32. The only door to the matrix library; callers cut big products into
 * fixed pieces and spread those over threads.
 */
#ifndef COMPUTE_CPU_GEMM_H
#define COMPUTE_CPU_GEMM_H

#include "core/tensor.h"

/* c = alpha * a b + beta * c, c: [m, n], sum over k. c is not read when beta is 0. */
typedef struct Gemm {
    int64_t m, n, k;
    float alpha, beta;
    Dtype type; /* of a and b: f32 or bf16 */
    const void *a, *b;
    float *c;
    int64_t lda, ldb, ldc; /* elements from one stored row to the next */
} Gemm;

void gemm_nn(const Gemm *g); /* a: [m, k], b: [k, n] */
void gemm_nt(const Gemm *g); /* a: [m, k], b stored [n, k] */
void gemm_tn(const Gemm *g); /* a stored [k, m], b: [k, n] */

/* Whether this processor multiplies bf16 itself, by tiles or through the library; elsewhere factors
 * are widened to f32 a block at a time, which is right and slow. */
bool gemm_has_bf16(void);

/* A bf16 product on tiles (gemm_amx.c); false in builds for other kinds of processor. Only where
 * os_cpu_features() names amx_bf16 and os_amx_allow() succeeded. 'T': the factor is stored
 * transposed. */
bool gemm_amx(char trans_a, char trans_b, const Gemm *g);

/* Before the first product: hold the library to what the chosen kernels may use ("generic",
 * "avx2", "avx512"), so that a masked processor is masked everywhere. */
void gemm_limit_isa(const char *kernels);

#endif
