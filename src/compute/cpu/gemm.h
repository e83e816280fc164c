/* gemm.h — f32 matrix products of the CPU backend, row-major, one thread a call. The only door to
 * the matrix library; callers cut big products into fixed pieces and spread those over threads.
 */
#ifndef COMPUTE_CPU_GEMM_H
#define COMPUTE_CPU_GEMM_H

#include "core/base.h"

/* c = alpha * a b + beta * c, c: [m, n], sum over k. c is not read when beta is 0. */
typedef struct Gemm {
    int64_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc; /* elements from one stored row to the next */
} Gemm;

void gemm_nn(const Gemm *g); /* a: [m, k], b: [k, n] */
void gemm_nt(const Gemm *g); /* a: [m, k], b stored [n, k] */
void gemm_tn(const Gemm *g); /* a stored [k, m], b: [k, n] */

/* Before the first product: hold the library to what the chosen kernels may use ("generic",
 * "avx2", "avx512"), so that a masked processor is masked everywhere. */
void gemm_limit_isa(const char *kernels);

#endif
