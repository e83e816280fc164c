/* validate.h — is this a data file that can be trained on? Said row by row, without a model.
 *
 * What it reports is JSON, because that is what it is for: the fields are those that users of the
 * original know, and some more (line, code, formats).
 */
#ifndef DATA_VALIDATE_H
#define DATA_VALIDATE_H

#include "core/json.h"
#include "data/schema.h"

typedef struct ValidateOptions {
    RowFormat format;    /* FORMAT_UNKNOWN: each row by what it looks like */
    const char *hint;    /* the name the user gave that format */
    int64_t max_errors;  /* stop after so many; each list holds at most so many */
    int64_t max_samples; /* read at most so many rows, 0 = all */
} ValidateOptions;

/* Always an object with is_valid. When the file cannot be judged it has `error` (dataset_not_found,
 * dataset_path_is_directory, not_utf8, read_failed, no_parseable_rows), the error's `code`, message
 * and hint. */
Json *data_validate(const char *path, const ValidateOptions *options);

#endif
