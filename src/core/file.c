/* file.c — whole files: mapping, reading, and the writer that writes aside and renames.
 *
 * Invariants: a path that a FileWriter targets holds either what it held before or everything that
 * was written, at every moment; a writer that failed leaves no `.partial` behind. Every change of
 * the disk passes file_fault_check first, so tests can break or kill at each one.
 */
#include "core/file.h"

#include "core/file_fault.h"
#include "core/os_file.h"

#include <string.h>

enum { WRITER_BUFFER = 1 << 20, READ_CHUNK = 1 << 16 };

bool file_map(FileMap *map, const char *path, ErrCode code, Err *err)
{
    assert(map != NULL && path != NULL);
    *map = (FileMap){0};
    int error = os_map(path, &map->data, &map->size);
    if (error != 0)
        return err_set(err, code, "cannot open '%s': %s", path, os_file_error(error));
    if (map->data == NULL)
        map->data = (const uint8_t *)"";
    return true;
}

void file_unmap(FileMap *map)
{
    assert(map != NULL);
    if (map->size > 0)
        os_unmap(map->data, map->size);
    *map = (FileMap){0};
}

/* Reads to the end, one byte beyond the limit at most (that byte proves the file too long). */
static int read_all(int fd, size_t max_bytes, Buf *out)
{
    size_t limit = max_bytes < SIZE_MAX ? max_bytes + 1 : max_bytes;
    char *chunk = heap_resize(NULL, READ_CHUNK);
    int error = 0;
    for (size_t got = 1; error == 0 && got > 0 && out->len < limit;) {
        size_t want = limit - out->len < READ_CHUNK ? limit - out->len : READ_CHUNK;
        error = os_file_read(fd, chunk, want, &got);
        buf_append(out, chunk, error == 0 ? got : 0);
    }
    heap_free(chunk);
    return error;
}

bool file_read(const char *path, size_t max_bytes, Arena *out, Str *text, ErrCode code, Err *err)
{
    assert(path != NULL && out != NULL && text != NULL);
    *text = STR("");
    int fd;
    int error = os_file_open(path, &fd);
    if (error != 0)
        return err_set(err, code, "cannot open '%s': %s", path, os_file_error(error));
    Buf bytes = {.max = SIZE_MAX / 4};
    bool too_long = os_file_size(fd) > max_bytes;
    if (!too_long)
        error = read_all(fd, max_bytes, &bytes);
    os_file_close(fd);
    too_long = too_long || bytes.len > max_bytes;
    bool ok = error == 0 && !too_long;
    if (ok)
        *text = (Str){arena_strndup(out, bytes.data, bytes.len), bytes.len};
    else if (too_long)
        err_set(err, code, "'%s' is longer than %zu bytes", path, max_bytes);
    else
        err_set(err, code, "cannot read '%s': %s", path, os_file_error(error));
    buf_free(&bytes);
    return ok;
}

struct FileWriter {
    char *path, *partial;
    ErrCode code;
    int fd, error; /* the first failure's errno; 0 = none so far */
    const char *failed_at;
    uint64_t offset;
    size_t fill;
    uint8_t *buffer; /* WRITER_BUFFER bytes */
};

static char *join_text(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    char *text = heap_resize(NULL, a_len + b_len + 1);
    memcpy(text, a, a_len);
    memcpy(text + a_len, b, b_len + 1);
    return text;
}

static void writer_free(FileWriter *writer)
{
    heap_free(writer->path);
    heap_free(writer->partial);
    heap_free(writer->buffer);
    heap_free(writer);
}

FileWriter *file_writer_open(const char *path, ErrCode code, Err *err)
{
    assert(path != NULL && code > ERR_NONE && code < ERR_COUNT);
    FileWriter *writer = heap_resize(NULL, sizeof *writer);
    *writer = (FileWriter){.code = code, .fd = -1};
    writer->path = join_text(path, "");
    writer->partial = join_text(path, ".partial");
    int error = file_fault_check();
    if (error == 0)
        error = os_file_create(writer->partial, &writer->fd);
    if (error != 0) {
        err_set(err, code, "cannot write '%s': %s", path, os_file_error(error));
        writer_free(writer);
        return NULL;
    }
    writer->buffer = heap_resize(NULL, WRITER_BUFFER);
    return writer;
}

static void put(FileWriter *writer, const void *data, size_t bytes)
{
    if (writer->error != 0 || bytes == 0)
        return;
    writer->error = file_fault_check();
    if (writer->error == 0)
        writer->error = os_file_write(writer->fd, data, bytes);
    if (writer->error != 0)
        writer->failed_at = "write";
}

static void flush(FileWriter *writer)
{
    assert(writer->fill <= WRITER_BUFFER);
    put(writer, writer->buffer, writer->fill);
    writer->fill = 0;
}

void file_writer_write(FileWriter *writer, const void *data, size_t bytes)
{
    assert(writer != NULL && (data != NULL || bytes == 0));
    writer->offset += bytes;
    if (bytes > WRITER_BUFFER - writer->fill || bytes > WRITER_BUFFER / 2)
        flush(writer); /* what is written past the buffer comes after what lies in it */
    if (bytes > WRITER_BUFFER / 2) {
        put(writer, data, bytes);
        return;
    }
    if (bytes > 0)
        memcpy(writer->buffer + writer->fill, data, bytes);
    writer->fill += bytes;
}

uint64_t file_writer_offset(const FileWriter *writer)
{
    assert(writer != NULL);
    return writer->offset;
}

static void remove_partial(const FileWriter *writer)
{
    file_fault_check_removal();
    os_file_remove(writer->partial);
}

bool file_writer_commit(FileWriter *writer, Err *err)
{
    assert(writer != NULL);
    flush(writer);
    const char *step = writer->failed_at;
    int error = writer->error;
    if (error == 0) {
        step = "sync";
        error = file_fault_check();
        if (error == 0)
            error = os_file_sync(writer->fd);
    }
    os_file_close(writer->fd);
    if (error == 0) {
        step = "rename";
        error = file_fault_check();
        if (error == 0)
            error = os_path_rename(writer->partial, writer->path);
    }
    if (error == 0) {
        error = folder_sync_parent(writer->path);
        if (error != 0)
            err_set(err, writer->code, "cannot sync the folder of '%s': %s", writer->path,
                    os_file_error(error));
    } else {
        err_set(err, writer->code, "cannot %s '%s': %s", step, writer->path, os_file_error(error));
        remove_partial(writer);
    }
    writer_free(writer);
    return error == 0;
}

void file_writer_abandon(FileWriter *writer)
{
    if (writer == NULL)
        return;
    os_file_close(writer->fd);
    remove_partial(writer);
    writer_free(writer);
}

bool file_write_atomic(const char *path, Str text, ErrCode code, Err *err)
{
    FileWriter *writer = file_writer_open(path, code, err);
    if (writer == NULL)
        return false;
    file_writer_write(writer, text.data, text.len);
    return file_writer_commit(writer, err);
}
