/* os_lock.h — advisory locks between processes, on a file that exists only to be locked.
 *
 * The lock dies with the process that holds it. One os_<system>_lock.c implements it.
 */
#ifndef CORE_OS_LOCK_H
#define CORE_OS_LOCK_H

#include "core/base.h"

typedef struct OsLock {
    int handle; /* -1 = not held */
} OsLock;

/* Creates `path` if needed and waits at most timeout_s for the lock. Returns 0, or an errno value:
 * ETIMEDOUT when somebody else kept it. */
int os_lock_open(OsLock *lock, const char *path, double timeout_s);
void os_lock_close(OsLock *lock); /* the file stays: removing it would race; safe when not held */

#endif
