/* slao.c — the merge of a sequence of adapters. See slao.h.
 *
 * Run i ends in (A_ft, B_ft). With SLAO (single LoRA, orthogonal initialisation, asymmetric
 * merging; arXiv 2512.23017):
 *     next start     A = Q^T of A_ft^T = Q R with diag(R) > 0,   B = B_ft
 *     merged         A <- A_ft,   B <- B + lambda(i) (B_ft - B),   lambda(i) = 1 / sqrt(i)
 * All sums are taken in double and in the order of the elements, a matrix at a time, so neither
 * the number of threads nor the processor's width changes a bit. Orthogonalisation is Gram-Schmidt,
 * done twice: in double it is as good as Householder's, and unlike a library's it has the same bits
 * everywhere; a row that depends on the others is replaced by a unit vector that does not.
 */
#include "runs/slao.h"

#include "core/os.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 4, DARE_SEED = 0x5A0D0000 };
static const double adaptive_low = 0.5, adaptive_high = 1.5;
static const double layer_scales[3] = {0.3, 0.5, 0.7};

static const char *const mode_names[MERGE_MODE_COUNT] = {"slao", "simple", "linear", "ties",
                                                         "dare"};
static const char *const scaling_names[SCALING_COUNT] = {"sqrt", "linear", "log", "constant"};
static const char *const init_names[MERGE_INIT_COUNT] = {"tuned", "merged"};

const char *merge_mode_name(MergeMode mode)
{
    must((int)mode >= 0 && mode < MERGE_MODE_COUNT);
    return mode_names[mode];
}

static int find_name(const char *const *names, int count, const char *text)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0)
            return i;
    }
    return -1;
}

bool merge_mode_parse(const char *text, MergeMode *mode)
{
    const int found = find_name(mode_names, MERGE_MODE_COUNT, text);
    *mode = found >= 0 ? (MergeMode)found : MERGE_SLAO;
    return found >= 0;
}

bool merge_scaling_parse(const char *text, MergeScaling *scaling)
{
    const int found = find_name(scaling_names, SCALING_COUNT, text);
    *scaling = found >= 0 ? (MergeScaling)found : SCALING_SQRT;
    return found >= 0;
}

bool merge_init_parse(const char *text, MergeInit *init)
{
    const int found = find_name(init_names, MERGE_INIT_COUNT, text);
    *init = found >= 0 ? (MergeInit)found : MERGE_INIT_TUNED;
    return found >= 0;
}

double merge_scale(const MergeOptions *options, int64_t run)
{
    must(run >= 1);
    double scale = 1;
    switch (options->scaling) {
    case SCALING_SQRT: scale = 1 / sqrt((double)run); break;
    case SCALING_LINEAR: scale = 1 / (double)run; break;
    case SCALING_LOG: scale = 1 / log((double)run + 1); break;
    case SCALING_CONSTANT: break;
    case SCALING_COUNT: must(false && "a scaling");
    }
    return fmax(scale, options->min_scale);
}

/* ---- matrices of the flat vector -------------------------------------------------------- */

/* The lengths of DoRA are no factor of the product: they are always those of the last run. */
typedef enum Factor { FACTOR_A, FACTOR_B, FACTOR_LENGTHS, FACTOR_COUNT } Factor;

typedef struct Matrix {
    int64_t offset, n;
} Matrix;

static int64_t pair_count(const Adapter *adapter)
{
    return adapter->n_layers * ROLE_LINEAR_COUNT;
}

/* n is 0 where the adapter has no such matrix. */
static Matrix matrix_of(const Adapter *adapter, int64_t pair, Factor factor)
{
    const AdapterPair *p = &adapter->pairs[pair];
    const int64_t r = adapter->config.r;
    if (!p->present || (factor == FACTOR_LENGTHS && !adapter_has(adapter, ADAPTER_DORA)))
        return (Matrix){0, 0};
    if (factor == FACTOR_LENGTHS)
        return (Matrix){p->m_offset, p->out};
    return factor == FACTOR_A ? (Matrix){p->a_offset, r * p->in}
                              : (Matrix){p->b_offset, r * p->out};
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Over all matrices of that factor, in their order. */
static double dot_all(const Adapter *adapter, Factor factor, const float *a, const float *b)
{
    double sum = 0;
    for (int64_t pair = 0; pair < pair_count(adapter); pair++) {
        const Matrix m = matrix_of(adapter, pair, factor);
        sum += dot(a + m.offset, b + m.offset, m.n);
    }
    return sum;
}

/* ---- the next start --------------------------------------------------------------------- */

/* Independent sums in each lane, added in order: the same on every processor. */
static double dot_double(const double *a, const double *b, int64_t n)
{
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++)
            lane[k] += a[i + k] * b[i + k];
    }
    for (; i < n; i++)
        lane[0] += a[i] * b[i];
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

/* Takes the directions of rows[0..k) out of row k, twice; its length then. */
static double remove_earlier(double *rows, int64_t k, int64_t n)
{
    double *row = rows + k * n;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < k; i++) {
            const double *other = rows + i * n;
            const double share = dot_double(row, other, n);
            for (int64_t j = 0; j < n; j++)
                row[j] -= share * other[j];
        }
    }
    return sqrt(dot_double(row, row, n));
}

/* Rows of a [r, n], r <= n, made orthonormal in place, the first ones kept in direction. */
static void orthonormalise(double *rows, int64_t r, int64_t n)
{
    static const double dependent = 1e-12; /* of a row's own length, which rounding leaves */
    int64_t unit = 0;
    must(r <= n);
    for (int64_t k = 0; k < r; k++) {
        double *row = rows + k * n;
        const double before = sqrt(dot_double(row, row, n));
        double length = remove_earlier(rows, k, n);
        while (!(length > dependent * before)) {
            must(unit < n);
            memset(row, 0, (size_t)n * sizeof *row);
            row[unit++] = 1;
            length = remove_earlier(rows, k, n);
            if (length < 0.5 / sqrt((double)n))
                length = 0; /* nearly among the others: try the next */
        }
        for (int64_t j = 0; j < n; j++)
            row[j] /= length;
    }
}

static void orthogonal_a(const float *from, float *to, int64_t r, int64_t n)
{
    double *rows = heap_resize(NULL, (size_t)(r * n) * sizeof *rows);
    for (int64_t i = 0; i < r * n; i++)
        rows[i] = (double)from[i];
    orthonormalise(rows, r, n);
    for (int64_t i = 0; i < r * n; i++)
        to[i] = (float)rows[i];
    heap_free(rows);
}

void merge_start(const Adapter *adapter, const MergeOptions *options, const float *tuned,
                 const float *merged, float *start)
{
    must(start != tuned && start != merged);
    const size_t bytes = (size_t)adapter->n_params * sizeof *start;
    const bool goes_on = options->mode == MERGE_SIMPLE || options->init == MERGE_INIT_TUNED;
    memcpy(start, goes_on ? tuned : merged, bytes);
    if (options->mode == MERGE_SIMPLE)
        return;
#pragma omp parallel for schedule(dynamic)
    for (int64_t pair = 0; pair < pair_count(adapter); pair++) {
        const AdapterPair *p = &adapter->pairs[pair];
        if (p->present)
            orthogonal_a(tuned + p->a_offset, start + p->a_offset, adapter->config.r, p->in);
    }
}

/* ---- merging ---------------------------------------------------------------------------- */

static double layer_scale(const Adapter *adapter, int64_t pair)
{
    if (adapter->n_layers < 2)
        return layer_scales[1];
    const double at = (double)(pair / ROLE_LINEAR_COUNT) / (double)(adapter->n_layers - 1);
    return at < 0.33 ? layer_scales[0] : at < 0.66 ? layer_scales[1] : layer_scales[2];
}

static void move_towards(const float *tuned, float *merged, int64_t n, double scale)
{
    for (int64_t i = 0; i < n; i++) {
        const double old = (double)merged[i];
        merged[i] = (float)(old + scale * ((double)tuned[i] - old));
    }
}

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The least magnitude that is kept when the share `trim` of the smallest goes. */
static float trim_bound(const float *values, int64_t n, double trim, float *scratch)
{
    for (int64_t i = 0; i < n; i++)
        scratch[i] = fabsf(values[i]);
    qsort(scratch, (size_t)n, sizeof *scratch, compare_floats);
    const int64_t cut = min_i64((int64_t)(trim * (double)n), n - 1);
    return scratch[cut];
}

/* Both are trimmed; the sign of the sum is elected; the mean of those that agree with it. */
static void merge_ties(const float *tuned, float *merged, int64_t n, double trim)
{
    float *scratch = heap_resize(NULL, (size_t)n * sizeof *scratch);
    const float old_bound = trim_bound(merged, n, trim, scratch);
    const float new_bound = trim_bound(tuned, n, trim, scratch);
    heap_free(scratch);
    for (int64_t i = 0; i < n; i++) {
        const double x = fabsf(merged[i]) >= old_bound ? (double)merged[i] : 0;
        const double y = fabsf(tuned[i]) >= new_bound ? (double)tuned[i] : 0;
        const double sum = x + y;
        const bool takes_x = x * sum > 0, takes_y = y * sum > 0;
        const int count = takes_x + takes_y;
        merged[i] = count > 0 ? (float)(((takes_x ? x : 0) + (takes_y ? y : 0)) / count) : 0;
    }
}

/* sub: of the matrix, so that each draws its own numbers. */
static void merge_dare(const float *tuned, float *merged, int64_t n, double drop, uint64_t seed,
                       uint32_t sub)
{
    for (int64_t i = 0; i < n; i++) {
        if (rng_uniform53(seed, RNG_MERGE_DROP, sub, (uint64_t)i) < drop)
            continue;
        const double old = (double)merged[i];
        merged[i] = (float)(old + ((double)tuned[i] - old) / (1 - drop));
    }
}

typedef struct Merging {
    const Adapter *adapter;
    const MergeOptions *options;
    const float *tuned;
    float *merged;
    double scale;
    uint64_t seed;
} Merging;

static void merge_matrix(const Merging *m, int64_t pair, Factor factor)
{
    const Matrix matrix = matrix_of(m->adapter, pair, factor);
    if (matrix.n == 0)
        return;
    const float *tuned = m->tuned + matrix.offset;
    float *merged = m->merged + matrix.offset;
    double scale = m->scale;
    if (factor == FACTOR_LENGTHS) {
        memcpy(merged, tuned, (size_t)matrix.n * sizeof *merged);
        return;
    }
    if (m->options->layer_scaling)
        scale *= layer_scale(m->adapter, pair);
    switch (m->options->mode) {
    case MERGE_SLAO:
        if (factor == FACTOR_A)
            memcpy(merged, tuned, (size_t)matrix.n * sizeof *merged);
        else
            move_towards(tuned, merged, matrix.n, scale);
        break;
    case MERGE_LINEAR: move_towards(tuned, merged, matrix.n, scale); break;
    case MERGE_TIES: merge_ties(tuned, merged, matrix.n, m->options->ties_trim); break;
    case MERGE_DARE:
        merge_dare(tuned, merged, matrix.n, m->options->dare_drop_rate, m->seed,
                   (uint32_t)(2 * pair + (int64_t)factor));
        break;
    case MERGE_SIMPLE:
    case MERGE_MODE_COUNT: must(false && "a mode that merges");
    }
}

static bool is_finite(const float *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            return false;
    }
    return true;
}

static bool check_finite(const Adapter *adapter, const float *merged, int64_t run, Err *err)
{
    static const char *const names[FACTOR_COUNT] = {"A", "B", "a length"};
    for (int64_t pair = 0; pair < pair_count(adapter); pair++) {
        for (int factor = 0; factor < FACTOR_COUNT; factor++) {
            const Matrix m = matrix_of(adapter, pair, (Factor)factor);
            if (!is_finite(merged + m.offset, m.n))
                return err_set(err, ERR_SLAO_MERGE_DIVERGED,
                               "after run %lld, %s of %s in layer %lld is not finite",
                               (long long)run, names[factor],
                               adapter_target_name((Role)(pair % ROLE_LINEAR_COUNT)),
                               (long long)(pair / ROLE_LINEAR_COUNT));
        }
    }
    return true;
}

static double norm(const Adapter *adapter, Factor factor, const float *values)
{
    return sqrt(dot_all(adapter, factor, values, values));
}

static void count_matrices(const Adapter *adapter, MergeReport *report)
{
    for (int64_t pair = 0; pair < pair_count(adapter); pair++)
        report->n_a += adapter->pairs[pair].present;
    report->n_b = report->n_a;
    report->n_params = adapter->n_params;
}

/* True when there was nothing to merge: the first run seeds, and simple runs replace. */
static bool seeds(const Merging *m, int64_t run)
{
    if (run > 1 && m->options->mode != MERGE_SIMPLE)
        return false;
    memcpy(m->merged, m->tuned, (size_t)m->adapter->n_params * sizeof *m->merged);
    return true;
}

static double scale_of(const Merging *m, int64_t run, double cosine)
{
    const double scale = merge_scale(m->options, run);
    if (!m->options->adaptive)
        return scale;
    return scale * (adaptive_low + (adaptive_high - adaptive_low) * (cosine + 1) / 2);
}

bool merge_run(const Adapter *adapter, const MergeOptions *options, int64_t run,
               const float *tuned, float *merged, MergeReport *report, Err *err)
{
    must(run >= 1 && tuned != merged);
    const double start = os_now();
    *report = (MergeReport){.run = run, .scale = 1};
    Merging m = {adapter, options, tuned, merged, 1, options->dare_seed};
    if (m.seed == 0)
        m.seed = (uint64_t)DARE_SEED ^ (uint64_t)run;
    count_matrices(adapter, report);
    if (run > 1) {
        report->a_norm_before = norm(adapter, FACTOR_A, merged);
        report->b_norm_before = norm(adapter, FACTOR_B, merged);
        const double both = report->b_norm_before * norm(adapter, FACTOR_B, tuned);
        report->cosine = both > 0 ? dot_all(adapter, FACTOR_B, merged, tuned) / both : 0;
    }
    if (!seeds(&m, run)) {
        report->scale = m.scale = scale_of(&m, run, report->cosine);
#pragma omp parallel for schedule(dynamic)
        for (int64_t pair = 0; pair < pair_count(adapter); pair++) {
            for (int factor = 0; factor < FACTOR_COUNT; factor++)
                merge_matrix(&m, pair, (Factor)factor);
        }
    }
    report->a_norm_after = norm(adapter, FACTOR_A, merged);
    report->b_norm_after = norm(adapter, FACTOR_B, merged);
    report->seconds = os_now() - start;
    return check_finite(adapter, merged, run, err);
}
