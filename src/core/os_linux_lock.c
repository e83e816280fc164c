/* os_linux_lock.c — os_lock.h over flock(2).
 *
 * The wait is a poll: flock has no timeout, and a signal to break it would not belong to a library.
 */
#include "core/os_lock.h"

#include "core/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

int os_lock_open(OsLock *lock, const char *path, double timeout_s)
{
    assert(lock != NULL && path != NULL);
    lock->handle = -1;
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    const double end = os_now() + timeout_s;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        if ((error != EWOULDBLOCK && error != EINTR) || os_now() >= end) {
            close(fd);
            return error == EWOULDBLOCK || error == EINTR ? ETIMEDOUT : error;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    lock->handle = fd;
    return 0;
}

void os_lock_close(OsLock *lock)
{
    if (lock->handle >= 0)
        close(lock->handle);
    lock->handle = -1;
}
