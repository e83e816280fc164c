/* dataset.h — a data file as tokenized examples with loss marks, and what was dropped.
 *
 * The journey of a row: bytes → JSON (schema.c detects the format, per row) → messages or plain
 * text → the model's chat template → tokens with a loss mark (render.c). Nothing is dropped
 * silently: every row that does not become an example is counted with its line and reason.
 * This layer never sees models or compute.
 */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "core/arena.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* One example: tokens [start, start + len) of Dataset.tokens. */
typedef struct Example {
    int64_t start;
    int32_t len;
    int32_t n_loss; /* tokens that carry loss */
    int32_t line;   /* line (or row) in the source, from 1 */
} Example;

typedef enum DropReason {
    DROP_PARSE,    /* not JSON, not UTF-8 */
    DROP_FORMAT,   /* no known format */
    DROP_INVALID,  /* a known format, but a field is missing or of the wrong kind */
    DROP_TEMPLATE, /* the chat template refused it */
    DROP_NO_LOSS,  /* no token would carry loss */
    DROP_REASONS
} DropReason;

typedef struct RowNote {
    int32_t line;
    DropReason reason;
    bool truncated; /* kept, but cut to max_seq_length (reason unused) */
    char text[160];
} RowNote;

enum { DATASET_MAX_NOTES = 100 }; /* notes kept; counts go on */

typedef struct Dataset {
    int32_t *tokens;
    uint8_t *loss; /* 1: the token at this index is a target that carries loss */
    int64_t n_tokens, n_loss;
    Example *examples;
    int64_t n_examples;
    int64_t n_rows, n_dropped[DROP_REASONS], n_truncated;
    RowNote *notes;
    int64_t n_notes;
    char sha256[65]; /* of the file */
} Dataset;

typedef struct DatasetOptions {
    int32_t max_seq_length; /* longer examples are cut and counted */
    int64_t max_samples;    /* 0 = all; else this many rows after a seeded shuffle */
    uint64_t seed;
    bool train_on_prompts; /* loss on every token instead of assistant turns */
} DatasetOptions;

/* Reads by extension: .jsonl (and unknown), .json, .txt/.md. chat_template may be NULL (then rows
 * with messages are an error that says so). Errors carry the INPUT_DATASET_* codes; the first bad
 * rows are named in the message. Example, by contract with train: for target index t of an
 * example (t >= 1), the token tokens[start+t] is predicted from position t-1 and counts if
 * loss[start+t]. */
bool dataset_load(Dataset *dataset, const char *path, const Tokenizer *tokenizer,
                  const Template *chat_template, const DatasetOptions *options, Arena *out,
                  Err *err);
/* The same from bytes in memory; `name` decides the extension. */
bool dataset_parse(Dataset *dataset, Str bytes, const char *name, const Tokenizer *tokenizer,
                   const Template *chat_template, const DatasetOptions *options, Arena *out,
                   Err *err);
/* One human line: "120 rows, 118 used, 2 dropped (1 parse, 1 format), 3 truncated". */
void dataset_summary(const Dataset *dataset, Buf *out);

#endif
