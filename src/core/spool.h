/* spool.h — bytes that are written once, front to back, and then read as one array of any size.
 *
 * While they are few they stay in memory; beyond `memory_bytes` they go to a file without a name in
 * the temporary folder (TMPDIR, else /var/tmp), which is mapped when all is written. The file
 * vanishes with the process, however it ends. Failures of the disk are errors, not aborts.
 */
#ifndef CORE_SPOOL_H
#define CORE_SPOOL_H

#include "core/arena.h"

typedef struct Spool {
    uint8_t *buffer; /* what is not in the file yet */
    size_t fill, capacity, memory_bytes;
    uint64_t total; /* bytes written */
    int fd;         /* -1: no file */
    ErrCode code;
    const uint8_t *map; /* after spool_finish, when there is a file */
    size_t map_bytes;
} Spool;

void spool_open(Spool *spool, size_t memory_bytes, ErrCode code);
bool spool_write(Spool *spool, const void *data, size_t bytes, Err *err);
/* Everything that was written, readable until spool_close; NULL with err set, or when it is empty
 * a valid pointer to nothing. No writes after it. */
const void *spool_finish(Spool *spool, Err *err);
/* Copies bytes [at, at + bytes) of the finished spool, from its file when it has one: what is read
 * through the mapping stays in memory, in pieces of up to megabytes, and this does not. The disk
 * failing is a fault as it is under the mapping. */
void spool_read(const Spool *spool, uint64_t at, void *data, size_t bytes);
void spool_close(Spool *spool); /* safe on {0} that spool_open has not seen */

#endif
