/* compute.c — names of the operations, from ops.def. The only code that every backend shares; what
 * the operations mean is in compute.h.
 */
#include "compute/compute.h"

const char *op_name(OpId op)
{
    static const char *const names[OP_COUNT] = {
#define X(name) #name,
#include "compute/ops.def"
#undef X
    };
    must((unsigned)op < OP_COUNT);
    return names[op];
}
