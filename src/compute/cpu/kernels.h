/* kernels.h — the inner loops of the CPU backend, as a table that is filled once per instruction
 * set: kernels_body.h is compiled by kernels_generic.c, kernels_avx2.c and kernels_avx512.c, and
 * the backend picks one table when it opens. Rows come in as plain pointers; whoever calls has
 * already cut the work into pieces, so no kernel knows about threads.
 *
 * Sums inside a kernel use the lanes of the instruction set: one table always gives the same bits,
 * two tables differ in the last places.
 */
#ifndef COMPUTE_CPU_KERNELS_H
#define COMPUTE_CPU_KERNELS_H

#include "compute/compute.h"

/* y[t][i] = row_i . x[t] for n_rows stored rows of `cols` elements each. */
typedef struct DotRows {
    const uint8_t *rows;
    size_t row_bytes;
    Dtype dtype;
    int64_t n_rows, cols;
    const float *x;
    int64_t x_stride;
    int n_x; /* 1 .. DOT_MAX_X */
    float *y;
    int64_t y_stride;
} DotRows;
enum { DOT_MAX_X = 8 };

/* The same for rows of 32-element blocks of 4 or 8 bits, in whole numbers: x is rounded to 16 bits,
 * a scale for each 32 elements, so that it is within 2^-16 of the largest of them. */
typedef struct Rounded {
    int16_t *q;       /* [cols] */
    float *scale;     /* [cols / 32] */
    float *sum;       /* [cols / 32] of x itself */
} Rounded;
typedef struct DotBlocks {
    const uint8_t *rows;
    size_t row_bytes;
    Dtype dtype;
    int64_t n_rows, cols;
    Rounded x;
    float *y;
} DotBlocks;
static inline bool dot_blocks_takes(Dtype dtype)
{
    return dtype == DTYPE_Q4_0 || dtype == DTYPE_Q4_1 || dtype == DTYPE_Q8_0;
}

typedef struct RmsnormRow {
    const float *x, *delta; /* forward; delta may be NULL */
    float *sum;             /* NULL = not written */
    const float *s;         /* backward: x + delta */
    const float *w;
    float *y;
    const float *dy;
    float *dx, *ddelta;     /* either may be NULL */
    float *dw;              /* partial sum of the piece, or NULL */
    float eps, rstd, dx_beta;
    int64_t n;
} RmsnormRow;

typedef struct GluRow {
    Activation act;
    const float *gate, *up, *dy;
    float *y, *dgate, *dup; /* dgate, dup: either may be NULL; may be gate and up themselves */
    int64_t n;
} GluRow;

typedef struct RopeRow {
    float *x;           /* heads side by side */
    const float *table; /* cos[rot/2], sin[rot/2] */
    int64_t n_heads;
    int head_dim, rot;
    RopePairing pairing;
    float direction;    /* 1 forward, -1 inverse */
} RopeRow;

typedef struct AdamwStep {
    float gradient_scale;
    float keep;               /* 1 - lr * decay */
    float one_minus_beta1, beta2, one_minus_beta2;
    float step_size;          /* lr / (1 - beta1^t) */
    float inv_bias2_sqrt;     /* 1 / sqrt(1 - beta2^t) */
    float eps;
} AdamwStep;

typedef struct CpuKernels {
    const char *name;
    /* n elements, whole blocks. */
    void (*dequant)(Dtype dtype, const uint8_t *src, float *dst, int64_t n);
    void (*dot_rows)(const DotRows *args);
    void (*dot_blocks)(const DotBlocks *args); /* y[i] = row_i . x */
    void (*round_blocks)(const float *x, int64_t n, Rounded out); /* n: whole blocks */
    /* Rounded to nearest even; the way back is dequant. */
    void (*to_bf16)(const float *src, uint16_t *dst, int64_t n);
    float (*dot)(const float *a, const float *b, int64_t n);
    void (*axpy)(float *y, float a, const float *x, int64_t n); /* y += a x */
    void (*scale)(float *y, float a, int64_t n);
    /* x = multiplier * exp(scale * x - shift). Error of exp: see v_exp in kernels_body.h. */
    void (*exp_row)(float *x, int64_t n, float scale, float shift, float multiplier);
    float (*sum)(const float *x, int64_t n);
    float (*max)(const float *x, int64_t n); /* -inf for n = 0; NaNs are passed over */
    /* sum of exp(x - shift). */
    float (*sum_exp)(const float *x, int64_t n, float shift);
    /* ds = p * (ds - delta) * scale, with ds holding dP on entry. */
    void (*softmax_bwd_row)(float *ds, const float *p, int64_t n, float delta, float scale);
    float (*rmsnorm_fwd)(const RmsnormRow *row); /* returns rstd */
    void (*rmsnorm_bwd)(const RmsnormRow *row);
    void (*glu_fwd)(const GluRow *row);
    void (*glu_bwd)(const GluRow *row);
    void (*rope)(const RopeRow *row);
    double (*sum_squares)(const float *x, int64_t n);
    void (*adamw)(float *p, float *g, float *m, float *v, int64_t n, const AdamwStep *step);
} CpuKernels;

/* NULL when the build is for another kind of processor. */
const CpuKernels *kernels_generic(void);
const CpuKernels *kernels_avx2(void);
const CpuKernels *kernels_avx512(void);

#endif
