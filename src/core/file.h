/* file.h — files that are whole or absent: mapping, atomic writing, atomic folders.
 *
 * Protocol of every durable write: write `<path>.partial` beside the target, fsync it, rename it
 * over the target, fsync the folder. For folders: the whole `<path>.partial/` is filled and synced,
 * an old folder is renamed aside to `<path>.old`, the new one renamed in, and only then the old one
 * removed; folder_recover puts `<path>.old` back when a crash came between the two renames.
 */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include "core/arena.h"
#include "core/str.h"

/* A read-only mapping of a whole file. An empty file maps to data = "" and size 0. */
typedef struct FileMap {
    const uint8_t *data;
    size_t size;
} FileMap;
bool file_map(FileMap *map, const char *path, ErrCode code, Err *err);
void file_unmap(FileMap *map); /* safe on {0} */

/* Reads a whole file (at most max_bytes, else an error) into `out`. */
bool file_read(const char *path, size_t max_bytes, Arena *out, Str *text, ErrCode code, Err *err);

/* A file being written aside. Writes are buffered; errors stick and are reported by commit. */
typedef struct FileWriter FileWriter;
FileWriter *file_writer_open(const char *path, ErrCode code, Err *err);
void file_writer_write(FileWriter *writer, const void *data, size_t bytes);
uint64_t file_writer_offset(const FileWriter *writer); /* bytes written so far */
/* Syncs and renames into place. False with err set when anything failed since open; the partial
 * file is then removed. The writer is gone either way. */
bool file_writer_commit(FileWriter *writer, Err *err);
void file_writer_abandon(FileWriter *writer); /* removes the partial file; safe on NULL */

bool file_write_atomic(const char *path, Str text, ErrCode code, Err *err);

/* Folders: fill `partial` (returned in `out`), then commit. */
const char *folder_begin(const char *path, Arena *out, ErrCode code, Err *err);
bool folder_commit(const char *path, ErrCode code, Err *err);
void folder_abandon(const char *path); /* removes `<path>.partial` */
void folder_recover(const char *path); /* undoes a half-done commit; call before reading */
/* Gives a folder another name on the same disk; there must be nothing of that name. */
bool folder_move(const char *from, const char *to, ErrCode code, Err *err);

/* fsync of the folder that holds path (a new name is durable only then): 0 or an errno value. */
int folder_sync_parent(const char *path);

bool path_exists(const char *path);
bool path_is_folder(const char *path);
const char *path_join(Arena *out, const char *folder, const char *name);
const char *path_base(const char *path); /* after the last '/' */
/* Absolute and without links; the path itself when it does not exist. */
const char *path_absolute(Arena *out, const char *path);
uint64_t file_bytes(const char *path); /* 0 when it is not a file */
const char *path_parent(Arena *out, const char *path);
bool folder_make(const char *path, ErrCode code, Err *err); /* with its parents */
void folder_remove(const char *path);                       /* recursively; errors ignored */
/* Names in a folder (no "." and ".."), sorted. False when it cannot be read. */
bool folder_list(const char *path, Arena *out, const char ***names, size_t *count);

/* A file read once, from front to back, a piece at a time. */
typedef struct FileReader FileReader;
FileReader *file_reader_open(const char *path, ErrCode code, Err *err);
/* Up to `bytes`; *got is 0 only at the end. */
bool file_reader_read(FileReader *reader, void *data, size_t bytes, size_t *got, Err *err);
void file_reader_close(FileReader *reader); /* safe on NULL */

enum { SHA256_BYTES = 32 };
void bytes_sha256(Str bytes, uint8_t digest[SHA256_BYTES]);
/* SHA-256 of a file as 64 hex digits + NUL; reads it a piece at a time. */
bool file_sha256(const char *path, char hex[65], ErrCode code, Err *err);
void sha256_hex(const uint8_t digest[SHA256_BYTES], char hex[65]);

#endif
