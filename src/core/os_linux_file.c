/* os_linux_file.c — os_file.h on Linux (and any POSIX system).
 *
 * Owns nothing. Interrupted calls are repeated here, so that callers never see EINTR; a short write
 * is continued, so that they see a full disk as ENOSPC and not as a count.
 */
#include "core/os_file.h"

#include "core/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE_MAX = 1 << 30 }; /* Linux writes at most 2 GiB - 4 KiB in one call */

OsPathKind os_path_kind(const char *path)
{
    assert(path != NULL);
    struct stat info;
    if (stat(path, &info) != 0)
        return OS_PATH_NONE;
    if (S_ISDIR(info.st_mode))
        return OS_PATH_FOLDER;
    return S_ISREG(info.st_mode) ? OS_PATH_FILE : OS_PATH_OTHER;
}

bool os_path_absolute(const char *path, char *out, size_t size)
{
    assert(path != NULL && out != NULL);
    char whole[PATH_MAX];
    if (realpath(path, whole) == NULL || strlen(whole) >= size)
        return false;
    memcpy(out, whole, strlen(whole) + 1);
    return true;
}

uint64_t os_path_size(const char *path)
{
    assert(path != NULL);
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
}

const char *os_file_error(int error) { return strerror(error); }

static int open_as(const char *path, int flags, int *fd)
{
    assert(path != NULL && fd != NULL);
    do
        *fd = open(path, flags | O_CLOEXEC, 0666);
    while (*fd < 0 && errno == EINTR);
    return *fd < 0 ? errno : 0;
}

int os_file_create(const char *path, int *fd)
{
    return open_as(path, O_WRONLY | O_CREAT | O_TRUNC, fd);
}

int os_file_open(const char *path, int *fd)
{
    int error = open_as(path, O_RDONLY, fd);
    struct stat info;
    if (error == 0 && fstat(*fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(*fd);
        return EISDIR;
    }
    return error;
}

int os_file_write(int fd, const void *data, size_t bytes)
{
    assert(fd >= 0 && (data != NULL || bytes == 0));
    const uint8_t *from = data;
    while (bytes > 0) {
        ssize_t done = write(fd, from, bytes < WRITE_MAX ? bytes : WRITE_MAX);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : ENOSPC;
        from += done;
        bytes -= (size_t)done;
    }
    return 0;
}

int os_file_read_at(int fd, uint64_t at, void *data, size_t bytes)
{
    char *to = data;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, to + done, bytes - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        done += (size_t)n;
    }
    return 0;
}

int os_file_read(int fd, void *data, size_t bytes, size_t *got)
{
    assert(fd >= 0 && data != NULL && got != NULL);
    *got = 0;
    ssize_t done;
    do
        done = read(fd, data, bytes < WRITE_MAX ? bytes : WRITE_MAX);
    while (done < 0 && errno == EINTR);
    if (done < 0)
        return errno;
    *got = (size_t)done;
    return 0;
}

int os_file_sync(int fd)
{
    assert(fd >= 0);
    int rc;
    do
        rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    /* file systems without fsync for this kind of file say EINVAL; there is nothing to wait for */
    return rc != 0 && errno != EINVAL ? errno : 0;
}

void os_file_close(int fd)
{
    assert(fd >= 0);
    close(fd);
}

uint64_t os_file_size(int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 0)
        return 0;
    return (uint64_t)info.st_size;
}

int os_file_remove(const char *path) { return unlink(path) == 0 ? 0 : errno; }

int os_path_rename(const char *from, const char *to)
{
    assert(from != NULL && to != NULL);
    return rename(from, to) == 0 ? 0 : errno;
}

int os_path_sync(const char *path)
{
    int fd;
    int error = open_as(path, O_RDONLY, &fd);
    if (error != 0)
        return error;
    error = os_file_sync(fd);
    close(fd);
    return error;
}

int os_folder_make(const char *path) { return mkdir(path, 0777) == 0 ? 0 : errno; }
int os_folder_remove(const char *path) { return rmdir(path) == 0 ? 0 : errno; }

static bool entry_is_folder(DIR *dir, const struct dirent *entry)
{
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    struct stat info;
    int rc = fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW);
    return rc == 0 && S_ISDIR(info.st_mode);
}

int os_folder_each(const char *path, OsNameVisit *visit, void *context)
{
    assert(path != NULL && visit != NULL);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return errno;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL; errno = 0)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            visit(context, entry->d_name, entry_is_folder(dir, entry));
    int error = errno;
    closedir(dir);
    return error;
}

int os_map_file(int fd, const uint8_t **data, size_t *size)
{
    assert(data != NULL && size != NULL);
    *data = NULL;
    *size = 0;
    struct stat info;
    if (fstat(fd, &info) != 0)
        return errno;
    if (!S_ISREG(info.st_mode))
        return ENODEV;
    if (info.st_size == 0)
        return 0;
    void *base = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (base == MAP_FAILED)
        return errno;
    *data = base;
    *size = (size_t)info.st_size;
    return 0;
}

int os_map(const char *path, const uint8_t **data, size_t *size)
{
    int fd;
    *data = NULL;
    *size = 0;
    int error = os_file_open(path, &fd);
    if (error != 0)
        return error;
    error = os_map_file(fd, data, size);
    close(fd);
    return error;
}

int os_file_temporary(int *fd)
{
    const char *folder = os_env("TMPDIR");
    char path[PATH_MAX];
    assert(fd != NULL);
    int len = snprintf(path, sizeof path, "%s/backprop-XXXXXX",
                       folder != NULL ? folder : "/var/tmp");
    if (len < 0 || (size_t)len >= sizeof path)
        return ENAMETOOLONG;
    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0)
        return errno;
    return unlink(path) == 0 ? 0 : errno;
}

void os_unmap(const uint8_t *data, size_t size)
{
    if (data == NULL)
        return;
    union {
        const uint8_t *in;
        void *out;
    } same = {data};
    int rc = munmap(same.out, size);
    must(rc == 0);
}
