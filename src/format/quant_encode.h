/* quant_encode.h — the block encoders as a table that is filled once per instruction set:
 * quant_encode_body.h is compiled by quant_encode_generic.c, _avx2.c and _avx512.c. All tables give
 * the same bytes. Private to src/format and its tests; others call quant_encode_rows.
 */
#ifndef FORMAT_QUANT_ENCODE_H
#define FORMAT_QUANT_ENCODE_H

#include "core/tensor.h"

typedef struct EncodeCall {
    Dtype dtype;             /* a block type */
    const float *src;        /* n elements, whole blocks */
    uint8_t *dst;
    int64_t n;
    const float *importance; /* weights of the n elements, or NULL */
    float mean_square;       /* of the whole row; 32-element types with importance use it */
} EncodeCall;

typedef struct EncodeKernels {
    const char *name; /* "generic", "avx2", "avx512" */
    void (*encode)(const EncodeCall *call);
} EncodeKernels;

/* NULL when the build is for another kind of processor. */
const EncodeKernels *quant_encode_generic(void);
const EncodeKernels *quant_encode_avx2(void);
const EncodeKernels *quant_encode_avx512(void);

/* By name, NULL when this processor lacks it; and the best of this processor. */
const EncodeKernels *quant_encode_named(const char *name);
const EncodeKernels *quant_encode_best(void);

#endif
