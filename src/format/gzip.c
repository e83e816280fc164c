/* gzip.c — the one file that sees zlib; see gzip.h.
 *
 * zlib checks each member's CRC and length. What may follow a member is another one or nothing;
 * zero bytes at the end (padding of tapes and block devices) are let through, as gzip does.
 */
#include "format/gzip.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>

#include "core/arena.h"

enum { INPUT_BYTES = 1 << 16, WINDOW_GZIP = 15 + 16 };

struct GzipReader {
    z_stream stream;
    ByteRead *read;
    void *context;
    const char *subject;
    ErrCode code;
    bool in_member, source_ended;
    uint8_t input[INPUT_BYTES];
};

bool gzip_starts(Str bytes)
{
    return bytes.len >= 2 && memcmp(bytes.data, "\x1f\x8b", 2) == 0;
}

GzipReader *gzip_open(Str first, ByteRead *read, void *context, const char *subject, ErrCode code)
{
    assert(read != NULL && subject != NULL);
    must(first.len <= INPUT_BYTES);
    GzipReader *reader = heap_resize(NULL, sizeof *reader);
    memset(reader, 0, sizeof *reader);
    reader->read = read;
    reader->context = context;
    reader->subject = subject;
    reader->code = code;
    memcpy(reader->input, first.data, first.len);
    reader->stream.next_in = reader->input;
    reader->stream.avail_in = (uInt)first.len;
    must(inflateInit2(&reader->stream, WINDOW_GZIP) == Z_OK);
    reader->in_member = true;
    return reader;
}

static bool refill(GzipReader *r, Err *err)
{
    size_t got = 0;
    assert(r->stream.avail_in == 0);
    if (!r->read(r->context, r->input, INPUT_BYTES, &got, err))
        return false;
    r->stream.next_in = r->input;
    r->stream.avail_in = (uInt)got;
    r->source_ended = got == 0;
    return true;
}

/* Between members: zeros are skipped, anything else begins the next member. */
static void begin_member(GzipReader *r)
{
    assert(!r->in_member);
    while (r->stream.avail_in > 0 && *r->stream.next_in == 0) {
        r->stream.next_in++;
        r->stream.avail_in--;
    }
    if (r->stream.avail_in == 0)
        return;
    must(inflateReset(&r->stream) == Z_OK);
    r->in_member = true;
}

bool gzip_read(GzipReader *reader, void *data, size_t bytes, size_t *got, Err *err)
{
    z_stream *s = &reader->stream;
    const size_t wanted = bytes < INT_MAX ? bytes : INT_MAX;
    s->next_out = data;
    s->avail_out = (uInt)wanted;
    while (s->avail_out == (uInt)wanted) {
        if (s->avail_in == 0 && !reader->source_ended && !refill(reader, err))
            return false;
        if (!reader->in_member)
            begin_member(reader);
        if (!reader->in_member && reader->source_ended)
            break;
        if (!reader->in_member)
            continue;
        if (s->avail_in == 0 && reader->source_ended)
            return err_set(err, reader->code, "'%s' ends in the middle of its gzip data",
                           reader->subject);
        int rc = inflate(s, Z_NO_FLUSH);
        if (rc == Z_STREAM_END)
            reader->in_member = false;
        else if (rc != Z_OK)
            return err_set(err, reader->code, "'%s' is not valid gzip: %s", reader->subject,
                           s->msg != NULL ? s->msg : "bad data");
    }
    *got = wanted - s->avail_out;
    return true;
}

void gzip_close(GzipReader *reader)
{
    if (reader == NULL)
        return;
    inflateEnd(&reader->stream);
    heap_free(reader);
}
