/* row_work.h — the part of a row's journey that needs no other row, done by all threads at once.
 *
 * From raw text to tokens with marks, filters applied. What depends on order (duplicates, the list
 * of examples) is dataset.c's.
 */
#ifndef DATA_ROW_WORK_H
#define DATA_ROW_WORK_H

#include "data/dataset.h"
#include "data/render.h"
#include "data/rows.h"

typedef struct Worker { /* of one thread */
    Renderer renderer;
    TokenList ids;
    Buf loss, words;
} Worker;

typedef struct RowWork {
    bool wanted; /* in: false rows are left alone */
    bool ok;     /* out; false: fault says why */
    RowFault fault;
    int32_t worker; /* whose ids and loss hold the row: [start, start + len) */
    size_t start;
    int64_t len;
    float difficulty;
    Fingerprint print; /* when the options ask for duplicates */
} RowWork;

typedef struct RowWorkers {
    Worker *workers;
    int n;
    const DatasetOptions *options;
} RowWorkers;

bool row_workers_open(RowWorkers *workers, const DataTexts *texts, const DatasetOptions *options,
                      Err *err);
void row_workers_close(RowWorkers *workers); /* safe on {0} */
/* Works on rows[0..n); results stay valid until the next call. */
void row_workers_run(RowWorkers *workers, const RowReader *reader, const RawRow *rows, int32_t n,
                     RowWork *work);

/* How hard a text is to learn, 0..1: its length, how many words differ, how long they are. */
double words_difficulty(Str words, Arena *scratch);

#endif
