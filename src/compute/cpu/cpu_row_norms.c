/* cpu_row_norms.c — the lengths of the rows of a matrix and its low-rank part together. A thread
 * takes a few rows: expanded, the low-rank part added, squared and summed while they are in cache.
 * Always in f32, whatever the activations are.
 */
#include "compute/cpu/cpu.h"

#include "compute/cpu/gemm.h"

#include <math.h>
#include <omp.h>

enum { NORM_ROWS = 32 };

size_t cpu_row_norms_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    size_t used = 0;
    if (pass == PASS_FWD)
        layout_take(&used, cpu_state(backend)->threads * NORM_ROWS * call->row_norms.w->cols,
                    sizeof(float));
    return used;
}

void cpu_row_norms_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const RowNormsArgs *a = &call->row_norms;
    const int64_t rows = a->w->rows, cols = a->w->cols;
    const bool lowrank = !tensor_is_empty(&a->a);
    must(a->norm.cols == rows && lowrank == !tensor_is_empty(&a->b));
    must(!lowrank || (a->a.cols == cols && a->b.rows == rows && a->a.rows == a->b.cols));
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->threads)
    for (int64_t row = 0; row < rows; row += NORM_ROWS) {
        const int64_t n = min_i64(NORM_ROWS, rows - row);
        float *sum = layout_f32(call, 0) + omp_get_thread_num() * NORM_ROWS * cols;
        for (int64_t i = 0; i < n; i++)
            cpu->kernels->dequant(a->w->dtype, weight_row(a->w, row + i), sum + i * cols, cols);
        if (lowrank)
            gemm_nn(&(Gemm){.m = n, .n = cols, .k = a->a.rows, .alpha = a->scale, .beta = 1,
                            .type = DTYPE_F32, .a = tensor_at(&a->b, row, 0), .lda = a->b.stride,
                            .b = tensor_at(&a->a, 0, 0), .ldb = a->a.stride, .c = sum,
                            .ldc = cols});
        for (int64_t i = 0; i < n; i++)
            tensor_f32(&a->norm)[row + i] =
                (float)sqrt(cpu->kernels->sum_squares(sum + i * cols, cols));
    }
}
