/* cuda_gemm.h — matrix products by cuBLASLt, row-major, bf16 in, f32 accumulation.
 *
 * The library is opened at run time from a list of candidate files. Every product's algorithm is
 * the first that the library's heuristic names, or another of those by a fixed table of shape
 * classes (nothing is timed: the choice, and so the bits, are the same in every run), and is kept
 * by shape.
 */
#ifndef COMPUTE_CUDA_GEMM_H
#define COMPUTE_CUDA_GEMM_H

#include <cuda_runtime_api.h>

#include "core/arena.h"
#include "core/err.h"

typedef struct Gemm Gemm;

typedef enum GemmForm {
    GEMM_NT, /* c[m,n] = a[m,k] b[n,k]^T */
    GEMM_NN, /* c[m,n] = a[m,k] b[k,n] */
    GEMM_TN  /* c[m,n] = a[k,m]^T b[k,n] */
} GemmForm;

typedef enum GemmOut {
    GEMM_STORE_BF16, /* c bf16, overwritten */
    GEMM_STORE_F32,  /* c f32, overwritten */
    GEMM_ADD_F32     /* c f32, added to */
} GemmOut;

typedef struct GemmCall {
    GemmForm form;
    GemmOut out;
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc; /* elements from one stored row to the next */
    const void *bias;      /* [n] bf16 added to every row, or NULL */
} GemmCall;

/* candidates: glob patterns, NULL at the end. capability: of the card, 90 for 9.0. Errors
 * DEP_GPU_NOT_AVAILABLE. */
Gemm *gemm_open_cuda(const char *const *candidates, Arena *arena, void *workspace,
                     size_t workspace_bytes, int capability, Err *err);
void gemm_close_cuda(Gemm *gemm);
/* Enqueues the product. NULL, or what went wrong. */
const char *gemm_run_cuda(Gemm *gemm, cudaStream_t stream, const GemmCall *call);
/* File that was opened and its version as cublasLtGetVersion says. */
const char *gemm_library(const Gemm *gemm);
size_t gemm_library_version(const Gemm *gemm);

#endif
