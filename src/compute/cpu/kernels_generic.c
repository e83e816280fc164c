/* kernels_generic.c — the inner loops for any processor: four floats a vector, which every 64-bit
 * machine has, and no fused multiply-add. Also what the tests compare the faster tables with.
 */
#include "compute/cpu/kernels.h"

#define VL 4
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define KERNELS_NAME "generic"
#define KERNELS_TABLE kernels_generic

#include "compute/cpu/kernels_body.h"
