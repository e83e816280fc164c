/* quant.h — rows of any element type to and from f32. Decoders of single blocks are inline in
 * core/quant_block.h (shared with device code); here are the row loops and the encoders' front.
 */
#ifndef FORMAT_QUANT_H
#define FORMAT_QUANT_H

#include "core/tensor.h"

/* src: cols elements of `dtype`; dst: cols floats. */
void quant_decode_row(Dtype dtype, const void *src, float *dst, int64_t cols);
/* The inverse, `rows` rows of `cols` elements, whole blocks; must() on I32. importance: a weight
 * for every column (how much its errors matter), or NULL; only block types but Q8_0 heed it.
 * 16-bit floats round to nearest even. Blocks are byte-exact with ggml's quantize functions built
 * without fused multiply-adds, on every instruction set. */
void quant_encode_rows(Dtype dtype, const float *src, void *dst, int64_t rows, int64_t cols,
                       const float *importance);
void quant_encode_row(Dtype dtype, const float *src, void *dst, int64_t cols);
bool quant_can_encode(Dtype dtype);

#endif
