/* cpu_update.c — the ops of the optimiser step: the sum of squares of all gradients (for
 * clipping) and AdamW, over flat arrays cut into fixed pieces.
 */
#include "compute/cpu/cpu.h"

#include <math.h>

size_t cpu_sum_squares_scratch(const Backend *backend, const OpCall *call, Pass pass)
{
    (void)backend;
    size_t used = 0;
    if (pass == PASS_FWD)
        layout_take(&used, ceil_div(call->sum_squares.n, ELEMENT_PIECE), sizeof(double));
    return used;
}

void cpu_sum_squares_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const SumSquaresArgs *a = &call->sum_squares;
    double *partial = (double *)call->scratch;
    must(a->n >= 0 && a->out != NULL);
#pragma omp parallel for schedule(dynamic, 4) num_threads(cpu->threads)
    for (int64_t i = 0; i < a->n; i += ELEMENT_PIECE)
        partial[i / ELEMENT_PIECE] =
            cpu->kernels->sum_squares(a->x + i, min_i64(ELEMENT_PIECE, a->n - i));
    double total = 0;
    for (int64_t i = 0; i < ceil_div(a->n, ELEMENT_PIECE); i++)
        total += partial[i];
    *a->out = total;
}

/* min(1, max_norm / (norm + 1e-6)); a norm that is not a number stays one. */
static double clip_factor(const AdamwArgs *a)
{
    if (a->max_norm == 0.0f)
        return 1.0;
    must(a->sum_squares != NULL);
    const double factor = a->max_norm / (sqrt(*a->sum_squares) + 1e-6);
    return factor > 1.0 ? 1.0 : factor;
}

void cpu_adamw_fwd(Backend *backend, const OpCall *call)
{
    const CpuState *cpu = cpu_state(backend);
    const AdamwArgs *a = &call->adamw;
    const double lr = a->step->lr, t = a->step->step;
    const double bias1 = 1.0 - pow(a->beta1, t), bias2 = 1.0 - pow(a->beta2, t);
    must(a->step->step >= 1);
    const AdamwStep step = {
        .gradient_scale = (float)clip_factor(a),
        .keep = (float)(1.0 - lr * a->decay),
        .one_minus_beta1 = (float)(1.0 - a->beta1),
        .beta2 = a->beta2,
        .one_minus_beta2 = (float)(1.0 - a->beta2),
        .step_size = (float)(lr / bias1),
        .inv_bias2_sqrt = (float)(1.0 / sqrt(bias2)),
        .eps = a->eps,
    };
#pragma omp parallel for schedule(dynamic, 4) num_threads(cpu->threads)
    for (int64_t i = 0; i < a->n; i += ELEMENT_PIECE)
        cpu->kernels->adamw(a->p + i, a->g + i, a->m + i, a->v + i,
                            min_i64(ELEMENT_PIECE, a->n - i), &step);
}
