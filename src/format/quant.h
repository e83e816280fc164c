/* quant.h — rows of any element type to and from f32. Decoders of single blocks are inline in
 * core/quant_block.h (shared with device code); here are the row loops and the encoders.
 * Encoders are byte-exact with ggml's reference quantizers (no importance matrix).
 */
#ifndef FORMAT_QUANT_H
#define FORMAT_QUANT_H

#include "core/tensor.h"

/* src: cols elements of `dtype`; dst: cols floats. */
void quant_decode_row(Dtype dtype, const void *src, float *dst, int64_t cols);
/* The inverse, for F32, F16, BF16 (round to nearest even) and Q8_0. must() on other types. */
void quant_encode_row(Dtype dtype, const float *src, void *dst, int64_t cols);
bool quant_can_encode(Dtype dtype);

#endif
