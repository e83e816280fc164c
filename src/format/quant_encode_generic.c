/* quant_encode_generic.c — the block encoders for any processor: four floats a vector. Also what
 * the tests compare the faster tables with.
 */
#include "format/quant_encode.h"

#include <math.h>
#include <string.h>

#define VL 4
#define V_MIN(a, b) v_choose((a) < (b), a, b)
#define V_MAX(a, b) v_choose((a) > (b), a, b)
#define V_SQRT(a) ((vf){sqrtf((a)[0]), sqrtf((a)[1]), sqrtf((a)[2]), sqrtf((a)[3])})
#define ENCODE_NAME "generic"
#define ENCODE_TABLE quant_encode_generic

#include "format/quant_encode_body.h"
