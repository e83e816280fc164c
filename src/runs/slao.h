/* slao.h — merging the adapters of a sequence of runs into one (SLAO, arXiv 2512.23017): where the
 * next run starts, and how what a run learnt enters the merged adapter. Plain algebra over the flat
 * vectors of model/adapter.h; knows no files and no sessions.
 */
#ifndef RUNS_SLAO_H
#define RUNS_SLAO_H

#include "model/adapter.h"

typedef enum MergeMode {
    MERGE_SLAO,   /* A replaced, B moved by lambda(i) */
    MERGE_SIMPLE, /* nothing is merged: weights go on from run to run */
    MERGE_LINEAR, /* A and B moved by lambda(i) */
    MERGE_TIES,   /* small entries trimmed, signs elected (Yadav et al. 2023), A and B */
    MERGE_DARE,   /* the change dropped at random and rescaled (Yu et al. 2024), A and B */
    MERGE_MODE_COUNT
} MergeMode;
typedef enum MergeScaling {
    SCALING_SQRT,   /* 1 / sqrt(i) */
    SCALING_LINEAR, /* 1 / i */
    SCALING_LOG,    /* 1 / ln(i + 1) */
    SCALING_CONSTANT,
    SCALING_COUNT
} MergeScaling;
/* B that the next run starts from: of the previous run (the paper), or the merged one. */
typedef enum MergeInit { MERGE_INIT_TUNED, MERGE_INIT_MERGED, MERGE_INIT_COUNT } MergeInit;

typedef struct MergeOptions {
    MergeMode mode;
    MergeScaling scaling;
    MergeInit init;
    double min_scale;      /* lambda(i) is at least this */
    bool adaptive;         /* lambda *= 0.5 + (cos(B merged, B tuned) + 1) / 2 */
    bool layer_scaling;    /* lambda *= 0.3, 0.5 or 0.7 in the first, middle and last third */
    double ties_trim;      /* share of the entries that is trimmed */
    double dare_drop_rate;
    uint64_t dare_seed;    /* 0: 0x5A0D0000 xor the run */
} MergeOptions;

typedef struct MergeReport {
    int64_t run;      /* from 1 */
    double scale;     /* lambda, adaptive scaling included */
    double cosine;    /* of B merged and B tuned before merging; 0 when either is zero */
    int64_t n_a, n_b; /* matrices */
    int64_t n_params;
    double seconds;
    double a_norm_before, a_norm_after, b_norm_before, b_norm_after; /* of the merged adapter */
} MergeReport;

const char *merge_mode_name(MergeMode mode);
bool merge_mode_parse(const char *text, MergeMode *mode);
bool merge_scaling_parse(const char *text, MergeScaling *scaling);
bool merge_init_parse(const char *text, MergeInit *init);

/* lambda(i) for run i >= 1, without adaptive and layer scaling. */
double merge_scale(const MergeOptions *options, int64_t run);

/* Where the run after one that ended in `tuned` starts: A orthogonalised (its rows orthonormal, by
 * the QR of A^T with a positive diagonal), B by options->init. MERGE_SIMPLE: tuned as it is. All
 * vectors [n_params], `start` apart from the others. */
void merge_start(const Adapter *adapter, const MergeOptions *options, const float *tuned,
                 const float *merged, float *start);

/* Takes the result of run `run` into `merged`; the first run, and MERGE_SIMPLE, copy it.
 * SLAO_MERGE_DIVERGED names the first matrix that is not finite; merged is undefined then. */
bool merge_run(const Adapter *adapter, const MergeOptions *options, int64_t run,
               const float *tuned, float *merged, MergeReport *report, Err *err);

#endif
