/* kernels_generic.c — the inner loops for any processor: four floats a vector, which every 64-bit
 * machine has, and no fused multiply-add. Also what the tests compare the faster tables with.
 */
#include "compute/cpu/kernels.h"

#define VL 4
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define KERNELS_NAME "generic"
#define KERNELS_TABLE kernels_generic

#include "core/quant_block.h"

typedef int32_t Lanes __attribute__((vector_size(VL * 4)));
typedef float FloatLanes __attribute__((vector_size(VL * 4)));

#define V_U8(p) ((Lanes){(p)[0], (p)[1], (p)[2], (p)[3]})
#define V_I8(p) ((Lanes){(int8_t)(p)[0], (int8_t)(p)[1], (int8_t)(p)[2], (int8_t)(p)[3]})
#define V_U16(p) \
    ((Lanes){qb_load16(p), qb_load16((p) + 2), qb_load16((p) + 4), qb_load16((p) + 6)})
#define HALF(bits) qb_from_f16(bits)
#define V_F16(p) \
    ((FloatLanes){HALF(qb_load16(p)), HALF(qb_load16((p) + 2)), HALF(qb_load16((p) + 4)), \
                  HALF(qb_load16((p) + 6))})

#include "compute/cpu/kernels_body.h"
