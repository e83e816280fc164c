/* kernels_avx2.c — the inner loops for processors with AVX2 and fused multiply-add: eight floats
 * a vector. On other kinds of processor this file is empty but for a function that says so.
 */
#include "compute/cpu/kernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

#define VL 8
#define V_FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define V_HALVES(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define V_BYTES(p) _mm_loadl_epi64((const __m128i *)(const void *)(p))
#define V_U8(p) ((vi)_mm256_cvtepu8_epi32(V_BYTES(p)))
#define V_I8(p) ((vi)_mm256_cvtepi8_epi32(V_BYTES(p)))
#define V_U16(p) ((vi)_mm256_cvtepu16_epi32(V_HALVES(p)))
#define V_F16(p) ((vf)_mm256_cvtph_ps(V_HALVES(p)))
#define HALF(bits) _cvtsh_ss(bits)
#define V_MADD(a, b) ((v8i)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#define V_16(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define V_WIDE_U8(p) ((v16q)_mm256_cvtepu8_epi16(V_16(p)))
#define V_WIDE_I8(p) ((v16q)_mm256_cvtepi8_epi16(V_16(p)))
#define KERNELS_NAME "avx2"
#define KERNELS_TABLE kernels_avx2

#include "compute/cpu/kernels_body.h"
#else
const CpuKernels *kernels_avx2(void) { return NULL; }
#endif
