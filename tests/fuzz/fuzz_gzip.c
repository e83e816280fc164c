// layer: format
/* fuzz_gzip.c — any bytes as gzip, read in pieces whose size the first byte decides.
 *
 * Whatever comes in, the reader ends with an error or at the end, and never hands out more than it
 * was asked for.
 */
#include "format/gzip.h"

#include <string.h>

#include "core/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MAX = 1 << 22 };

typedef struct Source {
    const uint8_t *at;
    size_t left, piece;
} Source;

static bool read_source(void *context, void *data, size_t bytes, size_t *got, Err *err)
{
    Source *s = context;
    (void)err;
    *got = bytes < s->piece ? bytes : s->piece;
    *got = *got < s->left ? *got : s->left;
    if (*got > 0)
        memcpy(data, s->at, *got);
    s->at += *got;
    s->left -= *got;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    Err err = {0};
    uint8_t out[1000];
    Source source = {data + 1, size - 1, (size_t)(data[0] % 64) + 1};
    const size_t first = size - 1 < 4 ? size - 1 : 4, wanted = (size_t)data[0] * 3 + 1;
    Str start = {(const char *)source.at, first};
    source.at += first;
    source.left -= first;
    GzipReader *reader = gzip_open(start, read_source, &source, "fuzz", ERR_INPUT_DATASET_INVALID);
    size_t total = 0;
    for (size_t got = 1; got > 0 && total < OUTPUT_MAX; total += got) {
        if (!gzip_read(reader, out, wanted, &got, &err)) {
            must(err_is_set(&err));
            break;
        }
        must(got <= wanted);
    }
    gzip_close(reader);
    return 0;
}
