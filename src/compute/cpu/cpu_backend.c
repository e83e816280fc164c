/* cpu_backend.c — opens the CPU backend: picks kernels for this processor, fills the table of
 * ops, and gives memory. Weights stay where the file is mapped.
 */
#include "compute/cpu/cpu.h"

#include "compute/cpu/gemm.h"
#include "core/os.h"
#include "core/thread.h"

#include <omp.h>
#include <string.h>

static bool slab_open(Backend *backend, Arena *slab, size_t bytes, Err *err)
{
    (void)backend;
    const uint64_t available = os_memory_available();
    if (available != 0 && bytes > available)
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY,
                       "%.2f GiB of memory are needed, %.2f GiB are free",
                       (double)bytes / (1 << 30), (double)available / (1 << 30));
    Err reason = {0};
    if (!arena_open(slab, bytes == 0 ? ARENA_ALIGN : bytes, &reason))
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY, "%.2f GiB of memory cannot be had",
                       (double)bytes / (1 << 30));
    assert(slab->capacity >= bytes);
    return true;
}

static void slab_close(Backend *backend, Arena *slab)
{
    (void)backend;
    arena_close(slab);
}

static void copy_bytes(Backend *backend, void *dst, const void *src, size_t bytes)
{
    (void)backend;
    if (bytes > 0)
        memcpy(dst, src, bytes);
}

static void zero_bytes(Backend *backend, void *dst, size_t bytes)
{
    (void)backend;
    if (bytes > 0)
        memset(dst, 0, bytes);
}

static void weight_open(Backend *backend, Weight *weight, Arena *slab)
{
    (void)backend;
    (void)slab;
    weight->data = weight->source;
    weight->packed = NULL;
}

static const char *finish(Backend *backend)
{
    (void)backend;
    return NULL;
}

static void close_backend(Backend *backend)
{
    heap_free(backend->state);
    *backend = (Backend){0};
}

static void do_nothing(Backend *backend, const OpCall *call)
{
    (void)backend;
    (void)call;
}

static size_t scratch_bytes(const Backend *backend, const OpCall *call, Pass pass)
{
    switch (call->op) {
    case OP_linear: return cpu_linear_scratch(backend, call, pass);
    case OP_attention: return cpu_attention_scratch(backend, call, pass);
    case OP_cross_entropy: return cpu_cross_entropy_scratch(backend, call, pass);
    case OP_rmsnorm: return cpu_rmsnorm_scratch(backend, call, pass);
    case OP_row_norms: return cpu_row_norms_scratch(backend, call, pass);
    case OP_sum_squares: return cpu_sum_squares_scratch(backend, call, pass);
    default: return 0;
    }
}

static const CpuKernels *kernels_named(const char *name)
{
    const CpuFeatures *features = os_cpu_features();
    if (strcmp(name, "avx512") == 0)
        return features->avx512 ? kernels_avx512() : NULL;
    if (strcmp(name, "avx2") == 0)
        return features->avx2 && features->fma && features->f16c ? kernels_avx2() : NULL;
    return strcmp(name, "generic") == 0 ? kernels_generic() : NULL;
}

static const CpuKernels *kernels_best(void)
{
    const CpuKernels *best = kernels_named("avx512");
    if (best == NULL)
        best = kernels_named("avx2");
    return best != NULL ? best : kernels_generic();
}

static double peak_flops(Backend *backend)
{
    must(backend->state != NULL);
    return cpu_peak_gflops() * 1e9;
}

static void open_with(Backend *backend, const CpuKernels *kernels, Dtype activation)
{
    CpuState *state = heap_resize(NULL, sizeof *state);
    *state = (CpuState){.kernels = kernels, .threads = threads_count(),
                        .panel_floats = PANEL_FLOATS, .head_floats = HEAD_FLOATS,
                        .type = activation};
    must(state->threads >= 1 && (activation == DTYPE_F32 || activation == DTYPE_BF16));
    *backend = (Backend){
        .traits = {.name = "cpu", .memory = MEMORY_HOST,
                   .activation = activation, .residual = DTYPE_F32},
        .state = state,
        .scratch = scratch_bytes,
        .slab_open = slab_open,
        .slab_close = slab_close,
        .upload = copy_bytes,
        .download = copy_bytes,
        .zero = zero_bytes,
        .weight_open = weight_open,
        .finish = finish,
        .close = close_backend,
        .peak_flops = peak_flops,
    };
    OpFn **fwd = backend->run[PASS_FWD], **bwd = backend->run[PASS_BWD];
    fwd[OP_embed] = cpu_embed_fwd, bwd[OP_embed] = cpu_embed_bwd;
    fwd[OP_rmsnorm] = cpu_rmsnorm_fwd, bwd[OP_rmsnorm] = cpu_rmsnorm_bwd;
    fwd[OP_linear] = cpu_linear_fwd, bwd[OP_linear] = cpu_linear_bwd;
    fwd[OP_rope] = cpu_rope_fwd, bwd[OP_rope] = cpu_rope_bwd;
    fwd[OP_attention] = cpu_attention_fwd, bwd[OP_attention] = cpu_attention_bwd;
    fwd[OP_glu] = cpu_glu_fwd, bwd[OP_glu] = cpu_glu_bwd;
    fwd[OP_cross_entropy] = cpu_cross_entropy_fwd, bwd[OP_cross_entropy] = do_nothing;
    fwd[OP_copy_rows] = cpu_copy_rows_fwd, bwd[OP_copy_rows] = do_nothing;
    fwd[OP_sum_squares] = cpu_sum_squares_fwd, bwd[OP_sum_squares] = do_nothing;
    fwd[OP_adamw] = cpu_adamw_fwd, bwd[OP_adamw] = do_nothing;
    fwd[OP_window_spans] = cpu_window_spans_fwd, bwd[OP_window_spans] = do_nothing;
    fwd[OP_rope_rows] = cpu_rope_rows_fwd, bwd[OP_rope_rows] = do_nothing;
    fwd[OP_row_norms] = cpu_row_norms_fwd, bwd[OP_row_norms] = do_nothing;
    fwd[OP_lowrank_refresh] = do_nothing, bwd[OP_lowrank_refresh] = do_nothing;
}

bool backend_open_cpu_as(Backend *backend, Dtype activation, Err *err)
{
    (void)err; /* there is always a generic build */
    const CpuKernels *kernels = kernels_best();
    gemm_limit_isa(kernels->name);
    open_with(backend, kernels, activation);
    return true;
}

bool backend_open_cpu(Backend *backend, Err *err)
{
    return backend_open_cpu_as(backend, DTYPE_F32, err);
}

Dtype cpu_best_activation(void)
{
    const CpuFeatures *features = os_cpu_features();
    if (!features->avx512_bf16 && !features->amx_bf16)
        return DTYPE_F32;
    gemm_limit_isa(kernels_best()->name);
    return gemm_has_bf16() ? DTYPE_BF16 : DTYPE_F32;
}

bool cpu_backend_open_as(Backend *backend, const char *kernels, Dtype activation)
{
    const CpuKernels *table = kernels_named(kernels);
    if (table == NULL)
        return false;
    open_with(backend, table, activation);
    return true;
}

const char *cpu_kernel_name(void) { return kernels_best()->name; }

/* ==== Peak ==== */

enum { PEAK_M = 256, PEAK_N = 256, PEAK_K = 512, PEAK_PRODUCTS = 8, PEAK_TRIES = 4 };

/* Best of a few rounds in which every thread multiplies its own cached matrices. */
static double measure_peak(void)
{
    const int threads = threads_count();
    const size_t each = PEAK_M * PEAK_K + PEAK_K * PEAK_N + PEAK_M * PEAK_N;
    float *memory = heap_resize(NULL, each * (size_t)threads * sizeof *memory);
    for (size_t i = 0; i < each * (size_t)threads; i++)
        memory[i] = (float)(i % 7) * 0.125f;
    double best = 0;
    for (int attempt = 0; attempt < PEAK_TRIES; attempt++) {
        const double start = os_now();
#pragma omp parallel num_threads(threads)
        {
            float *a = memory + each * (size_t)omp_get_thread_num();
            float *b = a + PEAK_M * PEAK_K, *c = b + PEAK_K * PEAK_N;
            for (int i = 0; i < PEAK_PRODUCTS; i++)
                gemm_nn(&(Gemm){.m = PEAK_M, .n = PEAK_N, .k = PEAK_K, .alpha = 1, .a = a, .b = b,
                                .c = c, .lda = PEAK_K, .ldb = PEAK_N, .ldc = PEAK_N});
        }
        const double work = 2.0 * PEAK_M * PEAK_N * PEAK_K * PEAK_PRODUCTS * threads;
        const double rate = work / (os_now() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    heap_free(memory);
    return best;
}

double cpu_peak_gflops(void)
{
    static double peak;
    if (peak == 0)
        peak = measure_peak();
    return peak;
}
