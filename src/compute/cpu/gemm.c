/* gemm.c — products through oneDNN's dnnl_sgemm, which versions 2 and 3 share, and its sibling for
 * bf16. The only file that sees dnnl.h.
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
#include "core/quant_block.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

/* Exported by the library and used by its own tests, but in no header of it. */
extern dnnl_status_t dnnl_gemm_bf16bf16f32(char trans_a, char trans_b, dnnl_dim_t m, dnnl_dim_t n,
                                           dnnl_dim_t k, float alpha, const uint16_t *a,
                                           dnnl_dim_t lda, const uint16_t *b, dnnl_dim_t ldb,
                                           float beta, float *c, dnnl_dim_t ldc)
    __attribute__((weak));

static dnnl_status_t library_f32(char trans_a, char trans_b, const Gemm *g)
{
    return dnnl_sgemm(trans_a, trans_b, g->m, g->n, g->k, g->alpha, g->a, g->lda, g->b, g->ldb,
                      g->beta, g->c, g->ldc);
}

static dnnl_status_t library_bf16(char trans_a, char trans_b, const Gemm *g)
{
    if (dnnl_gemm_bf16bf16f32 == NULL)
        return dnnl_unimplemented;
    return dnnl_gemm_bf16bf16f32(trans_a, trans_b, g->m, g->n, g->k, g->alpha, g->a, g->lda, g->b,
                                 g->ldb, g->beta, g->c, g->ldc);
}

typedef dnnl_status_t LibraryFn(char trans_a, char trans_b, const Gemm *g);

static dnnl_status_t call_alone(LibraryFn *library, char trans_a, char trans_b, const Gemm *g)
{
    const int allowed = omp_get_max_threads();
    if (allowed != 1)
        omp_set_num_threads(1);
    OsSignals signals;
    os_signals_hold(&signals);
    const dnnl_status_t status = library(trans_a, trans_b, g);
    os_signals_release(&signals);
    if (allowed != 1)
        omp_set_num_threads(allowed);
    return status;
}

/* How bf16 factors are multiplied on this processor; found out once. */
typedef enum Narrow { NARROW_UNKNOWN, NARROW_TILES, NARROW_LIBRARY, NARROW_WIDENED } Narrow;

static Narrow narrow_choose(void)
{
    const uint16_t one = 0x3f80;
    float c = 0;
    const Gemm probe = {.m = 1, .n = 1, .k = 1, .alpha = 1, .type = DTYPE_BF16, .a = &one,
                        .b = &one, .c = &c, .lda = 1, .ldb = 1, .ldc = 1};
    if (os_cpu_features()->amx_bf16 && os_amx_allow() && gemm_amx('N', 'N', &probe) && c == 1.0f)
        return NARROW_TILES;
    c = 0;
    const bool works = call_alone(library_bf16, 'N', 'N', &probe) == dnnl_success && c == 1.0f;
    return works ? NARROW_LIBRARY : NARROW_WIDENED;
}

static Narrow narrow(void)
{
    static _Atomic Narrow chosen;
    if (chosen == NARROW_UNKNOWN)
        chosen = narrow_choose();
    return chosen;
}

bool gemm_has_bf16(void) { return narrow() != NARROW_WIDENED; }

enum { WIDEN_LINES = 64, WIDEN_DEPTH = 128 };

/* lines x depth elements of a matrix stored [lines, depth] ('T': [depth, lines]). */
static void widen(float *to, const uint16_t *from, int64_t ld, char trans, int64_t lines,
                  int64_t depth)
{
    for (int64_t i = 0; i < lines; i++)
        for (int64_t j = 0; j < depth; j++)
            to[i * WIDEN_DEPTH + j] =
                qb_from_bf16(trans == 'N' ? from[i * ld + j] : from[j * ld + i]);
}

/* The first element of line `line` at depth `deep`. */
static const uint16_t *corner(const void *x, int64_t ld, char trans, int64_t line, int64_t deep)
{
    return (const uint16_t *)x + (trans == 'N' ? line * ld + deep : deep * ld + line);
}

/* c = alpha a b + beta c by f32 products of widened blocks, in a fixed order. */
static void gemm_widened(char trans_a, char trans_b, const Gemm *g)
{
    float a[WIDEN_LINES * WIDEN_DEPTH], b[WIDEN_LINES * WIDEN_DEPTH];
    const char lines_b = trans_b == 'N' ? 'T' : 'N'; /* b's lines are the columns of the result */
    for (int64_t i = 0; i < g->m; i += WIDEN_LINES)
        for (int64_t k = 0; k < g->k; k += WIDEN_DEPTH) {
            const int64_t rows = min_i64(WIDEN_LINES, g->m - i);
            const int64_t depth = min_i64(WIDEN_DEPTH, g->k - k);
            widen(a, corner(g->a, g->lda, trans_a, i, k), g->lda, trans_a, rows, depth);
            for (int64_t j = 0; j < g->n; j += WIDEN_LINES) {
                const int64_t cols = min_i64(WIDEN_LINES, g->n - j);
                widen(b, corner(g->b, g->ldb, lines_b, j, k), g->ldb, lines_b, cols, depth);
                const Gemm block = {.m = rows, .n = cols, .k = depth, .alpha = g->alpha,
                                    .beta = k == 0 ? g->beta : 1, .a = a, .b = b,
                                    .c = g->c + i * g->ldc + j, .lda = WIDEN_DEPTH,
                                    .ldb = WIDEN_DEPTH, .ldc = g->ldc};
                must(call_alone(library_f32, 'N', 'T', &block) == dnnl_success);
            }
        }
}

static void gemm(char trans_a, char trans_b, const Gemm *g)
{
    assert(g->m > 0 && g->n > 0 && g->k > 0);
    assert(g->ldc >= g->n);
    assert(g->lda >= (trans_a == 'N' ? g->k : g->m));
    assert(g->ldb >= (trans_b == 'N' ? g->n : g->k));
    must(g->type == DTYPE_F32 || g->type == DTYPE_BF16);
    if (g->type == DTYPE_F32) {
        must(call_alone(library_f32, trans_a, trans_b, g) == dnnl_success);
        return;
    }
    switch (narrow()) {
    case NARROW_TILES: must(gemm_amx(trans_a, trans_b, g)); break;
    case NARROW_LIBRARY:
        must(call_alone(library_bf16, trans_a, trans_b, g) == dnnl_success);
        break;
    default: gemm_widened(trans_a, trans_b, g); break;
    }
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
