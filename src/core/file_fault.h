/* file_fault.h — makes the n-th durable operation fail, or be the process's last: for fault tests.
 *
 * A durable operation is anything in core/file*.c that changes the disk: creating a file, writing a
 * buffer, fsync, rename, making a folder, removing something. They are counted from 1 over the
 * whole process. Removals are counted but never made to fail: clean-up works on a full disk too.
 *
 * A test sets the fault directly; a program under test takes it from BACKPROPAGATE_FAULT, read once
 * before the first durable operation: "write:N" (the N-th fails with ENOSPC), "full:N" (it and all
 * later ones), "kill:N" (SIGKILL just before the N-th). A sweep raises N until nothing happens.
 * "memory:N" is of another kind: the N-th large piece of memory (core/arena.h) cannot be had.
 */
#ifndef CORE_FILE_FAULT_H
#define CORE_FILE_FAULT_H

#include "core/base.h"

typedef enum FileFault { FAULT_NONE, FAULT_WRITE, FAULT_FULL, FAULT_KILL, FAULT_MEMORY } FileFault;

/* Arms the fault and starts counting anew. n counts from 1. */
void file_fault_set(FileFault fault, uint64_t n);
/* Durable operations since the last file_fault_set (or the start). */
uint64_t file_fault_count(void);

/* For core/file*.c: to be called before each durable operation. Returns 0, or the errno to report
 * instead of doing it. */
int file_fault_check(void);
/* For core/arena.c: whether this piece of memory is the one that cannot be had. */
bool memory_fault_check(void);
/* The same before a removal, which may be killed but never fails. */
void file_fault_check_removal(void);

#endif
