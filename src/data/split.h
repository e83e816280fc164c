/* split.h — a data file in two: one to train on, one held back.
 *
 * The choice is seeded and exact: round(ratio × rows) rows are held out, at least one, and at least
 * one stays. Rows keep their order and are written as JSON lines; lines of a .jsonl file stay byte
 * for byte what they were.
 */
#ifndef DATA_SPLIT_H
#define DATA_SPLIT_H

#include "core/json.h"

typedef struct SplitOptions {
    double ratio; /* of the rows that are held out, 0 < ratio < 1 */
    uint64_t seed;
    const char *train, *held_out; /* files to write; neither is the source */
} SplitOptions;

typedef struct SplitResult {
    int64_t rows, train, held_out;
} SplitResult;

/* Both files are written whole or not at all. A row that is not one (broken JSON, not UTF-8) is an
 * error that names its line. */
bool data_split(const char *path, const SplitOptions *options, SplitResult *result, Err *err);

#endif
