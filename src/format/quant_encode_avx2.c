/* quant_encode_avx2.c — the block encoders for processors with AVX2: eight floats a vector. On
 * other kinds of processor this file is empty but for a function that says so.
 */
#include "format/quant_encode.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>

#define VL 8
#define V_MIN(a, b) ((vi)_mm256_min_epi32((__m256i)(a), (__m256i)(b)))
#define V_MAX(a, b) ((vi)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define V_SQRT(a) ((vf)_mm256_sqrt_ps((__m256)(a)))
#define ENCODE_NAME "avx2"
#define ENCODE_TABLE quant_encode_avx2

#include "format/quant_encode_body.h"
#else
const EncodeKernels *quant_encode_avx2(void) { return NULL; }
#endif
