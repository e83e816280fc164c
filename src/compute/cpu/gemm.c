/* gemm.c — f32 products through oneDNN's dnnl_sgemm, which versions 2 and 3 share. The only file
 * that sees dnnl.h.
 *
 * Inside an OpenMP parallel region the library runs on the calling thread alone; outside one (or in
 * a region of one thread) it would open a region of its own, and then its split of the work, hence
 * the bits, would depend on the number of threads. So every call is made with one thread allowed.
 *
 * No signal handler may run on a thread that is inside the library: its generated AVX kernels point
 * the stack pointer at a workspace on the heap, so a handler's frame overwrites what lies below it
 * (2.6.3; tests/fault/test_compute_signals.c). Signals are held back for the length of a call, a
 * fraction of a millisecond.
 */
#include "compute/cpu/gemm.h"

#include "core/os.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

static void gemm(char trans_a, char trans_b, const Gemm *g)
{
    assert(g->m > 0 && g->n > 0 && g->k > 0);
    assert(g->ldc >= g->n);
    assert(g->lda >= (trans_a == 'N' ? g->k : g->m));
    assert(g->ldb >= (trans_b == 'N' ? g->n : g->k));
    const int allowed = omp_get_max_threads();
    if (allowed != 1)
        omp_set_num_threads(1);
    OsSignals signals;
    os_signals_hold(&signals);
    const dnnl_status_t status = dnnl_sgemm(trans_a, trans_b, g->m, g->n, g->k, g->alpha, g->a,
                                            g->lda, g->b, g->ldb, g->beta, g->c, g->ldc);
    os_signals_release(&signals);
    if (allowed != 1)
        omp_set_num_threads(allowed);
    must(status == dnnl_success);
}

void gemm_nn(const Gemm *g) { gemm('N', 'N', g); }
void gemm_nt(const Gemm *g) { gemm('N', 'T', g); }
void gemm_tn(const Gemm *g) { gemm('T', 'N', g); }

void gemm_limit_isa(const char *kernels)
{
    /* The status is of no use: a library that has already run keeps what it chose. */
    if (strcmp(kernels, "generic") == 0)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
    else if (strcmp(kernels, "avx2") == 0)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
}
