/* gzip.h — gzip (RFC 1952) as it is read: a stream of bytes in, a stream of bytes out.
 *
 * Files of several members are read to the last one. Checksums and lengths are checked; data that
 * ends in the middle, or goes on with something else, is an error.
 */
#ifndef FORMAT_GZIP_H
#define FORMAT_GZIP_H

#include "core/err.h"
#include "core/str.h"

/* Where compressed bytes come from: up to `bytes`, *got = 0 only at the end. */
typedef bool ByteRead(void *context, void *data, size_t bytes, size_t *got, Err *err);

typedef struct GzipReader GzipReader;

bool gzip_starts(Str bytes); /* the first two bytes of every gzip stream */
/* `first` are bytes that were read already. `subject` is named in errors of `code`; it, and what
 * `read` needs, must outlive the reader. */
GzipReader *gzip_open(Str first, ByteRead *read, void *context, const char *subject, ErrCode code);
bool gzip_read(GzipReader *reader, void *data, size_t bytes, size_t *got, Err *err);
void gzip_close(GzipReader *reader); /* safe on NULL */

#endif
