/* output.h — an output folder as one run holds it: locked against other processes, free of what a
 * killed process left half-written, and with the run's own files in place.
 *
 * Many runs may share a folder, but OUT/lora, OUT/checkpoint-N and a session's OUT/run_NNN belong
 * to the one that trained there last. When another run takes the folder, they move to
 * OUT/runs/<first 12 digits of their run>/, and when their run goes on they move back: nothing is
 * overwritten. A folder whose run cannot be told moves to OUT/runs/unknown/. Owns the lock; layout
 * at the head of output.c.
 */
#ifndef TRAIN_OUTPUT_H
#define TRAIN_OUTPUT_H

#include "core/arena.h"
#include "core/os_lock.h"

/* In every saved adapter and every run_NNN: the id of the run that wrote it. */
#define RUN_ID_FILE "run_id"

/* Told of every folder that moved. run_id: 32 digits, or NULL when nobody knows. */
typedef void OutputMoved(void *context, const char *run_id, const char *from, const char *to);

typedef struct OutputFolder {
    OsLock lock;
} OutputFolder;

/* Makes the folder, locks it and puts it in order for that run. STATE_OUTPUT_IN_USE when another
 * process trains there; RUNTIME_IO_FAILED when a folder cannot be moved. moved may be NULL. */
bool output_open(OutputFolder *folder, const char *path, const char *run_id, OutputMoved *moved,
                 void *context, Err *err);
void output_close(OutputFolder *folder); /* safe when it is not held */

/* OUT/runs/<first 12 digits>: where that run's files lie while another one has the folder. */
const char *output_aside(const char *path, const char *run_id, Arena *out);

/* "OUT/run_007" of a session's run 7, from 1. */
const char *output_session_run(const char *path, int64_t run, Arena *out);

bool output_is_session_run(const char *name);

#endif
