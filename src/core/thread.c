/* thread.c — the size of the compute pool, which is OpenMP's.
 *
 * The only place that sets it; kernels just write `#pragma omp parallel for`. oneDNN links the same
 * libgomp and so uses the same pool. OpenMP keeps the setting per calling thread: the device owner
 * calls threads_set before its first op.
 */
#include "core/thread.h"

#include "core/os.h"

#include <omp.h>

void threads_set(int n)
{
    int count = n > 0 ? n : os_core_count();
    must(count > 0);
    omp_set_dynamic(0);
    omp_set_num_threads(count);
    assert(omp_get_max_threads() >= 1);
}

int threads_count(void)
{
    int count = omp_get_max_threads();
    assert(count >= 1);
    return count;
}
