/* spool.c — a write buffer that is a file when it has to be; see spool.h.
 *
 * Not a durable write: the file has no name from the start, so there is nothing to sync, to rename
 * or to clean up.
 */
#include "core/spool.h"

#include <string.h>

#include "core/os_file.h"

enum { SPOOL_LEAST = 1 << 16 };

void spool_open(Spool *spool, size_t memory_bytes, ErrCode code)
{
    assert(spool != NULL && code > ERR_NONE && code < ERR_COUNT);
    *spool = (Spool){.memory_bytes = memory_bytes > SPOOL_LEAST ? memory_bytes : SPOOL_LEAST,
                     .fd = -1,
                     .code = code};
}

static bool fail(const Spool *spool, const char *what, int error, Err *err)
{
    err_set(err, spool->code, "cannot %s a temporary file: %s", what, os_file_error(error));
    return err_hint(err, "Free disk space, or name a folder that has some in TMPDIR");
}

static bool spill(Spool *spool, const void *data, size_t bytes, Err *err)
{
    int error = spool->fd < 0 ? os_file_temporary(&spool->fd) : 0;
    if (error != 0)
        return fail(spool, "make", error, err);
    error = os_file_write(spool->fd, data, bytes);
    return error == 0 || fail(spool, "write", error, err);
}

/* The buffer grows by doubling, so that a small file costs little. */
static bool make_room(Spool *spool, size_t bytes, Err *err)
{
    if (spool->fill + bytes > spool->memory_bytes) {
        if (!spill(spool, spool->buffer, spool->fill, err))
            return false;
        spool->fill = 0;
    }
    size_t wanted = spool->capacity > 0 ? spool->capacity : SPOOL_LEAST;
    while (wanted < spool->fill + bytes)
        wanted *= 2;
    if (wanted > spool->capacity) {
        spool->buffer = heap_resize(spool->buffer, wanted);
        spool->capacity = wanted;
    }
    return true;
}

bool spool_write(Spool *spool, const void *data, size_t bytes, Err *err)
{
    assert(spool->map == NULL && (data != NULL || bytes == 0));
    if (bytes == 0)
        return true;
    spool->total += bytes;
    if (bytes > spool->memory_bytes / 2) {
        bool ok = spool->fill == 0 || spill(spool, spool->buffer, spool->fill, err);
        spool->fill = 0;
        return ok && spill(spool, data, bytes, err);
    }
    if (!make_room(spool, bytes, err))
        return false;
    memcpy(spool->buffer + spool->fill, data, bytes);
    spool->fill += bytes;
    return true;
}

const void *spool_finish(Spool *spool, Err *err)
{
    assert(spool->map == NULL);
    if (spool->fd < 0)
        return spool->buffer != NULL ? (const void *)spool->buffer : "";
    if (spool->fill > 0 && !spill(spool, spool->buffer, spool->fill, err))
        return NULL;
    heap_free(spool->buffer);
    spool->buffer = NULL;
    spool->fill = spool->capacity = 0;
    int error = os_map_file(spool->fd, &spool->map, &spool->map_bytes);
    if (error != 0) {
        fail(spool, "map", error, err);
        return NULL;
    }
    must(spool->map_bytes == spool->total);
    return spool->map;
}

void spool_read(const Spool *spool, uint64_t at, void *data, size_t bytes)
{
    must(at <= spool->total && bytes <= spool->total - at);
    if (bytes == 0)
        return;
    if (spool->map == NULL) {
        memcpy(data, spool->buffer + at, bytes);
        return;
    }
    int error = os_file_read_at(spool->fd, at, data, bytes);
    must(error == 0);
}

void spool_close(Spool *spool)
{
    assert(spool != NULL);
    os_unmap(spool->map, spool->map_bytes);
    heap_free(spool->buffer);
    if (spool->memory_bytes > 0 && spool->fd >= 0)
        os_file_close(spool->fd);
    *spool = (Spool){.fd = -1};
}
