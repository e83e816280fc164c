/* quant_encode_avx512.c — the block encoders for processors with AVX-512: sixteen floats a vector.
 * On other kinds of processor this file is empty but for a function that says so.
 */
#include "format/quant_encode.h"

#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>

#define VL 16
#define V_MIN(a, b) ((vi)_mm512_min_epi32((__m512i)(a), (__m512i)(b)))
#define V_MAX(a, b) ((vi)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define V_SQRT(a) ((vf)_mm512_sqrt_ps((__m512)(a)))
#define ENCODE_NAME "avx512"
#define ENCODE_TABLE quant_encode_avx512

#include "format/quant_encode_body.h"
#else
const EncodeKernels *quant_encode_avx512(void) { return NULL; }
#endif
