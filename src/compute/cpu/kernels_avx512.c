/* kernels_avx512.c — the inner loops for processors with AVX-512 (F, BW, DQ, VL): sixteen floats
 * a vector. On other kinds of processor this file is empty but for a function that says so.
 */
#include "compute/cpu/kernels.h"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__)
#include <immintrin.h>

#define VL 16
#define V_FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define V_HALVES(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define V_BYTES(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define V_U8(p) ((vi)_mm512_cvtepu8_epi32(V_BYTES(p)))
#define V_I8(p) ((vi)_mm512_cvtepi8_epi32(V_BYTES(p)))
#define V_U16(p) ((vi)_mm512_cvtepu16_epi32(V_HALVES(p)))
#define V_F16(p) ((vf)_mm512_cvtph_ps(V_HALVES(p)))
#define HALF(bits) _cvtsh_ss(bits)
#define V_MADD(a, b) ((v8i)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#define V_16(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define V_WIDE_U8(p) ((v16q)_mm256_cvtepu8_epi16(V_16(p)))
#define V_WIDE_I8(p) ((v16q)_mm256_cvtepi8_epi16(V_16(p)))
#define KERNELS_NAME "avx512"
#define KERNELS_TABLE kernels_avx512

#include "compute/cpu/kernels_body.h"
#else
const CpuKernels *kernels_avx512(void) { return NULL; }
#endif
