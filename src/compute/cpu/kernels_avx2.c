/* kernels_avx2.c — the inner loops for processors with AVX2 and fused multiply-add: eight floats
 * a vector. On other kinds of processor this file is empty but for a function that says so.
 */
#include "compute/cpu/kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#define VL 8
#define V_FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define KERNELS_NAME "avx2"
#define KERNELS_TABLE kernels_avx2

#include "compute/cpu/kernels_body.h"
#else
const CpuKernels *kernels_avx2(void) { return NULL; }
#endif
