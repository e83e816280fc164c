/* quality.h — the quality of a data file in numbers: duplicates, lengths, empty turns, reasoning,
 * what it shares with another file; and a verdict against limits.
 *
 * Lengths are exact when texts (tokenizer, template) are given, else a token is 4 bytes.
 */
#ifndef DATA_QUALITY_H
#define DATA_QUALITY_H

#include "core/json.h"
#include "data/dataset.h"

typedef struct ReportOptions {
    RowFormat format;       /* FORMAT_UNKNOWN: each row by what it looks like */
    const char *against;    /* a file whose rows must not be in this one, or NULL */
    int64_t max_samples;    /* first rows only, 0 = all */
    double dup_threshold;   /* near duplicates, in (0, 1] */
    const DataTexts *texts; /* NULL: lengths are estimated */
    /* Gates: a share above makes the verdict FAIL; negative = none. */
    double fail_on_dups, fail_on_contamination, max_outlier_rate, fail_on_empty;
} ReportOptions;

/* NULL when a file cannot be read (INPUT_DATASET_*). `verdict` is PASS, WARN or FAIL; a file
 * without a readable row fails. */
Json *data_report(const char *path, const ReportOptions *options, Err *err);

#endif
