/* os_file.h — the few file calls of the operating system that core/file*.c is written on.
 *
 * Internal to core. Every call returns 0 or an errno value (os_file_error gives its text), never
 * retries policy, never deletes more than it is told. One os_<system>_file.c implements it.
 */
#ifndef CORE_OS_FILE_H
#define CORE_OS_FILE_H

#include "core/base.h"

typedef enum OsPathKind { OS_PATH_NONE, OS_PATH_FILE, OS_PATH_FOLDER, OS_PATH_OTHER } OsPathKind;

OsPathKind os_path_kind(const char *path); /* follows links */
bool os_path_absolute(const char *path, char *out, size_t size); /* false: not there, too long */
uint64_t os_path_size(const char *path);                         /* 0 when it is not a file */
const char *os_file_error(int error);

int os_file_create(const char *path, int *fd); /* truncates */
int os_file_open(const char *path, int *fd);   /* for reading */
/* A new file for reading and writing that has no name: it is gone when it is closed. */
int os_file_temporary(int *fd);
/* Writes all of it. A full disk is an error, never a short count. */
int os_file_write(int fd, const void *data, size_t bytes);
/* Reads up to `bytes`; *got is 0 only at the end. */
int os_file_read(int fd, void *data, size_t bytes, size_t *got);
/* All of [at, at + bytes), wherever the file stands; EIO when it ends before. */
int os_file_read_at(int fd, uint64_t at, void *data, size_t bytes);
int os_file_sync(int fd);
void os_file_close(int fd);
/* Bytes of an open regular file; 0 when it is something else (pipe, device). */
uint64_t os_file_size(int fd);
int os_file_remove(const char *path);
int os_path_rename(const char *from, const char *to); /* replaces a file */
int os_path_sync(const char *path);                   /* a file's or folder's data and names */

int os_folder_make(const char *path);   /* one level */
int os_folder_remove(const char *path); /* an empty one */
/* Calls visit for each name but "." and "..", in the system's order. */
typedef void OsNameVisit(void *context, const char *name, bool is_folder);
int os_folder_each(const char *path, OsNameVisit *visit, void *context);

/* A private read-only mapping of a regular file; *data = NULL and *size = 0 for an empty one. */
int os_map(const char *path, const uint8_t **data, size_t *size);
int os_map_file(int fd, const uint8_t **data, size_t *size); /* the same of an open file */
void os_unmap(const uint8_t *data, size_t size);

#endif
