/* dataset.h — data files as tokenized examples with loss marks, and what was dropped.
 *
 * The journey of a row: bytes → JSON (rows.c) → messages or plain text (schema.c, per row) → the
 * model's chat template → tokens with a loss mark (render.c) → filters, duplicates, the limit of
 * length. Nothing is dropped silently: every row that does not become an example is counted with
 * its line and reason. Rows are worked on by all threads; the result does not depend on how many.
 *
 * Memory does not grow with the files: tokens, marks and the list of examples lie in spools (few
 * in memory, many in a temporary file that is mapped). This layer never sees models or compute.
 */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "core/arena.h"
#include "core/spool.h"
#include "data/dedup.h"
#include "data/schema.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* One example: tokens [start, start + len) of Dataset.tokens. */
typedef struct Example {
    int64_t start;
    int32_t len;
    int32_t n_loss;   /* tokens that carry loss */
    int32_t line;     /* where its row begins in the source, from 1 */
    int32_t file;     /* index of the source */
    float difficulty; /* 0..1, for a curriculum */
} Example;

typedef struct RowNote {
    int32_t line, file;
    FaultKind kind;
    bool truncated; /* kept, but cut to max_seq_length (kind unused) */
    char text[160];
} RowNote;

enum { DATASET_MAX_NOTES = 100, DATASET_MAX_FILES = 256 }; /* notes kept; counts go on */

typedef struct Dataset {
    const int32_t *tokens;
    const uint8_t *loss; /* 1: the token at this index is a target that carries loss */
    int64_t n_tokens, n_loss;
    const Example *examples;
    int64_t n_examples;
    const Example *held_out; /* kept back from training, same tokens array */
    int64_t n_held_out;
    /* Rows: n_rows = n_used + dropped + n_left_out. */
    int64_t n_rows, n_used, n_dropped[DROP_REASONS];
    int64_t n_left_out;  /* by a file's weight below 1 */
    int64_t n_truncated; /* used, but cut */
    int64_t n_cut_turns; /* of these: cut inside an assistant's turn */
    RowNote *notes;
    int64_t n_notes;
    char sha256[65]; /* of the file; of the files' hashes and weights when there are several */
    Spool spools[4];
} Dataset;

typedef struct DataFile {
    const char *path;
    double weight; /* 1 = every row once an epoch, 0.5 = half of them, 2 = twice */
} DataFile;

/* What becomes of an example that is longer than max_seq_length. */
typedef enum Truncation {
    TRUNCATE_END,   /* its end is cut off */
    TRUNCATE_START, /* its beginning is */
    TRUNCATE_SPLIT, /* it becomes several */
    TRUNCATE_DROP   /* the row is dropped */
} Truncation;

typedef struct RowFilter { /* 0 = no limit */
    int64_t min_tokens, max_tokens;
    int64_t min_turns, max_turns; /* system messages do not count; a plain text is one turn */
    const char *roles;            /* "user,assistant": a conversation needs one of each; or NULL */
} RowFilter;

typedef struct DatasetOptions {
    int32_t max_seq_length; /* longer examples: truncation */
    Truncation truncation;
    int64_t max_samples; /* 0 = all; else a seeded choice of so many rows */
    uint64_t seed;
    bool train_on_prompts; /* loss on every token instead of assistant turns */
    RowFilter filter;
    DedupMode dedup;
    double dup_threshold; /* for DEDUP_MINHASH */
    double held_out;      /* share of the used rows that is kept back, 0 = none */
    bool difficulty;      /* fill Example.difficulty */
    size_t memory_bytes;  /* of a spool; 0 = 32 MiB */
} DatasetOptions;

/* How a row becomes text and tokens. chat_template may be NULL (then rows with messages are
 * dropped, but for pairs of texts). */
typedef struct DataTexts {
    const Tokenizer *tokenizer;
    const Template *chat_template;
} DataTexts;

/* Errors carry the INPUT_DATASET_* codes; the first bad rows are named in the message. Example, by
 * contract with train: for target index t of an example (t >= 1), the token tokens[start+t] is
 * predicted from position t-1 and counts if loss[start+t]. Close with dataset_close, also after an
 * error. */
bool dataset_load(Dataset *dataset, const DataFile *files, size_t n_files, const DataTexts *texts,
                  const DatasetOptions *options, Arena *out, Err *err);
/* The same from bytes in memory; `name` decides the syntax. */
bool dataset_parse(Dataset *dataset, Str bytes, const char *name, const DataTexts *texts,
                   const DatasetOptions *options, Arena *out, Err *err);
void dataset_close(Dataset *dataset); /* safe on {0} */
/* Some examples of a dataset as one of their own: it shares the tokens, holds nothing back, and is
 * not closed. examples live as long as it does. */
Dataset dataset_subset(const Dataset *whole, const Example *examples, int64_t n);
/* Copies an example's [len] tokens and marks; reading all in any order leaves none in memory. */
void dataset_read(const Dataset *dataset, const Example *example, int32_t *tokens, uint8_t *loss);

/* "a.jsonl\nb.jsonl:0.5" to files; the texts live in `out`. False: a weight is none, or too many
 * files. A file whose name ends in ":number" is taken by its name when it exists. */
bool data_files_parse(const char *list, DataFile *files, size_t *n_files, Arena *out, Err *err);

/* One human line: "120 rows, 118 used, 2 dropped (1 parse, 1 format), 3 truncated". */
void dataset_summary(const Dataset *dataset, Buf *out);
Json *dataset_json(const Dataset *dataset); /* the same numbers */

#endif
